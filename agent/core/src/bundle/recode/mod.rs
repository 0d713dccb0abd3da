//! Compressed blocks of zstd, opened as far as their literals and sequences, and closed again to the very same bytes.
//!
//! ```text
//! block  ─► literals, sequences, and what describes their codes ─► patched like anything else ─► a block again
//! ```
//! What a compressor has decided stands in literals and sequences; how these are coded then follows from tables that stand in the
//! block. So a block can be made again without its compressor, its version and its level: by coding the same literals and sequences
//! with the same tables (RFC 8878, section 3.1.1.3). A file that has changed a little has mostly the same sequences, while
//! all of its coded bits have moved.
//!
//! ```text
//! open    header of the block and of its literals, Huffman description   as they are
//!         literals                                                       a byte each
//!         number of sequences, modes, descriptions of tables             as they are
//!         each sequence: literals (1; or 255 and 3), match length - 3 (the same), offset value (3, the highest byte first)
//! ```
//! What a block has that no other encoder would make of the same (another first state, padding) cannot be made again: who opens one to
//! send it closes it once, and compares.

mod bits;
mod deflate;
mod fse;
mod huffman;
mod parts;

#[cfg(any(test, feature = "author"))]
pub use parts::{Codec, Part, patch_parts};
pub use parts::{Room, unpatch_parts};

use bits::{Backward, Writer};
use deflate::Codes;
use fse::Table;
use huffman::Code;
use zerocopy::FromZeros;

/// A block that cannot be opened, or items that cannot be closed. Why is not said: who packs sends it as it is, and on a gateway only a base
/// that has drifted has such, which the segment's digest says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unopened;

type Result<T> = core::result::Result<T, Unopened>;

/// What blocks are opened and closed with, and what a block of zstd may take over from the one before it.
#[derive(FromZeros)] // too large for a stack: a heap gives it zeroed, which is as new
pub struct Tables {
    code: Code,
    /// Literal lengths, offsets, match lengths; and whether they are known.
    tables: [Table; 3],
    known: [bool; 3],
    /// To work in.
    spare: Table,
    /// Of deflate's block, which takes over nothing.
    deflate: Codes,
}

impl Tables {
    /// As at the beginning of a frame.
    pub const fn new() -> Self {
        const TABLE: Table = Table::new();
        Tables {
            code: Code::new(),
            tables: [TABLE; 3],
            known: [false; 3],
            spare: Table::new(),
            deflate: Codes::new(),
        }
    }

    /// A frame begins.
    pub fn forget(&mut self) {
        self.code.forget();
        self.known = [false; 3];
    }

    /// Opens the block at the beginning of `block`: how many bytes it has, and how many of `out` it takes.
    pub fn open(&mut self, block: &[u8], out: &mut [u8]) -> Result<(usize, usize)> {
        let head = Head::read(block)?;
        let whole = block.get(..head.bytes()).ok_or(Unopened)?;
        let mut to = Out { out, at: 0 };
        if !head.compressed {
            to.push(whole)?;
            return Ok((whole.len(), to.at));
        }
        let literals = Literals::read(whole.get(HEAD_BYTES..).unwrap_or_default())?;
        let from = whole.get(HEAD_BYTES + literals.head..).unwrap_or_default();
        let (coded, rest) = from.split_at_checked(literals.coded).ok_or(Unopened)?;
        to.push(whole.get(..HEAD_BYTES + literals.head).unwrap_or_default())?;
        match literals.kind {
            Kind::Raw | Kind::Same => to.push(coded)?,
            Kind::Coded | Kind::Treeless => {
                let described = self.code(&literals, coded)?;
                let (described, streams) = coded.split_at_checked(described).ok_or(Unopened)?;
                to.push(described)?;
                self.read_literals(&literals, streams, to.room(literals.bytes)?)?;
            }
        }
        let (sequences, described) = self.sequences(rest)?;
        let (described, stream) = rest.split_at_checked(described).ok_or(Unopened)?;
        to.push(described)?;
        self.read_sequences(sequences, stream, &mut to)?;
        Ok((whole.len(), to.at))
    }

