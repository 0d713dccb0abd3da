//! When this trial began in this boot. The agent may be restarted in the middle of it; the deadline stays where it is,
//! so that an agent that crashes again and again does not put it off for ever.
//!
//! ```text
//! /run/mainstay/trial
//! 1 <boot id> <attempt> <SHA-256 of the manifest> <milliseconds since the boot>\n
//! ```
//! It is keyed by the kernel's boot id, so it holds for one boot even where `/run` is no tmpfs; it is renamed into
//! place, so it is read whole or not at all; it is not synced, because a power cut ends the boot that it speaks of.
//! The folder must outlive the agent: a unit with systemd's `RuntimeDirectory=` needs `RuntimeDirectoryPreserve=yes`.

use mainstay_core::fault;
use mainstay_core::fault::Fault;
use mainstay_core::update::Deployment;
use std::io::ErrorKind;
use std::path::Path;

/// A new one with each boot of the kernel.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// When the trial of `deployment` first began in this boot, in milliseconds since the boot: now, if it has not been
/// noted in `folder` before. A note that cannot be made is a fault: a trial whose end can be put off has no deadline.
pub(super) fn begun_ms(folder: &Path, deployment: &Deployment, now_ms: u64) -> Result<u64, Fault> {
    let boot = std::fs::read_to_string(BOOT_ID).map_err(|e| fault!(Io, "trial: read {BOOT_ID}: {e}"))?;
    begun_in(folder, boot.trim(), deployment, now_ms)
}

fn begun_in(folder: &Path, boot: &str, deployment: &Deployment, now_ms: u64) -> Result<u64, Fault> {
    let path = folder.join("trial");
    let fault = |what: &str, e: std::io::Error| fault!(Io, "trial: {what} {}: {e}", path.display());
    let key = format!("1 {boot} {} {} ", deployment.attempt, deployment.manifest);
    match std::fs::read_to_string(&path) {
        Ok(note) => {
            // A time in the future was not noted by this clock.
            let noted = note.strip_prefix(&key).and_then(|ms| ms.trim_end().parse().ok());
            if let Some(begun) = noted.filter(|begun| *begun <= now_ms) {
                return Ok(begun);
            }
        }
        Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::InvalidData) => {}
        Err(e) => return Err(fault("read", e)),
    }
    crate::store::own_folder("run folder", folder)?;
    let new = folder.join("trial.new");
    crate::store::write_private(&new, &format!("{key}{now_ms}\n")).map_err(|e| fault("write", e))?;
    std::fs::rename(&new, &path).map_err(|e| fault("write", e))?;
    Ok(now_ms)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::health::tests::deployment;

    #[test]
    fn the_first_start_in_a_boot_counts() {
        let folder = tempfile::tempdir().unwrap();
        let run = folder.path().join("run/mainstay");
        let (first, second) = (deployment(1), deployment(2));
        #[rustfmt::skip]
        let cases = [
            // boot    deployment  now     began
            ("boot-1", &first,     5_000,  5_000),
            ("boot-1", &first,     9_000,  5_000),   // the agent was restarted
            ("boot-1", &first,     4_000,  4_000),   // not this clock's: began anew
            ("boot-1", &second,    9_500,  9_500),   // another attempt
            ("boot-2", &second,    9_900,  9_900),   // another boot, and /run was kept
            ("boot-2", &second,   10_000,  9_900),
        ];
        for (boot, deployment, now, begun) in cases {
            assert_eq!(begun_in(&run, boot, deployment, now), Ok(begun), "{boot} {now}");
        }
    }

    #[test]
    fn a_damaged_note_is_written_anew_and_an_impossible_one_is_a_fault() {
        let folder = tempfile::tempdir().unwrap();
        for damage in [&b""[..], b"1 boot-1", b"\xff\xfe", b"2 boot-1 1 2 3"] {
            std::fs::write(folder.path().join("trial"), damage).unwrap();
            assert_eq!(begun_in(folder.path(), "boot-1", &deployment(1), 7), Ok(7));
            assert_eq!(begun_in(folder.path(), "boot-1", &deployment(1), 9), Ok(7));
        }
        let file = folder.path().join("trial");
        let fault = begun_in(&file, "boot-1", &deployment(1), 7).unwrap_err();
        assert!(fault.what.contains("trial: read"), "{fault}");
        assert!(begun_ms(folder.path(), &deployment(1), 7).is_ok());
    }
}
