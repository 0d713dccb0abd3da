//! Bundles: packed, taken apart, damaged in every way, and refused in each.

mod common;

use common::{Desk, Dice, Entry, entries, sha256};
use ed25519_dalek::SigningKey;
use mainstay_core::bundle::author::{RunBuilder, table};
use mainstay_core::bundle::{
    Artifact, Encoding, Manifest, Object, Provenance, Route, RouteKind, TrialPolicy,
};
use mainstay_core::digest::Digest;
use mainstay_core::trust::{MessageKind, TrustRoot, seal};
use mainstayctl::bundle::encode::{How, encode};
use mainstayctl::bundle::writer::BundleWriter;
use mainstayctl::bundle::{BundleReader, Depth, Figures, Head, walk};
use mainstayctl::trust::{Holders, Plan};

const SEGMENT: usize = 256 * 1024;

fn key(n: u8) -> SigningKey {
    SigningKey::from_bytes(&[n; 32])
}

fn root() -> TrustRoot {
    let holders = |n: u8| Holders { keys: vec![*key(n).verifying_key().as_bytes()], threshold: 1 };
    let roles = [holders(1), holders(2), holders(3), Holders::default()];
    Plan { fleet: "plant".into(), version: 1, roles }.root().expect("a root")
}

/// Everything that `mainstayctl verify` proves.
fn verify(file: &[u8]) -> Result<Figures, String> {
    let (mut reader, head) = BundleReader::begin(file).map_err(|f| f.to_string())?;
    let manifest = head.proven_manifest(&root()).map_err(|f| f.to_string())?;
    walk(&mut reader, &manifest, Depth::Content, &mut |_| Ok(())).map_err(|f| f.to_string())
}

/// What a bundle is made of, before it is put into a row.
struct Parts {
    artifact: Artifact,
    tables: [Vec<u8>; 2],
    pages: [Vec<u8>; 2],
    pieces: Vec<Vec<u8>>,
}

impl Parts {
    /// Of an image with one run.
    fn of(image: &[u8]) -> Self {
        let mut runs = Vec::new();
        let content = encode(&mut &image[..], How { level: 3, threads: 1 }, &mut |run, _| {
            runs.push(run);
            Ok(())
        })
        .expect("encoded");
        let run = runs.pop().expect("one run");
        Parts::with(content.size, content.digest, run.segment_page, run.route_page, run.pieces)
    }

    fn with(
        size: u64,
        digest: Digest,
        segment_page: Vec<u8>,
        route_page: Vec<u8>,
        pieces: Vec<Vec<u8>>,
    ) -> Self {
        let tables = [table(&[Digest::of(&segment_page)]), table(&[Digest::of(&route_page)])];
        let bytes = pieces.iter().map(|p| p.len() as u64).sum();
        let route = Route { kind: RouteKind::Full, table: Digest::of(&tables[1]), bytes };
        let artifact = Artifact {
            class: "rootfs".try_into().expect("short"),
            size,
            digest,
            segments: Digest::of(&tables[0]),
            routes: heapless::Vec::from_iter([route]),
        };
        Parts { artifact, tables, pages: [segment_page, route_page], pieces }
    }

    fn file(&self) -> Vec<u8> {
        let manifest = Manifest {
            compatible: "acme-gw1".try_into().expect("short"),
            version: "1.0.0".try_into().expect("short"),
            security_version: 0,
            artifacts: heapless::Vec::from_iter([self.artifact.clone()]),
            trial: TrialPolicy::default(),
            not_before: None,
            expires: None,
            provenance: Provenance::default(),
            meta: heapless::Vec::new(),
        };
        let body = manifest.encode().expect("a manifest");
        let head = Head::Signed(seal(MessageKind::Manifest, &body, &[&key(2)]).expect("an envelope"));
        let mut out = Vec::new();
        let mut writer = BundleWriter::begin(&mut out, &head).expect("written");
        let kinds = [Object::Table, Object::Table, Object::SegmentPage, Object::RoutePage];
        for (kind, bytes) in kinds.into_iter().zip(self.tables.iter().chain(&self.pages)) {
            writer.object(kind, bytes).expect("written");
        }
        for piece in &self.pieces {
            writer.object(Object::Piece, piece).expect("written");
        }
        writer.finish().expect("written");
        out
    }
}

