//! From the tree of a board file to [`Board`]: one function per table, top to bottom as in the file.

use std::path::{Path, PathBuf};

use mainstay_bootloader_glue::store::DEFAULT_LOCK;
use mainstay_core::boot::Group;
use mainstay_core::limits::{CLASS_BYTES_MAX, COMPATIBLE_BYTES_MAX};

use super::*;
use crate::toml_file::{Table, Value};

/// The kernel command line keys that are looked at when the board names none: our own and RAUC's.
const RUNNING_KEYS: [&str; 2] = ["mainstay.group", "rauc.slot"];

/// The kernel command line keys that a board can name.
const RUNNING_KEYS_MAX: usize = 4;

/// Nothing else locks a GRUB environment block (grub-editenv takes no lock), so this one is our own.
const GRUB_LOCK: &str = "/run/lock/mainstay-grubenv.lock";

/// An environment is at least one sector and never beyond 16 MiB (the largest CONFIG_ENV_SIZE that makes sense is
/// far below; a longer one is a size given in the wrong unit).
const ENVIRONMENT_BYTES: std::ops::RangeInclusive<u64> = 512..=16 << 20;

/// Watchdog timeouts, in seconds: one hour is longer than any hardware's.
const TIMEOUT_S: std::ops::RangeInclusive<u64> = 1..=3600;

pub(super) fn board(mut top: Table<'_>, name: &str) -> Result<Board> {
    let base = Path::new(name).parent().unwrap_or(Path::new(""));
    let compatible = compatible(&mut top)?;
    let boot = boot(top.need_table("boot")?, base)?;
    let slots = slots(&mut top, base)?;
    let what = "a table; kind = \"none\" says that there is no watchdog";
    let watchdog = watchdog(top.need("watchdog", what)?.table()?, base)?;
    let reboot = top.table("reboot")?.map_or(Ok(RebootSpec::System), reboot)?;
    let gpio = top.table("gpio")?.map_or(Ok(GpioSpec::default()), |t| gpio(t, base))?;
    let board = Board { file: name.to_string(), compatible, boot, slots, watchdog, reboot, gpio };
    check::board(&board, &top)?;
    top.finish()?;
    Ok(board)
}

fn compatible(top: &mut Table<'_>) -> Result<Text<COMPATIBLE_BYTES_MAX>> {
    let expected = "a name of 1 to 64 printable ASCII characters";
    let value = top.need("compatible", expected)?;
    let text = value.text(expected)?;
    let printable = text.bytes().all(|b| b.is_ascii_graphic() || b == b' ');
    Text::try_from(text).ok().filter(|_| printable).ok_or_else(|| value.wrong(expected))
}

fn boot(mut table: Table<'_>, base: &Path) -> Result<Boot> {
    let kind = one_of(&table.need("bootloader", "\"uboot\" or \"grub\"")?, &[("uboot", 0), ("grub", 1)])?;
    let (ours, raucs) = (("mainstay", Convention::Mainstay), ("rauc", Convention::Rauc));
    let convention = match (table.value("convention"), kind) {
        (Some(value), 0) => one_of(&value, &[ours, raucs, ("bootcount", Convention::Bootcount)])?,
        (Some(value), _) => one_of(&value, &[ours, raucs])?, // GRUB counts nothing by itself
        (None, _) => Convention::Mainstay,
    };
    let bootloader = if kind == 0 { uboot(&mut table, base)? } else { grub(&mut table, base)? };
    let lock_file = match (table.value("lock_file"), kind) {
        (Some(value), _) => value.path(base)?,
        (None, 0) => DEFAULT_LOCK.into(),
        (None, _) => GRUB_LOCK.into(),
    };
    let running = running(&mut table, base)?;
    table.finish()?;
    Ok(Boot { bootloader, convention, lock_file, running })
}

