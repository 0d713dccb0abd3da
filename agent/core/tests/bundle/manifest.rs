//! The manifest: each field's bound, and the words of its refusal.

use crate::common::{artifact, manifest, refused, signed, simple_root, text};
use mainstay_core::bundle::{
    Artifact, Manifest, Provenance, Route, RouteKind, TrialPolicy, VerifiedManifest,
};
use mainstay_core::digest::Digest;
use mainstay_core::limits::*;
use mainstay_core::trust::MessageKind;
use proptest::prelude::*;

/// As large as a manifest can be: every list full, every text at its bound, every number at its longest.
pub fn largest() -> Manifest {
    let long = |bytes: usize| "x".repeat(bytes);
    let route = |n: u8| Route {
        kind: if n == 0 {
            RouteKind::Full
        } else {
            RouteKind::Delta { base: Digest([n; 32]), base_bytes: 1 << 36 }
        },
        table: Digest([n; 32]),
        bytes: ARTIFACT_BYTES_MAX,
    };
    Manifest {
        compatible: text(&long(COMPATIBLE_BYTES_MAX)),
        version: text(&long(VERSION_BYTES_MAX)),
        security_version: u32::MAX,
        artifacts: (0..ARTIFACTS_MAX)
            .map(|n| Artifact {
                class: text(&format!("{n}{}", long(CLASS_BYTES_MAX - 1))),
                size: ARTIFACT_BYTES_MAX,
                routes: (0..ROUTES_MAX as u8).map(route).collect(),
                ..artifact("x", 1)
            })
            .collect(),
        trial: TrialPolicy {
            tries: TRIES_MAX,
            deadline_s: TRIAL_SECONDS_MAX,
            required: (0..CHECKS_MAX).map(|_| text(&long(NAME_BYTES_MAX))).collect(),
        },
        not_before: Some(u64::MAX - 1),
        expires: Some(u64::MAX),
        provenance: Provenance {
            source: text(&long(128)),
            commit: text(&long(64)),
            builder: text(&long(128)),
            sbom: Some(Digest([9; 32])),
        },
        meta: (0..16).map(|_| (text(&long(32)), text(&long(128)))).collect(),
    }
}

#[test]
fn the_largest_manifest_fits_a_body_and_reads_back() {
    let body = largest().encode().unwrap();
    println!("largest manifest: {} bytes of a body of {BODY_BYTES_MAX}", body.len());
    assert!(body.len() <= BODY_BYTES_MAX - 3_000, "the room for fields to come: {}", body.len());
    assert_eq!(Manifest::decode(&body).unwrap(), largest());
    assert_eq!(largest().content_bytes(), 8 << 36);
}

