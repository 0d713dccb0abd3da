//! `cargo xtask deb`: the device binary as a Debian package, for each architecture.
//!
//! Staged by hand and packed by dpkg-deb, without debhelper and cargo-deb: what is packed is one static file and a handful of
//! text files, the table below says where each goes, and nothing but Debian's own archiver is needed.
//!
//! ```text
//! cross/package/                           → in the package
//! (target/dist/TRIPLE/mainstay)              /usr/bin/mainstay
//! mainstay.service, tmpfiles.conf            /usr/lib/systemd/system/, /usr/lib/tmpfiles.d/mainstay.conf
//! end-trial                                  /usr/lib/mainstay/end-trial
//! mainstay.Agent1.conf                       /usr/share/dbus-1/system.d/
//! mainstay.toml, board.toml                  /etc/mainstay/                     conffiles
//! mainstay.8, README.md, copyright …         /usr/share/man/man8/, /usr/share/doc/mainstay/
//! deb/                                       control, maintainer scripts
//! ```
//! One commit makes one package: times are the commit's (SOURCE_DATE_EPOCH), owners root, modes those of the table.
//!
//! Each package is then checked: `systemd-analyze verify` and `security` of the unit, lintian where it is installed, and
//! that the package packed a second time is the same bytes.

use crate::target::Target;
use crate::{Failure, Outcome, dist, tools};
use lexopt::prelude::*;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What is copied as it is: from `cross/package`, to, mode.
pub const FILES: [(&str, &str, u32); 9] = [
    ("mainstay.service", "usr/lib/systemd/system/mainstay.service", 0o644),
    ("end-trial", "usr/lib/mainstay/end-trial", 0o755),
    ("tmpfiles.conf", "usr/lib/tmpfiles.d/mainstay.conf", 0o644),
    ("mainstay.Agent1.conf", "usr/share/dbus-1/system.d/mainstay.Agent1.conf", 0o644),
    ("mainstay.toml", "etc/mainstay/mainstay.toml", 0o644),
    ("board.toml", "etc/mainstay/board.toml", 0o644),
    ("README.md", "usr/share/doc/mainstay/README.md", 0o644),
    ("../../board-support/PORTING.md", "usr/share/doc/mainstay/PORTING.md", 0o644),
    ("../../agent/docs/OPERATING.md", "usr/share/doc/mainstay/OPERATING.md", 0o644),
];
/// The administrator's: dpkg asks before it replaces a changed one.
const CONFFILES: &str = "/etc/mainstay/board.toml\n/etc/mainstay/mainstay.toml\n";
const SCRIPTS: [&str; 3] = ["postinst", "prerm", "postrm"];
/// The most that `systemd-analyze security` may find exposed: 0.0 is nothing, 10.0 everything. The unit stands at 3.0; the option wants tenths.
const EXPOSURE_MAX: &str = "30";

/// Parses the rest of the command line, builds the binaries, packs and checks.
pub fn run(mut args: lexopt::Parser) -> Outcome {
    let mut wanted = Vec::new();
    while let Some(arg) = args.next()? {
        match arg {
            Long("target") => wanted.push(args.value()?.string()?),
            other => return Err(other.unexpected().into()),
        }
    }
    for (target, binary) in dist::binaries(&Target::chosen(&wanted)?)? {
        let package = Package::new(target, binary)?;
        let file = package.pack(&dist::folder().join("deb"))?;
        let again = package.pack(&tools::target_dir().join("deb-again"))?;
        if tools::read(&file)? != tools::read(&again)? {
            return Err(Failure::Differs(format!("{}, packed twice", file.display())));
        }
        println!("packed {}", file.display());
        lint(&file)?;
    }
    verify_unit()
}

struct Package {
    target: &'static Target,
    binary: PathBuf,
    version: String,
    /// Unix seconds.
    time: String,
}

impl Package {
    fn new(target: &'static Target, binary: PathBuf) -> Result<Package, String> {
        let suffix = std::env::var("MAINSTAY_BUILD").unwrap_or_default();
        let commit = || {
            let mut git = Command::new("git");
            tools::output(git.args(["log", "-1", "--format=%ct"]).current_dir(tools::workspace()))
        };
        let time = std::env::var("SOURCE_DATE_EPOCH").or_else(|_| commit());
        let time = time.map_err(|why| format!("{why}: outside of a repository, set SOURCE_DATE_EPOCH"))?;
        Ok(Package { target, binary, version: format!("{}{suffix}", env!("CARGO_PKG_VERSION")), time })
    }

