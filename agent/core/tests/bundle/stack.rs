//! What the large values cost. `core` has no heap: a manifest, a record and the buffers of messages stand on the stack of
//! whoever calls. The daemon gives its driver's thread 512 KiB; these run in a fraction of that, unoptimized too.

use crate::common::{signed, simple_root};
use crate::manifest::largest;
use mainstay_core::bundle::{Manifest, VerifiedManifest};
use mainstay_core::fault::Fault;
use mainstay_core::limits::{MANIFEST_STACK_BYTES_MAX, RECORD_STACK_BYTES_MAX, ROOT_STACK_BYTES_MAX};
use mainstay_core::policy::DesiredState;
use mainstay_core::trust::{MessageKind, TrustRoot};
use mainstay_core::update::{Deployment, Phase, Record};

#[test]
fn the_large_values_keep_to_their_stated_sizes() {
    #[rustfmt::skip]
    let cases = [
        // value              measured                          stated
        ("Manifest",          size_of::<Manifest>(),            MANIFEST_STACK_BYTES_MAX),
        ("VerifiedManifest",  size_of::<VerifiedManifest>(),    MANIFEST_STACK_BYTES_MAX + 64),
        ("Record",            size_of::<Record>(),              RECORD_STACK_BYTES_MAX),
        ("Phase",             size_of::<Phase>(),               RECORD_STACK_BYTES_MAX / 2),
        ("Deployment",        size_of::<Deployment>(),          1280),
        ("TrustRoot",         size_of::<TrustRoot>(),           ROOT_STACK_BYTES_MAX),
        ("DesiredState",      size_of::<DesiredState>(),        320),
        ("Fault",             size_of::<Fault>(),               264),
    ];
    for (value, measured, stated) in cases {
        println!("{value:18} {measured:6} bytes, at most {stated}");
        assert!(measured <= stated, "{value}: {measured} bytes, stated are {stated}");
    }
}

/// Goal: opening the largest manifest leaves more than half of the driver's stack free, in the build that wastes most.
/// Method: do it on a thread that has so little; an overflow aborts the test.
#[test]
fn the_largest_manifest_is_opened_on_a_small_stack() {
    let bytes = signed(MessageKind::Manifest, &largest().encode().unwrap(), &[2]);
    let root = simple_root();
    let opened = std::thread::Builder::new()
        .stack_size(192 * 1024)
        .spawn(move || VerifiedManifest::open(&root, &bytes).map(|manifest| manifest.artifacts.len()))
        .unwrap()
        .join()
        .unwrap();
    assert_eq!(opened.unwrap(), 8);
}
