//! How an image fares that is booted, and what is done to it so that it does.

use crate::{Doing, Result, Trouble};
use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// How an image fares that is booted. Its [`name`](Nature::name) stands in `/etc/lab/nature`, for guest/init and guest/lab-check; what
/// fails before they run is done to the image itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Nature {
    /// It comes up, and its required health check passes.
    Healthy,
    /// It comes up, and its required health check fails.
    CheckFails,
    /// In a trial all of user space is stopped, the agent too, once it has armed the watchdog.
    UserspaceHangs,
    /// The kernel panics (sysrq-c) as soon as user space is up.
    KernelPanics,
    /// The kernel is jumped into, and never reaches user space: its entry is a halt.
    KernelHangs,
    /// Its beginning is noise: superblock, inodes, folders.
    RootGarbage,
    /// There is no `/sbin/init`.
    InitMissing,
    /// The agent gets SIGSEGV right after each start.
    AgentCrashes,
    /// In a trial the agent gets SIGKILL each time it has come up and begins its health check.
    AgentKilled,
    /// In a trial the agent gets SIGSTOP once it has come up and begins its health check.
    AgentHangs,
}

impl Nature {
    /// All of them.
    pub const ALL: [Nature; 10] = [
        Nature::Healthy,
        Nature::CheckFails,
        Nature::UserspaceHangs,
        Nature::KernelPanics,
        Nature::KernelHangs,
        Nature::RootGarbage,
        Nature::InitMissing,
        Nature::AgentCrashes,
        Nature::AgentKilled,
        Nature::AgentHangs,
    ];

    /// As it stands in `/etc/lab/nature`.
    pub const fn name(self) -> &'static str {
        match self {
            Nature::Healthy => "healthy",
            Nature::CheckFails => "check-fails",
            Nature::UserspaceHangs => "userspace-hangs",
            Nature::KernelPanics => "kernel-panics",
            Nature::KernelHangs => "kernel-hangs",
            Nature::RootGarbage => "root-garbage",
            Nature::InitMissing => "init-missing",
            Nature::AgentCrashes => "agent-crashes",
            Nature::AgentKilled => "agent-killed",
            Nature::AgentHangs => "agent-hangs",
        }
    }

    /// Reads [`Nature::name`].
    pub fn from_name(name: &str) -> Option<Nature> {
        Nature::ALL.into_iter().find(|nature| nature.name() == name)
    }
}

/// A kernel that is loaded and jumped into, and does nothing more.
///
/// x86 (Documentation/arch/x86/boot.rst): `HdrS` at 0x202; the protected-mode code begins after `setup_sects` (at 0x1f1) plus
/// one sectors, its 32-bit entry there and its 64-bit entry 0x200 further on; `payload_offset` (0x248) from there on is the
/// compressed kernel. Both entries become `cli; hlt; jmp -3`, which costs the host no CPU, and the payload loses its magic,
/// for who comes in by the EFI stub.
///
/// arm64 (Documentation/arch/arm64/booting.rst): `ARM\x64` at 0x38. arm (zImage, Documentation/arch/arm/booting.rst): 0x016f2818 at
/// 0x24. Both are entered at their first instruction, which becomes `wfi`, and the second a jump back to it: interrupts are
/// masked there, so nothing wakes the CPU, and the host's is free too.
pub fn hanging_kernel(mut kernel: Vec<u8>) -> Result<Vec<u8>> {
    const X86_HALT: &[u8] = &[0xfa, 0xf4, 0xeb, 0xfd];
    const ARM64_WAIT: &[u8] = &[0x7f, 0x20, 0x03, 0xd5, 0xff, 0xff, 0xff, 0x17];
    const ARM_WAIT: &[u8] = &[0x03, 0xf0, 0x20, 0xe3, 0xfd, 0xff, 0xff, 0xea];
    let patches: Vec<(usize, &[u8])> = if kernel.get(0x202..0x206) == Some(b"HdrS") {
        let setup = usize::from(*kernel.get(0x1f1).unwrap_or(&0));
        let code = (if setup == 0 { 4 } else { setup } + 1) * 512;
        let payload = kernel.get(0x248..0x24c).and_then(|field| field.try_into().ok());
        let payload = payload.map(u32::from_le_bytes).doing(|| "kernel: no payload")? as usize;
        vec![(code, X86_HALT), (code + 0x200, X86_HALT), (code + payload, &[0; 64])]
    } else if kernel.get(0x38..0x3c) == Some(b"ARM\x64") {
        vec![(0, ARM64_WAIT)]
    } else if kernel.get(0x24..0x28) == Some(&[0x18, 0x28, 0x6f, 0x01]) {
        vec![(0, ARM_WAIT)]
    } else {
        return Err(Trouble::new(
            "kernel: expected a bzImage, an arm64 Image or a zImage, found none of them",
        ));
    };
    for (at, patch) in patches {
        let place = kernel.get_mut(at..at + patch.len()).doing(|| format!("kernel: too short for {at}"))?;
        place.copy_from_slice(patch);
    }
    Ok(kernel)
}

/// How much noise replaces the beginning of a file system: superblock, group descriptors, inodes, folders.
const NOISE_BYTES: usize = 1024 * 1024;

/// Overwrites a file system from its beginning on with noise that depends on `seed` only; it begins `offset` bytes into the
/// file.
pub fn spoil(image: &Path, offset: u64, seed: &str) -> Result<()> {
    // xorshift64 (Marsaglia, 2003), begun with FNV-1a of the seed
    let mut state = seed.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let mut noise = Vec::with_capacity(NOISE_BYTES);
    while noise.len() < NOISE_BYTES {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        noise.extend_from_slice(&state.to_le_bytes());
    }
    let file = OpenOptions::new().write(true).open(image).doing(|| image.display().to_string())?;
    file.write_all_at(&noise, offset).doing(|| image.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_nature_has_a_name_of_its_own() {
        for nature in Nature::ALL {
            assert_eq!(Nature::from_name(nature.name()), Some(nature));
        }
        assert_eq!(Nature::from_name("ill"), None);
    }

    #[test]
    fn a_hanging_kernel_halts_at_both_entries_and_has_no_payload() {
        let mut kernel = vec![0x11; 8192];
        kernel[0x202..0x206].copy_from_slice(b"HdrS");
        kernel[0x1f1] = 3;
        kernel[0x248..0x24c].copy_from_slice(&0x400_u32.to_le_bytes());
        let hanging = hanging_kernel(kernel).unwrap();
        assert_eq!(hanging[2048..2052], [0xfa, 0xf4, 0xeb, 0xfd]);
        assert_eq!(hanging[2048 + 0x200..2048 + 0x204], [0xfa, 0xf4, 0xeb, 0xfd]);
        assert_eq!(hanging[2048 + 0x400..2048 + 0x440], [0; 64]);
        assert!(hanging_kernel(vec![0; 8192]).is_err());
    }

    #[test]
    fn a_hanging_arm_kernel_waits_at_its_entry_and_keeps_the_magic_that_u_boot_looks_for() {
        for (magic_at, magic, wait) in [
            (0x38, b"ARM\x64", [0xd503_207f_u32, 0x17ff_ffff]),
            (0x24, b"\x18\x28\x6f\x01", [0xe320_f003, 0xeaff_fffd]),
        ] {
            let mut kernel = vec![0x11; 4096];
            kernel[magic_at..magic_at + 4].copy_from_slice(magic);
            let hanging = hanging_kernel(kernel).unwrap();
            assert_eq!(hanging[..8], wait.map(u32::to_le_bytes).concat());
            assert_eq!(&hanging[magic_at..magic_at + 4], magic);
        }
    }
}
