//! Each binary at work: `doctor`, an install into a file, the trial armed, all as on a board, with an emulator of the
//! processor where this machine has another one.
//!
//! ```text
//! host's mainstayctl ─► keys, trust root, signed bundle          FOLDER/operator, made once
//! binary under test  ─► doctor, install, status, approve         FOLDER/TRIPLE: a board of files
//! here               ─► slot B byte by byte, and the bootloader's own variables
//! ```
//! The board is made of files: two slots, and an environment, which is GRUB's on x86_64 and U-Boot's redundant one on ARM,
//! both written here from the bootloaders' manuals and not by our codecs. Emulation proves that the code for the processor
//! is right; what the kernel of a board does with it is proven in the laboratory (`hil-tests`).

use crate::target::Target;
use crate::{Failure, Outcome, tools};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Bytes of each slot: 16 segments of 256 KiB.
const SLOT_BYTES: usize = 4 << 20;
/// Bytes of the image, less than the slot's and no multiple of a segment.
const IMAGE_BYTES: usize = SLOT_BYTES - 300_000;
/// Bytes of one copy of U-Boot's environment (CONFIG_ENV_SIZE).
const UBOOT_BYTES: usize = 16 << 10;
/// Bytes of GRUB's environment block (GRUB manual, "Environment block").
const GRUB_BYTES: usize = 1024;
const COMPATIBLE: &str = "dist-check";
/// A board that left the factory on A.
const VARIABLES: [(&str, &str); 5] = [
    ("BOOT_ORDER", "A B"),
    ("BOOT_A_LEFT", "0"),
    ("BOOT_A_GOOD", "1"),
    ("BOOT_B_LEFT", "0"),
    ("BOOT_B_GOOD", "0"),
];
/// What the bootloader has to read when the trial of B is armed.
const ARMED: [(&str, &str); 3] = [("BOOT_ORDER", "B A"), ("BOOT_A_GOOD", "1"), ("BOOT_B_LEFT", "3")];

