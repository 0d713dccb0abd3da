//! Conventions: which variables and values say what. Pure: variables in, boot state or changes out.
//!
//! | convention   | order        | tries left              | good            | a good group's boot | tries     |
//! |--------------|--------------|-------------------------|-----------------|---------------------|-----------|
//! | `mainstay`   | `BOOT_ORDER` | `BOOT_x_LEFT` 0..9      | `BOOT_x_GOOD`   | not counted         | 1..9      |
//! | `rauc`, U-Boot | `BOOT_ORDER` | `BOOT_x_LEFT` 0..9    | not said        | counted             | 1..9      |
//! | `rauc`, GRUB | `ORDER`      | `x_OK`=1 and `x_TRY`=0  | not said        | counted             | 1         |
//! | `bootcount`, U-Boot | `mainstay_group` | `bootlimit` - `bootcount` | `mainstay_other` | not counted  | 1..9      |
//!
//! How the group states of [`BootState`] are written:
//!
//! | state               | `mainstay`                 | `rauc`, U-Boot        | `rauc`, GRUB        |
//! |---------------------|----------------------------|-----------------------|---------------------|
//! | committed           | in order, GOOD=1 LEFT=0    | in order, LEFT=3      | OK=1 TRY=0          |
//! | on trial, n left    | first, GOOD=0 LEFT=n       | first, LEFT=n         | first, OK=1 TRY=0   |
//! | tried and fell back | in order, GOOD=0 LEFT=0    | in order, LEFT=0      | OK=1 TRY=1          |
//! | withdrawn, or bad   | not in order, GOOD=0 LEFT=0| not in order, LEFT=0  | OK=0 TRY=0          |
//!
//! `bootcount` writes them for the pair of groups and not for each: the table stands in its file.
//!
//! A convention also knows what the boot script that belongs to it does ([`Convention::script`]): that is what
//! [`model`](crate::model) runs.

mod bootcount;
mod mainstay;
mod order;
mod rauc_grub;
mod rauc_uboot;

pub use bootcount::Bootcount;
pub use mainstay::Mainstay;
pub use rauc_grub::RaucGrub;
pub use rauc_uboot::RaucUboot;

use crate::vars::{Change, Vars};
use crate::{Format, Result};
use mainstay_core::boot::{BootState, Group};
use mainstay_core::fault;
use mainstay_core::limits::TRIES_MAX;

/// What can be asked of the bootloader: [`BootControl`](mainstay_core::seam::BootControl)'s methods, as data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// Not bootable from here on.
    Withdraw(Group),
    /// Tried next, that many times.
    ArmTrial(Group, u8),
    /// Good, and first in the order.
    MarkGood(Group),
    /// Not to be booted again.
    MarkBad(Group),
}

/// One convention.
pub trait Convention {
    /// As the board file names it.
    fn name(&self) -> &'static str;
    /// Its variables, all of them. In a GRUB block they stand first.
    fn names(&self) -> &'static [&'static str];
    /// Is nothing of it set yet? Then [`fresh`](Convention::fresh) may be.
    fn is_fresh(&self, vars: &Vars) -> bool {
        self.names().iter().all(|name| vars.get(name).is_none())
    }
    /// The variables of a board on which A is good and B was never written.
    fn fresh(&self) -> Vec<Change>;
    /// The most tries it can count. A trial that is armed with more gets these.
    fn tries_max(&self) -> u8;
    /// What the variables say. NotFound: none of them is there, the board is fresh or has lost its environment.
    /// Corrupt: one of them is not what it can be.
    fn state(&self, vars: &Vars) -> Result<BootState>;
    /// What has to change; nothing decides what it will look like but `vars` and `op`.
    fn change(&self, vars: &Vars, op: Op) -> Result<Vec<Change>>;
    /// What the boot script will do with these variables, step after step until one jumps.
    fn script(&self, vars: &Vars) -> Vec<Step>;
}

/// One step of a boot script: save, then load and jump.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Saved first, in one write; nothing is written where it is empty.
    pub save: Vec<Change>,
    /// Loaded then; where that works the script jumps and is over. `None`: nothing is loaded in this step.
    pub load: Option<(Group, Why)>,
}

/// Why the script boots a group: `mainstay.boot=` on the kernel's command line says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// It is good (`good`).
    Good,
    /// One of its tries (`trial`).
    Trial,
    /// Nothing was left to boot (`last-resort`).
    LastResort,
}

impl Why {
    /// As it stands on the kernel's command line.
    pub const fn name(self) -> &'static str {
        match self {
            Why::Good => "good",
            Why::Trial => "trial",
            Why::LastResort => "last-resort",
        }
    }
}

/// Finds a convention by the name that the board file gives it, for an environment of this format.
pub fn by_name(name: &str, format: &Format) -> Result<Box<dyn Convention + Send>> {
    match (name, format) {
        ("mainstay", _) => Ok(Box::new(Mainstay)),
        ("rauc", Format::Grub) => Ok(Box::new(RaucGrub)),
        ("rauc", _) => Ok(Box::new(RaucUboot::default())),
        ("bootcount", Format::Grub) => {
            Err(fault!(Unsupported, "boot convention bootcount: expected U-Boot, which counts, found GRUB"))
        }
        ("bootcount", _) => Ok(Box::new(Bootcount)),
        (other, _) => {
            Err(fault!(Unsupported, "boot convention: expected mainstay, rauc or bootcount, found {other}"))
        }
    }
}

fn check_tries(tries: u8) -> Result<()> {
    if (1..=TRIES_MAX).contains(&tries) {
        return Ok(());
    }
    Err(fault!(Refused, "arm a trial: expected 1 to {TRIES_MAX} tries, found {tries}"))
}

/// A variable of one character out of `0` to `max`.
fn digit(vars: &Vars, name: &str, max: u8) -> Result<u8> {
    let Some(found) = vars.text(name) else {
        return Err(fault!(Corrupt, "boot variable {name}: expected 0 to {max}, found no such variable"));
    };
    match *found.as_bytes() {
        [byte @ b'0'..=b'9'] if byte - b'0' <= max => Ok(byte - b'0'),
        _ => Err(fault!(Corrupt, "boot variable {name}: expected 0 to {max}, found \"{found}\"")),
    }
}

/// NotFound where none of `names` is there.
fn check_present(vars: &Vars, names: &[&str]) -> Result<()> {
    if names.iter().any(|name| vars.get(name).is_some()) {
        return Ok(());
    }
    let first = names.first().copied().unwrap_or_default();
    Err(fault!(
        NotFound,
        "boot variables: expected {first} and its like, found none of them: the board is fresh, or has lost its \
         environment; its boot script sets them at the next boot"
    ))
}