/// A run whose one segment says what the test wants.
fn lying(size: u64, digest: Digest, listed: Digest, encoding: Encoding, encoded: &[u8]) -> Vec<u8> {
    let mut run = RunBuilder::new();
    run.push(listed, encoding, encoded).expect("pushed");
    let run = run.finish(0);
    Parts::with(size, digest, run.segment_page, run.route_page, run.pieces).file()
}

/// Zero regions, compressible and incompressible ones, and an odd tail.
fn image(dice: &mut Dice, bytes: usize) -> Vec<u8> {
    let mut image = Vec::with_capacity(bytes);
    while image.len() < bytes {
        let some = 1 + dice.below(3 * SEGMENT as u64 / 2) as usize;
        match dice.below(3) {
            0 => image.resize(image.len() + some, 0),
            1 => image.extend(dice.bytes(some)),
            _ => image.extend(dice.bytes(64).iter().cycle().take(some)),
        }
    }
    image.truncate(bytes);
    image
}

#[test]
fn the_same_images_make_the_same_bundle_on_one_core_and_on_many() {
    let desk = Desk::furnished();
    let mut dice = Dice(1);
    desk.write("a.img", image(&mut dice, 9 * SEGMENT + 4711));
    desk.write("b.img", image(&mut dice, 100));
    for (out, threads) in [("1.bundle", "1"), ("2.bundle", "2"), ("7.bundle", "7")] {
        desk.ok(&[
            "pack",
            "--artifact",
            "rootfs=a.img",
            "--artifact",
            "kernel=b.img",
            "--compatible",
            "acme-gw1",
            "--version",
            "1",
            "--level",
            "3",
            "--threads",
            threads,
            "--sign-with",
            "release.key",
            "--out",
            out,
        ]);
    }
    assert_eq!(desk.read("1.bundle"), desk.read("2.bundle"));
    assert_eq!(desk.read("1.bundle"), desk.read("7.bundle"));
}

/// Goal: what is packed is what comes out, for images of all kinds. Method: pack with the binary; `verify` makes
/// the content again and compares it with the digest in the manifest, and the test compares that digest with the
/// image's.
#[test]
fn what_is_packed_is_proven_for_images_of_all_kinds() {
    let desk = Desk::furnished();
    let mut dice = Dice(7);
    let sizes = [1, 4095, SEGMENT - 1, SEGMENT, SEGMENT + 1, 3 * SEGMENT + 17, 20 * SEGMENT];
    for size in sizes {
        let content = image(&mut dice, size);
        desk.write("image", &content);
        desk.bundle("x.bundle", &["rootfs=image"], "1");
        let said = desk.ok(&["verify", "x.bundle", "--trust", "trust.root"]);
        assert!(said.contains("verified 1 for acme-gw1"), "{said}");
        let shown: serde_json::Value =
            serde_json::from_str(&desk.ok(&["inspect", "x.bundle", "--json"])).expect("JSON");
        assert_eq!(shown["artifacts"][0]["sha256"], sha256(&content));
        assert_eq!(shown["artifacts"][0]["size"], size);
        let kinds = &shown["artifacts"][0]["segments"];
        let counted: u64 =
            ["zero", "raw", "zstd", "prefixed"].iter().map(|k| kinds[k].as_u64().expect("a number")).sum();
        assert_eq!(counted as usize, size.div_ceil(SEGMENT));
        let zero = content.chunks(SEGMENT).filter(|c| c.iter().all(|b| *b == 0)).count();
        assert_eq!(kinds["zero"], zero);
        std::fs::remove_file(desk.path("x.bundle")).expect("removed");
    }
}