    /// Closes what stands at the beginning of `opened`: how many bytes of it that are, and how many of `out` the block has.
    pub fn close(&mut self, opened: &[u8], out: &mut [u8]) -> Result<(usize, usize)> {
        let head = Head::read(opened)?;
        let mut to = Out { out, at: 0 };
        if !head.compressed {
            to.push(opened.get(..head.bytes()).ok_or(Unopened)?)?;
            return Ok((to.at, to.at));
        }
        let literals = Literals::read(opened.get(HEAD_BYTES..).unwrap_or_default())?;
        let (heads, mut rest) = opened.split_at_checked(HEAD_BYTES + literals.head).ok_or(Unopened)?;
        to.push(heads)?;
        match literals.kind {
            Kind::Raw | Kind::Same => {
                let (plain, behind) = rest.split_at_checked(literals.coded).ok_or(Unopened)?;
                to.push(plain)?;
                rest = behind;
            }
            Kind::Coded | Kind::Treeless => {
                let (described, behind) =
                    rest.split_at_checked(self.code(&literals, rest)?).ok_or(Unopened)?;
                let (plain, behind) = behind.split_at_checked(literals.bytes).ok_or(Unopened)?;
                to.push(described)?;
                to.at +=
                    self.write_literals(&literals, plain, to.out.get_mut(to.at..).unwrap_or_default())?;
                rest = behind;
            }
        }
        same(literals.coded, to.at - HEAD_BYTES - literals.head)?;
        let (sequences, described) = self.sequences(rest)?;
        let (described, records) = rest.split_at_checked(described).ok_or(Unopened)?;
        to.push(described)?;
        let (used, written) =
            self.write_sequences(sequences, records, to.out.get_mut(to.at..).unwrap_or_default())?;
        to.at += written;
        same(head.bytes(), to.at)?;
        Ok((opened.len() - records.len() + used, to.at))
    }

    /// Opens the block of deflate that begins at bit `bit` of `from`: how many bits it has, and how many bytes of `out` it takes.
    pub fn open_deflate(&mut self, from: &[u8], bit: usize, out: &mut [u8]) -> Result<(usize, usize)> {
        self.deflate.open(from, bit, out)
    }

    /// Closes a block of deflate at the beginning of `opened` behind the lowest `bit` bits of `out`: how many of its bytes that are,
    /// and at which bit of `out` the block ends.
    pub fn close_deflate(&mut self, opened: &[u8], bit: u32, out: &mut [u8]) -> Result<(usize, usize)> {
        let mut to = Writer::behind(out, bit);
        let used = self.deflate.close(opened, &mut to)?;
        let end = to.place();
        to.fill()?;
        Ok((used, end))
    }

    /// Reads a code's description where there is one; how long it is.
    fn code(&mut self, literals: &Literals, from: &[u8]) -> Result<usize> {
        match literals.kind {
            Kind::Coded => self.code.read(from, &mut self.spare),
            _ if self.code.is_there() => Ok(0),
            _ => Err(Unopened),
        }
    }

    fn read_literals(&self, literals: &Literals, streams: &[u8], out: &mut [u8]) -> Result<()> {
        if !literals.four {
            return self.code.decode(streams, out);
        }
        let (sizes, mut rest) = streams.split_at_checked(JUMP_BYTES).ok_or(Unopened)?;
        let mut parts = out.chunks_mut(literals.bytes.div_ceil(4).max(1));
        for size in sizes.chunks(2).map(Some).chain([None]) {
            let size = match size {
                Some([low, high]) => usize::from(u16::from_le_bytes([*low, *high])),
                _ => rest.len(),
            };
            let (stream, behind) = rest.split_at_checked(size).ok_or(Unopened)?;
            self.code.decode(stream, parts.next().unwrap_or_default())?;
            rest = behind;
        }
        Ok(())
    }

    fn write_literals(&self, literals: &Literals, plain: &[u8], out: &mut [u8]) -> Result<usize> {
        if !literals.four {
            return self.code.encode(plain, out);
        }
        let (sizes, streams) = out.split_at_mut_checked(JUMP_BYTES).ok_or(Unopened)?;
        let (mut sizes, mut at) = (sizes.chunks_mut(2), 0);
        let mut parts = plain.chunks(literals.bytes.div_ceil(4).max(1));
        for _ in 0..4 {
            let room = streams.get_mut(at..).unwrap_or_default();
            let size = self.code.encode(parts.next().unwrap_or_default(), room)?;
            at += size;
            if let Some(place) = sizes.next() {
                place.copy_from_slice(&u16::try_from(size).map_err(|_| Unopened)?.to_le_bytes());
            }
        }
        Ok(JUMP_BYTES + at)
    }

