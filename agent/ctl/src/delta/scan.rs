//! What of a new content is like what of an old one, byte for byte or nearly: the search that bsdiff is known for (C. Percival,
//! *Naive differences of executable code*).
//!
//! ```text
//! old   ──────aaaaaaaaaaaaaa──────────bbbbbbbbbbb──
//! new   ──aaaaaaaaaxaaaa──extra──bbbyybbbbbb───────
//!             alignment           the next one
//! ```
//! The alignment of the moment is kept until another place of the old content matches more than eight bytes better. Both are then
//! extended towards each other, as far as more of them agrees than not, and meet where most does.

use super::suffix::{Suffixes, TEXT_BYTES_MAX, equal};

/// Bytes of the new content that are like bytes of the old one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Match {
    /// Where in the new content.
    pub new: usize,
    /// Where in the old one.
    pub old: usize,
    /// How many.
    pub bytes: usize,
}

/// Matches in order of the new content, without overlaps. An old content that is larger than what suffixes are made of is looked
/// at in windows around the same relative place.
pub fn matches(old: &[u8], new: &[u8]) -> Vec<Match> {
    if old.len() <= TEXT_BYTES_MAX {
        return scan(&Suffixes::new(old), new);
    }
    let mut out = Vec::new();
    for (index, part) in new.chunks(TEXT_BYTES_MAX / 2).enumerate() {
        let begin = index * (TEXT_BYTES_MAX / 2);
        let middle = (begin + part.len() / 2) as u128 * old.len() as u128 / new.len() as u128;
        let from = (middle as usize).saturating_sub(TEXT_BYTES_MAX / 2).min(old.len() - TEXT_BYTES_MAX);
        let found = scan(&Suffixes::new(&old[from..from + TEXT_BYTES_MAX]), part);
        out.extend(found.iter().map(|m| Match { new: m.new + begin, old: m.old + from, bytes: m.bytes }));
    }
    out
}

fn scan(old: &Suffixes<'_>, new: &[u8]) -> Vec<Match> {
    let mut scan = Scan { old, new, at: 0, kept: Match { new: 0, old: 0, bytes: 0 }, balance: 0, best: 0 };
    let mut out = Vec::new();
    loop {
        let next = scan.better();
        let (kept, next) = scan.meet(next);
        if kept.bytes >= BYTES_LEAST {
            out.push(kept);
        }
        match next {
            Some(next) => scan.kept = next,
            None => return out,
        }
    }
}

struct Scan<'a> {
    old: &'a Suffixes<'a>,
    new: &'a [u8],
    /// How far the new content has been looked at.
    at: usize,
    /// The alignment of the moment: it begins here; how long it is, is not known yet.
    kept: Match,
    /// Of the alignment of the moment: bytes that agree less those that do not, now and at best.
    balance: i64,
    best: i64,
}

impl Scan<'_> {
    /// Whether the alignment of the moment has the right byte there.
    fn agrees(&self, at: usize) -> bool {
        self.old.text().get((at + self.kept.old).wrapping_sub(self.kept.new)) == self.new.get(at)
    }

    /// How long the alignment of the moment goes on without a wrong byte.
    fn goes_on(&self, at: usize) -> usize {
        let from = (at + self.kept.old).wrapping_sub(self.kept.new);
        self.old.text().get(from..).map_or(0, |old| equal(old, &self.new[at..]))
    }

    /// The next alignment that is clearly better than that of the moment, as far as it agrees fully. It may be the same one, where
    /// that agrees again behind so much that does not that nobody would extend it over that.
    fn better(&mut self) -> Option<Match> {
        let (mut score, mut counted) = (0i64, self.at);
        while self.at < self.new.len() {
            let length = self.goes_on(self.at);
            let fully = length >= GOOD;
            let (old, length) = if fully { (0, length) } else { self.old.longest(&self.new[self.at..]) };
            while !fully && counted < self.at + length {
                score += i64::from(self.agrees(counted));
                counted += 1;
            }
            let at = self.at;
            if fully || length > 0 && length as i64 == score {
                self.at += length;
                (score, counted) = (0, self.at);
                if fully && self.behind() > BEHIND {
                    let old = (at + self.kept.old).wrapping_sub(self.kept.new);
                    return Some(self.begin(Match { new: at, old, bytes: length }));
                }
                self.count(length as i64);
            } else if length as i64 > score + BETTER {
                self.at += length;
                return Some(self.begin(Match { new: at, old, bytes: length }));
            } else {
                let agrees = self.agrees(at);
                score -= i64::from(agrees);
                self.count(if agrees { 1 } else { -1 });
                self.at += 1;
            }
        }
        None
    }

    /// What the alignment of the moment has right, less what it has wrong, is less than it has been by so much.
    const fn behind(&self) -> i64 {
        self.best - self.balance
    }

    fn count(&mut self, change: i64) {
        self.balance += change;
        self.best = self.best.max(self.balance);
    }

    /// Counts for the next alignment.
    const fn begin(&mut self, next: Match) -> Match {
        (self.balance, self.best) = (next.bytes as i64, next.bytes as i64);
        next
    }

    /// Extends the alignment of the moment forwards and the next one backwards. Where both claim the same bytes, they meet where
    /// most of them are right. The same alignment, begun anew, claims nothing of what it had before: else the longer it is, the
    /// longer each new beginning would take.
    fn meet(&self, next: Option<Match>) -> (Match, Option<Match>) {
        let (old, new, kept) = (self.old.text(), self.new, self.kept);
        let end = next.map_or(new.len(), |next| next.new);
        let room = (end - kept.new).min(old.len() - kept.old);
        let forward = furthest((0..room).map(|i| old[kept.old + i] == new[kept.new + i]));
        let Some(next) = next else { return (Match { bytes: forward, ..kept }, None) };
        let begun_anew = next.old + kept.new == next.new + kept.old;
        let room = (next.new - kept.new - if begun_anew { forward } else { 0 }).min(next.old);
        let back = furthest((1..=room).map(|i| old[next.old - i] == new[next.new - i]));
        let over = (forward + back).saturating_sub(next.new - kept.new);
        let (mut score, mut best, mut cut) = (0i64, 0i64, 0);
        for i in 0..over {
            let (ours, theirs) = (forward - over + i, back - i);
            score += i64::from(new[kept.new + ours] == old[kept.old + ours]);
            score -= i64::from(new[next.new - theirs] == old[next.old - theirs]);
            if score > best {
                (best, cut) = (score, i + 1);
            }
        }
        let (forward, back) = (forward - over + cut, back - cut);
        let begun = Match { new: next.new - back, old: next.old - back, bytes: 0 };
        (Match { bytes: forward, ..kept }, Some(begun))
    }
}