#[test]
fn an_artifact_of_more_than_one_run_is_proven_too() {
    let desk = Desk::furnished();
    let file = std::fs::File::create(desk.path("image")).expect("a file");
    let size = 515 * SEGMENT as u64 + 9; // 512 segments in the first run, 4 in the second
    file.set_len(size).expect("sparse");
    use std::os::unix::fs::FileExt;
    for at in [0, 511 * SEGMENT as u64, 512 * SEGMENT as u64 + 5, size - 1] {
        file.write_all_at(&[1], at).expect("written");
    }
    desk.bundle("x.bundle", &["rootfs=image"], "1");
    desk.ok(&["verify", "x.bundle", "--trust", "trust.root"]);
    let kinds: Vec<u8> = entries(&desk.read("x.bundle")).iter().map(|e| e.kind).collect();
    // manifest, two tables, and twice: segment page, route page, one piece; end
    assert_eq!(kinds, [1, 2, 2, 3, 4, 5, 3, 4, 5, 255]);
}

#[test]
fn a_bundle_that_is_cut_short_anywhere_is_refused() {
    let mut dice = Dice(3);
    let whole = Parts::of(&image(&mut dice, 3 * SEGMENT + 100)).file();
    verify(&whole).expect("whole");
    let mut cuts: Vec<usize> = (0..700).collect();
    for Entry { at, bytes, .. } in entries(&whole) {
        // at each boundary, inside each header, behind it, and inside the object
        cuts.extend(at..=at + 9);
        cuts.extend([at + 8 + bytes.len() / 2, at + 8 + bytes.len().saturating_sub(1)]);
    }
    for cut in cuts.into_iter().filter(|cut| *cut < whole.len()) {
        let said = verify(&whole[..cut]).expect_err(&format!("cut at {cut}"));
        assert!(said.contains("cut short"), "cut at {cut}: {said}");
    }
}

#[test]
fn a_bundle_with_anything_behind_its_end_is_refused() {
    let whole = Parts::of(&[1; 100]).file();
    for more in [&[0u8][..], &[255, 0, 0, 0, 0, 0, 0, 0], &whole] {
        let said = verify(&[&whole[..], more].concat()).expect_err("longer");
        assert!(said.contains("follow its end"), "{said}");
    }
}

#[test]
fn a_bit_flipped_anywhere_is_refused() {
    let mut dice = Dice(5);
    let content = [dice.bytes(300), vec![0; 2 * SEGMENT], vec![7; SEGMENT]].concat();
    let whole = Parts::of(&content).file();
    assert!(whole.len() < 4000, "small enough to flip each bit: {}", whole.len());
    verify(&whole).expect("whole");
    for at in 0..whole.len() {
        for bit in 0..8 {
            let mut flipped = whole.clone();
            flipped[at] ^= 1 << bit;
            assert!(verify(&flipped).is_err(), "byte {at}, bit {bit}");
        }
    }
}

#[test]
fn objects_that_change_places_are_refused() {
    let mut dice = Dice(11);
    let whole = Parts::of(&dice.bytes(2 * SEGMENT)).file();
    let entries = entries(&whole);
    for first in 1..entries.len() - 1 {
        let mut changed = whole[..16].to_vec();
        let mut order: Vec<usize> = (0..entries.len()).collect();
        order.swap(first, first + 1);
        for index in order {
            let Entry { at, bytes, .. } = &entries[index];
            changed.extend_from_slice(&whole[*at..at + 8 + bytes.len()]);
        }
        assert!(changed == whole || verify(&changed).is_err(), "objects {first} and {}", first + 1);
    }
}