/// Lets each of `built` work, and prints a line for it.
pub fn each(built: &[(&'static Target, PathBuf)]) -> Outcome {
    let folder = tools::target_dir().join("dist-run");
    tools::make_empty_folder(&folder)?;
    let bundle = Bundle::make(&folder.join("operator"))?;
    println!("| binary | runs by | doctor | install | slot B | status | trial armed |");
    println!("|---|---|---|---|---|---|---|");
    for (target, binary) in built {
        let board = Board::make(&folder.join(target.triple), target, &bundle)?;
        let ran = board.play(target, binary, &bundle);
        let by = ran.map_err(|why| Failure::Unmeasured(format!("{}: {why}", target.triple)))?;
        println!(
            "| {} | {by} | 0 wrong | done | equals the image | reads it back | B, 3 tries |",
            target.triple
        );
    }
    println!();
    Ok(())
}

/// What the operator has made.
struct Bundle {
    file: PathBuf,
    trust: PathBuf,
    image: Vec<u8>,
}

impl Bundle {
    /// Keys, trust root, image and bundle in `folder`, by the host's `mainstayctl`.
    fn make(folder: &Path) -> Result<Bundle, String> {
        tools::make_folder(folder)?;
        // The same selection of packages as the laboratory's, so that nothing is built twice.
        let packages =
            ["mainstay-hil", "mainstay", "mainstayctl"].iter().flat_map(|name| ["--package", name]);
        let mut cargo = tools::cargo();
        tools::output(cargo.args(["build", "--quiet", "--locked", "--bin", "mainstayctl"]).args(packages))?;
        let ctl = |line: &str| {
            let mut ctl = Command::new(tools::target_dir().join("debug/mainstayctl"));
            tools::output(ctl.current_dir(folder).args(line.split(' ')))
        };
        for key in ["root", "release", "operator"] {
            ctl(&format!("key generate {key} --no-passphrase"))?;
        }
        ctl(
            "trust init --fleet dist --root-key root.pub --release-key release.pub --operator-key operator.pub \
             --sign-with root.key --out trust.root",
        )?;
        let image = image();
        tools::write(&folder.join("rootfs.img"), &image)?;
        ctl(&format!(
            "pack --quiet --level 3 --artifact rootfs=rootfs.img --compatible {COMPATIBLE} --version 1.2.3 \
             --sign-with release.key --out 1.2.3.bundle"
        ))?;
        Ok(Bundle { file: folder.join("1.2.3.bundle"), trust: folder.join("trust.root"), image })
    }
}

/// A third that compresses not at all, a third that compresses well, a third of zeros: so all encodings are used.
fn image() -> Vec<u8> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64; // xorshift64*, Marsaglia 2003
    let mut noise = || {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        (state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 56) as u8
    };
    let byte = |at: usize| match 3 * at / IMAGE_BYTES {
        0 => noise(),
        1 => b"a gateway, a gateway, "[at % 22],
        _ => 0,
    };
    (0..IMAGE_BYTES).map(byte).collect()
}

/// A board of files.
struct Board {
    folder: PathBuf,
    grub: bool,
}

impl Board {
    fn make(folder: &Path, target: &Target, bundle: &Bundle) -> Result<Board, String> {
        let board = Board { folder: folder.to_owned(), grub: target.debian == "amd64" };
        for slot in ["slot-a", "slot-b"] {
            tools::write(&folder.join(slot), vec![0x5a; SLOT_BYTES])?;
        }
        tools::write(&folder.join("running"), "A")?;
        tools::copy(&bundle.trust, &folder.join("trust.root"))?;
        let boot = match board.grub {
            true => {
                tools::write(&folder.join("environment"), grub_environment())?;
                "bootloader = \"grub\"\nenvironment = { path = \"environment\" }".to_owned()
            }
            false => {
                let copies = [uboot_environment(2), uboot_environment(1)].concat();
                tools::write(&folder.join("environment"), copies)?;
                let copy =
                    |offset| format!("{{ path = \"environment\", offset = {offset}, size = {UBOOT_BYTES} }}");
                format!("bootloader = \"uboot\"\nenvironment = [{}, {}]", copy(0), copy(UBOOT_BYTES))
            }
        };
        let slot = |group: &str, file| {
            format!("[[slot]]\ngroup = \"{group}\"\nclass = \"rootfs\"\ndevice = \"{file}\"\n")
        };
        let text = format!(
            "compatible = \"{COMPATIBLE}\"\n[boot]\n{boot}\nlock_file = \"environment.lock\"\nrunning_file = \"running\"\n\
             {}{}[watchdog]\nkind = \"none\"\n[reboot]\ncommand = [\"true\"]\n",
            slot("A", "slot-a"),
            slot("B", "slot-b"),
        );
        tools::write(&folder.join("board.toml"), text)?;
        let text = "device = \"gw\"\nboard = \"board.toml\"\ntrust = \"trust.root\"\nstate = \"state\"\nrun = \"run\"\n\
             [update]\nreboot = \"approve\"\n";
        tools::write(&folder.join("mainstay.toml"), text)?;
        Ok(board)
    }

    /// Plays the whole of it with `binary`; what it was run by.
    fn play(&self, target: &Target, binary: &Path, bundle: &Bundle) -> Result<String, String> {
        let emulator = (!target.is_native()).then_some(target.emulator);
        if let Some(emulator) = emulator.filter(|emulator| !tools::installed(emulator)) {
            return Err(format!("{emulator} is not there (Debian: qemu-user-static)"));
        }
        let mainstay = |words: &[&str]| {
            let mut command = match emulator {
                Some(emulator) => Command::new(emulator),
                None => Command::new(binary),
            };
            command.args(emulator.map(|_| binary)).arg("--config").arg(self.folder.join("mainstay.toml"));
            // A command that fails has an exit code that is not 0, and with it an error.
            tools::output(command.args(words)).map_err(|why| format!("mainstay {}: {why}", words.join(" ")))
        };
        expect("mainstay version", &mainstay(&["version"])?, &[&format!("mainstay {}", version()?)])?;
        expect("mainstay doctor", &mainstay(&["doctor"])?, &["running group    A", " 0 wrong"])?;
        expect("mainstay status", &mainstay(&["status"])?, &["update     idle"])?;

        let file = bundle.file.display().to_string();
        expect("mainstay verify", &mainstay(&["verify", &file])?, &["good: dist-check 1.2.3"])?;
        mainstay(&["install", &file])?;
        let slot = tools::read(&self.folder.join("slot-b"))?;
        let written = slot.get(..IMAGE_BYTES).unwrap_or_default();
        if let Some(at) = written.iter().zip(&bundle.image).position(|(found, expected)| found != expected) {
            return Err(format!("slot B: expected the image, found another byte at {at}"));
        }
        if written.len() != bundle.image.len() || slot.len() != SLOT_BYTES {
            return Err(format!("slot B: expected {SLOT_BYTES} bytes, found {}", slot.len()));
        }
        if tools::read(&self.folder.join("slot-a"))?.iter().any(|byte| *byte != 0x5a) {
            return Err("slot A, which runs: expected it untouched, found that it was written".into());
        }
        let status = mainstay(&["status"])?;
        expect(
            "mainstay status",
            &status,
            &["update     installed: 1.2.3 for group B", "1.2.3 (security version 0"],
        )?;

        mainstay(&["approve"])?;
        let environment = self.environment()?;
        for (name, value) in ARMED {
            let found = environment.iter().find(|line| line.starts_with(&format!("{name}=")));
            if found.is_none_or(|line| *line != format!("{name}={value}")) {
                return Err(format!("environment: expected {name}={value}, found {environment:?}"));
            }
        }
        // Exit code 0: the chain holds.
        expect("mainstay log", &mainstay(&["log"])?, &["phase=Installed", "phase=Trial"])?;
        Ok(emulator.unwrap_or("this machine").to_owned())
    }

    /// The variables as the bootloader reads them: of U-Boot's two copies, the one with a right CRC and the newer flag.
    fn environment(&self) -> Result<Vec<String>, String> {
        let bytes = tools::read(&self.folder.join("environment"))?;
        if self.grub {
            let text = String::from_utf8_lossy(&bytes);
            let padded = bytes.len() == GRUB_BYTES && text.starts_with(GRUB_HEAD);
            let lines = text.lines().filter(|line| line.contains('=')).map(str::to_owned).collect();
            return if padded { Ok(lines) } else { Err("environment: no block of GRUB's any more".into()) };
        }
        let valid = |copy: &&[u8]| copy.len() == UBOOT_BYTES && copy[..4] == crc32(&copy[5..]).to_le_bytes();
        let newest = bytes.chunks(UBOOT_BYTES).filter(valid).max_by_key(|copy| copy[4]);
        let copy = newest.ok_or("environment: neither copy has a right CRC")?;
        let variables = copy[5..].split(|byte| *byte == 0).take_while(|variable| !variable.is_empty());
        Ok(variables.map(|variable| String::from_utf8_lossy(variable).into_owned()).collect())
    }
}

/// Does a program say all of `words`?
fn expect(who: &str, said: &str, words: &[&str]) -> Result<(), String> {
    match words.iter().find(|word| !said.contains(**word)) {
        Some(word) => Err(format!("{who}: expected {word:?}, found:\n{said}")),
        None => Ok(()),
    }
}

/// The workspace's version; this crate has the same.
fn version() -> Result<&'static str, String> {
    Ok(env!("CARGO_PKG_VERSION"))
}