    /// Stages and packs into `folder`; the package.
    fn pack(&self, folder: &Path) -> Result<PathBuf, String> {
        let architecture = self.target.debian;
        let name = format!("mainstay_{}_{architecture}", self.version);
        let stage = folder.join(format!("{name}.stage"));
        tools::make_empty_folder(&stage)?;
        let source = tools::workspace().join("cross/package");
        place(&self.binary, &stage.join("usr/bin/mainstay"), 0o755)?;
        for (from, to, mode) in FILES {
            place(&source.join(from), &stage.join(to), mode)?;
        }
        self.compressed(
            &tools::read(&source.join("mainstay.8"))?,
            &stage.join("usr/share/man/man8/mainstay.8"),
        )?;
        let document = stage.join("usr/share/doc/mainstay");
        self.compressed(self.changelog()?.as_bytes(), &document.join("changelog"))?;
        tools::write(&document.join("copyright"), copyright(&source)?)?;

        let control = stage.join("DEBIAN");
        for script in SCRIPTS {
            place(&source.join("deb").join(script), &control.join(script), 0o755)?;
        }
        tools::write(&control.join("conffiles"), CONFFILES)?;
        let mut sums = Command::new("sh");
        sums.args(["-c", "find usr -type f | LC_ALL=C sort | xargs md5sum"]).current_dir(&stage);
        let sums = tools::output(&mut sums)?;
        tools::write(&control.join("md5sums"), format!("{sums}\n"))?;
        let template = tools::read_text(&source.join("deb/control.in"))?;
        let text = template
            .replace("@VERSION@", &self.version)
            .replace("@ARCHITECTURE@", architecture)
            .replace("@INSTALLED_KIB@", &installed_kib(&stage)?.to_string());
        tools::write(&control.join("control"), text)?;
        tidy(&stage)?;

        let package = folder.join(format!("{name}.deb"));
        let mut dpkg = Command::new("dpkg-deb");
        dpkg.env("SOURCE_DATE_EPOCH", &self.time).args(["--build", "--root-owner-group", "-Zxz", "-z6"]);
        tools::output(dpkg.arg("--threads-max=1").arg(&stage).arg(&package))?;
        std::fs::remove_dir_all(&stage).map_err(|e| format!("{}: {e}", stage.display()))?;
        Ok(package)
    }

    /// In Debian's form (deb-changelog(5)), which wants an entry for each version; what changed stands in CHANGELOG.md.
    fn changelog(&self) -> Result<String, String> {
        let mut date = Command::new("date");
        let at = format!("--date=@{}", self.time);
        let date = tools::output(date.env("LC_ALL", "C").args(["--utc", "--rfc-email", &at]))?;
        Ok(format!(
            "mainstay ({}) unstable; urgency=medium\n\n  * What changed stands in CHANGELOG.md of the source.\n\n \
             -- the Mainstay authors <mainstay@localhost>  {date}\n",
            self.version
        ))
    }

    /// As Debian wants manual pages and changelogs: gzip without name and time.
    fn compressed(&self, bytes: &[u8], to: &Path) -> Result<(), String> {
        tools::write(to, bytes)?;
        tools::output(Command::new("gzip").args(["-9", "--no-name"]).arg(to)).map(drop)
    }
}

/// Copies a file, and sets its mode.
fn place(from: &Path, to: &Path, mode: u32) -> Result<(), String> {
    tools::copy(from, to)?;
    set_mode(to, mode)
}

fn set_mode(path: &Path, mode: u32) -> Result<(), String> {
    let set = std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode));
    set.map_err(|e| format!("{}: {e}", path.display()))
}

/// Folders 0755, and files that nobody may execute 0644, whatever our umask is.
fn tidy(path: &Path) -> Result<(), String> {
    if path.is_dir() {
        set_mode(path, 0o755)?;
        return tools::entries(path)?.iter().try_for_each(|entry| tidy(entry));
    }
    let mode = std::fs::metadata(path).map_err(|e| format!("{}: {e}", path.display()))?.permissions().mode();
    set_mode(path, if mode & 0o100 == 0 { 0o644 } else { 0o755 })
}