/// Goal: a signature does not make a lie true. Method: bundles that are well signed, whose index lies.
#[test]
fn a_signed_bundle_whose_index_lies_is_refused() {
    let content = vec![7u8; 1000];
    let digest = Digest::of(&content);
    let other = Digest::of(b"other");
    let frame = |bytes: &[u8]| {
        let mut out = vec![0; zstd_safe::compress_bound(bytes.len())];
        let used = zstd_safe::compress(&mut out[..], bytes, 3).expect("compressed");
        out.truncate(used);
        out
    };
    verify(&lying(1000, digest, digest, Encoding::Zstd, &frame(&content))).expect("the truth");
    verify(&lying(1000, digest, digest, Encoding::Raw, &content)).expect("the truth");
    let bomb = frame(&vec![7; 8 << 20]);
    #[rustfmt::skip]
    let cases = [
        // the lie                                     the file                                                    
        //     said
        ("another content than the index lists",       lying(1000, digest, other, Encoding::Raw, &content),             "segment 0: expected content"),
        ("another content than the manifest promises", lying(1000, other, digest, Encoding::Raw, &content),             "content: expected"),
        ("zero, and it is not",                        lying(1000, digest, digest, Encoding::Zero, &[]),                "segment 0: expected content"),
        ("raw, and shorter",                           lying(1000, digest, digest, Encoding::Raw, &content[1..]),       "cannot make 1000 bytes"),
        ("a frame that makes too few",                 lying(1000, digest, digest, Encoding::Zstd, &frame(&content[1..])), "makes 999 bytes"),
        ("a frame that makes too many",                lying(1000, digest, digest, Encoding::Zstd, &frame(&[7; 1001])), "zstd: Destination buffer is too small"),
        ("a bomb",                                     lying(1000, digest, digest, Encoding::Zstd, &bomb),              "zstd: Destination buffer is too small"),
        ("no frame",                                   lying(1000, digest, digest, Encoding::Zstd, b"no frame at all"), "zstd: "),
        ("a frame as long as its content",             lying(1000, digest, digest, Encoding::Zstd, &content),           "cannot make 1000 bytes"),
        ("more segments than its size has",            lying(300_000, digest, digest, Encoding::Raw, &content),         "expected segments 0+2"),
    ];
    for (lie, file, said) in cases {
        let found = verify(&file).expect_err(lie);
        assert!(found.contains(said), "{lie}: {found}");
    }

    let mut parts = Parts::of(&content);
    parts.artifact.routes[0].bytes += 1;
    let found = verify(&parts.file()).expect_err("bytes");
    assert!(found.contains("promises"), "{found}");
}

#[test]
fn an_unsigned_bundle_says_so_and_is_taken_by_nobody() {
    let desk = Desk::furnished();
    desk.write("image", [3; 1000]);
    let said = desk.ok(&[
        "pack",
        "--artifact",
        "rootfs=image",
        "--compatible",
        "acme-gw1",
        "--version",
        "1",
        "--out",
        "x.bundle",
    ]);
    assert!(said.contains("x.bundle.unsigned") && said.contains("not signed yet"), "{said}");
    assert!(!desk.path("x.bundle").exists());
    let said = desk.refused(&["verify", "x.bundle.unsigned", "--trust", "trust.root"]);
    assert!(said.contains("nobody has signed") && said.contains("mainstayctl sign"), "{said}");
    let said = desk.ok(&["inspect", "x.bundle.unsigned"]);
    assert!(said.contains("no name yet") && said.contains("NOT VERIFIED"), "{said}");
    assert_eq!(&desk.read("x.bundle.unsigned")[..16], b"MAINSTAY-UNSIGN1");

    desk.ok(&["sign", "x.bundle.unsigned", "--key", "release.key"]);
    desk.ok(&["verify", "x.bundle", "--trust", "trust.root"]);
    let said = desk.refused(&["sign", "x.bundle.unsigned", "--key", "release.key"]);
    assert!(said.contains("x.bundle: exists already"), "{said}");
}

#[test]
fn a_threshold_of_signers_is_collected_one_after_the_other() {
    let desk = Desk::new();
    for name in ["root", "anna", "ben", "carl", "eve"] {
        desk.key(name);
    }
    desk.ok(&[
        "trust",
        "init",
        "--fleet",
        "plant",
        "--root-key",
        "root.pub",
        "--release-key",
        "anna.pub",
        "--release-key",
        "ben.pub",
        "--release-key",
        "carl.pub",
        "--release-threshold",
        "2",
        "--sign-with",
        "root.key",
        "--out",
        "trust.root",
    ]);
    desk.write("image", Dice(1).bytes(1000));
    desk.ok(&[
        "pack",
        "--artifact",
        "rootfs=image",
        "--compatible",
        "acme-gw1",
        "--version",
        "1",
        "--sign-with",
        "anna.key",
        "--out",
        "x.bundle",
    ]);
    let verify = ["verify", "x.bundle", "--trust", "trust.root"];
    let one = desk.refused(&verify);
    assert!(
        one.contains("expected 2 valid signature(s) of role release") && one.contains("found 1"),
        "{one}"
    );
    // The same signer twice, and one who is not of the role, do not make two.
    desk.ok(&["sign", "x.bundle", "--key", "anna.key"]);
    desk.ok(&["sign", "x.bundle", "--key", "eve.key"]);
    let still = desk.refused(&verify);
    assert!(still.contains("found 1 (of 2 on it)"), "{still}");

    let before = sha256(&entries(&desk.read("x.bundle"))[0].bytes);
    let said = desk.ok(&["sign", "x.bundle", "--key", "carl.key"]);
    let after = sha256(&entries(&desk.read("x.bundle"))[0].bytes);
    assert!(before != after && said.contains(&before) && said.contains(&after), "{said}");
    desk.ok(&verify);
    let shown = desk.ok(&["inspect", "x.bundle", "--trust", "trust.root"]);
    assert_eq!(shown.matches("valid, of the release role").count(), 2, "{shown}");
    assert_eq!(shown.matches("counts for nothing").count(), 1, "{shown}");
}