fn uboot(table: &mut Table<'_>, base: &Path) -> Result<Bootloader> {
    let expected = "an array of one { path, offset, size }, or two where the environment is redundant";
    let value = table.need("environment", expected)?;
    let copies = value.array(expected)?;
    if !(1..=2).contains(&copies.len()) {
        return Err(value.wrong(expected));
    }
    let copy = |value: Value<'_>| {
        let mut table = value.table()?;
        let path = table.need("path", "a path")?.path(base)?;
        let offset = table.value("offset").map_or(Ok(0), |v| v.offset())?;
        let size = table.need("size", "a number of bytes: CONFIG_ENV_SIZE")?;
        let bytes = size.bytes()?;
        if !ENVIRONMENT_BYTES.contains(&bytes) {
            return Err(size.wrong("512 bytes to 16 MiB: CONFIG_ENV_SIZE"));
        }
        table.finish()?;
        Ok(EnvironmentSpec { path, offset, size: bytes })
    };
    let copies = copies.into_iter().map(copy).collect::<Result<Vec<_>>>()?;
    let mut flags = Scheme::Incremental;
    if let [first, second] = copies.as_slice() {
        if first.size != second.size {
            let what =
                format!("expected two copies of one size, found {} and {} bytes", first.size, second.size);
            return Err(value.error(what));
        }
        if check::copies_overlap(first, second) {
            return Err(
                value.error("expected two copies in places of their own, found that they overlap".into())
            );
        }
        if let Some(value) = table.value("flags") {
            flags = one_of(&value, &[("incremental", Scheme::Incremental), ("boolean", Scheme::Boolean)])?;
        }
    }
    Ok(Bootloader::UBoot { copies, flags })
}

fn grub(table: &mut Table<'_>, base: &Path) -> Result<Bootloader> {
    let mut table = table.need("environment", "a table { path } with the place of grubenv")?.table()?;
    let path = table.need("path", "a path")?.path(base)?;
    let offset = table.value("offset").map_or(Ok(0), |v| v.offset())?;
    table.finish()?;
    Ok(Bootloader::Grub(EnvironmentSpec { path, offset, size: GRUBENV_BYTES }))
}

fn running(table: &mut Table<'_>, base: &Path) -> Result<RunningSpec> {
    let file = table.value("running_file");
    let keys = table.value("running_keys");
    match (file, keys) {
        (Some(_), Some(keys)) => {
            Err(keys.error("expected running_file or running_keys, found both".to_string()))
        }
        (Some(file), None) => Ok(RunningSpec::File(file.path(base)?)),
        (None, None) => Ok(RunningSpec::CommandLine(RUNNING_KEYS.map(String::from).to_vec())),
        (None, Some(keys)) => {
            let expected = "an array of 1 to 4 keys of the kernel's command line";
            let items = keys.array(expected)?;
            if !(1..=RUNNING_KEYS_MAX).contains(&items.len()) {
                return Err(keys.wrong(expected));
            }
            let key = |value: Value<'_>| {
                let expected = "a key without spaces, quotes and \"=\"";
                let text = value.text(expected)?;
                match text.contains(|c: char| c.is_whitespace() || "=\"".contains(c)) {
                    true => Err(value.wrong(expected)),
                    false => Ok(text.to_string()),
                }
            };
            Ok(RunningSpec::CommandLine(items.into_iter().map(key).collect::<Result<_>>()?))
        }
    }
}

fn slots(top: &mut Table<'_>, base: &Path) -> Result<Vec<SlotSpec>> {
    let expected = "[[slot]] tables, for both groups at most 16";
    let value = top.need("slot", expected)?;
    let items = value.array(expected)?;
    if !(1..=SLOTS_MAX).contains(&items.len()) {
        return Err(value.wrong(expected));
    }
    items.into_iter().map(|item| slot(item.table()?, base)).collect()
}

fn slot(mut table: Table<'_>, base: &Path) -> Result<SlotSpec> {
    let group = table.need("group", "\"A\" or \"B\"")?;
    let group = one_of(&group, &[("A", Group::A), ("B", Group::B)])?;
    let class = class(&table.need("class", "a slot class, as in \"rootfs\"")?)?;
    let device = table.need("device", "the path of a block device or an image file")?.path(base)?;
    let part = part(&mut table)?;
    let line = table.line();
    table.finish()?;
    Ok(SlotSpec { group, class, device, part, line })
}

fn class(value: &Value<'_>) -> Result<Text<CLASS_BYTES_MAX>> {
    let expected = "a slot class of 1 to 16 characters of a-z, 0-9, - and _";
    let text = value.text(expected)?;
    let plain = text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_".contains(&b));
    Text::try_from(text).ok().filter(|_| plain).ok_or_else(|| value.wrong(expected))
}

