//! A segment as a zstd frame (RFC 8878), by itself or with the segment before it as its prefix: whichever is smaller.

use crate::Result;
use crate::fail;
use mainstay_core::bundle::{Encoding, Proof};
use mainstay_core::limits::{PREFIXED_BYTES_MAX, SEGMENT_BYTES};
use mainstay_core::seam::NO_PREFIX;
use zstd_safe::{CCtx, DCtx};

/// Packs and unpacks frames; used again for each.
pub struct Zstd {
    pack: CCtx<'static>,
    unpack: DCtx<'static>,
}

impl Default for Zstd {
    fn default() -> Self {
        Zstd { pack: CCtx::create(), unpack: DCtx::create() }
    }
}

impl Zstd {
    /// The smaller of two frames; `None`: neither is smaller than the content. `prior`: the segment before, empty if there is none.
    pub fn pack(&mut self, content: &[u8], prior: &[u8], level: i32) -> Result<Option<(Encoding, Vec<u8>)>> {
        let prefixed = match is_prefix(prior) {
            true => {
                Some(self.frame(content, prior, level)?).filter(|frame| frame.len() <= PREFIXED_BYTES_MAX)
            }
            false => None,
        };
        // A prefix that helped much is not weighed against none: that takes as long again, and finds nothing.
        let best = match prefixed {
            Some(frame) if frame.len() < content.len() / 2 => (Encoding::Prefixed, frame),
            prefixed => {
                let plain = self.frame(content, &[], level)?;
                match prefixed {
                    Some(frame) if frame.len() < plain.len() => (Encoding::Prefixed, frame),
                    _ => (Encoding::Zstd, plain),
                }
            }
        };
        Ok(Some(best).filter(|(_, frame)| frame.len() < content.len()))
    }

    fn frame(&mut self, content: &[u8], prefix: &[u8], level: i32) -> Result<Vec<u8>> {
        let mut frame = vec![0; zstd_safe::compress_bound(content.len())];
        let used =
            self.pack.compress_using_dict(frame.as_mut_slice(), content, prefix, level).map_err(said)?;
        frame.truncate(used);
        Ok(frame)
    }

    /// Fills `out` with what a frame makes: exactly that, and never more than it has room for, whatever the frame says.
    pub fn unpack(&mut self, frame: &[u8], prefix: &[u8], out: &mut [u8]) -> Result<()> {
        if !prefix.is_empty() && !is_prefix_kind(prefix) {
            return Err(fail!(
                "expected a prefix of raw content, found one that begins as a dictionary does"
            ));
        }
        let expected = out.len();
        match self.unpack.decompress_using_dict(out, frame, prefix).map_err(said)? {
            made if made == expected => Ok(()),
            made => Err(fail!("its zstd frame makes {made} bytes, expected {expected}")),
        }
    }
}

/// What a frame begins with (RFC 8878, section 3.1.1).
pub const MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// How long the header of a frame is, magic and all (RFC 8878, section 3.1.1.1): behind it stands its first block.
pub fn header_bytes(frame: &[u8]) -> usize {
    let descriptor = frame.get(MAGIC.len()).copied().unwrap_or(0);
    let single = descriptor & 0x20 > 0;
    let size = [usize::from(single), 2, 4, 8][usize::from(descriptor >> 6)];
    5 + usize::from(!single) + [0, 1, 2, 4][usize::from(descriptor & 3)] + size
}

/// Can this segment be a prefix, and help?
fn is_prefix(prior: &[u8]) -> bool {
    prior.len() == SEGMENT_BYTES && is_prefix_kind(prior) && !Proof::Zeros.holds(prior)
}

fn is_prefix_kind(prior: &[u8]) -> bool {
    !prior.starts_with(&NO_PREFIX)
}

fn said(code: usize) -> crate::Failure {
    fail!("zstd: {}", zstd_safe::get_error_name(code))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    fn noise(seed: u32, bytes: usize) -> Vec<u8> {
        let mut x = seed;
        let mut next = || {
            x = x.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (x >> 24) as u8
        };
        (0..bytes).map(|_| next()).collect()
    }

    /// Goal: each way is taken where it is the smallest, and makes the content again. Method: content that is like the segment
    /// before, like itself, or like nothing; a segment before that cannot be a prefix.
    #[test]
    fn smallest_way_is_taken_and_makes_the_content_again() {
        let fresh = noise(1, SEGMENT_BYTES);
        let like_it: Vec<u8> =
            fresh.iter().rev().copied().collect::<Vec<_>>().chunks(4096).rev().flatten().copied().collect();
        let prior: Vec<u8> = like_it[1000..].iter().chain(&fresh[..1000]).copied().collect();
        let dictionary = [&NO_PREFIX[..], &prior[4..]].concat();
        let text = b"a gateway runs a known state. ".repeat(9000)[..SEGMENT_BYTES].to_vec();
        #[rustfmt::skip]
        let cases: [(&[u8], &[u8], Option<Encoding>); 7] = [
            (&like_it,         &prior,            Some(Encoding::Prefixed)),
            (&like_it[..5000], &prior,            Some(Encoding::Prefixed)),
            (&like_it,         &[],               None),
            (&like_it,         &dictionary,       None),
            (&text,            &[0; SEGMENT_BYTES], Some(Encoding::Zstd)),
            (&text,            &prior,            Some(Encoding::Prefixed)),
            (&fresh[7..8],     &prior,            None),
        ];
        let mut zstd = Zstd::default();
        for (number, (content, prior, expected)) in cases.into_iter().enumerate() {
            let packed = zstd.pack(content, prior, 3).unwrap();
            assert_eq!(packed.as_ref().map(|(encoding, _)| *encoding), expected, "case {number}");
            let Some((encoding, frame)) = packed else { continue };
            let prefix = if encoding == Encoding::Prefixed { prior } else { &[] };
            let mut out = vec![0; content.len()];
            zstd.unpack(&frame, prefix, &mut out).unwrap();
            assert!(out == content, "case {number}");
        }
    }

    /// Goal: what a prefix is to us, it is to zstd. Method: its own command unpacks our frame, with the segment before as what it
    /// calls the file to patch from.
    #[test]
    fn command_of_zstd_itself_reads_a_frame_with_a_prefix() {
        if Command::new("zstd").arg("--version").output().is_err() {
            eprintln!("not run: zstd is not installed");
            return;
        }
        let prior = noise(5, SEGMENT_BYTES);
        let content: Vec<u8> = prior.chunks(1000).rev().flatten().copied().collect();
        let (encoding, frame) = Zstd::default().pack(&content, &prior, 19).unwrap().unwrap();
        assert!(encoding == Encoding::Prefixed && frame.len() * 50 < content.len(), "{} bytes", frame.len());
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::write(at("prior"), &prior).unwrap();
        std::fs::write(at("frame"), &frame).unwrap();
        let mut zstd = Command::new("zstd");
        zstd.arg("-dcq").arg(format!("--patch-from={}", at("prior").display())).arg(at("frame"));
        let unpacked = zstd.output().unwrap();
        assert!(unpacked.stdout == content, "{}", String::from_utf8_lossy(&unpacked.stderr));
    }
}
