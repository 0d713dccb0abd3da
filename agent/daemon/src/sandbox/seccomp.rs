//! A seccomp filter (seccomp(2), seccomp_unotify(2) not used): what an updater and its checks never ask of the kernel is
//! answered with EPERM.
//!
//! **A list of what is forbidden, not of what is allowed.** Children inherit the filter, and health checks are the integrator's
//! own programs, in any language: a list of what is allowed would break one of them at the next libc, in the field, in a trial.
//! What is forbidden here is what turns a process that was taken over into the machine: other processes' memory, kernel code,
//! mounts, namespaces, key rings, the clock.
//!
//! ```text
//! another architecture's calls (32-bit on a 64-bit kernel, x32)   ENOSYS: their numbers mean something else
//! the numbers below                                               EPERM
//! clone with a new namespace                                      EPERM
//! clone3, whose flags a filter cannot read                        ENOSYS: libc falls back to clone
//! all else                                                        allowed
//! ```

use super::sys;
use nix::libc;

/// The audit architecture of this program's own calls (linux/audit.h).
#[cfg(target_arch = "x86_64")]
const ARCH: Option<u32> = Some(0xc000_003e);
#[cfg(target_arch = "aarch64")]
const ARCH: Option<u32> = Some(0xc000_00b7);
#[cfg(target_arch = "arm")]
const ARCH: Option<u32> = Some(0x4000_0028);
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64", target_arch = "arm")))]
const ARCH: Option<u32> = None;

/// Numbers from here on are x32 calls, on x86_64 alone.
#[cfg(target_arch = "x86_64")]
const X32: Option<u32> = Some(0x4000_0000);
#[cfg(not(target_arch = "x86_64"))]
const X32: Option<u32> = None;

/// Calls that have one number each on every architecture (those since Linux 5.2).
const EVERYWHERE: [u32; 9] = [
    425, // io_uring_setup
    428, // open_tree
    429, // move_mount
    430, // fsopen
    431, // fsconfig
    432, // fsmount
    433, // fspick
    438, // pidfd_getfd
    442, // mount_setattr
];

const FORBIDDEN: [libc::c_long; 34] = [
    // Other processes.
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_kcmp,
    libc::SYS_move_pages,
    // The kernel itself.
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_syslog,
    libc::SYS_acct,
    // What is mounted where.
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_quotactl,
    libc::SYS_open_by_handle_at,
    libc::SYS_fanotify_init,
    // Namespaces and personalities.
    libc::SYS_unshare,
    libc::SYS_setns,
    libc::SYS_personality,
    libc::SYS_vhangup,
    // Keys.
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_keyctl,
    // The clock and the names.
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
];

/// Calls that libc names on some architectures only: kexec_file_load, and on 32 bits clock_settime64.
#[cfg(target_arch = "x86_64")]
const HERE: &[u32] = &[320];
#[cfg(target_arch = "aarch64")]
const HERE: &[u32] = &[294];
#[cfg(target_arch = "arm")]
const HERE: &[u32] = &[401, 404];
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64", target_arch = "arm")))]
const HERE: &[u32] = &[];

const CLONE3: u32 = 435;
/// CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET.
const NEW_NAMESPACES: u32 = 0x7e02_0000;

/// Offsets in `struct seccomp_data`; the lower half of an argument comes first on all three architectures.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const FIRST_ARGUMENT: u32 = 16;

/// Builds and installs it.
pub fn install() -> Result<String, String> {
    let arch = ARCH.ok_or("no filter for this architecture")?;
    let program = program(arch);
    sys::filter(&program)?;
    Ok(format!("{} calls forbidden", FORBIDDEN.len() + EVERYWHERE.len() + HERE.len()))
}

