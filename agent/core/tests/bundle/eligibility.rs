//! Eligibility: what a gateway refuses of bundles that are signed and sound, and the words it does so with.

use crate::common::{manifest, refused, signed, simple_root, text};
use mainstay_core::boot::Group;
use mainstay_core::bundle::{Manifest, VerifiedManifest};
use mainstay_core::digest::Digest;
use mainstay_core::fault::{Fault, FaultKind};
use mainstay_core::limits::FAILED_MAX;
use mainstay_core::policy::{Gateway, judge};
use mainstay_core::trust::MessageKind;
use mainstay_core::update::{Deployment, Record};

fn verified(manifest: &Manifest) -> VerifiedManifest {
    let bytes = signed(MessageKind::Manifest, &manifest.encode().unwrap(), &[2]);
    VerifiedManifest::open(&simple_root(), &bytes).unwrap()
}

fn judged(
    manifest: &Manifest,
    change: impl Fn(&mut Gateway<'_>),
    record: &Record,
) -> Result<Deployment, Fault> {
    let checks = [text("web"), text("plc")];
    let mut gateway = Gateway {
        compatible: "acme-gw-1",
        running: Group::A,
        record,
        unix_s: Some(1_000),
        checks: &checks,
        retry_failed: false,
    };
    change(&mut gateway);
    judge(&verified(manifest), &gateway)
}

fn as_it_is(_: &mut Gateway<'_>) {}

#[test]
fn an_eligible_bundle_becomes_a_deployment_for_the_other_group() {
    let mut manifest = manifest();
    manifest.trial.required.push(text("plc")).unwrap();
    (manifest.not_before, manifest.expires) = (Some(5), Some(5_000));
    for (running, target) in [(Group::A, Group::B), (Group::B, Group::A)] {
        let deployment = judged(&manifest, |gateway| gateway.running = running, &Record::factory(7)).unwrap();
        let expected = Deployment {
            manifest: verified(&manifest).name(),
            version: text("1.2.3"),
            security_version: 7,
            target,
            attempt: 0,
            tries: 3,
            deadline_s: 600,
            required: manifest.trial.required.clone(),
            not_before: Some(5),
            expires: Some(5_000),
        };
        assert_eq!(deployment, expected);
    }
}

#[test]
fn each_refusal_says_what_was_expected_and_what_was_found() {
    let with = |change: &dyn Fn(&mut Manifest)| {
        let mut manifest = manifest();
        change(&mut manifest);
        manifest
    };
    let expires = |at| with(&|m| m.expires = Some(at));
    let floor = |floor| Record::factory(floor);
    let known = |time_floor| Record { time_floor, ..Record::factory(0) };
    type Change = fn(&mut Gateway<'_>);
    let no_clock: Change = |gateway| gateway.unix_s = None;
    let fell_back: Change = |gateway| gateway.unix_s = Some(5);
    #[rustfmt::skip]
    let cases: [(Manifest, Change, Record, &str); 13] = [
        // bundle                                                 gateway              remembers     words; none: taken
        (manifest(),                                              as_it_is,            floor(7),     ""),
        (manifest(),                                              as_it_is,            floor(8),     "downgrade: the floor is security version 8, the bundle has 7"),
        (manifest(),                                              as_it_is,            floor(u32::MAX), "downgrade"),
        (with(&|m| m.compatible = text("acme-gw-2")),             as_it_is,            floor(0),     "this gateway is acme-gw-1, the bundle is for acme-gw-2"),
        (with(&|m| m.compatible = text("acme-gw-11")),            as_it_is,            floor(0),     "this gateway is acme-gw-1, the bundle is for acme-gw-11"),
        (manifest(),                                              |g| g.compatible = "", floor(0),   "this gateway is , the bundle is for acme-gw-1"),
        (expires(999),                                            as_it_is,            floor(0),     "may be begun until 999, now is 1000"),
        (expires(1_000),                                          as_it_is,            floor(0),     ""),
        (expires(999),                                            no_clock,            floor(0),     ""), // nothing is known to have passed
        (expires(999),                                            no_clock,            known(1_001), "may be begun until 999, now is 1001"),
        (expires(999),                                            fell_back,           known(1_001), "may be begun until 999, now is 1001"),
        (with(&|m| m.trial.required.push(text("vpn")).unwrap()),  as_it_is,            floor(0),     "requires the health check vpn, which is not configured here"),
        (with(&|m| m.trial.required.push(text("web")).unwrap()),  |g| g.checks = &[],  floor(0),     "requires the health check web"),
    ];
    for (manifest, change, record, words) in cases {
        match (judged(&manifest, change, &record), words) {
            (taken, "") => drop(taken.unwrap()),
            (result, words) => {
                assert_eq!(result.as_ref().map_err(|fault| fault.kind), Err(FaultKind::Refused), "{words}");
                refused(result, words);
            }
        }
    }
}

#[test]
fn a_bundle_whose_trial_failed_here_is_not_tried_again_unless_told_to() {
    let mut record = Record::factory(0);
    record.remember_failed(verified(&manifest()).name());
    refused(judged(&manifest(), as_it_is, &record), "install it with --retry to try it again");
    judged(&manifest(), |gateway| gateway.retry_failed = true, &record).unwrap();
    // Another bundle of the same version is another bundle.
    let mut other = manifest();
    other.provenance.commit = text("0123abc");
    judged(&other, as_it_is, &record).unwrap();
}

/// Of more bad bundles than the record has room for, the latest are refused: no number of bad ones offered in turn
/// makes a gateway forget the one that it has just come back from.
#[test]
fn with_the_list_of_failed_bundles_full_the_latest_are_refused_and_the_oldest_makes_room() {
    let mut record = Record::factory(0);
    for n in 0..FAILED_MAX as u8 {
        record.remember_failed(Digest([n; 32]));
    }
    record.remember_failed(verified(&manifest()).name());
    refused(judged(&manifest(), as_it_is, &record), "install it with --retry to try it again");
    assert_eq!(record.failed.len(), FAILED_MAX);
    assert!(!record.has_failed(&Digest([0; 32])));
    assert!((1..FAILED_MAX as u8).all(|n| record.has_failed(&Digest([n; 32]))));
}

#[test]
fn a_retry_lifts_no_other_refusal() {
    let retry = |gateway: &mut Gateway<'_>| gateway.retry_failed = true;
    let mut record = Record::factory(8);
    record.remember_failed(verified(&manifest()).name());
    refused(judged(&manifest(), retry, &record), "downgrade");
}
