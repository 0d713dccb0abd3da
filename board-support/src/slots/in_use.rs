//! Is somebody using the bytes of a slot? Asked before the slot is opened for writing.
//!
//! Every device that the kernel has laid over the slot's bytes is looked at: the device itself, its partitions
//! where the slot is a range of the disk, and loop devices over an image file. None may be mounted (here or for
//! process 1) or held by another device (device mapper, md: `holders` in sysfs). Swap and all that opens devices
//! exclusively is caught by O_EXCL when the slot is opened.

use std::fs;
use std::path::Path;

use mainstay_core::fault;
use mainstay_core::seam::Result;

use super::medium::Identity;
use super::place::{Place, device_number, sysfs_number, sysfs_of};

/// A block device, and the range of the slot's device or file that it lies over.
struct Over {
    device: u64,
    from: u64,
    size: u64,
}

/// Refuses with [`Busy`](mainstay_core::fault::FaultKind::Busy) a slot that is mounted or held.
pub(super) fn refuse_in_use(place: &Place) -> Result<()> {
    let mut over = Vec::new();
    match place.identity {
        Identity::Block { device } => with_partitions(device, 0, u64::MAX, &mut over),
        Identity::File { .. } => loops_over(&place.path, &mut over),
    }
    over.retain(|o| o.from < place.offset + place.size && place.offset < o.from.saturating_add(o.size));
    for table in ["/proc/self/mountinfo", "/proc/1/mountinfo"] {
        let table = fs::read_to_string(table).unwrap_or_default();
        for Over { device, .. } in &over {
            if let Some(at) = mounted_at(&table, *device) {
                return Err(fault!(
                    Busy,
                    "{}: expected a slot that is not in use, found it mounted at {at}",
                    place.path.display()
                ));
            }
        }
    }
    for Over { device, .. } in &over {
        if let Some(holder) = fs::read_dir(sysfs_of(*device).join("holders")).ok().and_then(|mut d| d.next())
        {
            let holder = holder.map(|h| h.file_name().to_string_lossy().into_owned()).unwrap_or_default();
            return Err(fault!(
                Busy,
                "{}: expected a slot that is not in use, found it held by {holder}",
                place.path.display()
            ));
        }
    }
    Ok(())
}

/// Where a device is mounted, from a mountinfo table: `36 35 98:0 /mnt1 /mnt2 rw … - ext3 /dev/root rw`, the
/// third field is the device and the fifth the mount point (proc_pid_mountinfo(5)).
fn mounted_at(mountinfo: &str, device: u64) -> Option<&str> {
    mountinfo.lines().find_map(|line| {
        let mut fields = line.split(' ');
        let number = device_number(fields.nth(2)?)?;
        fields.nth(1).filter(|_| number == device)
    })
}

/// `device`, `size` bytes at `from`, and its partitions.
fn with_partitions(device: u64, from: u64, size: u64, over: &mut Vec<Over>) {
    over.push(Over { device, from, size });
    for child in fs::read_dir(sysfs_of(device)).into_iter().flatten().flatten() {
        let child = child.path();
        if let (Some(_), Some(start), Some(sectors), Some(device)) = (
            sysfs_number(&child.join("partition")),
            sysfs_number(&child.join("start")),
            sysfs_number(&child.join("size")),
            fs::read_to_string(child.join("dev")).ok().and_then(|text| device_number(text.trim())),
        ) {
            over.push(Over { device, from: from.saturating_add(start * 512), size: sectors * 512 });
        }
    }
}

/// The loop devices over the file at `path`, with their partitions.
fn loops_over(path: &Path, over: &mut Vec<Over>) {
    let Ok(path) = fs::canonicalize(path) else { return };
    for entry in fs::read_dir("/sys/block").into_iter().flatten().flatten() {
        let sysfs = entry.path();
        let backing = fs::read_to_string(sysfs.join("loop/backing_file")).unwrap_or_default();
        if backing.trim_end_matches('\n') != path.as_os_str() {
            continue;
        }
        let number = |name: &str| sysfs_number(&sysfs.join(name));
        let size = number("size").map_or(u64::MAX, |sectors| sectors * 512);
        let device = fs::read_to_string(sysfs.join("dev")).ok().and_then(|text| device_number(text.trim()));
        if let Some(device) = device {
            with_partitions(device, number("loop/offset").unwrap_or(0), size, over);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mounted_device_is_found_by_its_number_and_not_by_its_name() {
        let table = "27 1 254:0 / / rw,relatime - ext4 /dev/root rw\n\
                     36 27 179:2 / /mnt/data\\040dir rw master:1 - ext4 /dev/disk/by-label/data rw\n\
                     short line\n";
        let number = |text| device_number(text).unwrap();
        assert_eq!(mounted_at(table, number("254:0")), Some("/"));
        assert_eq!(mounted_at(table, number("179:2")), Some("/mnt/data\\040dir"));
        assert_eq!(mounted_at(table, number("179:3")), None);
    }
}
