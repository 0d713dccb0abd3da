//! One copy of the U-Boot environment: header, CRC, data.

use crate::vars::{Entry, Vars};
use crate::{Result, uboot};
use crc::{CRC_32_ISO_HDLC, Crc};
use mainstay_core::fault;

const CRC32: Crc<u32> = Crc::<u32>::new(&CRC_32_ISO_HDLC);

/// A copy whose CRC is right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Copy {
    /// The flags byte, in a redundant environment.
    pub flags: Option<u8>,
    /// What it says.
    pub vars: Vars,
}

/// Reads one copy. `redundant`: there is a flags byte. Corrupt: wrong CRC, or data that nothing ends.
pub fn decode(bytes: &[u8], redundant: bool) -> Result<Copy> {
    check_size(bytes.len())?;
    let (Some((stored, rest)), wanted) = (bytes.split_first_chunk::<4>(), header_bytes(redundant)) else {
        return Err(fault!(
            Corrupt,
            "U-Boot environment: expected {} bytes of header",
            header_bytes(redundant)
        ));
    };
    let flags = if redundant { rest.first().copied() } else { None };
    let data = bytes.get(wanted..).unwrap_or_default();
    let (stored, computed) = (u32::from_ne_bytes(*stored), CRC32.checksum(data));
    if stored != computed {
        return Err(fault!(
            Corrupt,
            "U-Boot environment of {} bytes: expected CRC {computed:08x}, found {stored:08x} (damaged, or the size \
             or the offset is not the one U-Boot was built with)",
            bytes.len()
        ));
    }
    Ok(Copy { flags, vars: read_data(data)? })
}

/// Of which size is the copy that `bytes` begin with, and has it a flags byte? For who finds no right CRC and wants to
/// know what U-Boot was built with. Every multiple of 512 bytes is tried, with and without the flags byte.
pub fn find_size(bytes: &[u8]) -> Option<(usize, bool)> {
    [true, false].into_iter().find_map(|redundant| {
        let stored = u32::from_ne_bytes(*bytes.first_chunk()?);
        let mut digest = CRC32.digest();
        let mut at = header_bytes(redundant);
        let ends = (SIZE_STEP..=bytes.len().min(uboot::ENV_BYTES_MAX)).step_by(SIZE_STEP);
        for end in ends {
            digest.update(bytes.get(at..end)?);
            at = end;
            if digest.clone().finalize() == stored {
                return Some((end, redundant));
            }
        }
        None
    })
}

/// CONFIG_ENV_SIZE is a multiple of what the medium writes at once.
const SIZE_STEP: usize = 512;

/// Makes one copy of exactly `size` bytes. Full: it does not fit. Refused: a name or value that cannot be written.
pub fn encode(vars: &Vars, flags: Option<u8>, size: usize) -> Result<Vec<u8>> {
    check_size(size)?;
    let mut bytes = vec![0; header_bytes(flags.is_some())];
    if let (Some(flags), Some(place)) = (flags, bytes.get_mut(4)) {
        *place = flags;
    }
    for entry in vars.entries() {
        check_entry(entry)?;
        bytes.extend_from_slice(&entry.name);
        if let Some(value) = &entry.value {
            bytes.push(b'=');
            bytes.extend_from_slice(value);
        }
        bytes.push(0);
    }
    bytes.push(0);
    if bytes.len() > size {
        return Err(fault!(
            Full,
            "U-Boot environment: expected at most {size} bytes, the variables need {}",
            bytes.len()
        ));
    }
    bytes.resize(size, 0);
    let crc = CRC32.checksum(bytes.get(header_bytes(flags.is_some())..).unwrap_or_default());
    if let Some(place) = bytes.first_chunk_mut::<4>() {
        *place = crc.to_ne_bytes();
    }
    Ok(bytes)
}

/// The CRC, and the flags byte where there is one.
const fn header_bytes(redundant: bool) -> usize {
    if redundant { 5 } else { 4 }
}

fn check_size(size: usize) -> Result<()> {
    if (uboot::ENV_BYTES_MIN..=uboot::ENV_BYTES_MAX).contains(&size) {
        return Ok(());
    }
    let (min, max) = (uboot::ENV_BYTES_MIN, uboot::ENV_BYTES_MAX);
    Err(fault!(Refused, "U-Boot environment: expected a size of {min} to {max} bytes, found {size}"))
}

/// Up to the empty string. What stands behind it is padding, whatever it is (libubootenv lets heap bytes leak there).
fn read_data(data: &[u8]) -> Result<Vars> {
    let mut vars = Vars::new();
    let mut rest = data;
    loop {
        let Some(end) = rest.iter().position(|b| *b == 0) else {
            return Err(fault!(
                Corrupt,
                "U-Boot environment: expected two NULs behind the last variable, found none"
            ));
        };
        if end == 0 {
            return Ok(vars);
        }
        vars.push(read_line(rest.get(..end).unwrap_or_default()));
        rest = rest.get(end + 1..).unwrap_or_default();
    }
}

/// A line without a `=`, or with nothing before it, is no variable; it is kept as it is.
fn read_line(line: &[u8]) -> Entry {
    match line.iter().position(|b| *b == b'=') {
        Some(at) if at > 0 => {
            let (name, value) = line.split_at(at);
            Entry { name: name.to_vec(), value: Some(value.get(1..).unwrap_or_default().to_vec()) }
        }
        _ => Entry { name: line.to_vec(), value: None },
    }
}