/// Sizes of the files, each rounded up to KiB (Debian policy, 5.6.20).
fn installed_kib(path: &Path) -> Result<u64, String> {
    if path.is_dir() {
        let mut sum = 1;
        for entry in tools::entries(path)?.iter().filter(|entry| !entry.ends_with("DEBIAN")) {
            sum += installed_kib(entry)?;
        }
        return Ok(sum);
    }
    Ok(std::fs::metadata(path).map_err(|e| format!("{}: {e}", path.display()))?.len().div_ceil(1024))
}

/// Debian's machine-readable form: our choice of two, and the shorter one's text.
fn copyright(source: &Path) -> Result<String, String> {
    let head = tools::read_text(&source.join("deb/copyright.in"))?;
    let licence = tools::read_text(&tools::workspace().join("LICENSE-MIT"))?;
    let line = |line: &str| if line.is_empty() { " .\n".to_owned() } else { format!(" {line}\n") };
    Ok(head + &licence.lines().map(line).collect::<String>())
}

/// lintian's errors are ours; where it is not installed, that is said.
fn lint(package: &Path) -> Outcome {
    if !tools::installed("lintian") {
        println!("lintian    not run: it is not installed (Debian: lintian)");
        return Ok(());
    }
    // The binary is static on purpose: that is what the package is. And the project has no address for mail.
    let suppressed = "statically-linked-binary,shared-library-lacks-prerequisites,bogus-mail-host,\
                      bogus-mail-host-in-debian-changelog";
    let mut lintian = Command::new("lintian");
    lintian.args(["--fail-on", "error", "--suppress-tags", suppressed, "--allow-root"]).arg(package);
    let said = tools::output(&mut lintian)?;
    println!(
        "lintian    no errors{}",
        if said.is_empty() { String::new() } else { format!("; it says\n{said}") }
    );
    Ok(())
}

/// The unit, judged by systemd itself, as far as this machine has it.
fn verify_unit() -> Outcome {
    if !tools::installed("systemd-analyze") {
        println!("systemd    not run: systemd-analyze is not installed (Debian: systemd)");
        return Ok(());
    }
    // A root of its own, in which what the unit starts is where it will be.
    let root = tools::target_dir().join("unit-root");
    tools::make_empty_folder(&root)?;
    let source = tools::workspace().join("cross/package");
    let unit = root.join("usr/lib/systemd/system/mainstay.service");
    place(&source.join("mainstay.service"), &unit, 0o644)?;
    for program in ["usr/bin/mainstay", "usr/lib/mainstay/end-trial"] {
        place(&source.join("end-trial"), &root.join(program), 0o755)?;
    }
    for target in ["multi-user", "sysinit", "basic", "shutdown"] {
        let text = format!("[Unit]\nDescription={target}\nDefaultDependencies=no\n");
        tools::write(&unit.with_file_name(format!("{target}.target")), text)?;
    }
    let analyze = |words: &[&str]| {
        let mut analyze = Command::new("systemd-analyze");
        let output =
            analyze.args(words).arg(format!("--root={}", root.display())).arg("mainstay.service").output();
        let output = output.map_err(|e| format!("systemd-analyze: {e}"))?;
        let text = [output.stdout, output.stderr].concat();
        Ok::<_, String>((output.status.success(), String::from_utf8_lossy(&text).into_owned()))
    };
    let (passed, said) = analyze(&["verify", "--man=no"])?;
    // What it complains about in units that are not ours does not count.
    let ours: Vec<&str> = said.lines().filter(|line| line.contains("mainstay")).collect();
    if !passed || !ours.is_empty() {
        return Err(format!("systemd-analyze verify: {said}").into());
    }
    println!("systemd    verify: nothing to say");
    let (passed, said) = analyze(&["security", "--offline=true", "--no-pager", "--threshold", EXPOSURE_MAX])?;
    let level = said.lines().rev().find(|line| line.contains("exposure level")).unwrap_or(&said).trim();
    println!("systemd    security: {}", level.trim_start_matches(|c: char| !c.is_ascii()).trim());
    match passed {
        true => Ok(()),
        false => Err(Failure::AboveBudget(format!("the unit's exposure, of at most {EXPOSURE_MAX}: {said}"))),
    }
}
