//! Two copies of a small thing, written alternately: after a power cut one of them is whole.
//!
//! ```text
//! 0     4   magic "MSST"
//! 4     1   version, 1
//! 5     1   which thing (StateFile)
//! 6     2   zero
//! 8     8   sequence number, little endian: the higher whole copy is in force
//! 16    4   payload length, little endian
//! 20    4   zero
//! 24    8   first 8 bytes of SHA-256 over bytes 0..24 and the payload
//! 32    …   payload, then zeros up to the copy's fixed size
//! ```
//! ```text
//! copy 0          copy 1          in force     the next write goes to
//! whole, seq n    whole, seq m    the higher   the lower
//! whole           torn or empty   copy 0       copy 1
//! torn or empty   whole           copy 1       copy 0
//! empty           empty           none         copy 0
//! torn            torn            damaged      copy 0
//! another version, and no higher whole copy of ours: unsupported, and nothing is written
//! ```
//! A write goes to the copy that is not in force and is made durable before anybody is told, so a cut in its middle
//! costs that copy, and the old one counts. Whole copies of equal number cannot come from this writer; copy 0 counts.
//!
//! A later agent's copies may have another version: then only bytes 0..32 mean what they mean here, and the sum is over
//! header and payload as here. So a copy of another version is known for certain, and never taken for a torn one: to
//! count a newer record as lost would lower the floor, and to write over it would lose what the newer agent knows.

use crate::digest::Hasher;
use crate::fault;
use crate::fault::Fault;
use crate::limits::{ENVELOPE_BYTES_MAX, RECORD_BYTES_MAX};
use crate::seam::{Result, StateFile};

/// Bytes before the payload.
pub const COPY_HEADER_BYTES: usize = 32;

/// The largest copy of any [`StateFile`].
pub const COPY_BYTES_MAX: usize = COPY_HEADER_BYTES + ENVELOPE_BYTES_MAX;

const _: () = assert!(RECORD_BYTES_MAX <= ENVELOPE_BYTES_MAX);

/// The fixed size of a copy of `file`.
pub const fn copy_bytes(file: StateFile) -> usize {
    COPY_HEADER_BYTES
        + match file {
            StateFile::Journal => RECORD_BYTES_MAX,
            StateFile::Manifest | StateFile::Trust => ENVELOPE_BYTES_MAX,
        }
}

/// What a copy's bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Copy<'a> {
    /// Never written: nothing, or only zeros.
    Empty,
    /// Not what was written.
    Torn,
    /// As written.
    Whole {
        /// Its number.
        seq: u64,
        /// What it holds.
        payload: &'a [u8],
    },
    /// Whole, and of a version that this agent does not know.
    Unsupported {
        /// Its number.
        seq: u64,
        /// Its version.
        version: u8,
    },
}

impl<'a> Copy<'a> {
    /// Looks at the bytes of a copy of `file`.
    pub fn read(file: StateFile, bytes: &'a [u8]) -> Self {
        if bytes.iter().all(|b| *b == 0) {
            return Copy::Empty;
        }
        Self::whole(file, bytes).unwrap_or(Copy::Torn)
    }

    fn whole(file: StateFile, bytes: &'a [u8]) -> Option<Self> {
        let (header, rest) = bytes.split_first_chunk::<COPY_HEADER_BYTES>()?;
        let (signed, sum) = header.split_first_chunk::<24>()?;
        #[rustfmt::skip]
        let [
            m0, m1, m2, m3, version, which, z0, z1,
            s0, s1, s2, s3, s4, s5, s6, s7,
            l0, l1, l2, l3, z2, z3, z4, z5,
        ] = *signed;
        let payload = rest.get(..u32::from_le_bytes([l0, l1, l2, l3]) as usize)?;
        let fits = [m0, m1, m2, m3] == MAGIC && which == number(file) && *sum == checksum(signed, payload);
        let seq = u64::from_le_bytes([s0, s1, s2, s3, s4, s5, s6, s7]);
        match (version, [z0, z1, z2, z3, z4, z5]) {
            _ if !fits => None,
            (VERSION, [0, 0, 0, 0, 0, 0]) => Some(Copy::Whole { seq, payload }),
            (VERSION, _) => None,
            (version, _) => Some(Copy::Unsupported { seq, version }),
        }
    }