    /// Reads how many sequences there are, and their tables; how long all of that is.
    fn sequences(&mut self, from: &[u8]) -> Result<(usize, usize)> {
        let byte = |at: usize| from.get(at).copied().map(usize::from).ok_or(Unopened);
        let (count, mut at) = match byte(0)? {
            0 => return Ok((0, 1)),
            few @ ..128 => (few, 1),
            255 => (byte(1)? + (byte(2)? << 8) + 0x7f00, 3),
            some => (((some - 128) << 8) + byte(1)?, 2),
        };
        let modes = byte(at)?;
        at += 1;
        for (index, what) in WHAT.iter().enumerate() {
            let (Some(table), Some(known)) = (self.tables.get_mut(index), self.known.get_mut(index)) else {
                continue;
            };
            match modes >> (6 - 2 * index) & 3 {
                0 => table.build(what.usual, what.usual_log)?,
                1 => {
                    table.of_one(byte(at)? as u8)?;
                    at += 1;
                }
                2 => at += table.read(from.get(at..).unwrap_or_default(), what.symbols, what.log_max)?,
                _ if *known => {}
                _ => {
                    return Err(Unopened);
                }
            }
            *known = true;
        }
        Ok((count, at))
    }

    fn read_sequences(&self, count: usize, stream: &[u8], to: &mut Out<'_>) -> Result<()> {
        if count == 0 {
            return same(0, stream.len());
        }
        let [lengths, offsets, matches] = &self.tables;
        let mut bits = Backward::new(stream)?;
        let mut states = [lengths, offsets, matches].map(|table| table.first(&mut bits));
        for left in (0..count).rev() {
            let [length, offset, matched] = &mut states;
            let offset_code = offsets.symbol(*offset);
            if offset_code > OFFSET_CODE_MAX {
                return Err(Unopened);
            }
            let offset_value = (1 << offset_code) + bits.take(offset_code.into());
            let match_value = MATCHES.value(matches.symbol(*matched), &mut bits)?;
            let length_value = LENGTHS.value(lengths.symbol(*length), &mut bits)?;
            to.small(length_value)?;
            to.small(match_value - MATCH_LEAST)?;
            to.push(offset_value.to_be_bytes().get(1..).unwrap_or_default())?;
            if left > 0 {
                *length = lengths.next(*length, &mut bits);
                *matched = matches.next(*matched, &mut bits);
                *offset = offsets.next(*offset, &mut bits);
            }
        }
        match bits.left() {
            0 => Ok(()),
            _ => Err(Unopened),
        }
    }

    /// How many bytes of records that are, and how many are written. Records are read from the last one on, so their beginnings are
    /// found first, in steps.
    fn write_sequences(&self, count: usize, records: &[u8], out: &mut [u8]) -> Result<(usize, usize)> {
        if count == 0 {
            return Ok((0, 0));
        }
        let [lengths, offsets, matches] = &self.tables;
        let mut steps = Steps::of(records, count)?;
        let mut bits = Writer::new(out);
        let mut states: Option<[u32; 3]> = None;
        for index in (0..count).rev() {
            let Sequence { length, matched, offset } = steps.at(records, index)?;
            let (length_code, length_bits, length_extra) = LENGTHS.code(length)?;
            let (match_code, match_bits, match_extra) = MATCHES.code(matched)?;
            let offset_code = offset.checked_ilog2().ok_or(Unopened)?;
            states = Some(match states {
                None => {
                    [lengths.last(length_code)?, offsets.last(offset_code as u8)?, matches.last(match_code)?]
                }
                Some([length, offset, matched]) => {
                    let offset = offsets.before(offset_code as u8, offset, &mut bits)?;
                    let matched = matches.before(match_code, matched, &mut bits)?;
                    [lengths.before(length_code, length, &mut bits)?, offset, matched]
                }
            });
            bits.put(length_extra, length_bits)?;
            bits.put(match_extra, match_bits)?;
            bits.put(offset, offset_code)?;
        }
        if let Some([length, offset, matched]) = states {
            matches.end(matched, &mut bits)?;
            offsets.end(offset, &mut bits)?;
            lengths.end(length, &mut bits)?;
        }
        Ok((steps.bytes, bits.end()?))
    }
}

impl Default for Tables {
    fn default() -> Self {
        Tables::new()
    }
}

/// How many bytes the block has that begins so.
pub fn block_bytes(head: &[u8]) -> Result<usize> {
    Head::read(head).map(|head| head.bytes())
}

/// A block's header.
struct Head {
    compressed: bool,
    /// Behind the header.
    content: usize,
}

impl Head {
    fn read(block: &[u8]) -> Result<Head> {
        let &[a, b, c] = block.first_chunk().ok_or(Unopened)?;
        let head = u32::from_le_bytes([a, b, c, 0]);
        let size = (head >> 3) as usize;
        if size > BLOCK_BYTES_MAX {
            return Err(Unopened);
        }
        Ok(match head >> 1 & 3 {
            0 => Head { compressed: false, content: size },
            1 => Head { compressed: false, content: 1 },
            2 => Head { compressed: true, content: size },
            _ => return Err(Unopened),
        })
    }

