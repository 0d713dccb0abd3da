//! Which of two versions is newer: Debian's rule, for packages and kernels, and the first line of `--version`, for QEMU.

use std::cmp::Ordering;
use std::fmt;

/// Compares as dpkg does (Debian Policy, section 5.6.12): an epoch first, then text and numbers in turns, where `~` sorts
/// before everything, even before the end.
pub(super) fn compare(a: &str, b: &str) -> Ordering {
    let (epoch_a, rest_a) = epoch(a);
    let (epoch_b, rest_b) = epoch(b);
    epoch_a.cmp(&epoch_b).then_with(|| compare_runs(rest_a.as_bytes(), rest_b.as_bytes()))
}

fn epoch(version: &str) -> (u64, &str) {
    match version.split_once(':') {
        Some((epoch, rest)) => (epoch.parse().unwrap_or(0), rest),
        None => (0, version),
    }
}

/// In turns a run of other characters, then a run of digits.
fn compare_runs(mut a: &[u8], mut b: &[u8]) -> Ordering {
    while !(a.is_empty() && b.is_empty()) {
        let (text_a, text_b) =
            (take(&mut a, |byte| !byte.is_ascii_digit()), take(&mut b, |byte| !byte.is_ascii_digit()));
        let longest = text_a.len().max(text_b.len());
        let weight = |text: &[u8], at: usize| text.get(at).map_or(0, |&byte| weight(byte));
        let text =
            (0..longest).map(|at| weight(text_a, at).cmp(&weight(text_b, at))).find(|order| order.is_ne());
        let (digits_a, digits_b) = (take(&mut a, u8::is_ascii_digit), take(&mut b, u8::is_ascii_digit));
        let order = text.unwrap_or_else(|| number(digits_a).cmp(&number(digits_b)));
        if order.is_ne() {
            return order;
        }
    }
    Ordering::Equal
}

/// `~` before the end (0), the end before letters, letters before everything else.
fn weight(byte: u8) -> i32 {
    match byte {
        b'~' => -1,
        _ if byte.is_ascii_alphabetic() => i32::from(byte),
        _ => i32::from(byte) + 256,
    }
}

/// Digits without leading zeros, which compare as numbers of any length do.
fn number(digits: &[u8]) -> (usize, &[u8]) {
    let zeros = digits.iter().take_while(|&&digit| digit == b'0').count();
    (digits.len() - zeros, &digits[zeros..])
}

fn take<'a>(from: &mut &'a [u8], is: impl Fn(&u8) -> bool) -> &'a [u8] {
    let (head, tail) = from.split_at(from.iter().take_while(|byte| is(byte)).count());
    *from = tail;
    head
}

/// The first two numbers of a program's version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ProgramVersion(pub u32, pub u32);

impl fmt::Display for ProgramVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.0, self.1)
    }
}

impl ProgramVersion {
    /// Out of what `--version` prints, or of a package's version: the first two numbers with a point between them, after the
    /// epoch if there is one.
    pub fn find(text: &str) -> Option<ProgramVersion> {
        let words = text.lines().next()?.split_whitespace();
        words.filter_map(|word| word.rsplit_once(':').map_or(Some(word), |(_, rest)| Some(rest))).find_map(
            |word| {
                let (major, rest) = word.trim_start_matches('v').split_once('.')?;
                let minor = rest.split(|byte: char| !byte.is_ascii_digit()).next()?;
                Some(ProgramVersion(major.parse().ok()?, minor.parse().ok()?))
            },
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_ordered_as_dpkg_orders_them() {
        #[rustfmt::skip]
        let cases = [
            // older                          newer
            ("6.12.95+deb12",                "6.12.117+deb12"),
            ("6.12.90+deb12",                "6.12.90+deb12.1"),
            ("6.1.0-9",                      "6.1.0-56"),
            ("6.1.0-56",                     "6.12.43+deb12"),
            ("6.12.95-1~bpo12+1",            "6.12.95-1"),
            ("1:7.2+dfsg-7+deb12u18+b3",     "1:10.0.2+ds-2+deb13u1~bpo12+1"),
            ("2022.11-6",                    "1:0.1"),
            ("1.0~rc1",                      "1.0"),
            ("1.0",                          "1.0a"),
            ("1.0a",                         "1.0+b"),
            ("1.9",                          "1.010"),
        ];
        for (older, newer) in cases {
            assert_eq!(compare(older, newer), Ordering::Less, "{older} {newer}");
            assert_eq!(compare(newer, older), Ordering::Greater, "{newer} {older}");
            assert_eq!(compare(newer, newer), Ordering::Equal, "{newer}");
        }
        assert_eq!(compare("1.01", "1.1"), Ordering::Equal);
    }

    #[test]
    fn the_version_is_found_in_what_programs_print_and_packages_are_called() {
        #[rustfmt::skip]
        let cases = [
            ("QEMU emulator version 10.0.2 (Debian 1:10.0.2+ds-2+deb13u1~bpo12+1)\nCopyright", Some(ProgramVersion(10, 0))),
            ("QEMU emulator version 7.2.17 (Debian 1:7.2+dfsg-7)",                             Some(ProgramVersion(7, 2))),
            ("1:7.2+dfsg-7+deb12u18+b3",                                                       Some(ProgramVersion(7, 2))),
            ("1:10.0.2+ds-2+deb13u1~bpo12+1",                                                  Some(ProgramVersion(10, 0))),
            ("error while loading shared libraries",                                           None),
            ("",                                                                               None),
        ];
        for (text, version) in cases {
            assert_eq!(ProgramVersion::find(text), version, "{text}");
        }
    }
}