    const fn seq(&self) -> Option<u64> {
        match self {
            Copy::Whole { seq, .. } | Copy::Unsupported { seq, .. } => Some(*seq),
            Copy::Empty | Copy::Torn => None,
        }
    }
}

/// Why there is nothing in force though something was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unreadable {
    /// No copy is whole.
    Damaged,
    /// What is in force has this version: an agent of another generation wrote it. Nothing may be written.
    Unsupported(u8),
}

impl Unreadable {
    /// As a fault of `file`: Corrupt, which may be begun anew, or Unsupported, which may not be touched.
    pub fn fault(self, file: StateFile) -> Fault {
        match self {
            Unreadable::Damaged => {
                fault!(Corrupt, "state {file:?}: expected a whole copy in one of two, found none")
            }
            Unreadable::Unsupported(found) => fault!(
                Unsupported,
                "state {file:?}: expected copies of version {VERSION}, found {found}: an agent of another generation wrote them"
            ),
        }
    }
}

/// What two copies say together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pair<'a> {
    /// The payload in force; `None`: nothing was ever written. `Err`: there was something that cannot be read.
    pub in_force: core::result::Result<Option<&'a [u8]>, Unreadable>,
    /// Which copy the next write goes to, 0 or 1.
    pub next_copy: usize,
    /// The number that it carries.
    pub next_seq: u64,
}

impl Pair<'_> {
    /// May the next copy be written? Not over what an agent of another generation has in force.
    pub fn may_be_written(&self, file: StateFile) -> Result<()> {
        match self.in_force {
            Err(why @ Unreadable::Unsupported(_)) => Err(why.fault(file)),
            Ok(_) | Err(Unreadable::Damaged) => Ok(()),
        }
    }
}

/// The rule of the table above.
pub fn choose<'a>(zero: Copy<'a>, one: Copy<'a>) -> Pair<'a> {
    let next_copy = usize::from(match (zero.seq(), one.seq()) {
        (Some(a), Some(b)) => a >= b,
        (a, _) => a.is_some(),
    });
    let in_force = match if next_copy == 1 { zero } else { one } {
        Copy::Whole { payload, .. } => Ok(Some(payload)),
        Copy::Unsupported { version, .. } => Err(Unreadable::Unsupported(version)),
        Copy::Empty if zero == Copy::Empty => Ok(None),
        Copy::Empty | Copy::Torn => Err(Unreadable::Damaged),
    };
    let seq = zero.seq().max(one.seq());
    Pair { in_force, next_copy, next_seq: seq.map_or(1, |seq| seq.saturating_add(1)) }
}

/// Makes the bytes of a copy: `out` has the copy's fixed size and is filled whole.
pub fn write(file: StateFile, seq: u64, payload: &[u8], out: &mut [u8]) -> Result<()> {
    let room = out.len().saturating_sub(COPY_HEADER_BYTES);
    let full = || fault!(Full, "state {file:?}: holds {room} bytes, the payload has {}", payload.len());
    out.fill(0);
    let (header, rest) = out.split_first_chunk_mut::<COPY_HEADER_BYTES>().ok_or_else(full)?;
    let (signed, sum) = header.split_first_chunk_mut::<24>().ok_or_else(full)?;
    let [s0, s1, s2, s3, s4, s5, s6, s7] = seq.to_le_bytes();
    let [l0, l1, l2, l3] = (payload.len() as u32).to_le_bytes();
    let [m0, m1, m2, m3] = MAGIC;
    *signed = [
        m0,
        m1,
        m2,
        m3,
        VERSION,
        number(file),
        0,
        0,
        s0,
        s1,
        s2,
        s3,
        s4,
        s5,
        s6,
        s7,
        l0,
        l1,
        l2,
        l3,
        0,
        0,
        0,
        0,
    ];
    sum.copy_from_slice(&checksum(signed, payload));
    rest.get_mut(..payload.len()).ok_or_else(full)?.copy_from_slice(payload);
    Ok(())
}

fn checksum(signed: &[u8; 24], payload: &[u8]) -> [u8; 8] {
    let mut hasher = Hasher::new();
    hasher.update(signed);
    hasher.update(payload);
    let [a, b, c, d, e, f, g, h, ..] = hasher.finish().0;
    [a, b, c, d, e, f, g, h]
}

const fn number(file: StateFile) -> u8 {
    match file {
        StateFile::Journal => 1,
        StateFile::Manifest => 2,
        StateFile::Trust => 3,
    }
}

