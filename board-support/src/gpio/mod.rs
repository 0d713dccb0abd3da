//! What a board can say and hear through GPIO lines, over embedded-hal 1.0 traits: [`StatusLed`], [`Interlock`],
//! [`RecoveryButton`], and the line of the [`ToggleWatchdog`](crate::watchdog::ToggleWatchdog).
//!
//! The logic is generic over the traits and is tested against embedded-hal-mock. On a device the lines come from
//! the GPIO character device ([`Line`]): the cargo feature `gpio`, on by default.

mod inputs;
mod led;
#[cfg(feature = "gpio")]
mod line;
#[cfg(not(feature = "gpio"))]
#[path = "line_absent.rs"]
mod line;

pub use inputs::{Interlock, RecoveryButton, Sleep};
pub use led::{Sign, StatusLed};
pub use line::Line;
use mainstay_core::seam::Result;

use crate::board::{Board, LineSpec};

/// Requests `spec` as an output, first inactive.
pub fn output(spec: &LineSpec, consumer: &str) -> Result<Line> {
    Line::request(spec, consumer, true)
}

/// Requests `spec` as an input.
pub fn input(spec: &LineSpec, consumer: &str) -> Result<Line> {
    Line::request(spec, consumer, false)
}

impl Board {
    /// The status LED, where the board has one.
    pub fn status_led(&self) -> Result<Option<StatusLed<Line>>> {
        self.gpio.status_led.as_ref().map(|l| output(l, "mainstay status").map(StatusLed::new)).transpose()
    }

    /// The interlock input, where the board has one.
    pub fn interlock(&self) -> Result<Option<Interlock<Line>>> {
        self.gpio.interlock.as_ref().map(|l| input(l, "mainstay interlock").map(Interlock::new)).transpose()
    }

    /// The recovery button, where the board has one.
    pub fn recovery_button(&self) -> Result<Option<RecoveryButton<Line>>> {
        let line = self.gpio.recovery_button.as_ref();
        line.map(|l| input(l, "mainstay recovery").map(RecoveryButton::new)).transpose()
    }
}
