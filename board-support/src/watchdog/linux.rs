//! `/dev/watchdog` and its ioctls (Documentation/watchdog/watchdog-api.rst, include/uapi/linux/watchdog.h).
//!
//! The device begins to run when it is opened and bites when it is not fed. It would stop at a close after the
//! character `V` was written ("magic close"); nothing here ever writes to it. A driver without that option may stop
//! at a plain close, unless the kernel is built with CONFIG_WATCHDOG_NOWAYOUT (or booted with `nowayout=1`): boards
//! should have it, and the file stays open until the process ends.
#![allow(unsafe_code)] // The five ioctls are declared by nix's macros, whose functions are unsafe because the kernel
// writes through a pointer. Each is called with the address of a live c_int, which is what the kernel's `put_user`
// and `get_user` of these requests want, on a file that this module opened.

use std::fs::{File, OpenOptions};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use mainstay_core::fault;
use mainstay_core::fault::Fault;
use mainstay_core::seam::{Result, Watchdog};
use nix::errno::Errno;
use nix::libc::c_int;

/// Linux numbers an ioctl by direction, type `W`, number and the size of an int.
mod request {
    use nix::libc::c_int;
    use nix::sys::ioctl::ioctl_num_type;

    const INT: usize = size_of::<c_int>();
    pub const GETBOOTSTATUS: ioctl_num_type = nix::request_code_read!(b'W', 2, INT);
    pub const KEEPALIVE: ioctl_num_type = nix::request_code_read!(b'W', 5, INT);
    pub const SETTIMEOUT: ioctl_num_type = nix::request_code_readwrite!(b'W', 6, INT);
    pub const GETTIMEOUT: ioctl_num_type = nix::request_code_read!(b'W', 7, INT);
    pub const GETTIMELEFT: ioctl_num_type = nix::request_code_read!(b'W', 10, INT);

    nix::ioctl_read_bad!(get_boot_status, GETBOOTSTATUS, c_int);
    nix::ioctl_read_bad!(keep_alive, KEEPALIVE, c_int);
    nix::ioctl_read_bad!(set_timeout, SETTIMEOUT, c_int);
    nix::ioctl_read_bad!(get_timeout, GETTIMEOUT, c_int);
    nix::ioctl_read_bad!(get_time_left, GETTIMELEFT, c_int);
}

/// Why the watchdog's hardware says that the last boot began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BootStatus(
    /// The WDIOF_ bits, as the driver gave them.
    pub i32,
);

impl BootStatus {
    /// The watchdog had bitten (WDIOF_CARDRESET). Many drivers cannot tell and never say so.
    pub fn watchdog_reset(self) -> bool {
        self.0 & 0x20 != 0
    }
}

/// A watchdog device of Linux. It is opened, and so begins to run, when it is first armed.
pub struct LinuxWatchdog {
    path: PathBuf,
    device: Option<File>,
}

impl LinuxWatchdog {
    /// The device at `path`, not yet opened.
    pub fn new(path: &Path) -> LinuxWatchdog {
        LinuxWatchdog { path: path.to_path_buf(), device: None }
    }

    /// What the hardware says of the last reset; `None` where the driver does not know. Opens, and so starts, the
    /// watchdog.
    pub fn boot_status(&mut self) -> Result<Option<BootStatus>> {
        let status = self.ioctl("WDIOC_GETBOOTSTATUS", 0, request::get_boot_status);
        Ok(optional(status)?.map(BootStatus))
    }

    fn opened(&mut self) -> Result<&File> {
        match &mut self.device {
            Some(file) => Ok(file),
            device => {
                let path = self.path.display();
                let file = OpenOptions::new().write(true).open(&self.path).map_err(|e| match e.kind() {
                    std::io::ErrorKind::NotFound => {
                        fault!(NotFound, "watchdog {path}: {e}: is the driver loaded?")
                    }
                    std::io::ErrorKind::ResourceBusy => {
                        fault!(Busy, "watchdog {path}: {e}: does systemd (RuntimeWatchdogSec) hold it?")
                    }
                    _ => fault!(Io, "watchdog {path}: {e}"),
                })?;
                Ok(device.insert(file))
            }
        }
    }

    /// One ioctl with an integer in and out.
    fn ioctl(&mut self, name: &str, value: c_int, call: Call) -> std::result::Result<c_int, Refusal> {
        let device = self.opened().map_err(Refusal::Fault)?.as_raw_fd();
        let mut value = value;
        // SAFETY: `value` lives until the call returns, and all five requests take the address of a c_int.
        match unsafe { call(device, &mut value) } {
            Ok(_) => Ok(value),
            Err(Errno::EOPNOTSUPP | Errno::ENOTTY | Errno::EINVAL) => Err(Refusal::Unknown(Fault::new(
                mainstay_core::fault::FaultKind::Unsupported,
                format_args!(
                    "watchdog {}: {name}: the driver does not take it ({value})",
                    self.path.display()
                ),
            ))),
            Err(errno) => {
                Err(Refusal::Fault(fault!(Io, "watchdog {}: {name}: {errno}", self.path.display())))
            }
        }
    }
}

type Call = unsafe fn(c_int, *mut c_int) -> nix::Result<c_int>;

/// Why an ioctl gave no value.
enum Refusal {
    /// The driver does not have it, or not with this value.
    Unknown(Fault),
    /// It failed.
    Fault(Fault),
}

