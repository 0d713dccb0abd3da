//! The longest piece of a text that something begins with: a suffix array (divsufsort makes it) and a binary search.
//!
//! Four bytes of memory for each of the text, and a quarter of a megabyte for where each pair of bytes begins.

/// A text, and its suffixes in order.
pub struct Suffixes<'a> {
    text: &'a [u8],
    sorted: Vec<i32>,
    /// Where the suffixes that begin with each pair of bytes begin; a single last byte stands before all others of its kind.
    pairs: Vec<u32>,
}

impl<'a> Suffixes<'a> {
    /// Of a text of at most [`TEXT_BYTES_MAX`].
    pub fn new(text: &'a [u8]) -> Self {
        assert!(text.len() <= TEXT_BYTES_MAX, "a text of {} bytes: its windows are made before", text.len());
        let mut sorted = vec![0; text.len()];
        cdivsufsort::sort_in_place(text, &mut sorted);
        let mut pairs = vec![0u32; PAIRS + 1];
        for at in 0..text.len() {
            pairs[pair(&text[at..]) + 1] += 1;
        }
        for index in 0..PAIRS {
            pairs[index + 1] += pairs[index];
        }
        Suffixes { text, sorted, pairs }
    }

    /// The text.
    pub fn text(&self) -> &'a [u8] {
        self.text
    }

    /// Where the longest beginning of `wanted` stands in the text, and how long it is: 0, if less than two bytes of it do.
    pub fn longest(&self, wanted: &[u8]) -> (usize, usize) {
        if wanted.len() < 2 {
            return (0, 0);
        }
        let key = pair(wanted);
        let (mut low, mut high) = (self.pairs[key] as usize, self.pairs[key + 1] as usize);
        let (mut best, mut below, mut above) = ((0, 0), 0, 0);
        while low < high {
            let middle = low.midpoint(high);
            let at = self.sorted[middle] as usize;
            let known = Ord::min(below, above); // so much of it all between the two have in common
            let length = known + equal(&self.text[(at + known).min(self.text.len())..], &wanted[known..]);
            if length > Ord::max(best.1, 1) {
                best = (at, length);
            }
            let less = match (self.text.get(at + length), wanted.get(length)) {
                (Some(text), Some(wanted)) => text < wanted,
                (None, Some(_)) => true,
                (_, None) => return best,
            };
            match less {
                true => (low, below) = (middle + 1, length),
                false => (high, above) = (middle, length),
            }
        }
        best
    }
}

fn pair(text: &[u8]) -> usize {
    usize::from(text[0]) << 8 | text.get(1).map_or(0, |byte| usize::from(*byte))
}

/// How many bytes are equal at the beginning of both.
pub fn equal(a: &[u8], b: &[u8]) -> usize {
    let words = a.as_chunks::<8>().0.iter().zip(b.as_chunks::<8>().0);
    let words = words.take_while(|(a, b)| a == b).count() * 8;
    words + a[words..].iter().zip(&b[words..]).take_while(|(a, b)| a == b).count()
}

/// 24 MiB: its suffixes take 96.
pub const TEXT_BYTES_MAX: usize = 24 << 20;
const PAIRS: usize = 1 << 16;

#[cfg(test)]
mod tests {
    use super::*;

    fn longest(text: &[u8], wanted: &[u8]) -> usize {
        let (at, length) = Suffixes::new(text).longest(wanted);
        assert_eq!(text[at..at + length], wanted[..length]);
        length
    }

    #[test]
    fn the_longest_match_is_what_trying_every_place_finds() {
        let mut state = 1u32;
        let mut random = |below: u32| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 16) % below
        };
        for letters in [2, 4, 200] {
            let text: Vec<u8> = (0..500).map(|_| random(letters) as u8).collect();
            for _ in 0..200 {
                let wanted: Vec<u8> = (0..20).map(|_| random(letters) as u8).collect();
                let most = (0..text.len()).map(|at| equal(&text[at..], &wanted)).max().unwrap();
                assert_eq!(longest(&text, &wanted), if most < 2 { 0 } else { most });
            }
        }
    }

    #[test]
    fn short_texts_and_wishes_are_no_special_case() {
        for (text, wanted, length) in [
            (&b""[..], &b"abc"[..], 0),
            (b"a", b"a", 0),
            (b"ab", b"abc", 2),
            (b"xa", b"a\0", 0),
            (b"\0\0\0", b"\0\0\0\0", 3),
        ] {
            assert_eq!(longest(text, wanted), length, "{wanted:?} in {text:?}");
        }
    }
}
