//! The two clocks of Linux: time since the boot, which counts sleep and never jumps, and the wall clock, which on
//! a gateway with a dead RTC battery begins in 1970 or at the image's build.

use mainstay_core::seam::{Clock, Now};
use nix::time::{ClockId, clock_gettime};

/// 2025-01-01T00:00:00Z. Before it nothing of this project ran anywhere, so a wall clock that stands there has not
/// been set.
const EARLIEST_UNIX_S: u64 = 1_735_689_600;

/// Reads CLOCK_BOOTTIME and CLOCK_REALTIME (clock_gettime(2)).
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&mut self) -> Now {
        // Both clocks exist on every Linux since 2.6.39 and reading them cannot fail; a zero would be an unset
        // clock and a boot that has just begun.
        let boot = clock_gettime(ClockId::CLOCK_BOOTTIME).map_or((0, 0), |t| (t.tv_sec(), t.tv_nsec()));
        let wall = clock_gettime(ClockId::CLOCK_REALTIME).map_or(0, |t| t.tv_sec());
        now_from(boot, wall)
    }
}

/// `boot` as seconds and nanoseconds, `wall` as seconds: both as the kernel says them, signed.
#[allow(clippy::useless_conversion)] // 32-bit targets have a narrower time_t
fn now_from((seconds, nanoseconds): (impl Into<i64>, impl Into<i64>), wall: impl Into<i64>) -> Now {
    let boot_ms = seconds.into() * 1000 + nanoseconds.into() / 1_000_000;
    let unix_s = u64::try_from(wall.into()).ok().filter(|s| *s >= EARLIEST_UNIX_S);
    Now { boot_ms: boot_ms.max(0) as u64, unix_s }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wall_clock_before_2025_is_an_unset_clock() {
        #[rustfmt::skip]
        let cases = [
            // wall            unix_s
            (0_i64,            None),
            (-1,               None),
            (1_735_689_599,    None),
            (1_735_689_600,    Some(1_735_689_600)),
            (4_102_444_800,    Some(4_102_444_800)),
        ];
        for (wall, unix_s) in cases {
            assert_eq!(now_from((1_i64, 5_000_000_i64), wall), Now { boot_ms: 1005, unix_s });
        }
    }

    #[test]
    fn time_since_the_boot_goes_forward() {
        let first = SystemClock.now().boot_ms;
        std::thread::sleep(std::time::Duration::from_millis(3));
        let second = SystemClock.now().boot_ms;
        assert!(first > 0 && second >= first + 3, "{first} {second}");
    }
}