const GRUB_HEAD: &str = "# GRUB Environment Block\n";

/// Head, a line for each variable, and `#` up to 1024 bytes.
fn grub_environment() -> Vec<u8> {
    let lines: String = VARIABLES.iter().map(|(name, value)| format!("{name}={value}\n")).collect();
    let mut block = format!("{GRUB_HEAD}{lines}").into_bytes();
    block.resize(GRUB_BYTES, b'#');
    block
}

/// One of two copies: CRC-32 of the data, a flag that counts up (the larger is newer), variables that end with 0, and
/// 0 up to the end (U-Boot, env.h: `struct environment_s`).
fn uboot_environment(flag: u8) -> Vec<u8> {
    let mut data: Vec<u8> = VARIABLES.iter().flat_map(|(n, v)| format!("{n}={v}\0").into_bytes()).collect();
    data.resize(UBOOT_BYTES - 5, 0);
    [&crc32(&data).to_le_bytes()[..], &[flag], &data].concat()
}

/// CRC-32 as in zlib (polynomial 0xedb88320, reflected), bit by bit.
fn crc32(bytes: &[u8]) -> u32 {
    let step = |crc: u32, byte: &u8| {
        let shift = |crc: u32, _| (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg());
        (0..8).fold(crc ^ u32::from(*byte), shift)
    };
    !bytes.iter().fold(u32::MAX, step)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crc32_is_zlib_s() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926, "the catalogue's check value of CRC-32/ISO-HDLC");
    }

    #[test]
    fn environments_have_the_bootloaders_sizes_and_keep_what_was_written() {
        assert_eq!((grub_environment().len(), uboot_environment(1).len()), (GRUB_BYTES, UBOOT_BYTES));
        assert!(String::from_utf8(grub_environment()).unwrap().contains("\nBOOT_ORDER=A B\n"));
        assert_eq!(&uboot_environment(7)[4..20], b"\x07BOOT_ORDER=A B\0");
    }
}
