//! A gateway that takes delta updates over a real Mosquitto.
//!
//! Goal: what it holds already does not travel, whether it came by an update or from the factory; and a slot that is not what
//! it was costs its own segments alone, and is told to everybody who asks.

mod gateway;
mod life;
mod support;

use gateway::*;
use life::*;
use mainstay_core::bundle::Object;
use mainstay_core::digest::Digest;
use mainstay_core::limits::SEGMENT_BYTES;
use mainstay_core::topic::{self, Leaf};
use mainstay_core::update::PhaseName;
use std::os::unix::fs::FileExt;
use support::peer::Peer;

/// A release whose gateways hold what `base` brought.
fn after(base: &Workshop, version: &str) -> Workshop {
    let mut bundle = Workshop::new(version, 1);
    // The end of the noise changes too, so that there are two patches, and the short end is copied.
    bundle.content[SEGMENT_BYTES - 9..SEGMENT_BYTES - 4].copy_from_slice(b"other");
    bundle.content[3 * SEGMENT_BYTES - 2000] ^= version.len() as u8;
    bundle.bases.push(base.content.clone());
    bundle
}

/// Publishes a bundle without the pieces of its full route: who asks for one of them waits for ever.
fn publish_the_delta_alone(site: &Site, bundle: &Workshop) -> (Digest, usize) {
    let (envelope, objects) = bundle.objects();
    let delta = objects.iter().rposition(|(kind, _)| *kind == Object::Table).unwrap();
    let mut peer = Peer::connect(site.broker.port, "release");
    for (_, object) in &objects[delta..] {
        peer.publish(&topic::object("plant", &Digest::of(object)), object, true);
    }
    let name = Digest::of(&envelope);
    peer.publish(&topic::manifest("plant", &name), &envelope, true);
    peer.flush();
    (name, objects[delta..].iter().map(|(_, bytes)| bytes.len()).sum())
}

#[test]
fn a_gateway_from_the_factory_and_then_an_updated_one_fetch_what_has_changed_and_nothing_else() {
    let Some(mut site) = Site::new("", "") else { return };
    let factory = Workshop::new("1.0", 1);
    let slot = std::fs::File::options().write(true).open(site.machine.gateway.path("slot-a")).unwrap();
    slot.write_all_at(&factory.content, 0).unwrap();
    let first = after(&factory, "2.0");
    let mut second = after(&first, "2.1");
    second.content[100] ^= 1;
    for (seq, bundle, group) in [(1, &first, "B"), (2, &second, "A")] {
        let (name, published) = publish_the_delta_alone(&site, bundle);
        assert!(published < 2000, "the whole delta route, table and page with it: {published} bytes");
        site.desire(name, seq);
        if seq == 1 {
            site.machine.start();
        }
        site.machine.until_it_goes_down();
        site.machine.boot();
        site.machine.until(&["\"kind\":\"committed\"", &format!("\"running\":\"{group}\"")]);
        let slot = site.machine.gateway.path(&format!("slot-{}", group.to_lowercase()));
        assert!(holds(&slot, &bundle.content), "version {}", bundle.manifest.version);
    }
    let log = site.machine.log();
    assert_eq!(log.matches("by the delta route from").count(), 2, "{log}");
    assert!(!log.contains("drift") && !log.contains("taking a delta route"), "{log}");
}

#[test]
fn a_slot_that_has_drifted_is_reported_and_its_segments_come_by_the_full_route() {
    let Some(mut site) = Site::new("", "") else { return };
    let first = Workshop::new("2.0", 1);
    site.machine.bring_to(&first); // from a file: on record is what B holds
    let slot = std::fs::File::options().write(true).open(site.machine.gateway.path("slot-b")).unwrap();
    slot.write_all_at(b"rust", 3 * SEGMENT_BYTES as u64 + 77).unwrap();
    let bundle = after(&first, "2.1");
    let (states, progress) = (site.watch(Leaf::State), site.watch(Leaf::Progress));
    let name = site.publish(&bundle);
    site.desire(name, 1);
    let told = states.presence(|p| p.phase == PhaseName::Downloading && p.detail.contains("drift"));
    let words = "drift: rootfs: segments of the running group that are not what was installed: 1, the first is number 3";
    assert!(told.detail.starts_with(words), "{:?}", told.detail);
    site.machine.until_it_goes_down();
    site.machine.boot();
    site.machine.until(&["\"kind\":\"committed\"", "\"running\":\"A\"", "\"fault\":null"]);
    assert!(holds(&site.machine.gateway.path("slot-a"), &bundle.content));
    let log = site.machine.gateway.run(&["log"]).text;
    assert!(log.contains(" drift class=rootfs segments=1 first=3 "), "{log}");
    // The piece of the full route that makes the end, 132 KiB of noise and its tail, and the patches.
    let last = progress.last_progress();
    assert!((132 * 1024..140 * 1024).contains(&last.fetched), "{last:?}");
    assert_eq!((last.done, last.total), (bundle.content.len() as u64, bundle.content.len() as u64));
}

/// What passes by anyway: the delta routes of a bundle file are read over.
#[test]
fn a_bundle_file_with_delta_routes_is_installed_by_its_full_route() {
    let mut machine = Machine::new("");
    let first = Workshop::new("2.0", 1);
    machine.bring_to(&first);
    let second = after(&first, "2.1");
    let said = machine.gateway.run(&["verify", machine.bundle_file(&second).to_str().unwrap()]);
    assert!(said.ok, "{said:?}");
    machine.bring_to(&second);
    assert!(!machine.log().contains("delta route"), "{}", machine.log());
    assert!(holds(&machine.gateway.path("slot-a"), &second.content));
}