fn part(table: &mut Table<'_>) -> Result<Part> {
    match (table.value("partition"), table.value("offset"), table.value("size")) {
        (None, None, None) => Ok(Part::Whole),
        (Some(partition), None, None) => match partition.integer(1..=128) {
            Ok(number) => Ok(Part::Partition(number.to_string())),
            Err(_) => {
                let expected = "a GPT partition: its number (1 to 128), label or PARTUUID";
                Ok(Part::Partition(partition.text(expected)?.to_string()))
            }
        },
        (Some(partition), ..) => {
            Err(partition.error("expected partition, or offset and size, found both".to_string()))
        }
        (None, Some(offset), Some(size)) => {
            let expected = "a multiple of 4096 bytes";
            let (from, bytes) = (offset.bytes()?, size.bytes()?);
            if !from.is_multiple_of(SLOT_ALIGN) {
                return Err(offset.wrong(expected));
            }
            if !bytes.is_multiple_of(SLOT_ALIGN) || bytes == 0 {
                return Err(size.wrong("a multiple of 4096 bytes that is not 0"));
            }
            end_of(&size, from, bytes)?;
            Ok(Part::Range { offset: from, size: bytes })
        }
        (None, Some(_), None) => {
            Err(table.error("size", "expected a size beside offset, found nothing".into()))
        }
        (None, None, Some(_)) => {
            Err(table.error("offset", "expected an offset beside size, found nothing".into()))
        }
    }
}

fn watchdog(mut table: Table<'_>, base: &Path) -> Result<WatchdogSpec> {
    let kind = table.need("kind", "\"device\" or \"simulated\" or \"none\"")?;
    let kind = one_of(&kind, &[("device", 0), ("simulated", 1), ("none", 2)])?;
    let watchdog = if kind == 2 {
        WatchdogSpec::None
    } else {
        let path = table.need("path", "a path, as in \"/dev/watchdog\"")?.path(base)?;
        let timeout_s = table.need_integer("timeout_s", TIMEOUT_S)? as u32;
        match kind {
            0 => WatchdogSpec::Device { path, timeout_s },
            _ => WatchdogSpec::Simulated { path, timeout_s },
        }
    };
    table.finish()?;
    Ok(watchdog)
}

fn reboot(mut table: Table<'_>) -> Result<RebootSpec> {
    let kind = table.value("kind");
    let command = table.value("command");
    let reboot = match (kind, command) {
        (Some(kind), None) => {
            one_of(&kind, &[("system", ())])?;
            RebootSpec::System
        }
        (None, Some(command)) => {
            let expected = "an array of texts: a program and its arguments";
            let words = command.array(expected)?;
            if words.is_empty() {
                return Err(command.wrong(expected));
            }
            let word = |v: Value<'_>| v.text("a text").map(String::from);
            RebootSpec::Command(words.into_iter().map(word).collect::<Result<_>>()?)
        }
        (None, None) => {
            return Err(table.error("kind", "expected kind = \"system\" or a command, found neither".into()));
        }
        (Some(_), Some(command)) => {
            return Err(command.error("expected kind = \"system\" or a command, found both".into()));
        }
    };
    table.finish()?;
    Ok(reboot)
}

fn gpio(mut table: Table<'_>, base: &Path) -> Result<GpioSpec> {
    let mut plain = |key| match table.table(key)? {
        Some(mut line) => {
            let spec = gpio_line(&mut line, base)?;
            line.finish()?;
            Ok(Some(spec))
        }
        None => Ok(None),
    };
    let status_led = plain("status_led")?;
    let interlock = plain("interlock")?;
    let recovery_button = plain("recovery_button")?;
    let watchdog_toggle = match table.table("watchdog_toggle")? {
        Some(mut line) => {
            let spec = gpio_line(&mut line, base)?;
            let timeout_s = line.need_integer("timeout_s", TIMEOUT_S)? as u32;
            line.finish()?;
            Some((spec, timeout_s))
        }
        None => None,
    };
    table.finish()?;
    Ok(GpioSpec { status_led, interlock, recovery_button, watchdog_toggle })
}

fn gpio_line(table: &mut Table<'_>, base: &Path) -> Result<LineSpec> {
    let chip: PathBuf = table.need("chip", "a path, as in \"/dev/gpiochip0\"")?.path(base)?;
    let line = table.need_integer("line", 0..=u64::from(u16::MAX))? as u32;
    let active_low = table.flag("active_low")?.unwrap_or(false);
    Ok(LineSpec { chip, line, active_low })
}

/// What the value's text stands for.
fn one_of<T: Copy>(value: &Value<'_>, words: &[(&str, T)]) -> Result<T> {
    let expected = words.iter().map(|(word, _)| format!("{word:?}")).collect::<Vec<_>>().join(" or ");
    let text = value.text(&expected)?;
    let found = words.iter().find(|(word, _)| *word == text).map(|(_, meaning)| *meaning);
    found.ok_or_else(|| value.wrong(&expected))
}

/// A range has to end at a file offset (below 2^63).
fn end_of(value: &Value<'_>, offset: u64, size: u64) -> Result<()> {
    match offset.checked_add(size) {
        Some(end) if end <= i64::MAX as u64 => Ok(()),
        _ => Err(value.error("expected a range that ends below 2^63, found one beyond".to_string())),
    }
}
