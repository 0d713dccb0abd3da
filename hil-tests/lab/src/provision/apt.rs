//! Debian's apt, asked in two ways: with this machine's own configuration, and with a private one that stands in the cache
//! folder, has lists of its own and may name other architectures and the backports.
//!
//! No address of an archive is written down in this repository: it is taken from the sources that apt has already, and so a
//! mirror, a proxy or a snapshot that somebody chose is used here too. What is fetched is checked by apt against the
//! archive's signature, as always; nothing is fetched in another way.

use super::Arch;
use super::steps::Steps;
use crate::{Doing, Result, Trouble};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Where apt keeps what is installed.
const DPKG_STATUS: &str = "/var/lib/dpkg/status";
/// Debian's keys, where its package `debian-archive-keyring` puts them.
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";
/// How long apt waits for another apt, in seconds: it installs a few hundred megabytes at most.
const LOCK_WAIT: &str = "DPkg::Lock::Timeout=600";

/// The Debian that this machine's apt gets its packages from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Release {
    /// `bookworm`.
    pub codename: String,
    /// Where the release is, as apt writes it.
    pub site: String,
    /// Where its security updates are, and the name of their suite.
    pub security: Option<(String, String)>,
}

impl Release {
    /// What is asked of `apt-get indextargets`: one line for each list of packages.
    const FORMAT: &str = "$(ORIGIN)|$(LABEL)|$(COMPONENT)|$(CODENAME)|$(RELEASE)|$(SITE)";

    /// Asks apt. Where its lists were never fetched it cannot say, so they are fetched: into the cache folder, which takes
    /// no rights.
    pub(super) fn of_this_machine(steps: &mut Steps, cache: &Path, offline: bool) -> Result<Release> {
        if let Some(release) = Release::parse(&steps.must(targets(&mut Command::new("apt-get")))?) {
            return Ok(release);
        }
        if offline {
            return Err(Trouble::new(
                "apt has no lists of a Debian release, and without the network they cannot be fetched",
            ));
        }
        let folder = cache.join("apt/this-machine");
        create(&folder.join("lists/partial"))?;
        create(&folder.join("cache/archives/partial"))?;
        let private = || {
            let mut command = Command::new("apt-get");
            command.arg("-o").arg(format!("Dir::State::lists={}", folder.join("lists").display()));
            command.arg("-o").arg(format!("Dir::Cache={}", folder.join("cache").display()));
            command.args(["-o", "APT::Sandbox::User=root"]);
            command
        };
        // Another archive among the sources may be out of order; Debian's is looked for in what came.
        steps.run(private().arg("update"))?;
        let found = steps.must(targets(&mut private()))?;
        Release::parse(&found).doing(|| "apt has no Debian archive among its sources (or cannot reach it)")
    }

    /// Out of the lines of `indextargets`.
    fn parse(targets: &str) -> Option<Release> {
        let lines: Vec<Vec<&str>> = targets.lines().map(|line| line.split('|').collect()).collect();
        let main = |label: &'static str| {
            lines.iter().filter_map(move |line| match line[..] {
                ["Debian", at, "main", codename, suite, site] if at == label => Some((codename, suite, site)),
                _ => None,
            })
        };
        let (codename, _, site) = main("Debian").find(|(codename, ..)| !codename.contains('-'))?;
        let security =
            main("Debian-Security").map(|(_, suite, site)| (site.to_owned(), suite.to_owned())).next();
        Some(Release { codename: codename.to_owned(), site: site.to_owned(), security })
    }

    /// The suite with newer versions than the release has.
    pub(super) fn backports(&self) -> String {
        format!("{}-backports", self.codename)
    }

    /// The lines of a sources list: of packages (`deb`) with the backports, of sources (`deb-src`) without them.
    fn sources(&self, kind: &str) -> String {
        let signed =
            if Path::new(KEYRING).exists() { format!(" [signed-by={KEYRING}]") } else { String::new() };
        let mut suites =
            vec![(&self.site, self.codename.clone()), (&self.site, format!("{}-updates", self.codename))];
        if kind == "deb" {
            suites.push((&self.site, self.backports()));
        }
        suites.extend(self.security.as_ref().map(|(site, suite)| (site, suite.clone())));
        suites.iter().map(|(site, suite)| format!("{kind}{signed} {site} {suite} main\n")).collect()
    }
}

/// The question for the lists of packages that apt has.
fn targets(apt_get: &mut Command) -> &mut Command {
    apt_get.args(["indextargets", "--format", Release::FORMAT, "Identifier: Packages"])
}

