//! What a scene plays on. Everything stands in one temporary folder and goes with it.
//!
//! ```text
//! FOLDER/pki          certificates          FOLDER/operator    keys, trust root, bundles
//! FOLDER/broker       a Mosquitto's files   FOLDER/attacker    the same, of somebody else
//! FOLDER/gw-0001      the gateway           FOLDER/*.img       images
//! ```

use super::follow::Shown;
use super::words::Words;
use crate::bill::Bill;
use crate::board::{Bootloader, rootfs};
use crate::broker::{Broker, Kind};
use crate::disk::MIB;
use crate::gateway::{COMPATIBLE, Gateway, Plan};
use crate::image::{Behaviour, HEADER_BYTES, Header, Spec, stamp};
use crate::listener::Listener;
use crate::operator::{Access, Bundle, Operator, Packing};
use crate::pki::Pki;
use crate::programs::Programs;
use crate::screen::Screen;
use crate::{Doing, Result, Trouble, interrupt};
use mainstay_core::boot::Group;
use std::collections::{BTreeMap, BTreeSet};
use std::io::Stdout;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tempfile::TempDir;

/// The fleet's name.
pub const FLEET: &str = "plant";
/// How long a trial may take, in seconds.
pub const DEADLINE_S: u32 = 30;
/// The watchdog's timeout, in seconds: how long an image that never comes up is waited for.
const WATCHDOG_S: u32 = 4;
/// The floor that the factory's image brings.
const FACTORY_FLOOR: u32 = 1;
/// What the factory flashes.
const FACTORY_VERSION: &str = "1.0.0";
/// A download is to be watched: the broker's door is made so narrow that a whole bundle takes about so long.
const DOWNLOAD_TIME: Duration = Duration::from_secs(5);

/// The stage.
pub struct Stage {
    /// Where it is drawn.
    pub screen: Screen<Stdout>,
    /// The broker, behind its door.
    pub broker: Broker,
    /// The operator.
    pub operator: Operator,
    /// The operator's ears.
    pub listener: Listener,
    /// The gateway.
    pub gateway: Gateway,
    /// The operator's way to the broker.
    pub access: Access,
    words: Words,
    programs: Programs,
    pki: Pki,
    images: Images,
    gateways: u32,
    litter: Vec<PathBuf>,
    published: Vec<Bill>,
    /// Versions whose images were made of the second of the two own ones.
    seconds: BTreeSet<String>,
    /// How large the image of a version is.
    sizes: BTreeMap<String, u64>,
    /// What has been shown of the gateway.
    pub(super) shown: Shown,
    interrupted: Arc<AtomicBool>,
    folder: TempDir,
}

/// Where images come from.
struct Images {
    own: Option<[PathBuf; 2]>,
    bytes: u64,
}

/// How an image differs from the one that runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Some bytes here and there of what runs now, as a fix does it; of own images as all else.
    Bytes,
    /// Little: an update that is soon there.
    Little,
    /// A good part.
    Some,
    /// All: nothing can be copied from the running group.
    All,
}

impl Stage {
    /// Sets everything up: a gateway as it leaves the factory, with 1.0.0 in A, and its power on.
    pub fn set(words: &Words, programs: Programs, mut screen: Screen<Stdout>) -> Result<Stage> {
        let folder =
            tempfile::Builder::new().prefix("mainstay-demo-").tempdir().doing(|| "a temporary folder")?;
        let at = |name: &str| folder.path().join(name);
        let images = Images::new(words)?;
        screen.say(&format!("setting up {}", setting(words, images.bytes)));
        let pki = Pki::create(&at("pki"))?;
        let broker = Broker::start(words.broker, &pki, &at("broker"))?;
        let operator = Operator::new(&programs.ctl, &at("operator"), FLEET)?;
        let access = Access::new(&broker, &pki, "operator")?;
        let listener = Listener::start(&broker, &pki, "control-room", FLEET)?;
        let mut stage = Stage {
            gateway: gateway(1, words, &images, &programs, &broker, &pki, &operator, folder.path())?,
            interrupted: interrupt::flag()?,
            words: words.clone(),
            gateways: 1,
            litter: Vec::new(),
            published: Vec::new(),
            seconds: BTreeSet::new(),
            sizes: BTreeMap::new(),
            shown: Shown::default(),
            screen,
            broker,
            operator,
            listener,
            access,
            programs,
            pki,
            images,
            folder,
        };
        stage.commission()?;
        Ok(stage)
    }

