//! Time, as a value.

/// Two clocks at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// Milliseconds since this boot began; never jumps, counts sleep (CLOCK_BOOTTIME).
    pub boot_ms: u64,
    /// Seconds since 1970 UTC, if the clock has been set; a dead RTC battery gives `None` or an early time.
    pub unix_s: Option<u64>,
}

/// Reads the clocks.
pub trait Clock {
    /// Both clocks, now.
    fn now(&mut self) -> Now;
}