fn check_entry(entry: &Entry) -> Result<()> {
    let Some(value) = &entry.value else { return Ok(()) }; // as it was read: neither empty nor with a NUL
    let name = String::from_utf8_lossy(&entry.name);
    if entry.name.is_empty() || entry.name.contains(&b'=') || entry.name.contains(&0) {
        return Err(fault!(Refused, "U-Boot variable: expected a name without '=' or NUL, found \"{name}\""));
    }
    if value.contains(&0) {
        return Err(fault!(Refused, "U-Boot variable {name}: expected a value without NUL, found one"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use mainstay_core::fault::FaultKind;
    use proptest::prelude::*;

    fn vars(pairs: &[(&str, &str)]) -> Vars {
        pairs.iter().copied().collect()
    }

    #[test]
    fn bytes_are_where_the_picture_says() {
        let bytes = encode(&vars(&[("a", "1"), ("b", "")]), Some(7), 128).unwrap();
        assert_eq!(bytes.len(), 128);
        assert_eq!(&bytes[4..13], b"\x07a=1\0b=\0\0");
        assert!(bytes[13..].iter().all(|b| *b == 0), "padding is zero");
        assert_eq!(bytes[..4], CRC32.checksum(&bytes[5..]).to_ne_bytes());
    }

    #[test]
    fn a_flag_byte_is_not_under_the_crc() {
        let mut bytes = encode(&vars(&[("a", "1")]), Some(7), 128).unwrap();
        bytes[4] = 200;
        assert_eq!(decode(&bytes, true).unwrap().flags, Some(200));
    }

    #[test]
    fn what_cannot_be_written_is_refused_and_says_why() {
        #[rustfmt::skip]
        let cases = [
            // name      value             size   kind                 says
            ("",         "1",              128,   FaultKind::Refused,  "without '='"),
            ("a=b",      "1",              128,   FaultKind::Refused,  "a=b"),
            ("a\0",      "1",              128,   FaultKind::Refused,  "without '='"),
            ("a",        "1\0",            128,   FaultKind::Refused,  "without NUL"),
            ("a",        "1",              127,   FaultKind::Refused,  "128"),
            ("a",        "1",              2<<20, FaultKind::Refused,  "1048576"),
        ];
        for (name, value, size, kind, says) in cases {
            let fault = encode(&vars(&[(name, value)]), None, size).unwrap_err();
            assert_eq!(fault.kind, kind, "{name:?}={value:?}");
            assert!(fault.what.contains(says), "{}", fault.what);
        }
    }

    #[test]
    fn the_size_and_the_flags_byte_that_u_boot_was_built_with_are_found_again() {
        for (size, flags) in [(512, None), (4096, Some(7)), (8192, None), (0x2_0000, Some(0))] {
            let mut bytes = encode(&vars(&[("bootcmd", "run distro_bootcmd")]), flags, size).unwrap();
            bytes.extend_from_slice(&[0xff; 3000]); // what lies behind it
            assert_eq!(find_size(&bytes), Some((size, flags.is_some())));
            bytes[20] ^= 1;
            assert_eq!(find_size(&bytes), None, "damaged, and not of another size");
        }
        assert_eq!(find_size(&[]), None);
    }

    #[test]
    fn an_environment_may_be_full_to_the_last_byte_and_no_further() {
        let value = "x".repeat(128 - 4 - "a=".len() - 2);
        let bytes = encode(&vars(&[("a", &value)]), None, 128).unwrap();
        assert_eq!(decode(&bytes, false).unwrap().vars.text("a").unwrap(), value);
        let fault = encode(&vars(&[("a", &(value + "x"))]), None, 128).unwrap_err();
        assert_eq!(fault.kind, FaultKind::Full);
    }

    #[test]
    fn data_that_nothing_ends_is_corrupt_even_under_a_right_crc() {
        let mut bytes = vec![b'a'; 128];
        let crc = CRC32.checksum(&bytes[4..]);
        bytes[..4].copy_from_slice(&crc.to_ne_bytes());
        assert!(decode(&bytes, false).unwrap_err().what.contains("NUL"));
    }

    #[test]
    fn lines_that_are_no_variables_survive() {
        let mut bytes = vec![0; 128];
        bytes[4..16].copy_from_slice(b"junk\0=x\0a=1\0");
        let crc = CRC32.checksum(&bytes[4..]);
        bytes[..4].copy_from_slice(&crc.to_ne_bytes());
        let copy = decode(&bytes, false).unwrap();
        assert_eq!(copy.vars.get("junk"), None);
        assert_eq!(encode(&copy.vars, None, 128).unwrap(), bytes);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..400), redundant: bool) {
            let _ = decode(&bytes, redundant);
            if bytes.len() > 5 { // and the same with a CRC that lets them in
                let at = header_bytes(redundant);
                let crc = CRC32.checksum(&bytes[at..]);
                bytes[..4].copy_from_slice(&crc.to_ne_bytes());
                if let Ok(copy) = decode(&bytes, redundant) {
                    let again = encode(&copy.vars, copy.flags, bytes.len()).unwrap();
                    prop_assert_eq!(decode(&again, redundant).unwrap(), copy);
                }
            }
        }

        #[test]
        fn what_is_written_is_read(
            pairs in proptest::collection::btree_map("[a-zA-Z_.]{1,9}", "[^\0]{0,20}", 0..12), flags: Option<u8>,
        ) {
            let vars: Vars = pairs.into_iter().collect();
            let bytes = encode(&vars, flags, 4096).unwrap();
            prop_assert_eq!(decode(&bytes, flags.is_some()).unwrap(), Copy { flags, vars });
        }
    }
}