#[test]
fn a_field_out_of_its_bounds_is_refused_by_name() {
    type Change<'a> = &'a dyn Fn(&mut Manifest);
    let with = |change: Change| {
        let mut manifest = manifest();
        change(&mut manifest);
        manifest
    };
    let route = |kind, bytes| Route { kind, table: Digest([0; 32]), bytes };
    let delta = RouteKind::Delta { base: Digest([5; 32]), base_bytes: 1000 };
    let empty_base = RouteKind::Delta { base: Digest([6; 32]), base_bytes: 0 };
    #[rustfmt::skip]
    let cases: [(Change, &str); 27] = [
        (&|m| m.compatible = text(""),                                "manifest: compatible: expected a name"),
        (&|m| m.compatible = text("acme gw"),                         "manifest: compatible: expected letters"),
        (&|m| m.version = text(""),                                   "manifest: version is empty"),
        (&|m| m.version = text("1.\u{202e}2"),                        "manifest: version: expected printable"),
        (&|m| m.artifacts.clear(),                                    "expected 1 to 8 artifacts, found none"),
        (&|m| m.artifacts.push(artifact("rootfs", 1)).unwrap(),       "two artifacts of class rootfs"),
        (&|m| m.artifacts[0].class = text("../etc"),                  "manifest: class: expected letters"),
        (&|m| m.artifacts[0].class = text(""),                        "manifest: class: expected a name"),
        (&|m| m.artifacts[0].size = 0,                                "size of 1 to 68719476736 bytes, found 0"),
        (&|m| m.artifacts[0].size = ARTIFACT_BYTES_MAX + 1,           "68719476736 bytes, found 68719476737"),
        (&|m| m.artifacts[0].size = u64::MAX,                         "found 18446744073709551615"),
        (&|m| m.artifacts[0].routes.clear(),                          "rootfs: expected one full route, found 0"),
        (&|m| m.artifacts[0].routes[0].kind = delta,                  "rootfs: expected one full route, found 0"),
        (&|m| m.artifacts[0].routes.push(route(RouteKind::Full, 1)).unwrap(), "one full route, found 2"),
        (&|m| m.artifacts[0].routes[0].bytes = 1_000_001,             "route of at most its size, 1000000 bytes, found 1000001"),
        (&|m| for _ in 0..2 { m.artifacts[0].routes.push(route(delta, 1)).unwrap() }, "rootfs: two routes from 0505"),
        (&|m| m.artifacts[0].routes.push(route(empty_base, 1)).unwrap(), "rootfs: expected a base of 1 to 68719476736 bytes, found 0"),
        (&|m| m.trial.tries = 0,                                      "expected 1 to 9 tries, found 0"),
        (&|m| m.trial.tries = 10,                                     "expected 1 to 9 tries, found 10"),
        (&|m| m.trial.deadline_s = 0,                                 "deadline of 1 to 86400 s, found 0"),
        (&|m| m.trial.deadline_s = 86_401,                            "deadline of 1 to 86400 s, found 86401"),
        (&|m| m.trial.required.push(text("a/b")).unwrap(),            "manifest: required check: expected letters"),
        (&|m| (m.not_before, m.expires) = (Some(9), Some(9)),         "not before 9, but expires 9"),
        (&|m| m.provenance.source = text("https://\u{1b}[2J"),        "manifest: provenance: expected printable"),
        (&|m| m.provenance.builder = text("ci\r"),                    "manifest: provenance: expected printable"),
        (&|m| m.meta.push((text(""), text("v"))).unwrap(),            "manifest: meta: expected a name"),
        (&|m| m.meta.push((text("k"), text("v\u{9b}"))).unwrap(),     "manifest: meta: expected printable"),
    ];
    for (change, words) in cases {
        let manifest = with(change);
        refused(manifest.check(), words);
        // And the reader says the same of a body that was signed all the same.
        let mut room = [0; BODY_BYTES_MAX];
        let body = mainstay_core::wire::encode_body_into(&manifest, &mut room).unwrap();
        refused(Manifest::decode(body), words);
    }
    let good: [Change; 4] = [
        &|m| m.artifacts[0].size = ARTIFACT_BYTES_MAX,
        &|m| m.artifacts[0].routes.push(route(delta, 1_000_000)).unwrap(),
        &|m| (m.not_before, m.expires) = (Some(8), Some(9)),
        &|m| m.artifacts[0].routes[0].bytes = 0, // all zero: nothing travels
    ];
    for change in good {
        with(change).check().unwrap();
    }
}

