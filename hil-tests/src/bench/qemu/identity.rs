//! What a gateway gets in the factory beside its image: files on the data partition, under `/mainstay`.

use crate::bench::Identity;
use crate::pki::QEMU_HOST;
use crate::{Doing, Result};
use mainstay_lab::disk::{Node, Tree};
use std::path::Path;

/// The files, by their paths on the data partition.
pub fn files(identity: &Identity) -> Result<Tree> {
    let mut tree = Tree::new();
    let mut add = |name: &str, from: &Path, mode: u32| -> Result<()> {
        let bytes = std::fs::read(from).doing(|| from.display().to_string())?;
        tree.add(&format!("/mainstay/{name}"), Node::Bytes(bytes, mode));
        Ok(())
    };
    add("trust.root", &identity.trust, 0o644)?;
    add("ca.pem", &identity.ca, 0o644)?;
    add("gateway.pem", &identity.certificate.certificate, 0o644)?;
    add("gateway.key", &identity.certificate.key, 0o600)?;
    tree.text("/mainstay/mainstay.toml", &configuration(identity));
    Ok(tree)
}

/// The agent's configuration. Relative paths begin at its own folder, `/data/mainstay`.
fn configuration(identity: &Identity) -> String {
    let Identity { device, group, image_floor, broker_required, .. } = identity;
    let port = identity.broker.port();
    let broker_check = if *broker_required { BROKER_CHECK } else { "" };
    format!(
        r#"# A gateway of the laboratory.
device = "{device}"
board = "/etc/mainstay/board.toml"
trust = "trust.root"
state = "state"
run = "/run/mainstay"
image_floor = {image_floor}

[broker]
url = "mqtts://{QEMU_HOST}:{port}"
group = "{group}"
ca = "ca.pem"
cert = "gateway.pem"
key = "gateway.key"
keep_alive_s = 10

[update]
reboot = "auto"
retry_s = 1

[[check]]
name = "app"
command = ["/bin/lab-check"]
required = true
timeout_s = 10
retries = 2
interval_s = 1
{broker_check}"#
    )
}

/// Required of a trial that cannot do without the broker: an emulated machine needs some seconds to find it.
const BROKER_CHECK: &str = r#"
[[check]]
name = "connected"
broker = true
required = true
timeout_s = 5
retries = 4
interval_s = 2
"#;
