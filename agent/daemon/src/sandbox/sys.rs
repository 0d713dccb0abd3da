//! The system calls of the sandbox that nix has no safe word for, and nothing else: the only `unsafe` of this folder.
//!
//! Each function hands the kernel numbers and, at most, one structure that lives until the call returns; the kernel keeps
//! no pointer (prctl(2), capset(2), seccomp(2), landlock_create_ruleset(2), landlock_add_rule(2)). What it gives back is an
//! error or a new file descriptor, which is owned from then on.
#![allow(unsafe_code, reason = "the calls have no safe wrapper; the argument stands above")]

use nix::errno::Errno;
use nix::libc;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

type Answer<T> = Result<T, String>;

fn said(what: &str, result: libc::c_long) -> Answer<libc::c_long> {
    match Errno::result(result) {
        Ok(value) => Ok(value),
        Err(errno) => Err(format!("{what}: {errno}")),
    }
}

fn prctl(what: &str, option: libc::c_int, value: libc::c_ulong) -> Answer<libc::c_long> {
    let zero: libc::c_ulong = 0;
    // Safety: options that take numbers only.
    said(what, unsafe { libc::prctl(option, value, zero, zero, zero) }.into())
}

/// No program that is started can gain privileges.
pub fn no_new_privileges() -> Answer<()> {
    prctl("no_new_privs", libc::PR_SET_NO_NEW_PRIVS, 1).map(drop)
}

/// No core file, and no debugger of the same user.
pub fn no_core_dumps() -> Answer<()> {
    use nix::sys::resource::{Resource, setrlimit};
    setrlimit(Resource::RLIMIT_CORE, 0, 0).map_err(|errno| format!("RLIMIT_CORE: {errno}"))?;
    prctl("dumpable", libc::PR_SET_DUMPABLE, 0).map(drop)
}

/// Is seccomp compiled in?
pub fn seccomp_is_there() -> Answer<()> {
    prctl("seccomp", libc::PR_GET_SECCOMP, 0).map(drop)
}

/// May a process of ours still get this capability? `None`: the kernel does not know it.
pub fn in_bounding_set(capability: u32) -> Option<bool> {
    prctl("", libc::PR_CAPBSET_READ, capability.into()).ok().map(|has| has == 1)
}

/// Never again.
pub fn drop_from_bounding_set(capability: u32) -> Answer<()> {
    prctl("bounding set", libc::PR_CAPBSET_DROP, capability.into()).map(drop)
}

/// Programs that are started inherit none.
pub fn clear_ambient() -> Answer<()> {
    prctl("ambient set", libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL as libc::c_ulong).map(drop)
}

/// The kernel's `__user_cap_header_struct`, version 3, of this thread.
#[repr(C)]
struct CapHeader {
    version: u32,
    pid: i32,
}

/// Its `__user_cap_data_struct`: the lower 32 capabilities, then the upper.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct CapData {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

const CAP_VERSION_3: u32 = 0x2008_0522;

/// What this thread may do now.
pub fn permitted() -> Answer<u64> {
    let (mut header, mut data) = (CapHeader { version: CAP_VERSION_3, pid: 0 }, [CapData::default(); 2]);
    // Safety: both live until the call returns; version 3 fills two structures.
    let got = unsafe { libc::syscall(libc::SYS_capget, &raw mut header, data.as_mut_ptr()) };
    said("capget", got)?;
    let [low, high] = data;
    Ok(u64::from(low.permitted) | u64::from(high.permitted) << 32)
}

/// From now on this and no more.
pub fn set_permitted(capabilities: u64) -> Answer<()> {
    let mut header = CapHeader { version: CAP_VERSION_3, pid: 0 };
    let half = |bits: u64| CapData { effective: bits as u32, permitted: bits as u32, inheritable: 0 };
    let data = [half(capabilities & 0xffff_ffff), half(capabilities >> 32)];
    // Safety: both live until the call returns; version 3 reads two structures.
    said("capset", unsafe { libc::syscall(libc::SYS_capset, &raw mut header, data.as_ptr()) }).map(drop)
}

/// Hands a filter to the kernel, for all threads of this process.
pub fn filter(program: &[libc::sock_filter]) -> Answer<()> {
    let length = u16::try_from(program.len()).map_err(|_| "seccomp: too long a filter".to_string())?;
    // The kernel reads the filter, and does not write to it.
    let program = libc::sock_fprog { len: length, filter: program.as_ptr().cast_mut() };
    // Safety: `program` and what it points to live until the call returns.
    let set = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            libc::SECCOMP_FILTER_FLAG_TSYNC,
            &raw const program,
        )
    };
    match said("seccomp", set)? {
        0 => Ok(()),
        thread => Err(format!("seccomp: thread {thread} has a filter of its own")),
    }
}

/// The kernel's `landlock_ruleset_attr`, first version: later fields are left out by its length.
#[repr(C)]
struct Ruleset {
    handled_access_fs: u64,
}

/// Its `landlock_path_beneath_attr`.
#[repr(C, packed)]
struct Beneath {
    allowed_access: u64,
    parent: RawFd,
}

const CREATE_RULESET: libc::c_long = 444;
const ADD_RULE: libc::c_long = 445;
const RESTRICT_SELF: libc::c_long = 446;
const VERSION_FLAG: u32 = 1;
const PATH_BENEATH: u32 = 1;

/// Landlock's version in this kernel.
pub fn landlock_version() -> Answer<u32> {
    // Safety: numbers only.
    let version = unsafe { libc::syscall(CREATE_RULESET, std::ptr::null::<Ruleset>(), 0usize, VERSION_FLAG) };
    said("landlock", version).map(|version| version as u32)
}

/// A ruleset that forbids these accesses where no rule allows them.
pub fn landlock_ruleset(handled: u64) -> Answer<OwnedFd> {
    let attributes = Ruleset { handled_access_fs: handled };
    // Safety: `attributes` lives until the call returns.
    let made = unsafe { libc::syscall(CREATE_RULESET, &raw const attributes, size_of::<Ruleset>(), 0u32) };
    let made = said("landlock ruleset", made)?;
    // Safety: a new descriptor that nobody else knows.
    Ok(unsafe { OwnedFd::from_raw_fd(made as RawFd) })
}

/// Allows these accesses below (or to) what is open as `place`.
pub fn landlock_allow(ruleset: &OwnedFd, place: BorrowedFd<'_>, allowed: u64) -> Answer<()> {
    let rule = Beneath { allowed_access: allowed, parent: place.as_raw_fd() };
    // Safety: `rule` lives until the call returns.
    let added = unsafe { libc::syscall(ADD_RULE, ruleset.as_raw_fd(), PATH_BENEATH, &raw const rule, 0u32) };
    said("landlock rule", added).map(drop)
}

/// From now on, for this thread and what it starts.
pub fn landlock_restrict(ruleset: &OwnedFd) -> Answer<()> {
    // Safety: numbers only.
    said("landlock", unsafe { libc::syscall(RESTRICT_SELF, ruleset.as_raw_fd(), 0u32) }).map(drop)
}
