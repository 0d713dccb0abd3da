//! Frames of zstd and streams of deflate in an image, block by block.

use crate::Result;
use crate::layout::ReadAt;
use crate::zstd::{MAGIC, header_bytes};
use flate2::{Crc, Decompress, FlushDecompress, Status};
use mainstay_core::bundle::recode::{Tables, block_bytes};

/// What has packed a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packer {
    /// Its blocks are whole bytes.
    Zstd,
    /// Its blocks begin at any bit.
    Deflate,
}

/// A block, where it stands in the image.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    /// By what.
    pub packer: Packer,
    /// In bits.
    pub from: u64,
    /// In bits.
    pub to: u64,
    /// A frame's first, or a stream's.
    pub first: bool,
}

impl Place {
    /// The bytes in which it stands.
    pub fn bytes(&self) -> std::ops::Range<u64> {
        self.from / 8..self.to.div_ceil(8)
    }
}

/// Walks through all that looks like a frame or a stream; `take` says whether to go on. Blocks of deflate that are larger, opened,
/// than `opened` are left out.
pub fn each(
    image: &dyn ReadAt,
    opened: &mut [u8],
    take: &mut dyn FnMut(&[Place]) -> Result<bool>,
) -> Result<()> {
    let (mut window, mut at) = (vec![0; WINDOW_BYTES], 0);
    let mut deflate = Deflate::new(opened);
    while at + HEADER_BYTES_MAX < image.bytes() {
        let bytes = (image.bytes() - at).min(WINDOW_BYTES as u64) as usize;
        let window = &mut window[..bytes];
        image.read_at(at, window)?;
        let found = window.windows(MAGIC.len()).position(|four| Kind::of(four).is_some());
        let Some(found) = found else {
            at += (bytes - (MAGIC.len() - 1)) as u64;
            continue;
        };
        at += found as u64;
        let list = match Kind::of(&window[found..]) {
            Some(Kind::Zstd) => frame(image, at)?,
            Some(kind) => deflate.stream(image, at, kind)?,
            None => None,
        };
        match list {
            Some((list, end)) => {
                if !list.is_empty() && !take(&list)? {
                    return Ok(());
                }
                at = end;
            }
            _ => at += 1,
        }
    }
    Ok(())
}

/// What four bytes may begin.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Zstd,
    /// RFC 1952, with its flags.
    Gzip(u8),
    /// RFC 1950: a window of 32 KiB, no dictionary.
    Zlib,
}

impl Kind {
    fn of(begins: &[u8]) -> Option<Kind> {
        match begins {
            [0x1f, 0x8b, 8, flags @ ..32, ..] => Some(Kind::Gzip(*flags)),
            [0x78, 0x01 | 0x5e | 0x9c | 0xda, ..] => Some(Kind::Zlib),
            _ if begins.starts_with(&MAGIC) => Some(Kind::Zstd),
            _ => None,
        }
    }
}

/// The blocks of the frame that seems to begin there, and where it ends; nothing where it cannot be one.
fn frame(image: &dyn ReadAt, at: u64) -> Result<Option<(Vec<Place>, u64)>> {
    let mut head = [0; HEADER_BYTES_MAX as usize];
    let bytes = (image.bytes() - at).min(HEADER_BYTES_MAX) as usize;
    image.read_at(at, &mut head[..bytes])?;
    let (mut list, mut here) = (Vec::new(), at + header_bytes(&head[..bytes]) as u64);
    loop {
        let mut head = [0; 3];
        if here + 3 > image.bytes() {
            return Ok(None);
        }
        image.read_at(here, &mut head)?;
        let Ok(bytes) = block_bytes(&head) else { return Ok(None) };
        let end = here + bytes as u64;
        if end > image.bytes() || list.len() == FRAME_BLOCKS_MAX {
            return Ok(None);
        }
        list.push(Place { packer: Packer::Zstd, from: 8 * here, to: 8 * end, first: list.is_empty() });
        here = end;
        if head[0] & 1 == 1 {
            return Ok(Some((list, here)));
        }
    }
}

/// Reads streams of deflate.
struct Deflate<'a> {
    tables: Box<Tables>,
    opened: &'a mut [u8],
    /// What the image has from a place on, and that place.
    read: Vec<u8>,
    at: u64,
    out: Vec<u8>,
}

