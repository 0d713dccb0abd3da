//! Reads a GUID partition table (UEFI specification 2.10, section 5.3), and nothing else.
//!
//! ```text
//! LBA 1            primary header      LBA 2 …      its entries
//! … before the end the backup's entries             last LBA  backup header
//!
//! header, little endian                          entry, 128 bytes or more
//!  0  "EFI PART"        40  first usable LBA      0  type GUID (zero: unused)
//!  8  revision 1.0      48  last usable LBA      16  partition GUID (PARTUUID)
//! 12  header size       72  entries' LBA         32  first LBA
//! 16  CRC-32 of header  80  number of entries    40  last LBA, inclusive
//! 24  own LBA           84  size of an entry     48  attributes
//! 32  the other's LBA   88  CRC-32 of entries    56  label, 36 UTF-16 units
//! ```
//!
//! The libraries were looked at first. gptman 3.1 allocates what the header says (4 billion entries), asserts that
//! the entries are 128 bytes long, and panics on a partition that begins at LBA 0: a damaged disk must not stop
//! the agent, which on such a disk may be all that is left. gpt 4.1 costs 33 KiB of the device binary. This reader
//! holds 4 KiB at a time; the tests compare it with tables that gptman wrote.

use std::fs::File;
use std::os::unix::fs::FileExt;

use mainstay_core::fault;
use mainstay_core::seam::Result;

/// More entries than any tool writes (128 is the rule); 1024 × 128 bytes are 128 KiB to read.
const ENTRIES_MAX: u32 = 1024;
/// The largest entry that is accepted, so that one always fits the buffer.
const ENTRY_BYTES_MAX: u32 = 4096;
/// Logical block sizes that are tried, the usual one first.
const BLOCK_SIZES: [u64; 2] = [512, 4096];

/// CRC-32 as zlib and UEFI have it.
const CRC: crc::Crc<u32> = crc::Crc::<u32>::new(&crc::CRC_32_ISO_HDLC);

/// One partition, in bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partition {
    /// Counted from 1, as in `/dev/mmcblk0p1`.
    pub number: u32,
    /// Its label.
    pub label: String,
    /// Its PARTUUID, in lower case.
    pub uuid: String,
    /// Where it begins, in bytes.
    pub offset: u64,
    /// How long it is, in bytes.
    pub size: u64,
}

/// The partitions of a device, and what was odd about its table.
#[derive(Debug)]
pub struct Gpt {
    /// In the order of their numbers.
    pub partitions: Vec<Partition>,
    /// What is damaged though the table could be read: one of the two copies.
    pub note: Option<String>,
}

impl Gpt {
    /// Reads the table of `file`, which is `bytes` long: the primary copy, or the backup where the primary is
    /// damaged. Neither: [`Corrupt`](mainstay_core::fault::FaultKind::Corrupt).
    pub fn read(file: &File, bytes: u64) -> Result<Gpt> {
        let primary = BLOCK_SIZES.map(|block| copy_at(file, bytes, block, 1));
        let backup = BLOCK_SIZES.map(|block| copy_at(file, bytes, block, (bytes / block).saturating_sub(1)));
        let primary = first_good(primary);
        let backup = first_good(backup);
        match (primary, backup) {
            (Ok(partitions), Ok(_)) => Ok(Gpt { partitions, note: None }),
            (Ok(partitions), Err(why)) => {
                Ok(Gpt { partitions, note: Some(format!("the backup partition table is damaged: {why}")) })
            }
            (Err(why), Ok(partitions)) => Ok(Gpt {
                partitions,
                note: Some(format!("the primary partition table is damaged, its backup was used: {why}")),
            }),
            (Err(first), Err(last)) => {
                Err(fault!(Corrupt, "expected a GPT, found: primary: {first}; backup: {last}"))
            }
        }
    }

    /// The partition that `selector` names: a number, a PARTUUID or a label.
    pub fn find(&self, selector: &str) -> Result<&Partition> {
        let number = selector.parse::<u32>().ok();
        let mut found = self.partitions.iter().filter(|p| match number {
            Some(number) => p.number == number,
            None => p.label == selector || p.uuid.eq_ignore_ascii_case(selector),
        });
        match (found.next(), found.next()) {
            (Some(partition), None) => Ok(partition),
            (Some(one), Some(two)) => Err(fault!(
                Refused,
                "expected one partition \"{selector}\", found numbers {} and {}",
                one.number,
                two.number
            )),
            (None, _) => {
                let known: Vec<_> =
                    self.partitions.iter().map(|p| format!("{} {:?}", p.number, p.label)).collect();
                Err(fault!(NotFound, "expected a partition \"{selector}\", found {}", known.join(", ")))
            }
        }
    }
}

/// The good copy among those at the two block sizes; else what is wrong with the one that has a signature.
fn first_good(copies: [Copy; 2]) -> Copy {
    let [small, large] = copies;
    match (small, large) {
        (Ok(partitions), _) | (_, Ok(partitions)) => Ok(partitions),
        (Err(Damage::NoSignature), Err(why)) | (Err(why), _) => Err(why),
    }
}

