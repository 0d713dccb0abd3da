//! The guest's user space: an initial RAM disk with busybox, a few kernel modules, the real device binary and a script. The
//! slots hold bytes that nobody mounts, so a recording takes no longer than the agent does.
//!
//! ```text
//! /init                   mounts, loads modules, brings the network up, starts `mainstay run`
//! /bin/busybox mainstay   static binaries
//! /modules/NN.ko          in the order in which they are loaded
//! /etc/hosts              the host is `localhost`, for the broker's certificate says so
//! /etc/mainstay/          configuration, board file, trust root, certificates
//! ```

use crate::layout::Layout;
use mainstay_hil::{Doing, Result};
use mainstay_lab::disk::{Node, Tree};
use mainstay_lab::guest::{cpio, modules};
use std::path::{Path, PathBuf};

/// What a recording is made with.
#[derive(Clone, Debug)]
pub struct Ingredients {
    /// The kernel that QEMU loads.
    pub kernel: PathBuf,
    /// Its modules: `…/lib/modules/VERSION`, with `modules.dep`.
    pub modules: PathBuf,
    /// A static busybox.
    pub busybox: PathBuf,
    /// The static device binary.
    pub agent: PathBuf,
}

/// What the guest loads, where it is not built in.
const MODULES: [&str; 7] =
    ["virtio_pci", "virtio_blk", "virtio_net", "ext4", "vfat", "nls_cp437", "nls_ascii"];

/// The archive for one layout; `configuration` are the files of `/etc/mainstay`.
pub fn initrd(
    from: &Ingredients,
    layout: Layout,
    configuration: Vec<(String, Vec<u8>)>,
    to: &Path,
) -> Result<()> {
    let mut tree = Tree::new();
    for folder in ["/dev", "/proc", "/sys", "/run", "/tmp", "/data", "/env"] {
        tree.folder(folder);
    }
    tree.file("/bin/busybox", &from.busybox, 0o755).file("/bin/mainstay", &from.agent, 0o755);
    for (nr, file) in modules::with_needed(&from.modules, &MODULES)?.iter().enumerate() {
        tree.add(&format!("/modules/{nr:02}.ko"), Node::Bytes(modules::plain(file)?, 0o644));
    }
    tree.script("/init", &script(layout.mounted_as()));
    tree.text("/etc/hosts", "10.0.2.2 localhost\n");
    tree.text("/etc/mainstay/board.toml", &layout.board_file());
    for (name, content) in configuration {
        tree.add(&format!("/etc/mainstay/{name}"), Node::Bytes(content, 0o600));
    }
    std::fs::write(to, cpio::archive(&tree)?).doing(|| to.display().to_string())
}

/// The script that the kernel starts. It ends the machine when the deployment has ended and the broker has taken the report.
fn script(mounted_as: Option<&str>) -> String {
    let env = mounted_as
        .map_or(String::new(), |kind| format!("mount -t {kind} -o noatime /dev/vda1 /env || die env\n"));
    format!(
        r#"#!/bin/busybox sh
/bin/busybox --install -s /bin
export PATH=/bin
die() {{ echo "guest: FAILED: $1"; poweroff -f; }}
mount -t proc proc /proc && mount -t sysfs sys /sys && mount -t devtmpfs dev /dev && mount -t tmpfs tmp /run || die mounts
for module in /modules/*; do insmod "$module" || die "$module"; done
until [ -b /dev/vda4 ] && [ -e /sys/class/net/eth0 ]; do sleep 0.1; done
ip link set lo up && ip link set eth0 up && ip addr add 10.0.2.15/24 dev eth0 && ip route add default via 10.0.2.2 || die network
mount -t ext4 -o noatime /dev/vda4 /data || die data
{env}: > /run/app-is-up
echo "guest: up after $(cut -d' ' -f1 /proc/uptime) s"
mainstay run --config /etc/mainstay/mainstay.toml &
until mainstay status --config /etc/mainstay/mainstay.toml --json >/run/status && grep -q '"phase":"settled"' /run/status && grep -q '"unreported":0' /run/status
do sleep 0.2; done
echo "guest: settled after $(cut -d' ' -f1 /proc/uptime) s"
sync
poweroff -f
"#
    )
}