    const fn bytes(&self) -> usize {
        HEAD_BYTES + self.content
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Raw,
    /// One byte, again and again.
    Same,
    Coded,
    /// With the code of a block before.
    Treeless,
}

/// What the header of a literals section says.
struct Literals {
    kind: Kind,
    /// The header's bytes.
    head: usize,
    /// How many literals.
    bytes: usize,
    /// What they take, description and all.
    coded: usize,
    /// In four streams.
    four: bool,
}

impl Literals {
    fn read(section: &[u8]) -> Result<Literals> {
        let mut bytes = [0; 8];
        bytes.iter_mut().zip(section).for_each(|(to, byte)| *to = *byte);
        let word = u64::from_le_bytes(bytes);
        let size = |from: u32, bits: u32| (word >> from & ((1 << bits) - 1)) as usize;
        let (format, kind) = (size(2, 2), size(0, 2));
        let literals = match kind {
            0 | 1 => {
                let (head, bytes) = match format {
                    0 | 2 => (1, size(3, 5)),
                    1 => (2, size(4, 12)),
                    _ => (3, size(4, 20)),
                };
                let (kind, coded) = if kind == 0 { (Kind::Raw, bytes) } else { (Kind::Same, 1) };
                Literals { kind, head, bytes, coded, four: false }
            }
            kind => {
                let (head, bits) = match format {
                    0 | 1 => (3, 10),
                    2 => (4, 14),
                    _ => (5, 18),
                };
                let kind = if kind == 2 { Kind::Coded } else { Kind::Treeless };
                Literals { kind, head, bytes: size(4, bits), coded: size(4 + bits, bits), four: format > 0 }
            }
        };
        match literals.head <= section.len() && literals.bytes <= BLOCK_BYTES_MAX {
            true => Ok(literals),
            false => Err(Unopened),
        }
    }
}

/// One sequence.
struct Sequence {
    length: u32,
    matched: u32,
    offset: u32,
}

/// Where records begin: each some sequences further.
struct Steps {
    places: [u32; STEPS],
    step: usize,
    bytes: usize,
    /// The beginnings of one step's records.
    within: [u16; STEP_MAX],
    filled: Option<usize>,
}

impl Steps {
    fn of(records: &[u8], count: usize) -> Result<Steps> {
        let step = count.div_ceil(STEPS).max(1);
        if step > STEP_MAX {
            return Err(Unopened);
        }
        let mut steps = Steps { places: [0; STEPS], step, bytes: 0, within: [0; STEP_MAX], filled: None };
        for index in 0..count {
            if index.is_multiple_of(step)
                && let Some(place) = steps.places.get_mut(index / step)
            {
                *place = steps.bytes as u32;
            }
            steps.bytes += record(records.get(steps.bytes..).unwrap_or_default())?.1;
        }
        Ok(steps)
    }

    fn at(&mut self, records: &[u8], index: usize) -> Result<Sequence> {
        let number = index / self.step;
        let begins = self.places.get(number).copied().unwrap_or(0) as usize;
        let from = records.get(begins..).unwrap_or_default();
        if self.filled != Some(number) {
            let mut at = 0;
            for place in self.within.iter_mut().take((index % self.step) + 1) {
                *place = at as u16; // 256 records of 11 bytes
                at += record(from.get(at..).unwrap_or_default()).map_or(0, |(_, bytes)| bytes);
            }
            self.filled = Some(number);
        }
        let within = self.within.get(index % self.step).copied().unwrap_or(0);
        Ok(record(from.get(usize::from(within)..).unwrap_or_default())?.0)
    }
}

/// The sequence at the beginning of `records`, and how long it is there.
fn record(records: &[u8]) -> Result<(Sequence, usize)> {
    let mut at = 0;
    let mut byte = || {
        at += 1;
        records.get(at - 1).copied().map(u32::from).ok_or(Unopened)
    };
    let (length, matched) = (small(&mut byte)?, small(&mut byte)? + MATCH_LEAST);
    let offset = byte()? << 16 | byte()? << 8 | byte()?;
    Ok((Sequence { length, matched, offset }, at))
}

/// A number that is mostly small, as [`Out::small`] writes it.
fn small(byte: &mut impl FnMut() -> Result<u32>) -> Result<u32> {
    match byte()? {
        255 => Ok(byte()? | byte()? << 8 | byte()? << 16),
        value => Ok(value),
    }
}

/// Where bytes go.
struct Out<'a> {
    out: &'a mut [u8],
    at: usize,
}