/// What a private configuration is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scope {
    /// To fetch and unpack packages of an architecture, whatever is installed here.
    Packages(Arch),
    /// To fetch sources.
    Sources,
    /// To install packages here, out of the backports too.
    Host,
}

impl Scope {
    /// Its folder's name.
    pub(super) fn name(self) -> &'static str {
        match self {
            Scope::Packages(arch) => arch.debian(),
            Scope::Sources => "sources",
            Scope::Host => "host",
        }
    }
}

/// A private configuration of apt, in the cache folder.
#[derive(Debug)]
pub(super) struct AptRoot {
    /// `apt.conf`, for `APT_CONFIG`.
    pub config: PathBuf,
    folder: PathBuf,
}

impl AptRoot {
    /// Writes the configuration and fetches the lists.
    ///
    /// A source whose list is broken (seen: the security list of armhf, for hours) makes apt fail and use the others. That
    /// is why each architecture has a root of its own, and why a failure is only said here: what is missing then shows by
    /// its own name.
    pub(super) fn prepare(
        steps: &mut Steps,
        cache: &Path,
        release: &Release,
        scope: Scope,
    ) -> Result<AptRoot> {
        let (kind, status, arch) = match scope {
            Scope::Packages(arch) => ("deb", None, Some(arch.debian())),
            Scope::Sources => ("deb-src", None, None),
            Scope::Host => ("deb", Some(DPKG_STATUS), None),
        };
        let name = scope.name();
        let folder = cache.join("apt").join(name);
        create(&folder.join("lists/partial"))?;
        create(&folder.join("cache/archives/partial"))?;
        create(&folder.join("debs"))?;
        let status_file = status.map_or_else(|| folder.join("status"), PathBuf::from);
        if status.is_none() {
            write(&status_file, "")?;
        }
        let list = folder.join("sources.list");
        write(&list, &release.sources(kind))?;
        let arch = arch.map_or(String::new(), |arch| {
            format!("APT::Architecture \"{arch}\";\nAPT::Architectures {{ \"{arch}\"; }};\n")
        });
        let config = folder.join("apt.conf");
        let text = format!(
            "{arch}Dir::Etc::sourcelist \"{}\";\nDir::Etc::sourceparts \"/dev/null\";\nDir::Etc::preferencesparts \"/dev/null\";\n\
             Dir::State::lists \"{}\";\nDir::State::status \"{}\";\nDir::Cache \"{}\";\nAPT::Sandbox::User \"root\";\n\
             Acquire::Languages \"none\";\nAcquire::Retries \"2\";\n",
            list.display(),
            folder.join("lists").display(),
            status_file.display(),
            folder.join("cache").display(),
        );
        write(&config, &text)?;
        let root = AptRoot { config, folder };
        steps.step(format!("the lists of apt for {name}"), |steps| {
            let updated = steps.run(root.command("apt-get").arg("update"))?;
            if !updated.ok {
                let failed: BTreeSet<_> =
                    updated.all.lines().filter(|line| line.starts_with("E: Failed")).collect();
                let failed = failed.into_iter().collect::<Vec<_>>().join("; ");
                steps.say(format!("parts: going on with the other lists of {name}: {failed}"));
            }
            Ok(())
        })?;
        Ok(root)
    }

    /// One of apt's programs, with this configuration.
    pub(super) fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.env("APT_CONFIG", &self.config);
        command
    }

    /// The names of all packages that match a regular expression.
    pub(super) fn names(&self, steps: &mut Steps, expression: &str) -> Result<Vec<String>> {
        let found = steps.must(self.command("apt-cache").args(["search", "--names-only", expression]))?;
        Ok(found.lines().filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect())
    }

    /// Fetches a package of this root's architecture, and says where it is.
    pub(super) fn download(&self, steps: &mut Steps, package: &str) -> Result<PathBuf> {
        let debs = self.folder.join("debs");
        let before = packages_of(&debs, package)?;
        for old in before {
            std::fs::remove_file(&old).doing(|| format!("removing {}", old.display()))?;
        }
        steps.must(self.command("apt-get").args(["download", package]).current_dir(&debs))?;
        packages_of(&debs, package)?
            .pop()
            .doing(|| format!("apt-get fetched no {package} into {}", debs.display()))
    }

    /// Fetches the files of a source package into a folder; nothing is unpacked.
    pub(super) fn download_source(&self, steps: &mut Steps, package: &str, into: &Path) -> Result<()> {
        create(into)?;
        let mut command = self.command("apt-get");
        steps
            .must(command.args(["source", "--download-only", "--only-source", package]).current_dir(into))
            .map(drop)
    }
}