impl Deflate<'_> {
    fn new(opened: &mut [u8]) -> Deflate<'_> {
        Deflate { tables: Box::default(), opened, read: Vec::new(), at: 0, out: vec![0; 64 << 10] }
    }

    /// At least `bytes` of the image from `at` on, as far as there are.
    fn window(&mut self, image: &dyn ReadAt, at: u64, bytes: usize) -> Result<&[u8]> {
        let there = at >= self.at && at + bytes as u64 <= self.at + self.read.len() as u64;
        if !there {
            self.read.resize((image.bytes() - at).min(READ_BYTES as u64) as usize, 0);
            image.read_at(at, &mut self.read)?;
            self.at = at;
        }
        Ok(&self.read[(at - self.at) as usize..])
    }

    /// The blocks of the stream that begins there, and where it ends; nothing where its content is not what its end says.
    fn stream(&mut self, image: &dyn ReadAt, at: u64, kind: Kind) -> Result<Option<(Vec<Place>, u64)>> {
        let head = self.window(image, at, 4096)?;
        let (begins, mut inflate, behind) = match kind {
            Kind::Gzip(flags) => match gzip_head(head, flags) {
                Some(bytes) => (at + bytes as u64, Decompress::new(false), 8),
                None => return Ok(None),
            },
            _ => (at, Decompress::new(true), 0),
        };
        let (mut sum, mut here) = (Crc::new(), begins);
        loop {
            let (before, made) = (inflate.total_in(), inflate.total_out());
            let from = self.window(image, here, 1)?;
            let most = if here == begins { PROBE_BYTES } else { WINDOW_BYTES };
            let from = from[..from.len().min(most)].to_vec();
            let status = inflate.decompress(&from, &mut self.out, FlushDecompress::None);
            sum.update(&self.out[..(inflate.total_out() - made) as usize]);
            here += inflate.total_in() - before;
            match status {
                Ok(Status::StreamEnd) => break,
                Ok(_)
                    if here < image.bytes()
                        && (inflate.total_in(), inflate.total_out()) != (before, made) => {}
                _ => return Ok(None),
            }
        }
        if let Kind::Gzip(_) = kind {
            let end = [sum.sum().to_le_bytes(), (inflate.total_out() as u32).to_le_bytes()].concat();
            if !self.window(image, here, 8)?.starts_with(&end) {
                return Ok(None);
            }
        }
        let data = if kind == Kind::Zlib { begins + 2 } else { begins };
        Ok(Some((self.blocks(image, data, here)?, here + behind)))
    }

    /// Those of a stream that is one.
    fn blocks(&mut self, image: &dyn ReadAt, begins: u64, end: u64) -> Result<Vec<Place>> {
        let (mut list, mut from, mut first) = (Vec::new(), 8 * begins, true);
        while from < 8 * end {
            let (at, bit) = (from / 8, (from % 8) as usize);
            self.window(image, at, BLOCK_BYTES_LIKELY)?;
            let Deflate { tables, opened, read, at: read_at, .. } = self;
            let here = &read[(at - *read_at) as usize..];
            let [head, ..] = here else { break };
            let head = u16::from_le_bytes([*head, here.get(1).copied().unwrap_or(0)]) >> bit;
            let to = match head >> 1 & 3 {
                0 => {
                    let length = (bit + 3).div_ceil(8);
                    let Some([low, high]) = here.get(length..length + 2) else { break };
                    8 * (at + length as u64 + 4 + u64::from(u16::from_le_bytes([*low, *high])))
                }
                _ => match tables.open_deflate(here, bit, opened) {
                    Ok((bits, made)) => {
                        let to = from + bits as u64;
                        if made <= OPENED_BYTES_MOST {
                            list.push(Place { packer: Packer::Deflate, from, to, first });
                        }
                        to
                    }
                    Err(_) => break,
                },
            };
            (from, first) = (to, false);
            if head & 1 == 1 {
                break;
            }
        }
        Ok(list)
    }
}

/// How long a member's header is (RFC 1952, section 2.3), if it ends within `bytes`.
fn gzip_head(bytes: &[u8], flags: u8) -> Option<usize> {
    let mut at = 10;
    if flags & 4 != 0 {
        let extra = bytes.get(at..at + 2)?;
        at += 2 + usize::from(u16::from_le_bytes([extra[0], extra[1]]));
    }
    for text in [8, 16] {
        if flags & text != 0 {
            at += bytes.get(at..)?.iter().position(|byte| *byte == 0)? + 1;
        }
    }
    at += if flags & 2 != 0 { 2 } else { 0 };
    (at < bytes.len()).then_some(at)
}

/// RFC 8878, section 3.1.1.1.
const HEADER_BYTES_MAX: u64 = 18;
/// Blocks of 128 KiB: what claims to be a frame of more than 8 GiB is none.
const FRAME_BLOCKS_MAX: usize = 1 << 16;
/// Read anew behind each frame, so not much more than one of these has.
const WINDOW_BYTES: usize = 64 << 10;
const READ_BYTES: usize = 1 << 20;
/// Most of what looks like a stream is none, which shows soon.
const PROBE_BYTES: usize = 1 << 10;
/// zlib ends a block after 16,383 words at most of 15 + 5 + 15 + 13 bits.
const BLOCK_BYTES_LIKELY: usize = 128 << 10;
/// What a gateway has room for.
const OPENED_BYTES_MOST: usize = mainstay_core::limits::PART_MADE_BYTES_MAX;