    /// Another gateway in the place of the one that there is.
    pub fn new_gateway(&mut self) -> Result<()> {
        self.gateway.board().power_cut();
        self.gateways += 1;
        let Stage { words, images, programs, broker, pki, operator, folder, .. } = self;
        self.gateway = gateway(self.gateways, words, images, programs, broker, pki, operator, folder.path())?;
        self.shown = Shown::default();
        self.commission()
    }

    /// What the factory does.
    fn commission(&mut self) -> Result<()> {
        let image = self.image(FACTORY_VERSION, Behaviour::Healthy, Change::Little)?;
        self.gateway.board().flash(Group::A, &image)?;
        self.gateway.board().power_on();
        Ok(())
    }

    /// Makes an image. Its content is random but the same each time.
    pub fn image(&mut self, version: &str, behaviour: Behaviour, change: Change) -> Result<PathBuf> {
        let path = self.folder.path().join(format!("{version}.img"));
        let header = Header::new(version, behaviour);
        match &self.images.own {
            Some([one, two]) => {
                // The running image was one of the two: an update brings the other.
                let running = self.gateway.board().status().image.map(|image| image.version);
                let first = running.is_none_or(|version| self.seconds.contains(&version));
                stamp(if first { one } else { two }, &path, &header)?;
                if !first {
                    self.seconds.insert(version.to_owned());
                }
            }
            None => {
                let drawn = |changed_percent| {
                    let header = header.clone();
                    Spec { header, bytes: self.images.bytes, seed: 1, changed_percent }.write(&path)
                };
                match change {
                    Change::Bytes => self.fix(&header, &path)?,
                    Change::Little => drawn(5)?,
                    Change::Some => drawn(40)?,
                    Change::All => drawn(100)?,
                }
            }
        }
        let bytes = std::fs::metadata(&path).doing(|| path.display().to_string())?.len();
        self.sizes.insert(version.to_owned(), bytes);
        self.litter.push(path.clone());
        Ok(path)
    }

    /// Makes an image that is what runs, but for some bytes.
    fn fix(&self, header: &Header, path: &Path) -> Result<()> {
        let mut content = self.running_content()?;
        for place in content.iter_mut().skip(FIXED_AT).step_by(FIXED_EVERY) {
            *place ^= 0x55;
        }
        let first = content.get_mut(..HEADER_BYTES).doing(|| "an image without a header")?;
        first.copy_from_slice(&header.encode()?);
        std::fs::write(path, content).doing(|| path.display().to_string())
    }

    /// The image that runs, as it stands in its slot.
    pub fn running_content(&self) -> Result<Vec<u8>> {
        let running = self.running()?;
        let board = self.gateway.board();
        let version = board.image_in(running)?.map(|image| image.version).unwrap_or_default();
        let bytes = self.sizes.get(&version).doing(|| format!("{version:?} runs, which nobody made"))?;
        let mut content = vec![0; *bytes as usize];
        board.disk().read(rootfs(running), 0, &mut content)?;
        Ok(content)
    }

    /// The same as a file, for who packs.
    pub fn running_image(&mut self) -> Result<PathBuf> {
        let path = self.folder.path().join("running.img");
        std::fs::write(&path, self.running_content()?).doing(|| path.display().to_string())?;
        self.litter.push(path.clone());
        Ok(path)
    }

    /// Makes a bundle of an image, signed by `who`; `base`: an image that gateways hold.
    pub fn pack(
        &mut self,
        who: &Operator,
        image: PathBuf,
        version: &str,
        security_version: u32,
        tries: u8,
        base: Option<&Path>,
    ) -> Result<Bundle> {
        let (deadline_s, level) = (DEADLINE_S, 1);
        let packing = Packing {
            image: &image,
            compatible: COMPATIBLE,
            version,
            security_version,
            tries,
            deadline_s,
            level,
        };
        let base = base.map(|base| base.display().to_string());
        let further: Vec<&str> = base.iter().flat_map(|base| ["--base", base]).collect();
        let bundle = who.pack_with(&packing, &further)?;
        self.litter.push(bundle.path.clone());
        Ok(bundle)
    }

    /// What a bundle costs this gateway, as it stands now.
    pub fn bill(&mut self, bundle: &Bundle) -> Result<Bill> {
        let running = self.running()?;
        let bill = Bill::of(&bundle.path, self.gateway.board().disk(), running)?;
        self.published.push(bill.clone());
        Ok(bill)
    }

    /// Narrows the broker's door to what lets `bytes` through in [`DOWNLOAD_TIME`].
    pub fn narrow(&self, bytes: u64) {
        let rate = bytes as f64 / DOWNLOAD_TIME.as_secs_f64();
        self.broker.gate().limit(Some((rate as u64).max(SLOWEST)));
    }