/// The `.deb` files of one package in a folder.
fn packages_of(folder: &Path, package: &str) -> Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(folder).doing(|| format!("reading {}", folder.display()))?;
    let ours = |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        name.strip_prefix(package).is_some_and(|rest| rest.starts_with('_') && rest.ends_with(".deb"))
    };
    Ok(entries.filter_map(|entry| Some(entry.ok()?.path())).filter(ours).collect())
}

/// How packages are installed on this machine.
#[derive(Clone, Copy, Debug)]
pub(super) enum Way<'a> {
    /// As anybody would.
    Plain,
    /// The same after `apt-get update`, which only root may do for this machine: with the private configuration's lists.
    Updated(&'a AptRoot),
    /// With the private configuration that knows the backports.
    Backports(&'a AptRoot, &'a Release),
}

impl Way<'_> {
    /// The command that installs, and removes nothing: apt would buy an older QEMU with the tools of a newer one.
    pub(super) fn command(&self, packages: &[&str]) -> Command {
        let mut command = match self {
            Way::Plain => Command::new("apt-get"),
            Way::Updated(root) | Way::Backports(root, _) => root.command("apt-get"),
        };
        command.args(["install", "-y", "--no-remove", "--no-install-recommends"]);
        if let Way::Backports(_, release) = self {
            command.arg("-t").arg(release.backports());
        }
        command.args(packages);
        command
    }

    /// Installs.
    pub(super) fn install(&self, steps: &mut Steps, packages: &[&str]) -> Result<()> {
        steps.must(self.command(packages).args(["-o", LOCK_WAIT])).map(drop)
    }

    /// What it would do: the versions that it would install, or apt's own words why it would not.
    pub(super) fn simulate(
        &self,
        steps: &mut Steps,
        packages: &[&str],
    ) -> Result<std::result::Result<Versions, String>> {
        let ended = steps.run(self.command(packages).arg("--simulate"))?;
        Ok(if ended.ok { Ok(would_install(&ended.stdout)) } else { Err(refusal(&ended.all)) })
    }
}

/// Versions by the package's name.
pub(super) type Versions = BTreeMap<String, String>;

/// Out of the lines `Inst NAME [OLD] (VERSION ORIGIN [ARCH])` of a simulation.
fn would_install(simulation: &str) -> Versions {
    let installed = simulation.lines().filter_map(|line| {
        let rest = line.strip_prefix("Inst ")?;
        let (name, rest) = rest.split_once(' ')?;
        let version = rest.split_once('(')?.1.split([' ', ')']).next()?;
        Some((name.split(':').next()?.to_owned(), version.to_owned()))
    });
    installed.collect()
}

/// Why apt refuses: what it would have to remove, the packages that it names, and its errors.
fn refusal(output: &str) -> String {
    let removed = output.lines().skip_while(|line| !line.ends_with("packages will be REMOVED:")).skip(1);
    let removed: Vec<_> =
        removed.take_while(|line| line.starts_with(' ')).flat_map(str::split_whitespace).collect();
    let removal = (!removed.is_empty()).then(|| format!("it would remove {}", removed.join(" ")));
    let reason = |line: &&str| {
        let dependency = [" : Depends:", " : Breaks:", " : Conflicts:", " : PreDepends:"];
        line.starts_with("E: ") || dependency.iter().any(|word| line.contains(word))
    };
    let reasons = output.lines().filter(reason).map(|line| line.trim().trim_start_matches("E: ").to_owned());
    let reasons: Vec<_> = removal.into_iter().chain(reasons).collect();
    if reasons.is_empty() { "apt-get gave no reason".to_owned() } else { reasons.join("; ") }
}

/// Makes a folder and those above it.
pub(super) fn create(folder: &Path) -> Result<()> {
    std::fs::create_dir_all(folder).doing(|| format!("making {}", folder.display()))
}

