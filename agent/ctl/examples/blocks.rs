//! What of an image's zstd and zlib can be opened and closed again: `cargo run --profile tool -p mainstayctl --example blocks -- IMAGE`.
//!
//! Opens every block of whatever is a frame or a stream, closes it, compares, and prints how many came out the same and how long that
//! took. Of zlib it looks at streams whose checksum is right, and at no stored block: these are never opened.

use flate2::{Decompress, FlushDecompress, Status};
use mainstay_core::bundle::recode::Tables;
use mainstayctl::zstd::{MAGIC, header_bytes};
use std::error::Error;
use std::time::{Duration, Instant};

fn main() -> Result<(), Box<dyn Error>> {
    let image = std::fs::read(std::env::args().nth(1).ok_or("expected an image")?)?;
    let (mut zstd, mut zlib) = (Work::new("zstd"), Work::new("zlib"));
    let mut at = 0;
    while at + 4 < image.len() {
        let end = match &image[at..at + 4] {
            four if four == MAGIC => zstd.frame(&image, at),
            [0x78, 0x01 | 0x5e | 0x9c | 0xda, ..] => zlib.stream(&image, at),
            _ => None,
        };
        at = end.unwrap_or(at + 1);
    }
    zstd.print();
    zlib.print();
    Ok(())
}

struct Work {
    what: &'static str,
    opening: Box<Tables>,
    closing: Box<Tables>,
    opened: Vec<u8>,
    closed: Vec<u8>,
    blocks: u32,
    same: u32,
    bits: usize,
    took: [Duration; 2],
}

impl Work {
    fn new(what: &'static str) -> Work {
        Work {
            what,
            opening: Box::default(),
            closing: Box::default(),
            opened: vec![0; 1 << 20],
            closed: vec![0; 1 << 19],
            blocks: 0,
            same: 0,
            bits: 0,
            took: [Duration::ZERO; 2],
        }
    }

    fn print(&self) {
        let Work { what, blocks, same, bits, took: [opened, closed], .. } = self;
        println!(
            "{what}: {blocks} blocks of {} bytes, {same} came out the same; opened in {opened:?}, closed in {closed:?}",
            bits / 8
        );
    }

    /// Where the frame ends, if it is one.
    fn frame(&mut self, image: &[u8], at: usize) -> Option<usize> {
        let mut here = at + header_bytes(&image[at..]);
        self.opening.forget();
        self.closing.forget();
        loop {
            let block = image.get(here..)?;
            let begun = Instant::now();
            let (used, made) = self.opening.open(block, &mut self.opened).ok()?;
            self.took[0] += begun.elapsed();
            let begun = Instant::now();
            let again = self.closing.close(&self.opened[..made], &mut self.closed);
            self.took[1] += begun.elapsed();
            self.same += u32::from(again.is_ok_and(|(_, written)| self.closed[..written] == block[..used]));
            (self.blocks, self.bits, here) = (self.blocks + 1, self.bits + 8 * used, here + used);
            if block[0] & 1 == 1 {
                return Some(here);
            }
        }
    }

    /// Where the stream ends, if it is one.
    fn stream(&mut self, image: &[u8], at: usize) -> Option<usize> {
        let (mut inflate, mut room) = (Decompress::new(true), vec![0; 64 << 10]);
        loop {
            let from = image.get(at + inflate.total_in() as usize..)?;
            let before = (inflate.total_in(), inflate.total_out());
            match inflate.decompress(from, &mut room, FlushDecompress::None).ok()? {
                Status::StreamEnd => break,
                _ if before == (inflate.total_in(), inflate.total_out()) => return None,
                _ => {}
            }
        }
        let end = at + inflate.total_in() as usize;
        let (stream, mut here) = (&image[at..end], 16);
        loop {
            let (from, bit) = (here / 8, here % 8);
            let head = u16::from_le_bytes([stream[from], stream[from + 1]]) >> bit;
            if head >> 1 & 3 == 0 {
                let begins = (here + 3).div_ceil(8);
                here =
                    8 * (begins + 4 + usize::from(u16::from_le_bytes([stream[begins], stream[begins + 1]])));
            } else {
                let begun = Instant::now();
                let (bits, made) = self.opening.open_deflate(&stream[from..], bit, &mut self.opened).ok()?;
                self.took[0] += begun.elapsed();
                self.closed[0] = stream[from];
                let begun = Instant::now();
                let again = self.closing.close_deflate(&self.opened[..made], bit as u32, &mut self.closed);
                self.took[1] += begun.elapsed();
                let whole = (bit + bits) / 8;
                let mask = (1u16 << ((bit + bits) % 8)) - 1;
                let same = again == Ok((made, bit + bits))
                    && self.closed[..whole] == stream[from..from + whole]
                    && u16::from(self.closed[whole] ^ stream[from + whole]) & mask == 0;
                self.same += u32::from(same);
                (self.blocks, self.bits, here) = (self.blocks + 1, self.bits + bits, here + bits);
            }
            if head & 1 == 1 {
                return Some(end);
            }
        }
    }
}
