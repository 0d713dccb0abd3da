//! Which of two copies is in force, and what flags the next write carries.
//!
//! ```text
//! incremental (file, FAT, eMMC, NAND, UBI)        boolean (NOR, dataflash): 1 active, 0 obsolete
//! copy 0    copy 1    in force                    copy 0    copy 1    in force
//! 5         6         1    the larger             1         0         0
//! 6         5         0                           0         1         1
//! 5         5         0                           any       the same  0
//! 255       0         1    0 follows 255          255       other     0    255: erased, never marked
//! 0         255       0                           other     255       1
//! bad CRC   ok        1    whatever the flags     otherwise           0
//! ok        bad CRC   0
//! bad CRC   bad CRC   none: U-Boot takes its compiled-in default
//! ```
//! U-Boot: env_check_redund in env/common.c (incremental), env_flash_init in env/flash.c and fw_env.c (boolean).
//! libubootenv answers the same, but for boolean 255/255, where it takes copy 1.

/// How the flags byte of a redundant environment is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// Each write carries the flags of the copy in force plus one; 0 follows 255.
    Incremental,
    /// The new copy is active (1), then the old copy's flags byte is overwritten with obsolete (0): on NOR, bits
    /// can fall without an erase.
    Boolean,
}

/// The copy in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InForce {
    /// 0 or 1.
    pub copy: usize,
    /// Its flags byte.
    pub flags: u8,
}

/// Which copy is in force. `flags`: of each copy whose CRC is right.
pub fn in_force(scheme: Scheme, flags: [Option<u8>; 2]) -> Option<InForce> {
    match flags {
        [None, None] => None,
        [Some(flags), None] => Some(InForce { copy: 0, flags }),
        [None, Some(flags)] => Some(InForce { copy: 1, flags }),
        [Some(f0), Some(f1)] => {
            let second = match scheme {
                Scheme::Incremental => second_is_newer(f0, f1),
                Scheme::Boolean => second_is_active(f0, f1),
            };
            Some(if second { InForce { copy: 1, flags: f1 } } else { InForce { copy: 0, flags: f0 } })
        }
    }
}

impl Scheme {
    /// The flags of the copy that is written next.
    pub const fn next(self, in_force: u8) -> u8 {
        match self {
            Scheme::Incremental => in_force.wrapping_add(1),
            Scheme::Boolean => ACTIVE,
        }
    }
}

const fn second_is_newer(f0: u8, f1: u8) -> bool {
    match (f0, f1) {
        (255, 0) => true,
        (0, 255) => false,
        _ => f1 > f0,
    }
}

const fn second_is_active(f0: u8, f1: u8) -> bool {
    match (f0, f1) {
        (ACTIVE, OBSOLETE) => false,
        (OBSOLETE, ACTIVE) => true,
        (ERASED, _) => false,
        (_, ERASED) => f0 != f1,
        _ => false,
    }
}

/// A NOR copy that counts.
pub(crate) const ACTIVE: u8 = 1;
/// A NOR copy that has been replaced.
pub(crate) const OBSOLETE: u8 = 0;
/// A NOR copy whose flags byte was never written.
const ERASED: u8 = 0xff;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_copy_in_force_is_the_one_that_u_boot_takes() {
        use Scheme::*;
        #[rustfmt::skip]
        let cases = [
            // scheme       copy 0       copy 1       in force
            (Incremental,   Some(5),     Some(6),     Some(1)),
            (Incremental,   Some(6),     Some(5),     Some(0)),
            (Incremental,   Some(5),     Some(5),     Some(0)),
            (Incremental,   Some(255),   Some(0),     Some(1)),
            (Incremental,   Some(0),     Some(255),   Some(0)),
            (Incremental,   Some(1),     Some(255),   Some(1)),
            (Incremental,   Some(254),   Some(255),   Some(1)),
            (Incremental,   None,        Some(0),     Some(1)),
            (Incremental,   Some(0),     None,        Some(0)),
            (Incremental,   None,        None,        None),
            (Boolean,       Some(1),     Some(0),     Some(0)),
            (Boolean,       Some(0),     Some(1),     Some(1)),
            (Boolean,       Some(1),     Some(1),     Some(0)),
            (Boolean,       Some(0),     Some(0),     Some(0)),
            (Boolean,       Some(255),   Some(255),   Some(0)),
            (Boolean,       Some(255),   Some(1),     Some(0)),
            (Boolean,       Some(1),     Some(255),   Some(1)),
            (Boolean,       Some(0),     Some(255),   Some(1)),
            (Boolean,       None,        Some(0),     Some(1)),
            (Boolean,       None,        None,        None),
        ];
        for (scheme, f0, f1, copy) in cases {
            assert_eq!(in_force(scheme, [f0, f1]).map(|i| i.copy), copy, "{scheme:?} {f0:?} {f1:?}");
        }
    }

    #[test]
    fn after_a_write_the_written_copy_is_in_force_whatever_flags_the_two_had() {
        for f0 in 0..=255 {
            for f1 in 0..=255 {
                let old = in_force(Scheme::Incremental, [Some(f0), Some(f1)]).unwrap();
                let mut flags = [Some(f0), Some(f1)];
                flags[1 - old.copy] = Some(Scheme::Incremental.next(old.flags));
                assert_eq!(in_force(Scheme::Incremental, flags).unwrap().copy, 1 - old.copy, "{f0} {f1}");
            }
        }
    }
}
