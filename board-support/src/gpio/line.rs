//! One line of a GPIO chip, as an embedded-hal pin. The high level of the pin is the active state of the line:
//! `active_low` is the kernel's affair.
//!
//! gpiocdev speaks uAPI v2 of the character device (linux/gpio.h, since 5.10). Measured on x86_64 musl, built for size:
//! 24 KiB of a binary that has the rest of this crate, 32 KiB alone. linux-embedded-hal is 24 KiB alone, but brings a
//! second and older nix, and speaks v1, which kernels can be built without (CONFIG_GPIO_CDEV_V1).

use embedded_hal::digital::{Error, ErrorKind, ErrorType, InputPin, OutputPin};
use gpiocdev::line::Value;
use mainstay_core::fault;
use mainstay_core::seam::Result;

use crate::board::LineSpec;

/// A requested line. It is given back when this is dropped.
#[derive(Debug)]
pub struct Line {
    request: gpiocdev::Request,
}

impl Line {
    pub(super) fn request(spec: &LineSpec, consumer: &str, output: bool) -> Result<Line> {
        let mut builder = gpiocdev::Request::builder();
        builder.on_chip(&spec.chip).with_consumer(consumer).with_line(spec.line);
        if spec.active_low {
            builder.as_active_low();
        }
        if output {
            builder.as_output(Value::Inactive);
        } else {
            builder.as_input();
        }
        let request = builder.request();
        request
            .map(|request| Line { request })
            .map_err(|e| fault!(Io, "gpio {} line {} ({consumer}): {e}", spec.chip.display(), spec.line))
    }
}

/// What the kernel answered.
#[derive(Debug)]
pub struct LineError(#[allow(dead_code)] gpiocdev::Error); // read by Debug

impl Error for LineError {
    fn kind(&self) -> ErrorKind {
        ErrorKind::Other
    }
}

impl ErrorType for Line {
    type Error = LineError;
}

impl OutputPin for Line {
    fn set_low(&mut self) -> std::result::Result<(), LineError> {
        self.request.set_lone_value(Value::Inactive).map_err(LineError)
    }

    fn set_high(&mut self) -> std::result::Result<(), LineError> {
        self.request.set_lone_value(Value::Active).map_err(LineError)
    }
}

impl InputPin for Line {
    fn is_high(&mut self) -> std::result::Result<bool, LineError> {
        self.request.lone_value().map(|v| v == Value::Active).map_err(LineError)
    }

    fn is_low(&mut self) -> std::result::Result<bool, LineError> {
        self.is_high().map(|high| !high)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chip_that_is_not_there_is_a_fault_that_names_chip_and_line() {
        let spec = LineSpec { chip: "/dev/no-such-chip".into(), line: 17, active_low: true };
        for output in [false, true] {
            let fault = Line::request(&spec, "test", output).unwrap_err();
            assert!(fault.what.starts_with("gpio /dev/no-such-chip line 17 (test): "), "{fault}");
        }
    }
}