impl From<Refusal> for Fault {
    fn from(refusal: Refusal) -> Fault {
        match refusal {
            Refusal::Unknown(fault) | Refusal::Fault(fault) => fault,
        }
    }
}

/// What a driver may be without.
fn optional(answer: std::result::Result<c_int, Refusal>) -> Result<Option<c_int>> {
    match answer {
        Ok(value) => Ok(Some(value)),
        Err(Refusal::Unknown(_)) => Ok(None),
        Err(Refusal::Fault(fault)) => Err(fault),
    }
}

impl Watchdog for LinuxWatchdog {
    /// Opens the device, sets the timeout, reads what the hardware made of it, and feeds once. A driver with a fixed
    /// timeout answers that one.
    fn arm(&mut self, seconds: u32) -> Result<u32> {
        let wanted = c_int::try_from(seconds).unwrap_or(c_int::MAX);
        let set = optional(self.ioctl("WDIOC_SETTIMEOUT", wanted, request::set_timeout))?;
        let got = optional(self.ioctl("WDIOC_GETTIMEOUT", 0, request::get_timeout))?;
        self.feed()?;
        match got.or(set).map(u32::try_from) {
            Some(Ok(timeout)) if timeout > 0 => Ok(timeout),
            _ => Err(fault!(
                Unsupported,
                "watchdog {}: expected a timeout near {seconds} s, found that the driver neither takes nor tells one",
                self.path.display()
            )),
        }
    }

    fn feed(&mut self) -> Result<()> {
        self.ioctl("WDIOC_KEEPALIVE", 0, request::keep_alive)?;
        Ok(())
    }

    fn time_left(&mut self) -> Result<Option<u32>> {
        let left = optional(self.ioctl("WDIOC_GETTIMELEFT", 0, request::get_time_left))?;
        Ok(left.and_then(|s| u32::try_from(s).ok()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mainstay_core::fault::FaultKind;

    /// `#define WDIOC_SETTIMEOUT _IOWR(WATCHDOG_IOCTL_BASE, 6, int)` as (`_IOWR`, 6).
    fn defined<'h>(header: &'h str, name: &str) -> (&'h str, u8) {
        let define = |line: &'h str| {
            let mut words = line.strip_prefix("#define")?.trim_start().splitn(2, char::is_whitespace);
            (words.next()? == name).then(|| words.next().unwrap_or("").trim())
        };
        let macro_call =
            header.lines().find_map(define).unwrap_or_else(|| panic!("{name} is not in the header"));
        let (direction, arguments) = macro_call.trim_end_matches(')').split_once('(').unwrap();
        let arguments: Vec<_> = arguments.split(',').map(str::trim).collect();
        assert_eq!((arguments[0], arguments[2]), ("WATCHDOG_IOCTL_BASE", "int"), "{name}");
        (direction, arguments[1].parse().unwrap())
    }

    #[test]
    fn the_request_numbers_are_those_of_the_kernels_header() {
        let Ok(header) = std::fs::read_to_string("/usr/include/linux/watchdog.h") else {
            println!("not run: linux/watchdog.h is missing");
            return;
        };
        assert!(header.contains("WATCHDOG_IOCTL_BASE\t'W'"));
        for (name, ours) in [
            ("WDIOC_GETBOOTSTATUS", request::GETBOOTSTATUS),
            ("WDIOC_KEEPALIVE", request::KEEPALIVE),
            ("WDIOC_SETTIMEOUT", request::SETTIMEOUT),
            ("WDIOC_GETTIMEOUT", request::GETTIMEOUT),
            ("WDIOC_GETTIMELEFT", request::GETTIMELEFT),
        ] {
            let theirs = match defined(&header, name) {
                ("_IOR", number) => nix::request_code_read!(b'W', number, 4),
                ("_IOWR", number) => nix::request_code_readwrite!(b'W', number, 4),
                other => panic!("{name}: {other:?}"),
            };
            assert_eq!(ours, theirs, "{name}");
        }
    }

    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64", target_arch = "arm"))]
    #[test]
    fn the_request_numbers_are_the_published_ones() {
        assert_eq!(request::KEEPALIVE as u32, 0x8004_5705);
        assert_eq!(request::SETTIMEOUT as u32, 0xc004_5706);
        assert_eq!(request::GETTIMEOUT as u32, 0x8004_5707);
    }

    #[test]
    fn a_missing_device_and_one_that_is_no_watchdog_are_told_apart() {
        let mut missing = LinuxWatchdog::new(Path::new("/dev/no-such-watchdog"));
        assert_eq!(missing.arm(30).unwrap_err().kind, FaultKind::NotFound);
        // /dev/null takes the opening and refuses each ioctl with ENOTTY, as a driver without it would.
        let mut null = LinuxWatchdog::new(Path::new("/dev/null"));
        let fault = null.arm(30).unwrap_err();
        assert_eq!(fault.kind, FaultKind::Unsupported, "{fault}");
        assert!(fault.what.contains("WDIOC_KEEPALIVE"), "{fault}");
        assert_eq!(null.time_left(), Ok(None));
        assert_eq!(null.boot_status(), Ok(None));
    }

    #[test]
    fn card_reset_is_one_bit_of_the_boot_status() {
        assert!(BootStatus(0x20).watchdog_reset());
        assert!(BootStatus(0x8020).watchdog_reset());
        assert!(!BootStatus(0x01).watchdog_reset(), "overheat is another bit");
    }
}
