//! greenboot's folder of health checks, as Fedora IoT, RHEL for Edge and bootc images bring it: each executable in
//! `required.d` is a required check, each in `wanted.d` a wanted one, named after its file.
//!
//! ```text
//! /etc/greenboot/check/
//!   required.d/01_repository_dns.sh     → required
//!   wanted.d/01_update_platform.sh      → wanted
//! ```
//! Two things differ from greenboot: the checks run side by side and not one after the other, and each has a
//! timeout and retries (those of the `[[check]]` table), so one that hangs ends and one that comes too early is
//! asked again.

use super::config::{CheckConfig, Probe};
use mainstay_core::fault;
use mainstay_core::fault::Fault;
use std::fs::DirEntry;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// The checks of the folder that `group` names. `required`: those in `required.d` are required; all are wanted
/// otherwise. The folder itself has to be there, so that a slip in its path does not pass for health; either of the
/// two in it may be missing.
pub(super) fn expand(group: &CheckConfig, folder: &Path, required: bool) -> Result<Vec<CheckConfig>, Fault> {
    let name = &group.plan.name;
    if !folder.is_dir() {
        return Err(fault!(NotFound, "check {name:?}: expected the folder {}, found none", folder.display()));
    }
    let mut checks = Vec::new();
    for (sub, required) in [("required.d", required), ("wanted.d", false)] {
        let sub = folder.join(sub);
        let unreadable = |e: std::io::Error| fault!(Io, "check {name:?}: read {}: {e}", sub.display());
        let entries = match std::fs::read_dir(&sub) {
            Ok(entries) => entries,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => continue,
            Err(e) => return Err(unreadable(e)),
        };
        let mut entries = entries.collect::<Result<Vec<_>, _>>().map_err(unreadable)?;
        entries.sort_by_key(DirEntry::file_name);
        for entry in entries {
            if let Some(check) = check(group, &entry.path(), required)? {
                checks.push(check);
            }
        }
    }
    Ok(checks)
}

/// `None`: it is not an executable file (greenboot's folders hold READMEs, too).
fn check(group: &CheckConfig, path: &Path, required: bool) -> Result<Option<CheckConfig>, Fault> {
    let meta = std::fs::metadata(path);
    if !meta.is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0) {
        log::info!("check {:?}: {} is not an executable file: passed over", group.plan.name, path.display());
        return Ok(None);
    }
    let wrong = || {
        let expected = "a file name of 1 to 48 letters, digits, '.', '_' and '-', not beginning with a dot";
        fault!(Refused, "check {:?}: expected {expected}, found {}", group.plan.name, path.display())
    };
    let text = path.file_name().and_then(|name| name.to_str()).ok_or_else(wrong)?;
    mainstay_core::wire::check_name("check", text).map_err(|_| wrong())?;
    let name = text.try_into().map_err(|_| wrong())?;
    let words = vec![path.to_str().ok_or_else(wrong)?.to_string()];
    let plan = mainstay_core::trial::CheckPlan { name, required, ..group.plan.clone() };
    Ok(Some(CheckConfig { plan, probe: Probe::Command(words) }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use mainstay_core::trial::CheckPlan;

    fn group(name: &str) -> CheckConfig {
        let name = name.try_into().unwrap();
        let plan = CheckPlan { name, required: true, timeout_ms: 7, retries: 1, interval_ms: 9, grace_ms: 2 };
        CheckConfig { plan, probe: Probe::Greenboot("unused".into()) }
    }

    fn put(path: &Path, mode: u32) {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, "#!/bin/sh\n").unwrap();
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn executables_become_checks_in_the_order_of_their_names() {
        let folder = tempfile::tempdir().unwrap();
        for (file, mode) in [
            ("required.d/20_b.sh", 0o755),
            ("required.d/10_a.sh", 0o700),
            ("required.d/README", 0o644),
            ("wanted.d/w.sh", 0o755),
        ] {
            put(&folder.path().join(file), mode);
        }
        std::fs::create_dir(folder.path().join("required.d/30_folder")).unwrap();
        std::os::unix::fs::symlink("10_a.sh", folder.path().join("required.d/40_link.sh")).unwrap();
        std::os::unix::fs::symlink("gone", folder.path().join("required.d/50_dangling.sh")).unwrap();
        for required in [true, false] {
            let checks = expand(&group("g"), folder.path(), required).unwrap();
            let found: Vec<_> = checks.iter().map(|c| (c.plan.name.as_str(), c.plan.required)).collect();
            let r = required;
            assert_eq!(found, [("10_a.sh", r), ("20_b.sh", r), ("40_link.sh", r), ("w.sh", false)]);
            assert_eq!((checks[0].plan.timeout_ms, checks[0].plan.retries), (7, 1), "times are the table's");
            let path = folder.path().join("required.d/10_a.sh").display().to_string();
            assert_eq!(checks[0].probe, Probe::Command(vec![path]));
        }
    }

    #[test]
    fn a_missing_folder_is_a_fault_and_an_empty_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(expand(&group("g"), folder.path(), true), Ok(Vec::new()));
        let fault = expand(&group("g"), &folder.path().join("x"), true).unwrap_err();
        assert!(fault.what.contains("check \"g\": expected the folder"), "{fault}");
    }

    #[test]
    fn a_file_that_cannot_be_a_name_is_a_fault_and_not_passed_over() {
        for name in ["a check.sh", &"n".repeat(49)] {
            let folder = tempfile::tempdir().unwrap();
            put(&folder.path().join("required.d").join(name), 0o755);
            let fault = expand(&group("g"), folder.path(), true).unwrap_err();
            assert!(fault.what.contains("expected a file name of 1 to 48"), "{fault}");
        }
    }
}
