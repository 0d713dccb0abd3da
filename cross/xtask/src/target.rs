//! The targets of the device binary, and how each is built into one static file.
//!
//! ```text
//! triple                           Rust's std    C compiler (ring, zstd)                linked by
//! x86_64-unknown-linux-musl        rustup        musl-gcc                               the same
//! aarch64-unknown-linux-musl       rustup        aarch64-linux-gnu-gcc                  rust-lld, Rust's own musl
//! armv7-unknown-linux-musleabihf   its source    arm-linux-gnueabihf-gcc, Debian's musl the same
//! ```
//! rustup has no std for the last one everywhere, so it is always built from source (`-Z build-std`, which a stable
//! compiler does when `RUSTC_BOOTSTRAP=1` is set): one way, so that one commit makes one binary. musl rather than a static
//! glibc, because glibc's resolver loads its parts at run time, and a static binary has none.
//!
//! No path of this machine gets into the binary: all that could are mapped to fixed names ([`Tree::maps`]), for rustc and
//! for the C compiler. `cargo xtask dist --reproducible` proves it.

use crate::{musl, tools};
use std::path::{Path, PathBuf};
use std::process::Command;

/// A target that the device binary is built for.
pub struct Target {
    /// Rust's name of it.
    pub triple: &'static str,
    /// Debian's name of the architecture.
    pub debian: &'static str,
    /// The largest that the binary may be, in MiB; argued in `agent/docs/DESIGN.md`.
    pub budget_mib: f64,
    /// What runs it on a machine of another architecture.
    pub emulator: &'static str,
    route: Route,
}

/// How it gets its standard library, its C compiler and its linker. The compilers are looked for in their order.
enum Route {
    /// rustup's std; the compiler knows musl and links.
    Musl { compilers: &'static [&'static str] },
    /// rustup's std, which brings musl and is linked by Rust's own linker; the compiler only compiles.
    SelfContained { compilers: &'static [&'static str] },
    /// std from its source; a compiler for glibc, turned to Debian's musl.
    FromSource { compiler: &'static str },
}

/// Those that there are.
pub static TARGETS: [Target; 3] = [
    Target {
        triple: "x86_64-unknown-linux-musl",
        debian: "amd64",
        budget_mib: 3.0,
        emulator: "qemu-x86_64-static",
        route: Route::Musl { compilers: &["x86_64-linux-musl-gcc", "musl-gcc"] },
    },
    Target {
        triple: "aarch64-unknown-linux-musl",
        debian: "arm64",
        budget_mib: 2.5,
        emulator: "qemu-aarch64-static",
        route: Route::SelfContained { compilers: &["aarch64-linux-musl-gcc", "aarch64-linux-gnu-gcc"] },
    },
    Target {
        triple: "armv7-unknown-linux-musleabihf",
        debian: "armhf",
        budget_mib: 2.0,
        emulator: "qemu-arm-static",
        route: Route::FromSource { compiler: "arm-linux-gnueabihf-gcc" },
    },
];

/// Where a build happens: a copy of the workspace, and the folder that cargo builds into.
pub struct Tree {
    /// The workspace.
    pub workspace: PathBuf,
    /// cargo's target folder.
    pub target_dir: PathBuf,
}

impl Tree {
    /// The workspace that this program was built from.
    pub fn ours() -> Tree {
        Tree { workspace: tools::workspace(), target_dir: tools::target_dir() }
    }

    /// What each folder of this machine is called in the binary. The target folder may stand in the workspace's, and of
    /// two that fit, rustc and gcc take the later one.
    fn maps(&self, compiler: &Compiler) -> Vec<(PathBuf, &'static str)> {
        vec![
            (cargo_home(), "/cargo"),
            (compiler.sysroot.join("lib/rustlib/src/rust"), "/rust"),
            (self.workspace.clone(), "/mainstay"),
            (self.target_dir.clone(), "/target"),
        ]
    }
}

/// The rustc that cargo will start.
struct Compiler {
    program: std::ffi::OsString,
    sysroot: PathBuf,
}

impl Compiler {
    fn find() -> Result<Compiler, String> {
        let program = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
        let sysroot = tools::output(Command::new(&program).args(["--print", "sysroot"]))?.into();
        Ok(Compiler { program, sysroot })
    }

    /// Is rustup's standard library for `triple` there?
    fn has_std(&self, triple: &str) -> Result<bool, String> {
        let mut ask = Command::new(&self.program);
        let library = tools::output(ask.args(["--print", "target-libdir", "--target", triple]))?;
        Ok(Path::new(&library).is_dir())
    }
}

fn cargo_home() -> PathBuf {
    let home = || PathBuf::from(std::env::var_os("HOME").unwrap_or_default()).join(".cargo");
    std::env::var_os("CARGO_HOME").map_or_else(home, PathBuf::from)
}

