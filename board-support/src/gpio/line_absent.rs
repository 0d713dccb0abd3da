//! In place of `line.rs` in a build without the feature `gpio`: no line can be had, and a board file that names
//! one is told so.

use std::convert::Infallible;

use embedded_hal::digital::{ErrorType, InputPin, OutputPin};
use mainstay_core::fault;
use mainstay_core::seam::Result;

use crate::board::LineSpec;

/// A line that cannot exist in this build.
#[derive(Debug)]
pub struct Line(Infallible);

impl Line {
    pub(super) fn request(spec: &LineSpec, consumer: &str, _output: bool) -> Result<Line> {
        let chip = spec.chip.display();
        Err(fault!(
            Unsupported,
            "gpio {chip} line {} ({consumer}): expected a build with the feature gpio, found one without",
            spec.line
        ))
    }
}

impl ErrorType for Line {
    type Error = Infallible;
}

impl OutputPin for Line {
    fn set_low(&mut self) -> std::result::Result<(), Infallible> {
        match self.0 {}
    }

    fn set_high(&mut self) -> std::result::Result<(), Infallible> {
        match self.0 {}
    }
}

impl InputPin for Line {
    fn is_high(&mut self) -> std::result::Result<bool, Infallible> {
        match self.0 {}
    }

    fn is_low(&mut self) -> std::result::Result<bool, Infallible> {
        match self.0 {}
    }
}
