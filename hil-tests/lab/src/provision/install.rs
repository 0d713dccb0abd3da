//! Installs Debian's packages on this machine, or finds out the line with which somebody can who may.
//!
//! Plainly first. Where apt refuses that, or has only a version that is too old, with the backports added by a private
//! configuration: a Debian 12 that has the `qemu-utils` of the backports takes no `qemu-system-*` of its own release, for
//! "qemu-utils Breaks qemu-system-common (< 1:8.0)". apt simulates either before anything is touched, and may remove nothing.

use super::Work;
use super::apt::{AptRoot, Scope, Versions, Way};
use super::parts::Lack;
use super::programs::{Found, Program};
use super::steps::line;
use super::version::ProgramVersion;
use crate::Result;
use std::collections::BTreeMap;
use std::process::Command;
use std::rc::Rc;

/// Programs of one package that are missing.
#[derive(Debug)]
struct Package {
    name: &'static str,
    at_least: Option<ProgramVersion>,
    programs: Vec<(&'static Program, Found)>,
}

/// Installs what is missing, or says what is and how to get it.
pub(super) fn install(work: &mut Work, missing: Vec<(&'static Program, Found)>) -> Vec<Lack> {
    let mut packages: BTreeMap<&str, Package> = BTreeMap::new();
    for (program, found) in missing {
        let name = program.package;
        let package = packages.entry(name).or_insert(Package { name, at_least: None, programs: Vec::new() });
        package.at_least = package.at_least.max(program.at_least);
        package.programs.push((program, found));
    }
    // QEMU's packages fit together or not at all; none of the others has to wait for them.
    let (qemu, others): (Vec<_>, Vec<_>) =
        packages.into_values().partition(|package| package.name.starts_with("qemu-"));
    let mut lacks = Vec::new();
    for packages in [qemu, others] {
        lacks.extend(install_together(work, packages));
    }
    lacks
}

/// All in one go; if that cannot be, each alone, so that one does not keep the others away.
fn install_together(work: &mut Work, packages: Vec<Package>) -> Vec<Lack> {
    if packages.is_empty() {
        return Vec::new();
    }
    match attempt(work, &packages) {
        Ok(()) => Vec::new(),
        Err(refused) if packages.len() == 1 || refused.by_rule => refused.lacks(&packages),
        Err(_) => packages.into_iter().flat_map(|package| install_together(work, vec![package])).collect(),
    }
}

/// Why packages are not installed, and the line that would do it.
struct Refused {
    why: String,
    remedy: String,
    /// Nothing was wrong with the packages: nobody was to install, or nobody may.
    by_rule: bool,
}

impl Refused {
    fn lacks(&self, packages: &[Package]) -> Vec<Lack> {
        let programs = packages.iter().flat_map(|package| &package.programs);
        let lack = |(program, found): &(&'static Program, Found)| {
            let old = match found {
                Found::TooOld(path, Some(version)) => format!("{} is {version}; ", path.display()),
                Found::TooOld(path, None) => format!("{} does not say its version; ", path.display()),
                _ => String::new(),
            };
            let why = format!("{old}{}", self.why);
            Lack { what: program.wanted(), why, remedy: self.remedy.clone(), wants: program.wants.to_vec() }
        };
        programs.map(lack).collect()
    }
}

fn attempt(work: &mut Work, packages: &[Package]) -> std::result::Result<(), Refused> {
    let names: Vec<&str> = packages.iter().map(|package| package.name).collect();
    let may = work.root && !work.no_install && !work.offline;
    let sudo = |root: bool| if root { "" } else { "sudo " };
    let plain = format!("{0}apt-get update && {0}{1}", sudo(work.root), line(&Way::Plain.command(&names)));
    let gave_up = |why: String, remedy: String, by_rule| Refused { why, remedy, by_rule };
    if work.offline {
        let why = match Way::Plain.simulate(&mut work.steps, &names) {
            Ok(answer) => answer.and_then(|versions| new_enough(packages, &versions)).err(),
            Err(trouble) => Some(trouble.to_string()),
        };
        // The other way has to be looked for on the network.
        let remedy = if why.is_some() { "the same command without --offline".to_owned() } else { plain };
        let why = why.map_or(String::new(), |why| format!("; and plainly: {why}"));
        return Err(gave_up(format!("offline: nothing is installed{why}"), remedy, true));
    }
    if may {
        work.update_host();
    }
    let decided = decide(work, packages, &names);
    let (way, why_not_plain) = match decided {
        Ok(Decided::Plain) => (None, String::new()),
        Ok(Decided::Backports(root, why)) => (Some(root), why),
        Ok(Decided::Neither(why)) => return Err(gave_up(why, plain, false)),
        Err(trouble) => return Err(gave_up(trouble.to_string(), plain, false)),
    };
    let release = work.release().ok();
    let way = match (&way, &release) {
        (Some(root), Some(release)) => Way::Backports(root, release),
        _ => Way::Plain,
    };
    let remedy = match way {
        Way::Plain | Way::Updated(_) => plain,
        Way::Backports(..) => format!("{}env {}", sudo(work.root), line(&way.command(&names))),
    };
    if !may {
        let why = if work.no_install { "nothing is to be installed" } else { "only root can install it" };
        return Err(gave_up(why.to_owned(), remedy, true));
    }
    let what = match way {
        Way::Plain | Way::Updated(_) => format!("installing {}", names.join(" ")),
        Way::Backports(_, release) => {
            format!("installing {} from {} ({why_not_plain})", names.join(" "), release.backports())
        }
    };
    let installed = work.steps.step(what, |steps| way.install(steps, &names));
    installed.map_err(|trouble| gave_up(trouble.to_string(), remedy, false))
}

/// How packages can be installed.
enum Decided {
    Plain,
    /// With the backports, and why not plainly.
    Backports(Rc<AptRoot>, String),
    /// Not at all, and why.
    Neither(String),
}

fn decide(work: &mut Work, packages: &[Package], names: &[&str]) -> Result<Decided> {
    let judged = |answer: std::result::Result<Versions, String>| {
        answer.and_then(|versions| new_enough(packages, &versions))
    };
    let Err(plain) = judged(Way::Plain.simulate(&mut work.steps, names)?) else { return Ok(Decided::Plain) };
    let release = work.release()?;
    let root = work.apt_root(Scope::Host)?;
    if !work.updated && judged(Way::Updated(&root).simulate(&mut work.steps, names)?).is_ok() {
        return Ok(Decided::Plain);
    }
    let way = Way::Backports(&root, &release);
    match judged(way.simulate(&mut work.steps, names)?) {
        Ok(()) => Ok(Decided::Backports(root, format!("plainly: {plain}"))),
        Err(backports) => {
            Ok(Decided::Neither(format!("plainly: {plain}; from {}: {backports}", release.backports())))
        }
    }
}

/// Whether what would be installed is new enough, where that matters.
fn new_enough(packages: &[Package], versions: &Versions) -> std::result::Result<(), String> {
    for Package { name, at_least, .. } in packages {
        let Some(bound) = at_least else { continue };
        let Some(found) = versions.get(*name) else {
            return Err(format!(
                "apt has no {name} that is newer than the installed one, and {bound} is needed"
            ));
        };
        if ProgramVersion::find(found).is_none_or(|version| version < *bound) {
            return Err(format!("apt has {name} {found}, and {bound} is needed"));
        }
    }
    Ok(())
}

impl Work {
    /// Fetches this machine's own lists, once. An archive that cannot be reached may be one that is not needed.
    fn update_host(&mut self) {
        if std::mem::replace(&mut self.updated, true) {
            return;
        }
        let updated = self.steps.step("the lists of apt for this machine", |steps| {
            steps.must(Command::new("apt-get").arg("update"))
        });
        if let Err(trouble) = updated {
            self.steps.say(format_args!("parts: going on with the lists that there are: {trouble}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provision::programs::PROGRAMS;

    fn package(name: &'static str, at_least: Option<ProgramVersion>) -> Package {
        Package { name, at_least, programs: Vec::new() }
    }

    #[test]
    fn a_version_that_is_too_old_is_not_installed() {
        let bound = Some(ProgramVersion(8, 0));
        #[rustfmt::skip]
        let cases = [
            ("qemu-system-x86", bound, Some("1:10.0.2+ds-2"), Ok(())),
            ("qemu-system-x86", bound, Some("1:7.2+dfsg-7"),  Err("apt has qemu-system-x86 1:7.2+dfsg-7, and 8.0 is needed")),
            ("qemu-system-x86", bound, None,                  Err("apt has no qemu-system-x86 that is newer than the installed one, and 8.0 is needed")),
            ("mtools",          None,  None,                  Ok(())),
            ("mtools",          None,  Some("4.0.33"),        Ok(())),
        ];
        for (name, at_least, version, expected) in cases {
            let versions = version.map(|version| (name.to_owned(), version.to_owned())).into_iter().collect();
            let answer = new_enough(&[package(name, at_least)], &versions);
            assert_eq!(answer, expected.map_err(str::to_owned), "{name} {version:?}");
        }
    }

    #[test]
    fn what_is_missing_is_told_with_the_version_that_was_found_and_the_line_that_helps() {
        let qemu = PROGRAMS.iter().find(|program| program.name == "qemu-system-x86_64").unwrap();
        let old = Found::TooOld("/usr/bin/qemu-system-x86_64".into(), Some(ProgramVersion(7, 2)));
        let package = Package { name: qemu.package, at_least: qemu.at_least, programs: vec![(qemu, old)] };
        let refused = Refused {
            why: "only root can install it".into(),
            remedy: "sudo apt-get install".into(),
            by_rule: true,
        };
        let lacks = refused.lacks(&[package]);
        assert_eq!(
            lacks[0].to_string(),
            "qemu-system-x86_64 8.0 or newer is missing (/usr/bin/qemu-system-x86_64 is 7.2; only root can install it); \
             to get it: sudo apt-get install"
        );
        assert_eq!(lacks[0].wants, qemu.wants);
    }
}