/// How far it pays to go: where what agrees is most ahead of what does not.
fn furthest(agrees: impl Iterator<Item = bool>) -> usize {
    let (mut score, mut best, mut furthest) = (0i64, 0i64, 0);
    for (index, agrees) in agrees.enumerate() {
        score += if agrees { 1 } else { -1 };
        if score > best {
            (best, furthest) = (score, index + 1);
        }
    }
    furthest
}

/// By so many bytes has another alignment to be better: about what it costs to change.
const BETTER: i64 = 8;
/// An alignment that goes on without a fault for so long is not questioned.
const GOOD: usize = 48;
/// An alignment that has fallen so far behind is begun anew rather than extended.
const BEHIND: i64 = 24;
/// Shorter matches cost more than they save.
const BYTES_LEAST: usize = 6;

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes without repetitions.
    fn noise(count: usize, mut seed: u64) -> Vec<u8> {
        let mut next = || {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (seed >> 56) as u8
        };
        (0..count).map(|_| next()).collect()
    }

    fn found(old: &[u8], new: &[u8]) -> Vec<(usize, usize, usize)> {
        let found = matches(old, new);
        assert!(found.windows(2).all(|pair| pair[0].new + pair[0].bytes <= pair[1].new), "{found:?}");
        found.iter().map(|m| (m.new, m.old, m.bytes)).collect()
    }

    #[test]
    fn wrong_bytes_do_not_end_an_alignment_and_moved_bytes_begin_one() {
        let old = noise(4000, 1);
        let mut wrong = old.clone();
        (0..4000).step_by(17).for_each(|at| wrong[at] ^= 1);
        assert_eq!(found(&old, &old), [(0, 0, 4000)]);
        assert_eq!(found(&old, &wrong[1..]), [(0, 1, 3999)]);
        let moved = [&old[3000..], &noise(100, 2)[..], &old[..1000]].concat();
        assert_eq!(found(&old, &moved), [(0, 3000, 1000), (1100, 0, 1000)]);
        assert_eq!(found(&old, &noise(500, 3)), []);
        assert_eq!(found(&[], &old), []);
        assert_eq!(found(&old, &[]), []);
    }

    #[test]
    fn an_alignment_that_agrees_again_behind_something_new_is_found_again() {
        let old = noise(6000, 5);
        let new = [&old[..800], &noise(4200, 6)[..], &old[5000..]].concat();
        assert_eq!(found(&old, &new), [(0, 0, 800), (5000, 5000, 1000)]);
    }

    #[test]
    fn what_is_new_again_and_again_within_an_alignment_belongs_to_no_match() {
        let old = noise(1 << 20, 7);
        let mut new = old.clone();
        new.chunks_mut(1024).zip(0..).for_each(|(part, n)| part[..64].copy_from_slice(&noise(64, 100 + n)));
        let found = found(&old, &new);
        assert!(found.iter().all(|(new, old, bytes)| new == old && (950..=970).contains(bytes)), "{found:?}");
        assert_eq!(found.len(), 1024);
    }

    #[test]
    fn two_alignments_meet_where_most_bytes_are_right() {
        let old = noise(2000, 4);
        let new = [&old[..700], &old[1300..]].concat();
        assert_eq!(found(&old, &new), [(0, 0, 700), (700, 1300, 700)]);
    }
}