fn program(arch: u32) -> Vec<libc::sock_filter> {
    let forbidden =
        FORBIDDEN.iter().map(|number| *number as u32).chain(EVERYWHERE).chain(HERE.iter().copied());
    let mut program = vec![
        load(ARCHITECTURE),
        unless(JUMP_EQUAL, arch, 1),
        // Not ours: the next line is jumped over where it is.
        answer(NO_SUCH_CALL),
        load(NUMBER),
    ];
    // "Equal" jumps over nothing and so into the answer behind it.
    let mut when = |jump: u16, value: u32, then: u32| {
        program.push(libc::sock_filter { code: jump, jt: 0, jf: 1, k: value });
        program.push(answer(then));
    };
    if let Some(x32) = X32 {
        when(JUMP_AT_LEAST, x32, NO_SUCH_CALL);
    }
    when(JUMP_EQUAL, CLONE3, NO_SUCH_CALL);
    forbidden.for_each(|number| when(JUMP_EQUAL, number, NOT_PERMITTED));
    program.extend([
        libc::sock_filter { code: JUMP_EQUAL, jt: 0, jf: 3, k: libc::SYS_clone as u32 },
        load(FIRST_ARGUMENT),
        libc::sock_filter { code: JUMP_ANY_BIT, jt: 0, jf: 1, k: NEW_NAMESPACES },
        answer(NOT_PERMITTED),
        answer(ALLOWED),
    ]);
    program
}

const fn load(offset: u32) -> libc::sock_filter {
    libc::sock_filter { code: (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16, jt: 0, jf: 0, k: offset }
}

const fn answer(what: u32) -> libc::sock_filter {
    libc::sock_filter { code: (libc::BPF_RET | libc::BPF_K) as u16, jt: 0, jf: 0, k: what }
}

/// Jumps over `over` lines where it holds.
const fn unless(jump: u16, value: u32, over: u8) -> libc::sock_filter {
    libc::sock_filter { code: jump, jt: over, jf: 0, k: value }
}

const JUMP_EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
const JUMP_AT_LEAST: u16 = (libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K) as u16;
const JUMP_ANY_BIT: u16 = (libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K) as u16;
const ALLOWED: u32 = libc::SECCOMP_RET_ALLOW;
const NOT_PERMITTED: u32 = libc::SECCOMP_RET_ERRNO | libc::EPERM as u32;
const NO_SUCH_CALL: u32 = libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32;

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs the filter as the kernel does, over `struct seccomp_data`.
    fn judge(program: &[libc::sock_filter], number: u32, arch: u32, argument: u64) -> u32 {
        let (mut at, mut held) = (0usize, 0u32);
        loop {
            let line = program[at];
            at += 1;
            let jump = |holds: bool| if holds { usize::from(line.jt) } else { usize::from(line.jf) };
            match line.code {
                code if code == load(0).code => {
                    held = match line.k {
                        NUMBER => number,
                        ARCHITECTURE => arch,
                        FIRST_ARGUMENT => argument as u32,
                        other => panic!("no field at {other}"),
                    }
                }
                JUMP_EQUAL => at += jump(held == line.k),
                JUMP_AT_LEAST => at += jump(held >= line.k),
                JUMP_ANY_BIT => at += jump(held & line.k != 0),
                _ => return line.k,
            }
        }
    }

    #[test]
    fn the_filter_forbids_what_it_names_and_allows_all_else() {
        let arch = ARCH.unwrap();
        let program = program(arch);
        let own = |number: libc::c_long, argument| judge(&program, number as u32, arch, argument);
        for number in FORBIDDEN {
            assert_eq!(own(number, 0), NOT_PERMITTED, "{number}");
        }
        for number in EVERYWHERE {
            assert_eq!(own(number.into(), 0), NOT_PERMITTED, "{number}");
        }
        for number in HERE {
            assert_eq!(own((*number).into(), 0), NOT_PERMITTED, "{number}");
        }
        for number in [libc::SYS_read, libc::SYS_openat, libc::SYS_execve, libc::SYS_reboot, libc::SYS_kill] {
            assert_eq!(own(number, 0), ALLOWED, "{number}");
        }
        let (thread, namespace) = (0x003d_0f00, 0x1000_0000);
        assert_eq!(own(libc::SYS_clone, thread), ALLOWED);
        assert_eq!(own(libc::SYS_clone, namespace | 17), NOT_PERMITTED);
        assert_eq!(own(CLONE3.into(), 0), NO_SUCH_CALL);
        assert_eq!(judge(&program, libc::SYS_read as u32, arch ^ 1, 0), NO_SUCH_CALL);
    }
}
