//! One face for the formats: copies of bytes in, variables out, and the writes that make a change.
//!
//! Nothing here touches a medium. The stores, the simulator and the model of the boot scripts all go through it.

use crate::uboot::{self, InForce, Scheme};
use crate::{Result, Vars, grub};
use mainstay_core::fault;

/// How an environment is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// One copy of the U-Boot environment, overwritten where it stands.
    UbootSingle {
        /// CONFIG_ENV_SIZE, in bytes.
        bytes: usize,
    },
    /// Two copies of the U-Boot environment, written in turns.
    UbootRedundant {
        /// CONFIG_ENV_SIZE: of one copy, in bytes.
        bytes: usize,
        /// What the flags mean.
        scheme: Scheme,
    },
    /// The GRUB environment block.
    Grub,
}

/// One write: durable before the next one begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    /// Which copy, 0 or 1.
    pub copy: usize,
    /// Where in it, in bytes.
    pub at: usize,
    /// What.
    pub bytes: Vec<u8>,
}

impl Write {
    /// Makes the write in memory. What lies outside of the copies is left out.
    pub fn apply(&self, copies: &mut [Vec<u8>]) {
        let place = copies.get_mut(self.copy).and_then(|c| c.get_mut(self.at..self.at + self.bytes.len()));
        if let Some(place) = place {
            place.copy_from_slice(&self.bytes);
        }
    }
}

/// An environment that could be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Env {
    format: Format,
    vars: Vars,
    in_force: InForce,
    damaged: Option<usize>,
}

impl Format {
    /// How many copies there are.
    pub const fn copies(&self) -> usize {
        match self {
            Format::UbootRedundant { .. } => 2,
            Format::UbootSingle { .. } | Format::Grub => 1,
        }
    }

    /// The size of one copy, in bytes.
    pub const fn copy_bytes(&self) -> usize {
        match self {
            Format::UbootSingle { bytes } | Format::UbootRedundant { bytes, .. } => *bytes,
            Format::Grub => grub::BLOCK_BYTES,
        }
    }

    /// Does a power cut inside a write of ours leave the old variables or the new ones? (For GRUB: as argued in
    /// [`grub`], on a medium that writes sectors whole.)
    pub const fn survives_a_power_cut(&self) -> bool {
        !matches!(self, Format::UbootSingle { .. })
    }

    /// Reads the copies. Corrupt: none of them can be read.
    pub fn parse(&self, copies: &[Vec<u8>]) -> Result<Env> {
        let [first, rest @ ..] = copies else {
            return Err(fault!(Refused, "environment: expected {} copies, found none", self.copies()));
        };
        match (self, rest) {
            (Format::UbootSingle { bytes }, []) => {
                same_size(first, *bytes)?;
                let copy = uboot::decode(first, false)?;
                Ok(Env {
                    format: *self,
                    vars: copy.vars,
                    in_force: InForce { copy: 0, flags: 0 },
                    damaged: None,
                })
            }
            (Format::UbootRedundant { bytes, scheme }, [second]) => {
                same_size(first, *bytes)?;
                same_size(second, *bytes)?;
                self.parse_pair(*scheme, first, second)
            }
            (Format::Grub, []) => {
                let vars = grub::decode(first)?;
                Ok(Env { format: *self, vars, in_force: InForce { copy: 0, flags: 0 }, damaged: None })
            }
            _ => {
                Err(fault!(Refused, "environment: expected {} copies, found {}", self.copies(), copies.len()))
            }
        }
    }