fn write(path: &Path, text: &str) -> Result<()> {
    std::fs::write(path, text).doing(|| format!("writing {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As `apt-get indextargets` printed it, but for the addresses.
    const TARGETS: &str = "\
Debian|Debian|main|bookworm-updates|bookworm-updates|http://archive.example/debian
Debian|Debian|main|bookworm|stable|http://archive.example/debian
Debian|Debian|contrib|bookworm|stable|http://archive.example/debian
Debian|Debian-Security|main|bookworm-security|bookworm-security|http://archive.example/debian-security
Somebody|Somebody|main|bookworm|bookworm|http://else.example/apt
";

    #[test]
    fn the_archive_s_address_is_the_one_that_apt_uses() {
        let security =
            Some(("http://archive.example/debian-security".to_owned(), "bookworm-security".to_owned()));
        let site = "http://archive.example/debian".to_owned();
        let release = Release { codename: "bookworm".to_owned(), site, security };
        assert_eq!(Release::parse(TARGETS).as_ref(), Some(&release));
        let unsigned = |text: String| text.replace(&format!(" [signed-by={KEYRING}]"), "");
        assert_eq!(
            unsigned(release.sources("deb")),
            "deb http://archive.example/debian bookworm main\ndeb http://archive.example/debian bookworm-updates main\n\
             deb http://archive.example/debian bookworm-backports main\n\
             deb http://archive.example/debian-security bookworm-security main\n"
        );
        assert_eq!(release.sources("deb-src").lines().count(), 3, "no sources of the backports");
    }

    #[test]
    fn without_a_debian_archive_there_is_no_address() {
        #[rustfmt::skip]
        let cases = [
            ("no lists at all",            ""),
            ("another distribution",       "Ubuntu|Ubuntu|main|noble|noble|http://archive.example/ubuntu\n"),
            ("only the security updates",  "Debian|Debian-Security|main|bookworm-security|bookworm-security|http://archive.example/s\n"),
            ("only the updates",           "Debian|Debian|main|bookworm-updates|bookworm-updates|http://archive.example/debian\n"),
            ("something cut off",          "Debian|Debian|main\n"),
        ];
        for (what, targets) in cases {
            assert_eq!(Release::parse(targets), None, "{what}");
        }
        let alone =
            Release::parse("Debian|Debian|main|sid|unstable|http://archive.example/debian\n").unwrap();
        assert_eq!((alone.codename.as_str(), alone.security), ("sid", None));
    }

    #[test]
    fn a_simulation_tells_versions() {
        let simulation = "Reading package lists...\nThe following NEW packages will be installed:\n  qemu-system-x86\n\
            Inst libfdt1 (1.6.1-4+b1 Debian:12.15/oldstable [amd64])\n\
            Inst qemu-system-x86 [1:7.2+dfsg-7] (1:10.0.2+ds-2+deb13u1~bpo12+1 Debian Backports:oldstable-backports [amd64]) []\n\
            Inst zlib1g:amd64 (1:1.2 Debian:12/x [amd64])\nConf libfdt1 (1.6.1-4+b1 Debian:12.15/oldstable [amd64])\n";
        let expected = [
            ("libfdt1", "1.6.1-4+b1"),
            ("qemu-system-x86", "1:10.0.2+ds-2+deb13u1~bpo12+1"),
            ("zlib1g", "1:1.2"),
        ];
        assert_eq!(
            would_install(simulation),
            expected.map(|(name, version)| (name.to_owned(), version.to_owned())).into()
        );
    }

    #[test]
    fn a_refusal_is_told_in_apt_s_own_words() {
        #[rustfmt::skip]
        let cases = [
            ("Reading package lists...\nE: Unable to locate package u-boot-nowhere\n",
             "Unable to locate package u-boot-nowhere"),
            ("The following packages have unmet dependencies:\n qemu-utils : Breaks: qemu-system-common (< 1:8.0) but 1:7.2+dfsg-7 is to be installed\nE: Error, pkgProblemResolver::Resolve generated breaks, this may be caused by held packages.\n",
             "qemu-utils : Breaks: qemu-system-common (< 1:8.0) but 1:7.2+dfsg-7 is to be installed; Error, pkgProblemResolver::Resolve generated breaks, this may be caused by held packages."),
            ("The following packages will be REMOVED:\n  qemu-utils\nThe following NEW packages will be installed:\n  x\nE: Packages need to be removed but remove is disabled.\n",
             "it would remove qemu-utils; Packages need to be removed but remove is disabled."),
            ("", "apt-get gave no reason"),
        ];
        for (output, words) in cases {
            assert_eq!(refusal(output), words);
        }
    }

    #[test]
    fn the_files_of_one_package_are_not_those_of_another_whose_name_begins_alike() {
        let folder = tempfile::tempdir().unwrap();
        for name in
            ["busybox-static_1_arm64.deb", "busybox-static-x_1_arm64.deb", "busybox-static_1_arm64.deb.part"]
        {
            write(&folder.path().join(name), "").unwrap();
        }
        let found = packages_of(folder.path(), "busybox-static").unwrap();
        assert_eq!(found, [folder.path().join("busybox-static_1_arm64.deb")]);
    }
}
