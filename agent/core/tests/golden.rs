//! Golden vectors: bytes that must never change, in `golden/*.hex`. What this agent writes today must be these bytes, and
//! what stands there must be read by every agent to come. `golden/read.py` reads the same files by SPEC-bundle alone, without
//! a line of this project's code: that it agrees shows that the specification is enough.
//!
//! `MAINSTAY_BLESS=1 cargo test -p mainstay-core --test golden` writes them anew. Within version 1 of a body that is a break of
//! every bundle in the field; a new vector beside the old ones is not.

use ed25519_dalek::SigningKey;
use mainstay_core::bundle::author::{Run, RunBuilder, table};
use mainstay_core::bundle::{
    Artifact, BUNDLE_MAGIC, Encoding, Manifest, OBJECT_HEADER_BYTES, Object, Provenance, Route, RouteKind,
    RoutePage, SegmentPage, Table, TrialPolicy, VerifiedManifest, VerifiedObject, VerifiedSegment,
};
use mainstay_core::digest::Digest;
use mainstay_core::limits::SEGMENT_BYTES;
use mainstay_core::policy::{DesiredAction, DesiredState, MaintenanceWindow};
use mainstay_core::trust::{MessageKind, RoleMembers, TrustRoot, seal};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

/// Throw-away: seeds of 32 equal bytes.
fn key(seed: u8) -> SigningKey {
    SigningKey::from_bytes(&[seed; 32])
}

fn signed(kind: MessageKind, body: &[u8], seeds: &[u8]) -> Vec<u8> {
    let keys: Vec<SigningKey> = seeds.iter().map(|seed| key(*seed)).collect();
    seal(kind, body, &keys.iter().collect::<Vec<_>>()).unwrap()
}

fn text<const N: usize>(text: &str) -> heapless::String<N> {
    text.try_into().unwrap()
}

/// 2 of the first three keys are root, 2 of the next three release, the last is the operator.
fn root(version: u32, seeds: [u8; 7]) -> TrustRoot {
    let members = |threshold, members| RoleMembers { threshold, members };
    TrustRoot {
        fleet: text("golden"),
        version,
        keys: seeds.map(|seed| key(seed).verifying_key().to_bytes()).into_iter().collect(),
        roles: [members(2, 0b000_0111), members(2, 0b011_1000), members(1, 0b100_0000), members(0, 0)],
    }
}

/// Three segments: zeros; 262,144 times `A`; 650 times `A` and 50 times `C`.
fn rootfs() -> Vec<u8> {
    let mut content = vec![0; SEGMENT_BYTES];
    content.extend(vec![b'A'; SEGMENT_BYTES]);
    content.extend([b'A'; 650]);
    content.extend([b'C'; 50]);
    content
}

/// One segment, 300 bytes.
fn config() -> Vec<u8> {
    (0..300u32).map(|n| (n * 11) as u8).collect()
}

/// A zstd frame by hand (RFC 8878): single segment with a content size of four bytes, and two RLE blocks of 128 KiB.
fn frame_of_as() -> Vec<u8> {
    let rle_block = |last: u32| (131_072u32 << 3 | 1 << 1 | last).to_le_bytes();
    let mut frame = vec![0x28, 0xb5, 0x2f, 0xfd, 0b1010_0000];
    frame.extend((SEGMENT_BYTES as u32).to_le_bytes());
    for last in [0, 1] {
        frame.extend(&rle_block(last)[..3]);
        frame.push(b'A');
    }
    frame
}

