//! A C compiler for musl on ARMv7: Debian's cross compiler for glibc, turned to the headers and libraries of Debian's
//! `musl-dev`, as that package's own wrapper does it (a specs file).
//!
//! The package is for another architecture than this machine's, so it is neither installed nor is dpkg told of that
//! architecture: apt gets a folder of its own to keep lists in, downloads the package, and it is unpacked.
//!
//! ```text
//! TOOLCHAIN/apt/            apt.conf, sources.list, lists, cache: the archives of this machine's own apt
//! TOOLCHAIN/musl-dev/       the package, unpacked, and a libunwind.a that is gcc's
//! TOOLCHAIN/arm-linux-musleabihf-gcc, musl-gcc.specs
//! ```

use crate::tools;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Debian's name of the architecture.
const ARCHITECTURE: &str = "armhf";
/// Debian's key ring, of the package `debian-archive-keyring`, which every Debian has.
const KEYS: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// The compiler, made in `toolchain` from `glibc_gcc` unless it is there already.
pub fn compiler(glibc_gcc: &str, toolchain: &Path) -> Result<PathBuf, String> {
    let wrapper = toolchain.join("arm-linux-musleabihf-gcc");
    if wrapper.is_file() {
        return Ok(wrapper);
    }
    let library = toolchain.join("musl-dev");
    fetch(&toolchain.join("apt"), &library).map_err(|why| format!("musl for {ARCHITECTURE}: {why}"))?;
    let specs = toolchain.join("musl-gcc.specs");
    let theirs = library.join("usr/lib/arm-linux-musleabihf/musl-gcc.specs");
    let text = tools::read_text(&theirs)?;
    tools::write(&specs, text.replace("/usr/", &format!("{}/usr/", library.display())))?;
    // std asks for LLVM's unwinder, which Debian has not for this; gcc's does, and with panic=abort nothing unwinds.
    tools::write(&library.join("usr/lib/arm-linux-musleabihf/libunwind.a"), "INPUT(-lgcc_eh -lgcc)\n")?;
    // Written last, and under another name first: it says that the rest is there.
    let fresh = wrapper.with_extension("new");
    tools::write(&fresh, format!("#!/bin/sh\nexec {glibc_gcc} \"$@\" -specs '{}'\n", specs.display()))?;
    let executable = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(&fresh, executable).map_err(|e| format!("{}: {e}", fresh.display()))?;
    std::fs::rename(&fresh, &wrapper).map_err(|e| format!("{}: {e}", wrapper.display()))?;
    Ok(wrapper)
}

/// Downloads the package with an apt of its own, kept in `apt`, and unpacks it into `library`.
fn fetch(apt: &Path, library: &Path) -> Result<(), String> {
    for folder in ["lists/partial", "cache/archives/partial", "packages"] {
        tools::make_folder(&apt.join(folder))?;
    }
    tools::write(&apt.join("status"), "")?;
    let sources: String = archives()?
        .iter()
        .map(|(site, suite)| format!("deb [signed-by={KEYS}] {site} {suite} main\n"))
        .collect();
    tools::write(&apt.join("sources.list"), &sources)?;
    let at = apt.display();
    let configuration = format!(
        "APT::Architecture \"{ARCHITECTURE}\";\nAPT::Architectures {{ \"{ARCHITECTURE}\"; }};\n\
         Dir::Etc::sourcelist \"{at}/sources.list\";\nDir::Etc::sourceparts \"/dev/null\";\n\
         Dir::Etc::preferencesparts \"/dev/null\";\nDir::State::lists \"{at}/lists\";\n\
         Dir::State::status \"{at}/status\";\nDir::Cache \"{at}/cache\";\n\
         APT::Sandbox::User \"\";\nAcquire::Languages \"none\";\n"
    );
    tools::write(&apt.join("apt.conf"), &configuration)?;
    let get = |words: &[&str]| {
        let mut get = Command::new("apt-get");
        get.env("APT_CONFIG", apt.join("apt.conf")).current_dir(apt.join("packages")).args(words);
        tools::output(&mut get)
    };
    get(&["update", "-qq"])?;
    get(&["download", "-qq", "musl-dev"])?;
    let package = tools::entries(&apt.join("packages"))?
        .into_iter()
        .find(|path| path.extension().is_some_and(|extension| extension == "deb"))
        .ok_or("apt-get download has left no package")?;
    tools::output(Command::new("dpkg-deb").arg("--extract").arg(package).arg(library))?;
    Ok(())
}

/// Debian's archives as this machine's apt knows them: site and suite. Only those of a stable release's main part, for
/// which there is one place however many lists name it.
fn archives() -> Result<Vec<(String, String)>, String> {
    let mut ask = Command::new("apt-get");
    ask.args([
        "indextargets",
        "--format",
        "$(SITE) $(CODENAME) $(RELEASE) $(ORIGIN)",
        "Identifier: Packages",
    ]);
    let said = tools::output(&mut ask)?;
    let mut found: Vec<(String, String)> = Vec::new();
    for line in said.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        // A suite's own updates and security fixes are other archives: musl-dev stands in the release.
        if let [site, codename, release, "Debian"] = words[..]
            && !codename.contains('-')
            && !release.contains('-')
        {
            found.push((site.to_owned(), codename.to_owned()));
        }
    }
    found.sort();
    found.dedup();
    match found.is_empty() {
        true => Err("this machine's apt has no lists of a Debian release: apt-get update".into()),
        false => Ok(found),
    }
}
