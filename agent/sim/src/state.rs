//! The agent's durable state, in two copies.
//!
//! ```text
//! 0     4   magic "SIMS"
//! 4     8   sequence number, little endian; the higher one counts
//! 12    4   length
//! 16    32  SHA-256 of bytes 4..16 and of the content
//! 48    …   content
//! ```
//! A change goes to the copy that does not count, and is durable before the next one. So a power cut in the midst
//! of it leaves the other copy, which is the old state. This is the simulator's own store, by the same plan as the
//! daemon's.

use crate::power::Tear;
use mainstay_core::digest::Hasher;
use mainstay_core::seam::StateFile;

/// The copies of all state files.
#[derive(Clone, Debug)]
pub struct StateMedium {
    copies: [[Vec<u8>; 2]; 3],
}

impl Default for StateMedium {
    fn default() -> Self {
        StateMedium { copies: std::array::from_fn(|_| [vec![0; COPY_BYTES], vec![0; COPY_BYTES]]) }
    }
}

impl StateMedium {
    /// What stands there. `Err`: both copies have been written, and both are damaged.
    pub fn load(&self, file: StateFile) -> Result<Option<&[u8]>, ()> {
        let [first, second] = &self.copies[file as usize];
        match (parse(first), parse(second)) {
            (Some(a), Some(b)) => Ok(Some(if a.0 > b.0 { a.1 } else { b.1 })),
            (Some((_, content)), None) | (None, Some((_, content))) => Ok(Some(content)),
            (None, None) if touched(first) && touched(second) => Err(()),
            // A torn first write: there was nothing before it.
            (None, None) => Ok(None),
        }
    }

    /// Writes one copy, as far as it gets through.
    pub fn persist(&mut self, file: StateFile, content: &[u8], tear: Tear) {
        let copies = &mut self.copies[file as usize];
        let sequence = |copy: &Vec<u8>| parse(copy).map(|(sequence, _)| sequence);
        let numbers = [sequence(&copies[0]), sequence(&copies[1])];
        let older = usize::from(numbers[1] < numbers[0]);
        let next = numbers.into_iter().flatten().max().unwrap_or(0) + 1;
        let mut bytes = MAGIC.to_vec();
        bytes.extend_from_slice(&next.to_le_bytes());
        bytes.extend_from_slice(&(content.len() as u32).to_le_bytes());
        let mut hasher = Hasher::new();
        hasher.update(&bytes[4..]);
        hasher.update(content);
        bytes.extend_from_slice(&hasher.finish().0);
        bytes.extend_from_slice(content);
        tear.write(&mut copies[older], 0, &bytes);
    }

    /// Spoils both copies, as nothing but a broken medium does.
    pub fn destroy(&mut self, file: StateFile) {
        self.copies[file as usize].iter_mut().for_each(|copy| copy[..64].fill(0x5a));
    }
}

fn parse(copy: &[u8]) -> Option<(u64, &[u8])> {
    let rest = copy.strip_prefix(&MAGIC)?;
    let (sequence, rest) = rest.split_first_chunk::<8>()?;
    let (length, rest) = rest.split_first_chunk::<4>()?;
    let (digest, rest) = rest.split_first_chunk::<32>()?;
    let content = rest.get(..u32::from_le_bytes(*length) as usize)?;
    let mut hasher = Hasher::new();
    hasher.update(sequence);
    hasher.update(length);
    hasher.update(content);
    (hasher.finish().0 == *digest).then_some((u64::from_le_bytes(*sequence), content))
}

fn touched(copy: &[u8]) -> bool {
    copy.iter().any(|byte| *byte != 0)
}

const MAGIC: [u8; 4] = *b"SIMS";
const COPY_BYTES: usize = 20 * 1024;