#[test]
fn nobody_signs_what_is_not_there() {
    let desk = Desk::furnished();
    desk.write("image", Dice(1).bytes(5000));
    desk.bundle("x.bundle", &["rootfs=image"], "1");
    let whole = desk.read("x.bundle");
    let last = whole.len() - 20;
    let mut damaged = whole.clone();
    damaged[last] ^= 1;
    desk.write("x.bundle", &damaged);
    let said = desk.refused(&["sign", "x.bundle", "--key", "root.key"]);
    assert!(said.contains("Piece before byte"), "{said}");
    assert_eq!(desk.read("x.bundle"), damaged, "the file is as it was");
    assert!(!desk.names().iter().any(|name| name.starts_with(".mainstayctl")), "{:?}", desk.names());
}

#[test]
fn a_bundle_goes_through_a_pipe() {
    let desk = Desk::furnished();
    desk.write("image", Dice(1).bytes(300_000));
    desk.bundle("x.bundle", &["rootfs=image"], "1");
    let input = std::fs::File::open(desk.path("x.bundle")).expect("a bundle");
    let output = desk.command(&["verify", "-", "--trust", "trust.root"]).stdin(input).output().expect("runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn what_the_manifest_is_told_stands_in_it() {
    let desk = Desk::furnished();
    desk.write("image", [1; 10]);
    desk.write("sbom.json", "{}");
    desk.ok(&[
        "pack",
        "--artifact",
        "rootfs=image",
        "--compatible",
        "acme-gw1",
        "--version",
        "2.1",
        "--security-version",
        "7",
        "--tries",
        "5",
        "--deadline-s",
        "90",
        "--require-check",
        "http",
        "--require-check",
        "disk",
        "--not-before",
        "2026-11-20T10:00:00Z",
        "--expires",
        "2036-11-20T10:00:00Z",
        "--source",
        "https://example.org/s",
        "--commit",
        "abc",
        "--builder",
        "ci",
        "--sbom",
        "sbom.json",
        "--meta",
        "ticket=4711",
        "--sign-with",
        "release.key",
        "--out",
        "x.bundle",
    ]);
    let shown: serde_json::Value =
        serde_json::from_str(&desk.ok(&["inspect", "x.bundle", "--json", "--trust", "trust.root"]))
            .expect("JSON");
    #[rustfmt::skip]
    let expected = [
        ("/compatible", serde_json::json!("acme-gw1")),
        ("/version", serde_json::json!("2.1")),
        ("/security_version", serde_json::json!(7)),
        ("/trial/tries", serde_json::json!(5)),
        ("/trial/deadline_s", serde_json::json!(90)),
        ("/trial/required", serde_json::json!(["http", "disk"])),
        ("/not_before", serde_json::json!(1_795_168_800)),
        ("/expires", serde_json::json!(2_110_788_000)),
        ("/provenance/source", serde_json::json!("https://example.org/s")),
        ("/provenance/commit", serde_json::json!("abc")),
        ("/provenance/builder", serde_json::json!("ci")),
        ("/provenance/sbom", serde_json::json!(sha256(b"{}"))),
        ("/meta/ticket", serde_json::json!("4711")),
        ("/trust/verified", serde_json::json!(true)),
    ];
    for (pointer, value) in expected {
        assert_eq!(shown.pointer(pointer), Some(&value), "{pointer} in {shown}");
    }
}
