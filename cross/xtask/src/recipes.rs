//! `cargo xtask recipes`: makes the list of crates that the Yocto recipe downloads, from `Cargo.lock`.
//!
//! The other recipes are written by hand, and say what the workspace says too: version, licence, files. The tests below hold
//! them to it, and try what of the packaging can be tried without a distribution's build: the shell scripts, the Makefile.

use crate::{Outcome, tools};
use std::path::PathBuf;

/// Writes the list.
pub fn run(mut args: lexopt::Parser) -> Outcome {
    if let Some(other) = args.next()? {
        return Err(other.unexpected().into());
    }
    let path = crates_inc();
    tools::write(&path, list_of_crates()?)?;
    println!("wrote {}", path.display());
    Ok(())
}

fn crates_inc() -> PathBuf {
    tools::workspace().join("cross/yocto/meta-mainstay/recipes-core/mainstay/mainstay-crates.inc")
}

/// In bitbake's form: an address for each crate of a registry, and its SHA-256. All of `Cargo.lock`, tests' crates too:
/// cargo resolves all of the workspace, even where it builds one package of it.
fn list_of_crates() -> Result<String, String> {
    let lock = tools::read_text(&tools::workspace().join("Cargo.lock"))?;
    let mut addresses = String::new();
    let mut sums = String::new();
    for package in lock.split("[[package]]").skip(1) {
        let field = |key: &str| {
            let line = package.lines().find_map(|line| line.strip_prefix(key));
            line.map(|value| value.trim_matches(['"', ' ', '=']).to_owned())
        };
        let (Some(name), Some(version)) = (field("name = "), field("version = ")) else {
            return Err("Cargo.lock: expected a name and a version in each [[package]]".into());
        };
        let Some(checksum) = field("checksum = ") else { continue }; // one of ours
        addresses += &format!("    crate://crates.io/{name}/{version} \\\n");
        sums += &format!("SRC_URI[{name}-{version}.sha256sum] = \"{checksum}\"\n");
    }
    Ok(format!("# Made by `cargo xtask recipes` from Cargo.lock.\nSRC_URI += \" \\\n{addresses}\"\n\n{sums}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;
    use std::process::Command;

    const RECIPE: &str = "cross/yocto/meta-mainstay/recipes-core/mainstay/mainstay_0.1.0.bb";
    const BUILDROOT: &str = "cross/buildroot/package/mainstay";

    fn text(path: &str) -> String {
        tools::read_text(&tools::workspace().join(path)).unwrap()
    }

    /// A folder of this test's own, empty.
    fn folder(name: &str) -> PathBuf {
        let folder = tools::target_dir().join("tmp/xtask").join(name);
        tools::make_empty_folder(&folder).unwrap();
        folder
    }

    #[test]
    fn the_recipe_s_crates_are_those_of_cargo_lock() {
        let found = tools::read_text(&crates_inc()).unwrap();
        assert!(found == list_of_crates().unwrap(), "make it anew: cargo xtask recipes");
        assert!(found.contains("crate://crates.io/ring/"), "or nothing was read of Cargo.lock");
    }

    #[test]
    fn recipes_have_the_workspace_s_version_and_licence() {
        let version = env!("CARGO_PKG_VERSION");
        assert!(RECIPE.ends_with(&format!("/mainstay_{version}.bb")), "{RECIPE}");
        let (recipe, makefile) = (text(RECIPE), text(&format!("{BUILDROOT}/mainstay.mk")));
        assert!(makefile.contains(&format!("\nMAINSTAY_VERSION = v{version}\n")));

        assert!(text("Cargo.toml").contains("license = \"MIT OR Apache-2.0\""));
        assert!(recipe.contains("LICENSE = \"MIT | Apache-2.0\""));
        assert!(makefile.contains("MAINSTAY_LICENSE = MIT or Apache-2.0\n"));
        assert!(text("cross/package/deb/copyright.in").contains("License: MIT or Apache-2.0"));
        for file in ["LICENSE-MIT", "LICENSE-APACHE"] {
            let sum = tools::output(Command::new("md5sum").arg(tools::workspace().join(file))).unwrap();
            let sum = sum.split(' ').next().unwrap();
            assert!(recipe.contains(&format!("file://{file};md5={sum}")), "{file}: {sum}");
            assert!(makefile.contains(file));
        }
    }

    #[test]
    fn recipes_build_the_device_binary_with_its_default_features() {
        let recipe = text(RECIPE);
        assert!(recipe.contains("--package mainstay --bin mainstay"));
        for (what, text) in [("recipe", recipe), ("Makefile", text(&format!("{BUILDROOT}/mainstay.mk")))] {
            assert!(!text.contains("features"), "{what}: the packages of all distributions have the same");
        }
        assert!(text(&format!("{BUILDROOT}/mainstay.mk")).contains("MAINSTAY_SUBDIR = agent/daemon\n"));
        assert!(text("agent/daemon/Cargo.toml").contains("name = \"mainstay\"\n"));
    }

    #[test]
    fn recipes_install_every_file_that_the_debian_package_has_to_the_same_place() {
        let recipe = text(RECIPE)
            .replace("${systemd_system_unitdir}", "/usr/lib/systemd/system")
            .replace("${nonarch_libdir}", "/usr/lib")
            .replace("${datadir}", "/usr/share")
            .replace("${sysconfdir}", "/etc");
        let makefile = text(&format!("{BUILDROOT}/mainstay.mk"));
        for (from, to, mode) in crate::deb::FILES {
            if to.starts_with("usr/share/doc/") {
                continue;
            }
            let line = format!("install -D -m {mode:04o} ${{S}}/cross/package/{from} ${{D}}/{to}\n");
            assert!(recipe.contains(&line), "recipe: expected {line}");
            let line = format!("$(INSTALL) -D -m {mode:04o} $(@D)/cross/package/{from} $(TARGET_DIR)/{to}\n");
            assert!(makefile.contains(&line), "mainstay.mk: expected {line}");
            assert!(tools::workspace().join("cross/package").join(from).is_file(), "{from}");
        }
    }

    #[test]
    fn make_reads_the_buildroot_package() {
        if !tools::installed("make") {
            return eprintln!("NOT RUN: there is no make");
        }
        // Of Buildroot's macros only what the file calls: what cargo-package makes of it is not tried here.
        let before = "qstrip = $(strip $(subst \",,$(1)))\ncargo-package = $(info evaluated $(MAINSTAY_SITE_METHOD))\n\
                      INSTALL = install\nTARGET_DIR = /target\nMAINSTAY_PKGDIR = /package\n\
                      BR2_PACKAGE_MAINSTAY_SITE = \"/some/where\"\n";
        let after = "all:\n\t@echo $(MAINSTAY_SITE)\n$(info $(MAINSTAY_INSTALL_FILES) $(MAINSTAY_INSTALL_INIT_SYSV))\n";
        let makefile = folder("make").join("Makefile");
        let package = tools::workspace().join(BUILDROOT).join("mainstay.mk");
        tools::write(&makefile, format!("{before}include {}\n{after}", package.display())).unwrap();
        let said =
            tools::output(Command::new("make").arg("--warn-undefined-variables").arg("-f").arg(&makefile));
        let said = said.unwrap();
        for words in ["evaluated git", "/some/where", "etc/mainstay/board.toml", "etc/init.d/S90mainstay"] {
            assert!(said.contains(words), "expected {words:?}, found {said}");
        }
    }

    #[test]
    fn the_shell_reads_every_script() {
        let scripts = ["cross/package/end-trial", "cross/package/deb/postinst", "cross/package/deb/prerm"];
        let more = ["cross/package/deb/postrm", "cross/buildroot/package/mainstay/S90mainstay"];
        for script in scripts.iter().chain(&more) {
            let path = tools::workspace().join(script);
            tools::output(Command::new("sh").arg("-n").arg(&path)).unwrap();
            assert_ne!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o100, 0, "{script}");
        }
    }

    #[test]
    fn the_manual_page_has_every_command_that_the_binary_names() {
        let page = text("cross/package/mainstay.8").replace("It Cm mark ", "It Cm mark-").replace('-', " ");
        let source = text("agent/daemon/src/main.rs");
        let help = source.split("const HELP").nth(1).unwrap().split("\";").next().unwrap();
        let commands =
            help.lines().filter_map(|line| line.strip_prefix("  ")).filter(|line| !line.starts_with(' '));
        let mut seen = 0;
        for command in commands {
            let words: Vec<&str> = command.split_whitespace().collect();
            let name = match words[..] {
                ["mark", which, ..] => format!("mark {which}"),
                _ => words[0].split('|').next().unwrap().to_owned(),
            };
            assert!(page.contains(&format!("Cm {}", name.replace('-', " "))), "{name}");
            seen += 1;
        }
        assert!(seen >= 10, "{seen}");
    }

    /// Runs `end-trial` as systemd does, with a `systemctl` that only writes down what it was told; how often it restarted
    /// the machine.
    fn restarts(case: &str, log: &str, ends: &[&str]) -> usize {
        let folder = folder(case);
        tools::write(&folder.join("state/audit.log"), log).unwrap();
        tools::make_folder(&folder.join("run")).unwrap();
        let systemctl = folder.join("bin/systemctl");
        tools::write(&systemctl, format!("#!/bin/sh\necho \"$@\" >> {}/told\n", folder.display())).unwrap();
        std::fs::set_permissions(&systemctl, std::fs::Permissions::from_mode(0o755)).unwrap();
        for result in ends {
            let mut script = Command::new(tools::workspace().join("cross/package/end-trial"));
            script.env("PATH", format!("{}:/usr/bin:/bin", folder.join("bin").display()));
            script.env("STATE_DIRECTORY", folder.join("state")).env("RUNTIME_DIRECTORY", folder.join("run"));
            tools::output(script.env("SERVICE_RESULT", result)).unwrap();
        }
        let told = |path: &Path| std::fs::read_to_string(path).unwrap_or_default();
        told(&folder.join("told")).lines().filter(|line| *line == "reboot --force").count()
    }

    #[test]
    fn a_trial_ends_when_its_agent_does_not_start_and_a_committed_system_goes_on() {
        let trial = "1 1795185519 started device=gw running=A 23\n2 1795185520 phase phase=Trial version=1 target=B 50\n";
        let settled = format!("{trial}3 1795185600 settled outcome=Committed why=\"phase=Trial\" 51\n");
        let unset_clock = "1 - phase phase=Trial version=1 target=B 50\n";
        let again =
            format!("{settled}4 1795185700 phase phase=Downloading 52\n5 1795185800 phase phase=Trial 53\n");
        let crash = ["exit-code"; 10];
        #[rustfmt::skip]
        let cases: [(&str, &str, &[&str], usize); 8] = [
            // case                    audit log     how the agent ended           restarts
            ("nine-ends",              trial,        &crash[..9],                  0),
            ("ten-ends",               trial,        &crash,                       1),
            ("signals-and-timeouts",   trial,        &["signal", "timeout", "core-dump", "watchdog", "exit-code",
                                                       "signal", "timeout", "core-dump", "watchdog", "exit-code"], 1),
            ("orderly-ends",           trial,        &["success"; 30],             0),
            ("committed",              &settled,     &crash,                       0),
            ("second-update",          &again,       &crash,                       1),
            ("clock-not-set",          unset_clock,  &crash,                       1),
            ("no-log",                 "",           &crash,                       0),
        ];
        for (case, log, ends, expected) in cases {
            assert_eq!(restarts(case, log, ends), expected, "{case}");
        }
    }
}