/// The end of that, behind the segment of `A`: a compressed block of 50 literals `C` (RLE), and one sequence of no literals, 650 bytes
/// and an offset of 1, its three codes RLE (RFC 8878, section 3.1.1.3). Its first byte is the prefix's last. zstd 1.5.4 reads it so.
const FRAME_BEHIND_AS: [u8; 22] = [
    0x28,
    0xb5,
    0x2f,
    0xfd,
    0b1010_0000,
    0xbc,
    2,
    0,
    0, // 700 bytes
    10 << 3 | 2 << 1 | 1,
    0,
    0, // the last block: compressed, 10 bytes
    1 | 1 << 2 | 0x20,
    50 >> 4,
    b'C', // 50 literals
    1,
    0b0101_0100,
    0,
    2,
    45, // one sequence: literals 0, offset 4.. (3 more than it is), length 515..
    0x87,
    0x08, // from the end: 1, offset 00, length 135
];

/// The same run with its one piece cut in two at `at`, in the middle of a segment: pieces and segments are independent.
fn cut_anew(run: Run, at: usize) -> Run {
    let [piece] = <[Vec<u8>; 1]>::try_from(run.pieces).unwrap();
    let (one, two) = piece.split_at(at);
    let mut route_page = run.route_page[..run.route_page.len() - 36].to_vec();
    route_page[16] = 2;
    for piece in [one, two] {
        route_page.extend(Digest::of(piece).0);
        route_page.extend((piece.len() as u32).to_le_bytes());
    }
    Run { route_page, pieces: vec![one.to_vec(), two.to_vec()], ..run }
}

/// An artifact of one run, and its objects in the order of the file.
fn artifact(class: &str, content: &[u8], run: Run) -> (Artifact, Vec<(Object, Vec<u8>)>) {
    let segments = table(&[Digest::of(&run.segment_page)]);
    let routes = table(&[Digest::of(&run.route_page)]);
    let bytes = run.pieces.iter().map(|piece| piece.len() as u64).sum();
    let full = Route { kind: RouteKind::Full, table: Digest::of(&routes), bytes };
    let artifact = Artifact {
        class: text(class),
        size: content.len() as u64,
        digest: Digest::of(content),
        segments: Digest::of(&segments),
        routes: [full].into_iter().collect(),
    };
    let mut objects = vec![
        (Object::Table, segments),
        (Object::Table, routes),
        (Object::SegmentPage, run.segment_page),
        (Object::RoutePage, run.route_page),
    ];
    objects.extend(run.pieces.into_iter().map(|piece| (Object::Piece, piece)));
    (artifact, objects)
}

/// What the first artifact's content was before: no zeros yet, the same in the middle, another end.
fn base() -> Vec<u8> {
    let mut content = vec![b'B'; SEGMENT_BYTES];
    content.extend(vec![b'A'; SEGMENT_BYTES]);
    content.extend([b'C'; 700]);
    content
}

/// The route from there: zeros, a copy, and the end as it is; and its objects.
fn delta(content: &[u8]) -> (Route, Vec<(Object, Vec<u8>)>) {
    let mut run = RunBuilder::new();
    let end = &content[2 * SEGMENT_BYTES..];
    for (segment, (encoding, encoded)) in content.chunks(SEGMENT_BYTES).zip([
        (Encoding::Zero, &[][..]),
        (Encoding::Copy, &[]),
        (Encoding::Raw, end),
    ]) {
        run.push_delta(Digest::of(segment), encoding, encoded, encoding == Encoding::Raw).unwrap();
    }
    let Run { route_page, pieces, .. } = run.finish_delta(0);
    let table = table(&[Digest::of(&route_page)]);
    let kind = RouteKind::Delta { base: Digest::of(&base()), base_bytes: base().len() as u64 };
    let route = Route { kind, table: Digest::of(&table), bytes: end.len() as u64 };
    let mut objects = vec![(Object::Table, table), (Object::DeltaPage, route_page)];
    objects.extend(pieces.into_iter().map(|piece| (Object::Piece, piece)));
    (route, objects)
}