impl Out<'_> {
    fn room(&mut self, bytes: usize) -> Result<&mut [u8]> {
        let from = self.at;
        let place = self.out.get_mut(from..from + bytes);
        self.at += bytes;
        place.ok_or(Unopened)
    }

    fn push(&mut self, bytes: &[u8]) -> Result<()> {
        self.room(bytes.len())?.copy_from_slice(bytes);
        Ok(())
    }

    fn small(&mut self, value: u32) -> Result<()> {
        match u8::try_from(value) {
            Ok(value @ ..=254) => self.push(&[value]),
            _ => {
                let [low, middle, high, _] = value.to_le_bytes(); // at most 131,074, what the codes give
                self.push(&[255, low, middle, high])
            }
        }
    }
}

/// Codes of lengths: where each begins, and how many bits say what is beyond that.
struct Lengths(&'static [(u32, u8)]);

impl Lengths {
    fn value(&self, code: u8, bits: &mut Backward<'_>) -> Result<u32> {
        self.beyond(code, |width| bits.take(width))
    }

    /// The length that a code and its bits are; `take` reads so many.
    fn beyond(&self, code: u8, take: impl FnOnce(u32) -> u32) -> Result<u32> {
        let (begins, width) = self.0.get(usize::from(code)).copied().ok_or(Unopened)?;
        Ok(begins + take(width.into()))
    }

    /// The code of a length, and its bits.
    fn code(&self, length: u32) -> Result<(u8, u32, u32)> {
        let code = self.0.partition_point(|(begins, _)| *begins <= length).checked_sub(1).ok_or(Unopened)?;
        let (begins, width) = self.0.get(code).copied().ok_or(Unopened)?;
        Ok((code as u8, width.into(), length - begins))
    }
}

/// RFC 8878, section 3.1.1.3.2.1.1.
const LENGTHS: Lengths =
    Lengths(&codes::<36>(0, &[1, 1, 1, 1, 2, 2, 3, 3, 4, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16]));
const MATCHES: Lengths = Lengths(&codes::<53>(
    MATCH_LEAST,
    &[1, 1, 1, 1, 2, 2, 3, 3, 4, 4, 5, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16],
));

/// Codes of one length each, and behind them such as have these bits.
#[expect(clippy::indexing_slicing, reason = "by the compiler: an index beyond the end does not build")]
const fn codes<const N: usize>(least: u32, widths: &[u8]) -> [(u32, u8); N] {
    let (mut codes, mut code, mut begins) = ([(0, 0); N], 0, least);
    let plain = N - widths.len();
    while code < N {
        let width = if code < plain { 0 } else { widths[code - plain] };
        codes[code] = (begins, width);
        begins += 1 << width;
        code += 1;
    }
    codes
}

/// A kind of table.
struct What {
    symbols: usize,
    log_max: u32,
    /// RFC 8878, section 3.1.1.3.2.2.
    usual: &'static [i16],
    usual_log: u32,
}

const WHAT: [What; 3] = [
    What {
        symbols: 36,
        log_max: 9,
        usual: &[
            4, 3, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 1, 1, 1, 2, 2, 2, 2, 2, 2, 2, 2, 2, 3, 2, 1, 1, 1, 1, 1,
            -1, -1, -1, -1,
        ],
        usual_log: 6,
    },
    What {
        symbols: 32,
        log_max: 8,
        usual: &[1, 1, 1, 1, 1, 1, 2, 2, 2, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, -1, -1, -1, -1, -1],
        usual_log: 5,
    },
    What {
        symbols: 53,
        log_max: 9,
        usual: &[
            1, 4, 3, 2, 2, 2, 2, 2, 2, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1,
            1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, -1, -1, -1, -1, -1, -1, -1,
        ],
        usual_log: 6,
    },
];

fn same(said: usize, made: usize) -> Result<()> {
    match said == made {
        true => Ok(()),
        false => Err(Unopened),
    }
}

const HEAD_BYTES: usize = 3;
/// Sizes of the first three of four streams.
const JUMP_BYTES: usize = 6;
/// RFC 8878, section 3.1.1.2.4.
pub const BLOCK_BYTES_MAX: usize = 128 * 1024;
const MATCH_LEAST: u32 = 3;
/// Offset values of three bytes.
const OFFSET_CODE_MAX: u8 = 23;
/// 256 steps of at most 256 sequences: a block has at most 43,691.
const STEPS: usize = 256;
const STEP_MAX: usize = 256;

#[cfg(test)]
mod tests;
