//! Finite state entropy, as zstd has it (RFC 8878, section 4.1): tables from their descriptions, and steps both ways.

use super::bits::{Backward, Forward, Writer};
use super::{Result, Unopened};
use zerocopy::FromZeros;

/// Accuracy log of the largest table: match lengths and literal lengths have 9.
const LOG_MAX: u32 = 9;
const STATES_MAX: usize = 1 << LOG_MAX;
/// Symbols of the largest alphabet: match length codes are 53.
const SYMBOLS_MAX: usize = 53;

/// A table, for reading and writing.
#[derive(Clone, FromZeros)]
pub struct Table {
    log: u32,
    /// By state: its symbol, and its number among the symbol's states plus their count (from 1).
    states: [(u8, u16); STATES_MAX],
    /// By symbol: how many states it has, and where they begin in `order`.
    symbols: [(u16, u16); SYMBOLS_MAX],
    /// States by symbol, then by number.
    order: [u16; STATES_MAX],
}

impl Table {
    /// No table yet: one of a single state, of symbol 0.
    pub const fn new() -> Self {
        Table { log: 0, states: [(0, 1); STATES_MAX], symbols: [(0, 0); SYMBOLS_MAX], order: [0; STATES_MAX] }
    }

    /// The table of one symbol, which takes no bits.
    pub fn of_one(&mut self, symbol: u8) -> Result<()> {
        let mut counts = [0; SYMBOLS_MAX];
        *counts.get_mut(usize::from(symbol)).ok_or(Unopened)? = 1;
        self.build(&counts, 0)
    }

    /// Reads a description at the beginning of `bytes`; how long it is. The alphabet has `symbols`, the accuracy log is at most
    /// `log_max`.
    pub fn read(&mut self, bytes: &[u8], symbols: usize, log_max: u32) -> Result<usize> {
        let mut bits = Forward::new(bytes);
        let log = bits.take(4) + 5;
        if log > log_max.min(LOG_MAX) {
            return Err(Unopened);
        }
        let mut counts = [0i16; SYMBOLS_MAX];
        let (mut left, mut symbol) = (1i32 << log, 0);
        while left > 0 {
            let place = counts.get_mut(..symbols).and_then(|counts| counts.get_mut(symbol));
            let place = place.ok_or(Unopened)?;
            let most = left as u32 + 1;
            let width = most.ilog2() + 1;
            let short = (1 << width) - 1 - most;
            let mut value = bits.peek(width);
            let below = value & ((1 << (width - 1)) - 1);
            if below < short {
                (value, _) = (below, bits.skip(width - 1));
            } else {
                bits.skip(width);
                if value > below {
                    value -= short;
                }
            }
            let count = value as i32 - 1;
            *place = count as i16;
            left -= count.abs();
            symbol += 1;
            // Behind a count of none: how many more have none, in threes.
            let mut zeros = if count == 0 { 3 } else { 0 };
            while zeros == 3 {
                zeros = bits.take(2);
                symbol += zeros as usize;
                bits.bytes()?;
            }
        }
        if left < 0 {
            return Err(Unopened);
        }
        let length = bits.bytes()?;
        self.build(&counts, log)?;
        Ok(length)
    }

    /// The table of these counts; -1 is a symbol less probable than one state, and has one.
    pub fn build(&mut self, counts: &[i16], log: u32) -> Result<()> {
        let size = 1usize << log.min(LOG_MAX);
        let mut end = size;
        self.log = log;
        self.symbols = [(0, 0); SYMBOLS_MAX];
        let mut begins = 0;
        for (symbol, (place, count)) in self.symbols.iter_mut().zip(counts).enumerate() {
            *place = (count.unsigned_abs(), begins);
            begins += count.unsigned_abs();
            if *count == -1 {
                end = end.saturating_sub(1);
                if let Some(state) = self.states.get_mut(end) {
                    state.0 = symbol as u8;
                }
            }
        }
        if usize::from(begins) != size {
            return Err(Unopened);
        }
        let (step, mut at) = ((size >> 1) + (size >> 3) + 3, 0);
        for (symbol, count) in counts.iter().enumerate() {
            for _ in 0..*count {
                if let Some(state) = self.states.get_mut(at) {
                    state.0 = symbol as u8;
                }
                at = (at + step) & (size - 1);
                while at >= end && end > 0 {
                    at = (at + step) & (size - 1);
                }
            }
        }
        let mut next = self.symbols;
        for (number, state) in self.states.iter_mut().take(size).enumerate() {
            let Some((count, begins)) = next.get_mut(usize::from(state.0)) else { continue };
            state.1 = *count;
            let (first, _) = self.symbols.get(usize::from(state.0)).copied().unwrap_or_default();
            if let Some(place) = self.order.get_mut(usize::from(*begins + (*count - first))) {
                *place = number as u16;
            }
            *count += 1;
        }
        Ok(())
    }

    /// The state that a stream begins with.
    pub fn first(&self, bits: &mut Backward<'_>) -> u32 {
        bits.take(self.log)
    }

    pub fn symbol(&self, state: u32) -> u8 {
        self.states.get(state as usize).map_or(0, |state| state.0)
    }

    /// The state behind this one.
    pub fn next(&self, state: u32, bits: &mut Backward<'_>) -> u32 {
        let number = self.states.get(state as usize).map_or(1, |state| u32::from(state.1).max(1));
        let width = self.log - number.ilog2().min(self.log);
        (number << width) - (1 << self.log) + bits.take(width)
    }

    /// The state from which a writer begins that ends with this symbol: its first one.
    pub fn last(&self, symbol: u8) -> Result<u32> {
        self.state(symbol, 0)
    }

    /// The state of this symbol that leads to `next`; what tells which it is, is written.
    pub fn before(&self, symbol: u8, next: u32, bits: &mut Writer<'_>) -> Result<u32> {
        let (count, _) = self.symbols.get(usize::from(symbol)).copied().unwrap_or_default();
        if count == 0 {
            return Err(Unopened);
        }
        let (count, wanted) = (u32::from(count), next + (1 << self.log));
        let mut width = wanted.ilog2() - count.ilog2();
        if wanted >> width < count {
            width -= 1;
        }
        bits.put(wanted, width)?;
        self.state(symbol, (wanted >> width) - count)
    }

    fn state(&self, symbol: u8, number: u32) -> Result<u32> {
        let (count, begins) = self.symbols.get(usize::from(symbol)).copied().unwrap_or_default();
        let state = self.order.get(usize::from(begins) + number as usize);
        match state {
            Some(state) if number < u32::from(count) => Ok(u32::from(*state)),
            _ => Err(Unopened),
        }
    }

    /// Writes the state that a reader begins with.
    pub fn end(&self, state: u32, bits: &mut Writer<'_>) -> Result<()> {
        bits.put(state, self.log)
    }
}