/// All vectors, by name.
fn vectors() -> BTreeMap<&'static str, Vec<u8>> {
    let [first, second] = [root(1, [1, 2, 3, 4, 5, 6, 7]), root(2, [1, 2, 8, 4, 5, 6, 7])];

    let content = rootfs();
    let mut run = RunBuilder::new();
    for (segment, (encoding, encoded)) in content.chunks(SEGMENT_BYTES).zip([
        (Encoding::Zero, vec![]),
        (Encoding::Zstd, frame_of_as()),
        (Encoding::Prefixed, FRAME_BEHIND_AS.to_vec()),
    ]) {
        run.push(Digest::of(segment), encoding, &encoded).unwrap();
    }
    let (mut one, one_objects) = artifact("rootfs", &content, run.finish(0));
    let (delta, delta_objects) = delta(&content);
    let delta_page = delta_objects[1].1.clone();
    one.routes.push(delta).unwrap();
    let content = config();
    let mut run = RunBuilder::new();
    run.push(Digest::of(&content), Encoding::Raw, &content).unwrap();
    let (two, two_objects) = artifact("config", &content, cut_anew(run.finish(0), 100));
    let [table, segment_page, route_page] = [0, 2, 3].map(|i| two_objects[i].1.clone());

    let manifest = Manifest {
        compatible: text("acme-gw-1"),
        version: text("2.0.0 „Grünspecht“"),
        security_version: 300,
        artifacts: [one, two].into_iter().collect(),
        trial: TrialPolicy {
            tries: 3,
            deadline_s: 600,
            required: [text("web"), text("plc-link")].into_iter().collect(),
        },
        not_before: None,
        expires: Some(4_102_444_800), // 2100-01-01
        provenance: Provenance {
            source: text("https://example.org/gateway.git"),
            commit: text("0123456789abcdef0123456789abcdef01234567"),
            builder: text("golden.rs"),
            sbom: Some(Digest([0x5b; 32])),
        },
        meta: [(text("note"), text("never ships"))].into_iter().collect(),
    };
    let manifest = signed(MessageKind::Manifest, &manifest.encode().unwrap(), &[4, 6]);

    let mut bundle = BUNDLE_MAGIC.to_vec();
    let mut objects = vec![(Object::Manifest, manifest.clone())];
    objects.extend(one_objects.into_iter().chain(delta_objects).chain(two_objects));
    objects.push((Object::End, vec![]));
    for (object, bytes) in objects {
        bundle.extend(object.header(bytes.len()));
        bundle.extend(bytes);
    }

    let desired = DesiredState {
        fleet: text("golden"),
        group: text("line-2"),
        seq: 1_000_000,
        version: text("2.0.0"),
        manifest: Digest::of(&manifest),
        action: DesiredAction::Run,
        rollout_bp: 2_500,
        window: Some(MaintenanceWindow { not_before: 1_800_000_000, spread_s: 7_200 }),
        expires: None,
        signed_at: 1_799_999_999,
        salt: 77,
    };
    BTreeMap::from([
        ("root-1", signed(MessageKind::TrustRoot, &first.encode().unwrap(), &[1, 3])),
        ("root-2", signed(MessageKind::TrustRoot, &second.encode().unwrap(), &[1, 2])),
        ("manifest", manifest),
        ("table", table),
        ("segment-page", segment_page),
        ("route-page", route_page),
        ("delta-page", delta_page),
        ("bundle", bundle),
        ("desired", signed(MessageKind::DesiredState, &desired.encode().unwrap(), &[7])),
    ])
}

