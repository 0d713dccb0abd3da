//! The operator of the recorded updates: broker, keys, one bundle that all of them take, and ears. One desk serves all
//! layouts, one after the other.

use crate::layout::{COMPATIBLE, IMAGE_BYTES};
use crate::mark::Mark;
use mainstay_hil::broker::{Broker, Kind};
use mainstay_hil::image::{Behaviour, Header, Spec};
use mainstay_hil::listener::{Listener, Said};
use mainstay_hil::operator::{Access, Operator, Packing};
use mainstay_hil::pki::Pki;
use mainstay_hil::{Doing, Result};
use std::path::{Path, PathBuf};

/// The floor before the update, and what the bundle raises it to.
pub const FLOORS: [u32; 2] = [1, 2];
const FLEET: &str = "crash";
const GROUP: &str = "bench";

/// A broker with a bundle on it, and somebody who listens.
pub struct Desk {
    pki: Pki,
    broker: Broker,
    listener: Listener,
    trust: PathBuf,
    /// What the gateways run before, and after.
    pub images: [PathBuf; 2],
}

/// Reads what the listener has heard, from a mark of its own on.
pub struct Ears {
    device: String,
    from: usize,
}

impl Desk {
    /// Makes everything in `folder`, publishes, and listens.
    pub fn open(folder: &Path, ctl: &Path) -> Result<Desk> {
        let pki = Pki::create(&folder.join("pki"))?;
        let broker = Broker::start(Kind::Embedded, &pki, folder)?;
        let operator = Operator::new(ctl, &folder.join("keys"), FLEET)?;
        let image = |version: &str| {
            let header = Header { version: version.into(), behaviour: Behaviour::Healthy, agent: None };
            let path = folder.join(format!("{version}.img"));
            Spec { header, bytes: IMAGE_BYTES, seed: 11, changed_percent: 60 }.write(&path).map(|()| path)
        };
        let images = [image("1.0.0")?, image("2.0.0")?];
        let [_, image] = &images;
        let bundle = operator.pack(&Packing {
            image,
            compatible: COMPATIBLE,
            version: "2.0.0",
            security_version: FLOORS[1],
            tries: 3,
            deadline_s: 300,
            level: 1,
        })?;
        operator.publish(&bundle, &Access::new(&broker, &pki, "operator")?, GROUP)?;
        let listener = Listener::start(&broker, &pki, "ears", FLEET)?;
        Ok(Desk { pki, broker, listener, trust: operator.trust(), images })
    }

    /// The configuration folder of a gateway: names and contents of its files.
    pub fn configuration(&self, device: &str) -> Result<Vec<(String, Vec<u8>)>> {
        let identity = self.pki.client(device)?;
        let port = self.broker.address().port();
        let config = format!(
            r#"device = "{device}"
board = "board.toml"
trust = "trust.root"
state = "/data/{state}"
run = "/run/mainstay"
image_floor = {floor}

[broker]
url = "mqtts://localhost:{port}"
group = "{GROUP}"
ca = "ca.pem"
cert = "gateway.pem"
key = "gateway.key"

[update]
retry_s = 1

[[check]]
name = "app"
file = "/run/app-is-up"
required = true
"#,
            state = crate::layout::STATE,
            floor = FLOORS[0],
        );
        let mut files = vec![("mainstay.toml".to_owned(), config.into_bytes())];
        let paths = [
            ("trust.root", &self.trust),
            ("ca.pem", &self.pki.ca()),
            ("gateway.pem", &identity.certificate),
            ("gateway.key", &identity.key),
        ];
        for (name, path) in paths {
            files.push((name.to_owned(), std::fs::read(path).doing(|| path.display().to_string())?));
        }
        Ok(files)
    }

    /// Listens for one gateway from here on.
    pub fn ears(&self, device: &str) -> Ears {
        Ears { device: device.to_owned(), from: self.listener.mark() }
    }

    /// What has been heard of it since the last time.
    pub fn heard(&self, ears: &mut Ears) -> Vec<Mark> {
        let heard = self.listener.since(ears.from);
        ears.from += heard.len();
        let ours = heard.into_iter().filter(|heard| heard.who == ears.device);
        let marks = ours.filter_map(|heard| match heard.what {
            Said::Presence(presence) => {
                Some(Mark::Heard { phase: presence.phase, floor: presence.floor, audit: presence.audit })
            }
            Said::Outcome(outcome) => Some(Mark::Ended(outcome.kind)),
            _ => None,
        });
        marks.collect()
    }
}
