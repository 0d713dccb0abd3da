//! The capabilities that are kept, the same as in the systemd unit; all others are given up for good.

use super::sys;

/// What an update agent that is root needs beside owning its files.
///
/// | | for |
/// |---|---|
/// | `CAP_SYS_BOOT` (22) | reboot(2), by the agent and by the second guard |
/// | `CAP_SYS_RESOURCE` (24) | to be spared by the OOM killer: the second guard |
/// | `CAP_DAC_READ_SEARCH` (2) | to read what others own: the client's key, what checks look at |
pub const KEPT: u64 = 1 << 22 | 1 << 24 | 1 << 2;

/// Far above the last one that there is.
const CAPABILITIES_MAX: u32 = 64;

/// Gives up the rest: from the bounding set, so that no program gets it back, and from this thread.
pub fn drop_all_but_kept() -> Result<String, String> {
    let permitted = sys::permitted()?;
    if permitted == 0 {
        return Ok("none to begin with".into());
    }
    for capability in 0..CAPABILITIES_MAX {
        match sys::in_bounding_set(capability) {
            Some(true) if KEPT >> capability & 1 == 0 => sys::drop_from_bounding_set(capability)?,
            Some(_) => {}
            None => break,
        }
    }
    sys::clear_ambient()?;
    sys::set_permitted(permitted & KEPT)?;
    Ok(format!("{} kept", (permitted & KEPT).count_ones()))
}