fn stored(name: &str) -> Vec<u8> {
    let path = folder().join(name).with_extension("hex");
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let digits: Vec<u8> = text.bytes().filter(|c| !c.is_ascii_whitespace()).collect();
    digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

fn hex_lines(bytes: &[u8]) -> String {
    bytes.chunks(32).map(|line| line.iter().map(|b| format!("{b:02x}")).collect::<String>() + "\n").collect()
}

#[test]
fn what_is_written_today_is_what_stands_in_the_vectors() {
    let bless = std::env::var_os("MAINSTAY_BLESS").is_some();
    for (name, bytes) in vectors() {
        if bless {
            let path = folder().join(name).with_extension("hex");
            std::fs::write(path, hex_lines(&bytes)).unwrap();
        }
        let stored = stored(name);
        let same = bytes.iter().zip(&stored).take_while(|(a, b)| a == b).count();
        assert!(
            bytes == stored,
            "{name}: the first {same} bytes agree ({} and {})",
            bytes.len(),
            stored.len()
        );
    }
}

#[test]
fn the_vectors_are_read_from_the_anchor_to_the_content() {
    let first = TrustRoot::anchor(&stored("root-1")).unwrap();
    let root = first.rotate(&stored("root-2")).unwrap();
    assert_eq!((first.version, root.version, root.fleet.as_str()), (1, 2, "golden"));
    let desired = DesiredState::open(&root, &stored("desired"), "line-2", 1_000_000, 0).unwrap();
    let (manifest, artifacts) = read_bundle(&root, &stored("bundle"));
    assert_eq!(manifest.name(), desired.manifest);
    assert_eq!(manifest.name(), Digest::of(&stored("manifest")));
    assert_eq!(manifest.version, "2.0.0 „Grünspecht“");
    assert_eq!(artifacts, [rootfs(), config()]);
}

/// Reads a bundle file whole, as plainly as can be: the installer's way without its windows, its reuse and its zstd.
fn read_bundle(root: &TrustRoot, mut file: &[u8]) -> (VerifiedManifest, Vec<Vec<u8>>) {
    let mut take = |bytes: usize| {
        let (taken, rest) = file.split_at(bytes);
        file = rest;
        taken
    };
    assert_eq!(take(16), BUNDLE_MAGIC);
    let mut next = |expected: Object| {
        let header: [u8; OBJECT_HEADER_BYTES] = take(OBJECT_HEADER_BYTES).try_into().unwrap();
        let (object, length) = Object::parse_header(&header).unwrap();
        assert_eq!(object, expected);
        take(length)
    };
    let manifest = VerifiedManifest::open(root, next(Object::Manifest)).unwrap();
    let mut contents = Vec::new();
    for artifact in &manifest.artifacts {
        let prove = |name: &Digest, bytes| VerifiedObject::prove(name, bytes).unwrap();
        let runs = artifact.run_count();
        let segments = Table::parse(prove(&artifact.segments, next(Object::Table)), runs).unwrap();
        let full = artifact.full_route().unwrap();
        let routes = Table::parse(prove(&full.table, next(Object::Table)), runs).unwrap();
        let count = artifact.segment_count() as usize;
        let page = prove(&segments.page(0).unwrap(), next(Object::SegmentPage));
        let segments = SegmentPage::parse(page, 0, count).unwrap();
        let page = prove(&routes.page(0).unwrap(), next(Object::RoutePage));
        let route = RoutePage::parse(page, 0, count, |i| artifact.segment_bytes(i as u32)).unwrap();
        let mut row = Vec::new();
        for i in 0..route.piece_count() {
            row.extend(prove(&route.piece(i).unwrap().name, next(Object::Piece)).bytes());
        }
        assert_eq!(row.len() as u64, full.bytes);
        let mut content = Vec::new();
        for i in 0..count {
            let (encoding, length) = route.segment(i).unwrap();
            let encoded: Vec<u8> = row.drain(..length).collect();
            let bytes = match encoding {
                Encoding::Zero => vec![0; artifact.segment_bytes(i as u32)],
                Encoding::Raw => encoded,
                Encoding::Zstd => {
                    assert_eq!(encoded, frame_of_as());
                    vec![b'A'; SEGMENT_BYTES]
                }
                Encoding::Prefixed => {
                    assert_eq!(encoded, FRAME_BEHIND_AS);
                    [&[b'A'; 650][..], &[b'C'; 50]].concat()
                }
                _ => unreachable!("the vectors have none"),
            };
            let proven = VerifiedSegment::prove(content.len() as u64, &bytes, &segments.digest(i).unwrap());
            content.extend(proven.unwrap().bytes());
        }
        assert_eq!(Digest::of(&content), artifact.digest);
        for delta in &artifact.routes {
            let RouteKind::Delta { base: digest, base_bytes } = delta.kind else { continue };
            assert_eq!((digest, base_bytes), (Digest::of(&base()), base().len() as u64));
            let table = Table::parse(prove(&delta.table, next(Object::Table)), runs).unwrap();
            let page = prove(&table.page(0).unwrap(), next(Object::DeltaPage));
            let page = RoutePage::parse_delta(page, 0, count, |i| artifact.segment_bytes(i as u32)).unwrap();
            let mut row = Vec::new();
            for i in 0..page.piece_count() {
                row.extend(prove(&page.piece(i).unwrap().name, next(Object::Piece)).bytes());
            }
            let mut made = Vec::<u8>::new();
            for i in 0..count {
                let (encoding, length) = page.segment(i).unwrap();
                let encoded: Vec<u8> = row.drain(..length).collect();
                let bytes = match encoding {
                    Encoding::Zero => vec![0; artifact.segment_bytes(i as u32)],
                    Encoding::Copy => base()[made.len()..made.len() + SEGMENT_BYTES].to_vec(),
                    Encoding::Raw => encoded,
                    _ => unreachable!("the vectors have none"),
                };
                let proof = page.proof(i).unwrap().expect("a delta page has one");
                made.extend(VerifiedSegment::prove_by(made.len() as u64, &bytes, &proof).unwrap().bytes());
            }
            assert!(made == content);
        }
        contents.push(content);
    }
    assert!(next(Object::End).is_empty());
    (manifest, contents)
}

/// Runs the independent reader over `files`; `None` where there is no Python.
fn independent_reader(folder: &Path) -> Option<(bool, String)> {
    let script = self::folder().join("read.py");
    match Command::new("python3").arg("-I").arg(script).arg(folder).output() {
        Ok(done) => {
            let said = [done.stdout, done.stderr].concat();
            Some((done.status.success(), String::from_utf8_lossy(&said).into_owned()))
        }
        Err(e) => {
            println!("not run: the independent reader needs python3 ({e})");
            None
        }
    }
}

#[test]
fn a_reader_written_from_the_specification_alone_agrees() {
    let Some((ok, said)) = independent_reader(&folder()) else { return };
    assert!(ok, "{said}");
    let name = Digest::of(&stored("manifest")).to_string();
    for expected in
        [name.as_str(), "acme-gw-1", "2.0.0 „Grünspecht“", "524988 bytes", "300 bytes", "all agree"]
    {
        assert!(said.contains(expected), "{expected}: not in\n{said}");
    }
}

/// An agreement of two readers is worth something only if the other one refuses too.
#[test]
fn the_independent_reader_refuses_what_was_changed() {
    let copy = Path::new(env!("CARGO_TARGET_TMPDIR")).join("golden-changed");
    let _ = std::fs::remove_dir_all(&copy);
    std::fs::create_dir_all(&copy).unwrap();
    let names: Vec<&str> = vectors().into_keys().collect();
    let write = |name: &str, bytes: &[u8]| {
        std::fs::write(copy.join(name).with_extension("hex"), hex_lines(bytes)).unwrap();
    };
    names.iter().for_each(|name| write(name, &stored(name)));
    for name in names {
        let good = stored(name);
        for at in [0, good.len() / 3, good.len() / 2, good.len() - 1] {
            let mut bad = good.clone();
            bad[at] ^= 0x10;
            write(name, &bad);
            let Some((ok, said)) = independent_reader(&copy) else { return };
            assert!(!ok && said.contains("refused:"), "{name}, byte {at}: {said}");
        }
        write(name, &good);
    }
    let Some((ok, said)) = independent_reader(&copy) else { return };
    assert!(ok, "{said}");
}