    /// `who` publishes a bundle for the gateway's group; on the screen it is `name` who does.
    pub fn publish(&mut self, name: &str, who: &Operator, bundle: &Bundle) -> Result<()> {
        let took = who.publish(bundle, &self.access, self.gateway.group())?.as_secs_f64();
        let Bundle { version, .. } = bundle;
        self.screen
            .say(&format!("   {name:9} publishes {version} for {} ({took:.1} s)", self.gateway.group()));
        Ok(())
    }

    /// The group that runs.
    pub fn running(&self) -> Result<Group> {
        let running = self.gateway.board().status().running.map(|(group, _)| group);
        running.doing(|| "no group runs")
    }

    /// Between two scenes: the broker forgets what nobody will ask for any more, files go, the door is wide again.
    pub fn rest(&mut self) -> Result<()> {
        self.broker.gate().limit(None);
        for bill in std::mem::take(&mut self.published) {
            self.listener.forget(&bill.objects)?;
        }
        for path in self.litter.drain(..).filter(|_| !self.words.keep) {
            let _ = std::fs::remove_file(path); // it may be gone already
        }
        self.settle()
    }

    /// Who plays against us.
    pub fn attacker(&self) -> Result<Operator> {
        Operator::new(&self.programs.ctl, &self.folder.path().join("attacker"), FLEET)
    }

    /// Who has stolen the operator's key, but not the release key.
    pub fn thief(&self) -> Result<Operator> {
        self.operator.usurper(&self.folder.path().join("thief"), FLEET)
    }

    /// What it is played with, in words.
    pub fn setting(&self) -> String {
        setting(&self.words, self.images.bytes)
    }

    /// Has somebody pressed Ctrl-C?
    pub fn interrupted(&self) -> bool {
        self.interrupted.load(Ordering::Relaxed)
    }

    /// Takes it all down; what `explains` a failure stays, where somebody may look at it.
    pub fn strike(self, explains: bool) {
        let Stage { mut screen, words, gateway, folder, .. } = self;
        drop(gateway);
        if words.keep || (explains && std::env::var_os("CI").is_none()) {
            let path = folder.keep();
            screen.say(&format!("kept: {}", path.display()));
        }
    }
}

/// A fix changes a byte in each half MiB.
const FIXED_EVERY: usize = 512 * 1024;
const FIXED_AT: usize = 4321;

/// The slowest that the door is made.
const SLOWEST: u64 = 512 * 1024;

impl Images {
    fn new(words: &Words) -> Result<Images> {
        let Some(own) = &words.images else { return Ok(Images { own: None, bytes: words.bytes }) };
        let mut bytes = 0;
        for image in own {
            let file = std::fs::metadata(image).doing(|| image.display().to_string())?;
            if !file.is_file() || file.len() == 0 {
                return Err(Trouble::new(format!("{}: expected an image file", image.display())));
            }
            bytes = bytes.max(file.len());
        }
        Ok(Images { own: Some(own.clone()), bytes })
    }
}

#[allow(clippy::too_many_arguments)] // a stage's parts, before there is a stage
fn gateway(
    number: u32,
    words: &Words,
    images: &Images,
    programs: &Programs,
    broker: &Broker,
    pki: &Pki,
    operator: &Operator,
    folder: &Path,
) -> Result<Gateway> {
    let name = format!("gw-{number:04}");
    let plan = Plan {
        folder: folder.join(&name),
        agent: programs.agent.clone(),
        group: format!("line-{number}"), // of its own: what was desired of a gateway before is not meant for it
        name,
        bootloader: words.bootloader,
        slot_bytes: images.bytes,
        image_floor: FACTORY_FLOOR,
        watchdog_s: WATCHDOG_S,
        approve: false,
        broker: Some(broker.address()),
        broker_required: false,
    };
    Gateway::build(plan, pki, &operator.trust())
}

fn setting(words: &Words, bytes: u64) -> String {
    let broker = match words.broker {
        Kind::Embedded => "the embedded broker",
        Kind::Mosquitto => "Mosquitto",
    };
    let bootloader = match words.bootloader {
        Bootloader::UBoot => "U-Boot",
        Bootloader::Grub => "GRUB",
    };
    let whose = if words.images.is_some() { "images of your own, up to" } else { "synthetic images of" };
    format!("{broker}, {bootloader}, {whose} {} MiB", bytes.div_ceil(MIB))
}
