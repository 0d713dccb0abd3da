//! What a context has seen, in one byte: how many zeros and ones, and which came last. The fewer of a kind there were, the more of the
//! other can be told apart: 40 in a row of one kind, but 5 and 5 at most of both.
//!
//! ```text
//! history    0   nothing yet
//!            1…  (zeros, ones, last) by zeros, then by ones, then by last: a row for each that may be
//! ```
//! A bit of one kind makes what is beyond two of the other kind half, so that a change is followed quickly.

/// Zeros, ones, and the last of them.
type Seen = [u8; 3];

/// The history behind each bit.
pub static NEXT: [[u8; 2]; 256] = next();
/// The same history, half as sure; 0 where so little has been seen that nothing is lost.
pub static AGED: [u8; 256] = aged();
/// How probable a one is at first, in 1/65536: (ones + 0.4) / (all + 0.8).
pub const INITIAL: [u16; 256] = initial();

const MOST: u8 = 40;
const HISTORIES: ([Seen; 256], usize) = histories();

/// How many of one kind there may be beside so many of the other, which are fewer.
const fn most_beside(fewer: u8) -> u8 {
    match fewer {
        0 => MOST,
        1 => 20,
        2 => 10,
        3 => 7,
        4 | 5 => 5,
        _ => 0,
    }
}

const fn may_be(zeros: u8, ones: u8) -> bool {
    if zeros < ones { ones <= most_beside(zeros) } else { zeros <= most_beside(ones) }
}

#[expect(clippy::indexing_slicing, reason = "by the compiler: an index beyond the end does not build")]
const fn histories() -> ([Seen; 256], usize) {
    let (mut table, mut n, mut zeros) = ([[0; 3]; 256], 1, 0);
    while zeros <= MOST {
        let mut ones = 0;
        while ones <= MOST {
            let mut last = 0;
            while last < 2 {
                let came = if last == 0 { zeros } else { ones };
                if came > 0 && may_be(zeros, ones) {
                    table[n] = [zeros, ones, last];
                    n += 1;
                }
                last += 1;
            }
            ones += 1;
        }
        zeros += 1;
    }
    (table, n)
}

/// The number of a history; what goes beyond the bounds is counted down, the larger number first, the ones first of equals.
#[expect(clippy::indexing_slicing, reason = "by the compiler: an index beyond the end does not build")]
const fn number(mut zeros: u8, mut ones: u8, last: u8) -> u8 {
    while !may_be(zeros, ones) {
        if zeros > ones { zeros -= 1 } else { ones -= 1 }
    }
    let mut n = 1;
    while n < HISTORIES.1 {
        let [a, b, c] = HISTORIES.0[n];
        if a == zeros && b == ones && c == last {
            return n as u8;
        }
        n += 1;
    }
    0
}

const fn less(seen: u8) -> u8 {
    if seen > 2 { seen / 2 + 1 } else { seen }
}

#[expect(clippy::indexing_slicing, reason = "by the compiler: an index beyond the end does not build")]
const fn next() -> [[u8; 2]; 256] {
    let (mut table, mut n) = ([[0; 2]; 256], 0);
    while n < HISTORIES.1 {
        let [zeros, ones, _] = HISTORIES.0[n];
        table[n] = [number(zeros + 1, less(ones), 0), number(less(zeros), ones + 1, 1)];
        n += 1;
    }
    table
}

#[expect(clippy::indexing_slicing, reason = "by the compiler: an index beyond the end does not build")]
const fn aged() -> [u8; 256] {
    let (mut table, mut n) = ([0; 256], 1);
    while n < HISTORIES.1 {
        let [zeros, ones, last] = HISTORIES.0[n];
        if zeros + ones > 2 {
            let (zeros, ones) = (zeros / 2, ones / 2);
            let last = if zeros == 0 {
                1
            } else if ones == 0 {
                0
            } else {
                last
            };
            table[n] = number(zeros, ones, last);
        }
        n += 1;
    }
    table
}

#[expect(clippy::indexing_slicing, reason = "by the compiler: an index beyond the end does not build")]
const fn initial() -> [u16; 256] {
    let (mut table, mut n) = ([0x8000; 256], 1);
    while n < HISTORIES.1 {
        let [zeros, ones, _] = HISTORIES.0[n];
        let (zeros, ones) = (zeros as u32 * 10 + 4, ones as u32 * 10 + 4);
        table[n] = (ones * 65_535 / (zeros + ones)) as u16;
        n += 1;
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn histories_fit_in_a_byte_and_follow_each_other() {
        let (table, count) = (&HISTORIES.0, HISTORIES.1);
        assert_eq!(count, 219);
        for n in 0..count {
            for bit in [0, 1] {
                let next = usize::from(NEXT[n][bit]);
                assert!((1..count).contains(&next), "{:?} and {bit}", table[n]);
                assert_eq!(usize::from(table[next][2]), bit, "{:?}: the last bit is known", table[n]);
                assert!(table[next][bit] >= table[n][bit].min(5), "{:?} and {bit}: it is counted", table[n]);
            }
        }
    }

    #[test]
    fn one_kind_in_a_row_is_counted_to_forty() {
        for bit in [0, 1] {
            let (mut n, mut probabilities) = (0u8, alloc::vec![]);
            for _ in 0..50 {
                n = NEXT[usize::from(n)][bit];
                probabilities.push(INITIAL[usize::from(n)]);
            }
            assert_eq!(HISTORIES.0[usize::from(n)][bit], MOST);
            assert!(if bit == 1 {
                probabilities.is_sorted()
            } else {
                probabilities.iter().rev().is_sorted()
            });
        }
    }

    #[test]
    fn what_ages_ends_in_nothing() {
        for n in 1..HISTORIES.1 {
            let (mut aged, mut times) = (n as u8, 0);
            while aged != 0 && times < 10 {
                aged = AGED[usize::from(aged)];
                times += 1;
            }
            assert!(times <= 6, "{:?}", HISTORIES.0[n]);
        }
    }
}