impl Target {
    /// Does this machine run it without an emulator?
    pub fn is_native(&self) -> bool {
        self.triple.starts_with(std::env::consts::ARCH)
    }

    /// Those that `wanted` names; all if it names none.
    pub fn chosen(wanted: &[String]) -> Result<Vec<&'static Target>, String> {
        if wanted.is_empty() {
            return Ok(TARGETS.iter().collect());
        }
        let find = |triple: &String| {
            let known = || TARGETS.each_ref().map(|target| target.triple).join(", ");
            let found = TARGETS.iter().find(|target| target.triple == triple);
            found.ok_or_else(|| format!("no target {triple}; there are {}", known()))
        };
        wanted.iter().map(find).collect()
    }

    /// Builds the device binary in `tree`; where it is.
    pub fn build(&self, tree: &Tree) -> Result<PathBuf, String> {
        self.build_with(tree, &[])
    }

    /// Builds an example of the device binary's package just like it; where it is.
    pub fn build_example(&self, tree: &Tree, name: &str) -> Result<PathBuf, String> {
        let folder = self.build_of(tree, &[], &["--example", name])?;
        Ok(folder.join("examples").join(name))
    }

    /// As [`Target::build`], with further variables in the environment, none of which may matter.
    pub fn build_with(&self, tree: &Tree, variables: &[(&str, &str)]) -> Result<PathBuf, String> {
        Ok(self.build_of(tree, variables, &["--bin", "mainstay"])?.join("mainstay"))
    }

    /// Builds what `words` select of the device binary's package; the folder that it is in.
    fn build_of(&self, tree: &Tree, variables: &[(&str, &str)], words: &[&str]) -> Result<PathBuf, String> {
        let triple = self.triple;
        let rustc = Compiler::find()?;
        let mut cargo = tools::cargo();
        cargo
            .envs(variables.iter().copied())
            .current_dir(&tree.workspace)
            .env("CARGO_TARGET_DIR", &tree.target_dir);
        cargo.args(["build", "--quiet", "--locked", "--release", "-p", "mainstay"]).args(words);
        cargo.args(["--target", triple]);
        let mut rustflags: Vec<String> = Vec::new();
        let mut target_dir = tree.target_dir.clone();
        let compiler = match &self.route {
            Route::FromSource { compiler } => {
                let source = rustc.sysroot.join("lib/rustlib/src/rust/library");
                if !source.is_dir() {
                    return Err("no source of Rust's std: rustup component add rust-src".into());
                }
                let compiler = musl::compiler(find(&[compiler])?, &tools::target_dir().join("toolchain"))?;
                // Build scripts see this variable too, and cargo would build them anew for each target in turn.
                target_dir.push("from-source");
                cargo.args(["-Z", "build-std=std,panic_abort"]).env("RUSTC_BOOTSTRAP", "1");
                cargo.env(variable("CARGO_TARGET", triple, "LINKER"), &compiler);
                rustflags.push("-Clink-self-contained=no".into());
                compiler
            }
            Route::Musl { compilers } | Route::SelfContained { compilers } => {
                if !rustc.has_std(triple)? {
                    return Err(format!("no standard library for it: rustup target add {triple}"));
                }
                find(compilers)?.into()
            }
        };
        if let Route::SelfContained { .. } = self.route {
            cargo.env(variable("CARGO_TARGET", triple, "LINKER"), "rust-lld");
            rustflags.push("-Clink-self-contained=yes".into());
        }
        let maps = tree.maps(&rustc);
        let mapped = |flag: &str| {
            let map = |(from, to): &(PathBuf, &str)| format!("{flag}={}={to}", from.display());
            maps.iter().map(map).collect::<Vec<_>>()
        };
        rustflags.extend(mapped("--remap-path-prefix"));
        // The one variable that outranks whatever flags the caller's environment or configuration sets.
        cargo.env("CARGO_ENCODED_RUSTFLAGS", rustflags.join("\u{1f}"));
        let suffix = triple.replace('-', "_");
        cargo.env(format!("CC_{suffix}"), compiler);
        cargo.env(format!("CFLAGS_{suffix}"), mapped("-ffile-prefix-map").join(" "));
        tools::output(cargo.env("CARGO_TARGET_DIR", &target_dir))?;
        Ok(target_dir.join(triple).join("release"))
    }
}

/// The first of `compilers` that is installed.
fn find(compilers: &[&'static str]) -> Result<&'static str, String> {
    let found = compilers.iter().find(|compiler| tools::installed(compiler));
    found.copied().ok_or_else(|| format!("no C compiler for it: one of {}", compilers.join(", ")))
}

/// cargo's variable for one target, as in `CARGO_TARGET_X86_64_UNKNOWN_LINUX_MUSL_LINKER`.
fn variable(prefix: &str, triple: &str, suffix: &str) -> String {
    format!("{prefix}_{}_{suffix}", triple.replace('-', "_").to_uppercase())
}
