//! The sections of an ELF file (System V ABI, chapter 4): just enough to say where two binaries differ.
//!
//! Every read is bounded: a file that says something else than it is gives an error, not a panic.

use std::fmt::Write as _;
use std::ops::Range;

/// Sections that are looked at: no binary of ours has half as many.
const SECTIONS_MAX: usize = 512;

/// A named part of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Section {
    name: String,
    bytes: Range<usize>,
}

/// Where `first` and `second` differ: the first section that does, the place in it, and eight bytes of both. `None`: they
/// are the same.
pub fn difference(first: &[u8], second: &[u8]) -> Option<String> {
    if first == second {
        return None;
    }
    let same = first.iter().zip(second).take_while(|(a, b)| a == b).count();
    let sizes = match first.len() == second.len() {
        true => String::new(),
        false => format!(" ({} and {} bytes)", first.len(), second.len()),
    };
    let (ours, theirs) = match (sections(first), sections(second)) {
        (Ok(ours), Ok(theirs)) => (ours, theirs),
        (Err(why), _) | (_, Err(why)) => return Some(format!("at byte {same}{sizes}; {why}")),
    };
    for section in &ours {
        let Some(other) = theirs.iter().find(|other| other.name == section.name) else {
            return Some(format!("section {} is in the first only{sizes}", section.name));
        };
        let bytes = |of: &[u8], range: &Range<usize>| of.get(range.clone()).unwrap_or_default().to_vec();
        let (a, b) = (bytes(first, &section.bytes), bytes(second, &other.bytes));
        if a != b {
            let at = a.iter().zip(&b).take_while(|(a, b)| a == b).count();
            let (a_hex, b_hex) = (hex(&a, at), hex(&b, at));
            let lengths = format!("{} and {} bytes", a.len(), b.len());
            return Some(format!(
                "section {} ({lengths}) at its byte {at}: {a_hex} and {b_hex}{sizes}",
                section.name
            ));
        }
    }
    Some(format!("at byte {same}, in no section of both{sizes}"))
}

fn hex(bytes: &[u8], at: usize) -> String {
    bytes.iter().skip(at).take(8).fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// The sections that have bytes in the file, in its order.
fn sections(file: &[u8]) -> Result<Vec<Section>, String> {
    let wide = match file.get(..6) {
        Some([0x7f, b'E', b'L', b'F', 1, 1]) => false,
        Some([0x7f, b'E', b'L', b'F', 2, 1]) => true,
        _ => return Err("no little-endian ELF file".into()),
    };
    let number = |at: usize, bytes: usize| -> Result<usize, String> {
        let field = at.checked_add(bytes).and_then(|end| file.get(at..end));
        let field = field.ok_or_else(|| format!("the ELF file ends before its byte {at}"))?;
        Ok(field.iter().rev().fold(0, |number, byte| number << 8 | usize::from(*byte)))
    };
    // Offsets of e_shoff, e_shentsize, e_shnum, e_shstrndx; of sh_offset and sh_size; and the width of the long ones.
    let (shoff, entry, count, names, offset, size, long) = match wide {
        true => (0x28, 0x3a, 0x3c, 0x3e, 0x18, 0x20, 8),
        false => (0x20, 0x2e, 0x30, 0x32, 0x10, 0x14, 4),
    };
    let (table, entry_bytes) = (number(shoff, long)?, number(entry, 2)?);
    let header = |index: usize| {
        let at = index.checked_mul(entry_bytes).and_then(|skip| table.checked_add(skip));
        at.ok_or_else(|| "a section header outside of the file".to_owned())
    };
    let place = |index: usize| -> Result<Range<usize>, String> {
        let at = header(index)?;
        let begin = number(at.saturating_add(offset), long)?;
        Ok(begin..begin.saturating_add(number(at.saturating_add(size), long)?))
    };
    const NO_BITS: usize = 8; // SHT_NOBITS: .bss
    let texts = place(number(names, 2)?)?;
    let mut found = Vec::new();
    for index in 1..number(count, 2)?.min(SECTIONS_MAX) {
        let at = header(index)?;
        if number(at.saturating_add(4), 4)? == NO_BITS {
            continue;
        }
        let text = file.get(texts.start.saturating_add(number(at, 4)?)..texts.end).unwrap_or_default();
        let name = text.split(|byte| *byte == 0).next().unwrap_or_default();
        found.push(Section { name: String::from_utf8_lossy(name).into_owned(), bytes: place(index)? });
    }
    found.sort_by_key(|section| section.bytes.start);
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// This very test program: a real ELF file, and at hand.
    fn own() -> Vec<u8> {
        std::fs::read("/proc/self/exe").unwrap()
    }

    #[test]
    fn a_real_program_has_the_sections_that_every_program_has() {
        let names: Vec<String> = sections(&own()).unwrap().into_iter().map(|section| section.name).collect();
        for name in [".text", ".rodata"] {
            assert!(names.iter().any(|found| found == name), "{name} in {names:?}");
        }
    }

    #[test]
    fn a_changed_byte_is_found_in_its_section() {
        let first = own();
        let rodata = sections(&first).unwrap().into_iter().find(|s| s.name == ".rodata").unwrap();
        let mut second = first.clone();
        second[rodata.bytes.start + 17] ^= 0xff;
        let said = difference(&first, &second).unwrap();
        assert!(said.starts_with("section .rodata (") && said.contains(" at its byte 17: "), "{said}");
        assert_eq!(difference(&first, &first), None);
    }

    #[test]
    fn a_file_that_is_no_program_or_is_cut_off_is_said_to_differ_all_the_same() {
        let (first, mut cut) = (own(), own());
        cut.truncate(5_000);
        for other in [&cut[..], b"", b"\x7fELF\x02\x01", &[0xff; 64]] {
            assert!(difference(&first, other).is_some());
            assert!(difference(other, &first).is_some());
        }
        // Headers that say anything at all.
        for at in 0..64 {
            let mut bent = first[..4096].to_vec();
            bent[at] = 0xff;
            let _ = difference(&first, &bent);
        }
    }
}