const MAGIC: [u8; 4] = *b"MSST";
const VERSION: u8 = 1;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault::FaultKind;
    use std::vec;

    const FILE: StateFile = StateFile::Journal;

    fn copy(seq: u64, payload: &[u8]) -> vec::Vec<u8> {
        let mut out = vec![0xaa; copy_bytes(FILE)];
        write(FILE, seq, payload, &mut out).unwrap();
        out
    }

    #[test]
    fn the_higher_whole_copy_counts_and_the_other_is_written_next() {
        let (one, two, empty) = (copy(1, b"one"), copy(2, b"two"), vec![0; copy_bytes(FILE)]);
        let mut torn = two.clone();
        torn[COPY_HEADER_BYTES] ^= 1;
        let newer = of_version(2, 2);
        let (damaged, unsupported) = (Err(Unreadable::Damaged), Err(Unreadable::Unsupported(2)));
        let three = copy(3, b"three");
        type Case<'a> = (&'a [u8], &'a [u8], core::result::Result<Option<&'a [u8]>, Unreadable>, usize, u64);
        #[rustfmt::skip]
        let cases: [Case<'_>; 15] = [
            (&one,   &two,   Ok(Some(b"two")), 0, 3),
            (&two,   &one,   Ok(Some(b"two")), 1, 3),
            (&one,   &torn,  Ok(Some(b"one")), 1, 2),
            (&torn,  &one,   Ok(Some(b"one")), 0, 2),
            (&one,   &empty, Ok(Some(b"one")), 1, 2),
            (&empty, &one,   Ok(Some(b"one")), 0, 2),
            (&empty, &empty, Ok(None),         0, 1),
            (&torn,  &empty, damaged,          0, 1),
            (&empty, &torn,  damaged,          0, 1),
            (&torn,  &torn,  damaged,          0, 1),
            (&newer, &newer, unsupported,      1, 3),
            (&newer, &torn,  unsupported,      1, 3),
            (&empty, &newer, unsupported,      0, 3),
            (&one,   &newer, unsupported,      0, 3),
            (&newer, &three, Ok(Some(b"three")), 0, 4),
        ];
        for (i, (zero, other, in_force, next_copy, next_seq)) in cases.into_iter().enumerate() {
            let pair = choose(Copy::read(FILE, zero), Copy::read(FILE, other));
            assert_eq!(pair, Pair { in_force, next_copy, next_seq }, "case {i}");
            let may = pair.may_be_written(FILE).map_err(|fault| fault.kind);
            assert_eq!(
                may,
                if in_force == unsupported { Err(FaultKind::Unsupported) } else { Ok(()) },
                "case {i}"
            );
        }
    }

    /// Only with its own sum is it one: else each flipped bit of the version would be a newer agent.
    #[test]
    fn a_whole_copy_of_another_version_is_told_apart_from_a_torn_one() {
        for version in (0..=u8::MAX).filter(|version| *version != VERSION) {
            let mut bytes = of_version(version, 7);
            assert_eq!(Copy::read(FILE, &bytes), Copy::Unsupported { seq: 7, version });
            bytes[COPY_HEADER_BYTES] ^= 1;
            assert_eq!(Copy::read(FILE, &bytes), Copy::Torn, "{version}");
        }
    }

    /// As a later agent may write: another version, and what was zero may be anything.
    fn of_version(version: u8, seq: u64) -> vec::Vec<u8> {
        let mut bytes = copy(seq, b"newer");
        (bytes[4], bytes[6], bytes[20]) = (version, 0xff, 0xff);
        let sum = checksum(bytes[..24].try_into().unwrap(), b"newer");
        bytes[24..32].copy_from_slice(&sum);
        bytes
    }

    #[test]
    fn a_copy_with_any_bit_of_it_flipped_or_any_tail_of_it_lost_is_torn() {
        let whole = copy(7, b"payload");
        let used = COPY_HEADER_BYTES + 7;
        for bit in 0..used * 8 {
            let mut bytes = whole.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Copy::read(FILE, &bytes), Copy::Torn, "bit {bit}");
        }
        for cut in 1..used {
            assert_eq!(Copy::read(FILE, &whole[..cut]), Copy::Torn, "cut at {cut}");
        }
        assert_eq!(Copy::read(StateFile::Trust, &whole), Copy::Torn, "a copy of another thing");
    }
}
