//! Images and the disk, by the laboratory's own hands: the x86_64 gateway with GRUB under a BIOS.
//!
//! Each command makes the board's base anew in a folder of its own (a few seconds), so that none touches the disk of a
//! machine that runs.

use super::{Folder, Machine, told, told_text};
use crate::bench::qemu::QemuBench;
use crate::bench::{Bench, Identity, ImageSpec, Nature};
use crate::programs::{static_agent, target};
use crate::{Doing, Result, pki};
use mainstay_core::boot::Group;
use mainstay_lab::board::Board;
use mainstay_lab::board::x86::{EnvironmentOn, X86, X86Parts};
use mainstay_lab::provision::{Provision, Want};
use std::path::{Path, PathBuf};

/// Makes an image.
pub fn image(folder: &Folder) -> Result<()> {
    let nature = told_text("NATURE")?;
    let known = Nature::from_name(&nature);
    let nature = known.doing(|| format!("NATURE: found {nature:?}, which nobody knows"))?;
    let agent = std::env::var_os("MAINSTAY_HIL_AGENT").map(PathBuf::from);
    let spec = ImageSpec { version: told_text("VERSION")?, nature, agent };
    let board = board(&folder.at("image"))?;
    let made = QemuBench::new(Box::new(board), &folder.at("image"), None)?.image(&spec)?;
    let out = PathBuf::from(told("OUT")?);
    mainstay_lab::disk::copy_sparse(&made, &out).doing(|| out.display().to_string())
}

/// Makes the machine what it is when it leaves the factory, and writes down how it is started.
pub fn flash(folder: &Folder) -> Result<()> {
    super::power::off(folder)?;
    let x86 = board(&folder.at("machine"))?;
    let (partition, at) = x86.environment_at().doing(|| "GRUB's environment")?;
    let partition = x86.disk().partition(partition).doing(|| "GRUB's environment")?;
    let environment_at = partition.start + at;
    let slots = Group::BOTH.map(|group| x86.slot(group));
    let [a, b] = slots.map(|slot| slot.doing(|| "the slots"));
    let (setup, disk) = (x86.setup(), x86.disk().path().to_owned());
    let path = |name| told(name).map(PathBuf::from);
    let device = told_text("DEVICE")?;
    let broker = told_text("BROKER")?;
    let identity = Identity {
        group: told_text("GROUP")?,
        trust: path("TRUST")?,
        broker: broker.parse().doing(|| format!("BROKER: {broker:?}"))?,
        ca: path("CA")?,
        certificate: pki::Identity {
            name: device.clone(),
            certificate: path("CERTIFICATE")?,
            key: path("KEY")?,
        },
        image_floor: told_text("FLOOR")?.parse().doing(|| "FLOOR: expected a number")?,
        broker_required: told_text("BROKER_REQUIRED")? == "1",
        device,
    };
    let mut bench = QemuBench::new(Box::new(x86), &folder.at("machine"), None)?;
    bench.factory(Path::new(&told("IMAGE")?), &identity)?;
    let machine = Machine {
        program: setup.program,
        arguments: setup.arguments,
        disk,
        environment_at,
        slots_at: [a?.1, b?.1],
    };
    let path = folder.at("machine.json");
    std::fs::write(&path, machine.value().to_string()).doing(|| path.display().to_string())
}

fn board(folder: &Path) -> Result<X86> {
    let parts = Provision::new(target().join("lab"))
        .quiet(true)
        .provide(&[Want::X86Bios])
        .doing(|| "the laboratory")?;
    let agent = static_agent("x86_64-unknown-linux-musl", None)?;
    let parts = X86Parts::of(&parts, &agent, false, EnvironmentOn::Fat).doing(|| "the laboratory")?;
    X86::create(parts, folder).doing(|| "the x86_64 board")
}