type Copy = std::result::Result<Vec<Partition>, Damage>;

/// Why a copy is not used.
enum Damage {
    NoSignature,
    Unreadable(std::io::Error),
    Field(&'static str, u64),
    Crc { of: &'static str, expected: u32, found: u32 },
}

impl std::fmt::Display for Damage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Damage::NoSignature => f.write_str("no \"EFI PART\""),
            Damage::Unreadable(e) => write!(f, "{e}"),
            Damage::Field(name, value) => write!(f, "{name} is {value}"),
            Damage::Crc { of, expected, found } => {
                write!(f, "CRC of {of}: expected {expected:08x}, found {found:08x}")
            }
        }
    }
}

/// Reads and proves the copy whose header stands at `lba`.
fn copy_at(file: &File, bytes: u64, block: u64, lba: u64) -> Copy {
    let mut header = [0u8; 512];
    file.read_exact_at(&mut header, lba * block).map_err(Damage::Unreadable)?;
    if !header.starts_with(b"EFI PART") {
        return Err(Damage::NoSignature);
    }
    let length = u32_at(&header, 12) as usize;
    if !(92..=512).contains(&length) {
        return Err(Damage::Field("header size", length as u64));
    }
    let expected = u32_at(&header, 16);
    // The CRC is taken with its own field as zeros.
    let (before, after) = (header.get(..16), header.get(20..length));
    let mut digest = CRC.digest();
    [before, Some(&[0; 4][..]), after].into_iter().flatten().for_each(|part| digest.update(part));
    let found = digest.finalize();
    if found != expected {
        return Err(Damage::Crc { of: "header", expected, found });
    }
    if u64_at(&header, 24) != lba {
        return Err(Damage::Field("own LBA", u64_at(&header, 24)));
    }
    entries(file, bytes, block, &header)
}

/// Reads the entries in blocks of whole entries, at most 4 KiB, and proves their CRC.
fn entries(file: &File, bytes: u64, block: u64, header: &[u8; 512]) -> Copy {
    let usable = u64_at(header, 40)..=u64_at(header, 48);
    let (count, size) = (u32_at(header, 80), u32_at(header, 84));
    if !(1..=ENTRIES_MAX).contains(&count) {
        return Err(Damage::Field("number of entries", count.into()));
    }
    if !(128..=ENTRY_BYTES_MAX).contains(&size) || !size.is_power_of_two() {
        return Err(Damage::Field("size of an entry", size.into()));
    }
    let from = u64_at(header, 72).checked_mul(block).filter(|at| *at < bytes);
    let from = from.ok_or(Damage::Field("entries' LBA", u64_at(header, 72)))?;

    let mut buffer = [0u8; ENTRY_BYTES_MAX as usize];
    let mut digest = CRC.digest();
    let mut partitions = Vec::new();
    let mut outside = None;
    for number in 1..=count {
        let Some(entry) = buffer.get_mut(..size as usize) else { break }; // it is at most as long
        file.read_exact_at(entry, from + u64::from(number - 1) * u64::from(size))
            .map_err(Damage::Unreadable)?;
        digest.update(entry);
        if entry.iter().take(16).any(|b| *b != 0) {
            let (first, last) = (u64_at(entry, 32), u64_at(entry, 40));
            if first > last || !usable.contains(&first) || !usable.contains(&last) || last >= bytes / block {
                outside = Some(number);
                continue;
            }
            let (offset, size) = (first * block, (last - first + 1) * block);
            partitions.push(Partition { number, label: label(entry), uuid: uuid(entry), offset, size });
        }
    }
    let (expected, found) = (u32_at(header, 88), digest.finalize());
    if found != expected {
        return Err(Damage::Crc { of: "entries", expected, found });
    }
    match outside {
        Some(number) => Err(Damage::Field("the partition outside the usable blocks", number.into())),
        None => Ok(partitions),
    }
}

fn label(entry: &[u8]) -> String {
    let (units, _) = entry.get(56..128).unwrap_or_default().as_chunks::<2>();
    let units = units.iter().map(|two| u16::from_le_bytes(*two));
    char::decode_utf16(units.take_while(|unit| *unit != 0)).map(|c| c.unwrap_or('\u{fffd}')).collect()
}

/// The first three fields of a GUID are little endian (UEFI specification, appendix A).
fn uuid(entry: &[u8]) -> String {
    const ORDER: [usize; 16] = [3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15];
    let mut text = String::with_capacity(36);
    for (i, at) in ORDER.into_iter().enumerate() {
        if matches!(i, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        text.push_str(&format!("{:02x}", entry.get(16 + at).copied().unwrap_or(0)));
    }
    text
}

/// 0 beyond the end: headers have 512 bytes, entries at least 128.
fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..).and_then(<[u8]>::first_chunk).map_or(0, |four| u32::from_le_bytes(*four))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32
}
