//! An operator on a broker that holds no object, and a web server that has them: the whole way from a desired state to a
//! commit, with the agent as a process. And what a download may cost.

mod gateway;
mod life;
mod support;

use gateway::*;
use life::*;
use mainstay_core::boot::Group;
use mainstay_core::bundle::Object;
use mainstay_core::digest::Digest;
use mainstay_core::topic::Leaf;
use std::path::Path;
use std::time::Instant;
use support::mosquitto::Options;
use support::web::Web;

/// As `mainstayctl export` writes it; its own test holds that it does.
fn export(bundle: &Workshop, folder: &Path) {
    let (_, objects) = bundle.objects();
    let mut table = None;
    for name in ["c", "r"] {
        std::fs::create_dir_all(folder.join("mainstay").join(name)).unwrap();
    }
    let mut row = Vec::new();
    for (kind, object) in &objects {
        match kind {
            Object::Piece => row.extend_from_slice(object),
            _ => std::fs::write(folder.join(format!("mainstay/c/{}", Digest::of(object))), object).unwrap(),
        }
        if *kind == Object::Table {
            table = Some(Digest::of(object));
        }
    }
    std::fs::write(folder.join(format!("mainstay/r/{}", table.unwrap())), row).unwrap();
}

fn site(web: &Web, more: &str) -> Option<Site> {
    let https =
        format!("[https]\nurl = \"http://127.0.0.1:{}/mainstay/\"\nallow_plain = true\n{more}", web.port);
    Site::on(Options { persistent: true, ..Options::default() }, "", &https)
}

#[test]
fn a_bundle_whose_objects_only_a_web_server_has_is_committed() {
    let folder = tempfile::tempdir().unwrap();
    let Some(web) = Web::lighttpd(folder.path(), None) else { return };
    let Some(mut site) = site(&web, "") else { return };
    let bundle = Workshop::new("2.0", 1);
    export(&bundle, folder.path());
    let name = site.publish_without_objects(&bundle);
    site.desire(name, 1);
    site.machine.start();
    site.machine.until_it_goes_down();
    assert_eq!(site.machine.boot(), Group::B);
    site.machine.until(&["\"phase\":\"settled\"", "\"kind\":\"committed\""]);
    assert!(holds(&site.machine.gateway.path("slot-b"), &bundle.content));
    let gets = web.stop();
    let ranges =
        gets.iter().filter(|line| line.contains("GET /mainstay/r/") && line.contains(" 206 ")).count();
    assert!((1..=8).contains(&ranges), "pieces came as ranges of their route: {gets:?}");
}

#[test]
fn a_web_server_that_is_not_there_leaves_the_broker_and_the_other_way_round() {
    let folder = tempfile::tempdir().unwrap();
    let Some(web) = Web::lighttpd(folder.path(), None) else { return };
    // The folder is empty: it has got nothing.
    let Some(mut site) = site(&web, "") else { return };
    let name = site.publish(&Workshop::new("2.0", 1));
    site.desire(name, 1);
    site.machine.start();
    site.machine.until_it_goes_down();
    assert!(site.machine.log().contains("not there (status 404)"), "{}", site.machine.log());
}

#[test]
fn a_download_whose_month_is_used_up_waits_says_so_and_goes_on_with_a_higher_quota() {
    let folder = tempfile::tempdir().unwrap();
    let Some(web) = Web::lighttpd(folder.path(), None) else { return };
    let Some(mut site) = site(&web, "[transport]\nsource = \"mqtt\"\nmonthly_quota_mib = 1\n") else {
        return;
    };
    let states = site.watch(Leaf::State);
    // The first one takes more than the half of it, the second the rest.
    for (version, seq) in [("2.0", 1), ("3.0", 2)] {
        let name = site.publish(&Workshop::new(version, 1));
        site.desire(name, seq);
        if seq == 1 {
            site.machine.start();
            site.machine.until_it_goes_down();
            site.machine.boot();
            site.machine.until(&["\"phase\":\"settled\"", "\"kind\":\"committed\""]);
        }
    }
    let mut n = 3;
    while !site.machine.text().contains("the monthly quota") {
        let begun = Instant::now();
        while !site.machine.goes_down() && !site.machine.text().contains("the monthly quota") {
            assert!(begun.elapsed() < PATIENCE, "{}", site.machine.text());
        }
        if site.machine.goes_down() {
            site.machine.boot();
            site.machine.until(&["\"phase\":\"settled\""]);
            n += 1;
            let name = site.publish(&Workshop::new(&format!("{n}.0"), 1));
            site.desire(name, n);
        }
        assert!(n < 8, "a MiB is more than eight bundles");
    }
    site.machine.until(&["the monthly quota: 1 of 1 MiB are used; goes on 2"]);
    states.presence(|p| p.detail.contains("the monthly quota"));
    site.machine.kill();
    site.machine.start();
    site.machine.until(&["the monthly quota: 1 of 1 MiB"]);
    site.machine.kill();
    site.machine.reconfigure("monthly_quota_mib = 1", "monthly_quota_mib = 100");
    site.machine.start();
    site.machine.until_it_goes_down();
}