    fn parse_pair(&self, scheme: Scheme, first: &[u8], second: &[u8]) -> Result<Env> {
        let (first, second) = (uboot::decode(first, true), uboot::decode(second, true));
        let damaged = match (&first, &second) {
            (Err(_), _) => Some(0),
            (_, Err(_)) => Some(1),
            _ => None,
        };
        let flags = [&first, &second].map(|c| c.as_ref().ok().and_then(|c| c.flags));
        let in_force = uboot::in_force(scheme, flags);
        match (in_force, first, second) {
            (Some(in_force @ InForce { copy: 0, .. }), Ok(copy), _) | (Some(in_force), _, Ok(copy)) => {
                Ok(Env { format: *self, vars: copy.vars, in_force, damaged })
            }
            (_, Err(fault), _) | (_, _, Err(fault)) => {
                Err(fault.within(format_args!("both copies, the first")))
            }
            (None, Ok(_), Ok(_)) => Err(fault!(Corrupt, "U-Boot environment: expected flags, found none")),
        }
    }

    /// Copies that hold `vars` from scratch, for a factory image: all of them valid, the first in force.
    pub fn blank(&self, vars: &Vars, front: &[&str]) -> Result<Vec<Vec<u8>>> {
        match *self {
            Format::UbootSingle { bytes } => Ok(vec![uboot::encode(vars, None, bytes)?]),
            Format::UbootRedundant { bytes, .. } => {
                Ok(vec![uboot::encode(vars, Some(1), bytes)?, uboot::encode(vars, Some(0), bytes)?])
            }
            Format::Grub => Ok(vec![grub::encode(vars, front)?]),
        }
    }
}

fn same_size(copy: &[u8], expected: usize) -> Result<()> {
    if copy.len() == expected {
        return Ok(());
    }
    Err(fault!(Corrupt, "environment: expected {expected} bytes, found {}", copy.len()))
}

impl Env {
    /// What it says.
    pub fn vars(&self) -> &Vars {
        &self.vars
    }

    /// Which copy says so.
    pub fn in_force(&self) -> usize {
        self.in_force.copy
    }

    /// A copy that cannot be read, where there are two. The next write heals it: it is the one not in force.
    pub fn damaged(&self) -> Option<usize> {
        self.damaged
    }

    /// The writes that put `vars` in the place of what it says, in their order. `front`: the names that a GRUB block
    /// holds first.
    ///
    /// One write, and seldom a second:
    /// - The copy to be written is damaged, by a power cut in an earlier write: its first sector, the one with the
    ///   CRC, is wiped first. Else a second cut could complete the *earlier* write: its first sector stands there
    ///   already, and the new write may bring the sectors that it lacks before it replaces that one. (Found by
    ///   tests/power_cut.rs. U-Boot and fw_setenv do not wipe.)
    /// - [`Scheme::Boolean`]: one byte marks the old copy obsolete; cut before it, both are active, and copy 0, old or
    ///   new, is in force.
    pub fn writes(&self, vars: &Vars, front: &[&str]) -> Result<Vec<Write>> {
        let mut writes = self.writes_of_a_bootloader(vars, front)?;
        if self.damaged == Some(1 - self.in_force.copy) {
            let sector = self.format.copy_bytes().min(SECTOR_BYTES);
            writes.insert(0, whole(1 - self.in_force.copy, vec![0; sector]));
        }
        Ok(writes)
    }

    /// The same, as `saveenv` and `save_env` do it.
    pub(crate) fn writes_of_a_bootloader(&self, vars: &Vars, front: &[&str]) -> Result<Vec<Write>> {
        let old = self.in_force.copy;
        match self.format {
            Format::UbootSingle { bytes } => Ok(vec![whole(0, uboot::encode(vars, None, bytes)?)]),
            Format::Grub => Ok(vec![whole(0, grub::encode(vars, front)?)]),
            Format::UbootRedundant { bytes, scheme } => {
                let flags = scheme.next(self.in_force.flags);
                let mut writes = vec![whole(1 - old, uboot::encode(vars, Some(flags), bytes)?)];
                if scheme == Scheme::Boolean {
                    writes.push(Write { copy: old, at: 4, bytes: vec![uboot::OBSOLETE] });
                }
                Ok(writes)
            }
        }
    }
}

/// What a medium writes whole or not at all.
const SECTOR_BYTES: usize = 512;

fn whole(copy: usize, bytes: Vec<u8>) -> Write {
    Write { copy, at: 0, bytes }
}