/// The same fields without their bounds, so that a body can break them: postcard knows no field names.
type Loose = (
    &'static str,
    &'static str,
    u32,
    heapless::Vec<Artifact, 16>,
    (u8, u32, heapless::Vec<&'static str, 32>),
    Option<u64>,
    Option<u64>,
    (&'static str, &'static str, &'static str, Option<Digest>),
    heapless::Vec<(&'static str, &'static str), 32>,
);

#[test]
fn texts_and_lists_beyond_their_bounds_are_refused_and_at_them_are_taken() {
    let x: &str = "x".repeat(200).leak();
    let good = || -> Loose {
        let artifacts = [artifact("rootfs", 1_000_000)].into_iter().collect();
        let (none, no_pairs) = (heapless::Vec::new(), heapless::Vec::new());
        ("gw", "1", 7, artifacts, (3, 600, none), None, None, ("", "", "", None), no_pairs)
    };
    let with = |change: &dyn Fn(&mut Loose)| {
        let mut loose = good();
        change(&mut loose);
        let mut room = vec![0; 64 * 1024];
        mainstay_core::wire::encode_body_into(&loose, &mut room).unwrap().to_vec()
    };
    let artifacts = |n: usize| (0..n).map(|i| artifact(&format!("c{i}"), 9)).collect();
    let names = |n: usize, name| (0..n).map(|_| name).collect();
    let pairs = |n: usize, value| (0..n).map(|_| ("k", value)).collect();
    type Body<'a> = &'a dyn Fn(usize) -> Vec<u8>;
    #[rustfmt::skip]
    let cases: [(&str, usize, Body); 10] = [
        // field           bound                   a body that holds so many
        ("compatible",     COMPATIBLE_BYTES_MAX,   &|n| with(&|m| m.0 = &x[..n])),
        ("version",        VERSION_BYTES_MAX,      &|n| with(&|m| m.1 = &x[..n])),
        ("artifacts",      ARTIFACTS_MAX,          &|n| with(&|m| m.3 = artifacts(n))),
        ("required",       CHECKS_MAX,             &|n| with(&|m| m.4.2 = names(n, "web"))),
        ("required name",  NAME_BYTES_MAX,         &|n| with(&|m| m.4.2 = names(1, &x[..n]))),
        ("provenance 1",       128,                    &|n| with(&|m| m.7.0 = &x[..n])),
        ("provenance 2",       64,                     &|n| with(&|m| m.7.1 = &x[..n])),
        ("provenance 3",       128,                    &|n| with(&|m| m.7.2 = &x[..n])),
        ("meta",           16,                     &|n| with(&|m| m.8 = pairs(n, "v"))),
        ("meta value",     128,                    &|n| with(&|m| m.8 = pairs(1, &x[..n]))),
    ];
    for (field, bound, body) in cases {
        Manifest::decode(&body(bound)).unwrap_or_else(|fault| panic!("{field}: {fault}"));
        let named = field.split(' ').next().unwrap();
        refused(Manifest::decode(&body(bound + 1)), &format!("manifest: {named}"));
    }
}

#[test]
fn numbers_that_mean_nothing_here_are_refused() {
    let body = manifest().encode().unwrap();
    // compatible (10), version (6), security version (1), artifact count (1), class (7), size (3), two digests, count
    let kind = 1 + 10 + 6 + 1 + 1 + 7 + 3 + 64 + 1;
    assert_eq!(body[kind..kind + 2], [0, 3], "the full route's kind and its table");
    let mut unknown = body;
    unknown[kind] = 2;
    refused(Manifest::decode(&unknown), "a number that means nothing to this agent");
}

#[test]
fn a_manifest_cut_short_or_with_bytes_after_it_is_refused() {
    let body = manifest().encode().unwrap();
    for cut in 0..body.len() {
        assert!(Manifest::decode(&body[..cut]).is_err(), "cut at {cut}");
    }
    refused(Manifest::decode(&[&body[..], &[0]].concat()), "1 bytes too many");
}

#[test]
fn a_bundle_is_named_by_the_digest_of_its_whole_envelope() {
    let bytes = signed(MessageKind::Manifest, &manifest().encode().unwrap(), &[2]);
    let opened = VerifiedManifest::open(&simple_root(), &bytes).unwrap();
    assert_eq!(opened.name(), Digest::of(&bytes));
    assert_eq!(*opened, manifest());
    // Signed by the operator, by the root, by a stranger: no bundle.
    for seed in [1, 3, 9] {
        let bytes = signed(MessageKind::Manifest, &manifest().encode().unwrap(), &[seed]);
        refused(VerifiedManifest::open(&simple_root(), &bytes), "valid signature(s) of role release");
    }
}

#[test]
fn what_is_signed_is_still_checked() {
    let mut room = [0; BODY_BYTES_MAX];
    let mut bad = manifest();
    bad.trial.tries = 10;
    let body = mainstay_core::wire::encode_body_into(&bad, &mut room).unwrap();
    let bytes = signed(MessageKind::Manifest, body, &[2]);
    refused(VerifiedManifest::open(&simple_root(), &bytes), "expected 1 to 9 tries, found 10");
}

#[test]
fn an_artifact_is_cut_into_full_segments_and_a_last_one() {
    const S: u64 = SEGMENT_BYTES as u64;
    #[rustfmt::skip]
    let cases = [
        // size              segments   runs  last segment's bytes
        (1,                  1,         1,    1),
        (S - 1,              1,         1,    S - 1),
        (S,                  1,         1,    S),
        (S + 1,              2,         1,    1),
        (512 * S,            512,       1,    S),
        (512 * S + 1,        513,       2,    1),
        (ARTIFACT_BYTES_MAX, 262_144,   512,  S),
    ];
    for (size, segments, runs, last) in cases {
        let artifact = artifact("rootfs", size);
        assert_eq!((artifact.segment_count(), artifact.run_count()), (segments, runs), "{size}");
        assert_eq!(artifact.segment_bytes(segments - 1) as u64, last, "{size}");
        assert_eq!(artifact.segment_bytes(segments), 0, "{size}");
        if segments > 1 {
            assert_eq!(artifact.segment_bytes(0), SEGMENT_BYTES, "{size}");
        }
    }
}

proptest! {
    #[test]
    fn random_bytes_never_panic(mut body in prop::collection::vec(any::<u8>(), 1..2000)) {
        let _ = Manifest::decode(&body);
        body[0] = 1;
        let _ = Manifest::decode(&body);
    }

    /// Nearly right bodies get further than random ones.
    #[test]
    fn a_body_with_bytes_changed_never_panics(changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4)) {
        let mut body = manifest().encode().unwrap();
        for (at, byte) in changes {
            let at = at.index(body.len());
            body[at] = byte;
        }
        if let Ok(manifest) = Manifest::decode(&body) {
            manifest.check().unwrap();
            let _ = (manifest.content_bytes(), manifest.artifacts[0].segment_count(), manifest.artifacts[0].full_route().unwrap());
        }
    }
}
