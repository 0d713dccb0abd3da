//! Where fuzzing begins: the golden vectors, the example configurations, and a few values that the code makes itself,
//! each in the shape of its target's input. Made when it is run, so that no second copy of a vector is checked in.

use crate::throwaway::KEYS;
use mainstay_core::audit::{Event, Head, record};
use mainstay_core::boot::Group;
use mainstay_core::bundle::patch::{Base, From, Map, Op, PatchState, Transform, patch};
use mainstay_core::bundle::recode::{Codec, Part, Tables, patch_parts};
use mainstay_core::digest::Digest;
use mainstay_core::fault::clip;
use mainstay_core::limits::RECORD_BYTES_MAX;
use mainstay_core::report::{Availability, GroupReport, Outcome as Ended, Presence, Progress};
use mainstay_core::trust::Envelope;
use mainstay_core::update::{Deployment, Outcome, OutcomeKind, Phase, PhaseName, Record};
use mainstay_core::wire::encode_body;
use mainstayctl::zstd::header_bytes;
use std::fs;
use std::path::{Path, PathBuf};

/// Writes all seeds into `corpus`, a folder for each target; how many.
pub fn write(corpus: &Path) -> std::io::Result<usize> {
    let seeds = all();
    for (target, bytes) in &seeds {
        let folder = corpus.join(target);
        fs::create_dir_all(&folder)?;
        fs::write(folder.join(format!("seed-{:.16}", Digest::of(bytes).to_string())), bytes)?;
    }
    Ok(seeds.len())
}

type Seeds = Vec<(&'static str, Vec<u8>)>;

fn all() -> Seeds {
    let mut seeds = Seeds::new();
    signed_things(&mut seeds);
    environments(&mut seeds);
    texts(&mut seeds);
    state(&mut seeds);
    said(&mut seeds);
    frames(&mut seeds);
    seeds
}

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn read(path: &str) -> Vec<u8> {
    let path = repository().join(path);
    fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn golden(name: &str) -> Vec<u8> {
    let text = read(&format!("agent/core/tests/golden/{name}.hex"));
    let digits: Vec<u8> = text.into_iter().filter(u8::is_ascii_hexdigit).collect();
    let byte = |pair: &[u8]| {
        u8::from_str_radix(std::str::from_utf8(pair).unwrap_or_default(), 16).unwrap_or_default()
    };
    digits.chunks(2).map(byte).collect()
}

fn body(envelope: &[u8]) -> Vec<u8> {
    Envelope::parse(envelope).expect("a golden envelope").unproven_body().to_vec()
}

fn signed_things(seeds: &mut Seeds) {
    let [root_1, root_2, manifest, desired, bundle] =
        ["root-1", "root-2", "manifest", "desired", "bundle"].map(golden);
    for envelope in [&root_1, &root_2, &manifest, &desired] {
        seeds.push(("envelope", envelope.clone()));
    }
    for (kind, bytes) in
        [(0, root_1.clone()), (0, root_2.clone()), (1, body(&root_1)), (1, body(&root_2)), (2, body(&root_2))]
    {
        seeds.push(("trust_root", [&[kind], &bytes[..]].concat()));
    }
    // Keys 1 to 4, all of them; thresholds 2 1 1 0; version and fleet as they should be; signed by 1 and 3, then by all.
    let step = |signers: [u8; 8]| {
        let mut step = vec![1, 2, 3, 4, 4, 2, 1, 1, 0];
        for members in [0b111u16, 0b1000, 0b0100, 0] {
            step.extend(members.to_le_bytes());
        }
        step.extend([1, 0]);
        step.extend(signers);
        step
    };
    seeds.push(("trust_root", [&[3], &step([0, 1, 0, 1, 0, 0, 0, 0])[..], &step([1; 8])].concat()));
    seeds.push(("manifest", body(&manifest)));
    for (known, time, sign, bytes) in
        [(1_000_000u64, 0u64, 0, &desired), (0, 1_800_000_000, 1, &body(&desired))]
    {
        seeds.push(("desired", [&known.to_le_bytes()[..], &time.to_le_bytes(), &[sign], bytes].concat()));
    }
    // The pages are of the golden artifact `config`: one segment of 300 bytes.
    let header = [1, 0, 43, 1, 0];
    for page in ["table", "segment-page", "route-page"] {
        seeds.push(("pages", [&header[..], &golden(page)].concat()));
    }
    // The golden delta page's artifact: zeros, a copy, and 1000 bytes as they are. And plans of pages, of any bytes.
    seeds.push(("pages", [&[3, 0, 0xe7, 3, 0], &golden("delta-page")[..]].concat()));
    for count in [1, 2, 40, 255] {
        let plan: Vec<u8> = (0..64u8).map(|n| n.wrapping_mul(count) & 0xfe | u8::from(n == 2)).collect();
        seeds.push(("pages", [&[count, 0x80, 0xe7, 3, count], &plan[..]].concat()));
    }
    seeds.push(("bundle", bundle.clone()));
    seeds.push(("console", [b"install retry approve\n", &bundle[..]].concat()));
    seeds.push(("ctl", [&[0], &bundle[..]].concat()));
    seeds.push(("ctl", [&[1], &bundle[..]].concat()));
}

fn environments(seeds: &mut Seeds) {
    for name in ["grub-empty", "grub-vars"] {
        for choice in [0, 0b0001_1010, 0b0000_0101] {
            seeds.push((
                "grub_env",
                [&[choice], &read(&format!("bootloader-glue/tests/golden/{name}"))[..]].concat(),
            ));
        }
    }
    let ours = ["BOOT_ORDER=A B", "BOOT_A_LEFT=0", "BOOT_A_GOOD=1", "BOOT_B_LEFT=0", "BOOT_B_GOOD=0", "x=y"];
    seeds.push(("grub_env", format!("\u{1a}{}\n", ours.join("\n")).into_bytes()));
    let block = [&b"\x9a"[..], ours.join("\n").as_bytes(), b"\n"].concat();
    seeds.push(("grub_env", block));
    let file = |name: &str| read(&format!("bootloader-glue/tests/golden/{name}"));
    let mended = [ours.join("\0").as_bytes(), b"\0\0"].concat();
    for (single, mend, pair) in [
        (1, 0, [file("fw-single"), Vec::new()]),
        (1, 0, [file("mk-single"), Vec::new()]),
        (0, 0, [file("fw-pair-1"), file("fw-pair-2")]),
        (0, 0, [file("mk-redundant"), b"garbage".to_vec()]),
        (0, 1, [mended.clone(), mended.clone()]),
        (1, 1, [mended.clone(), Vec::new()]),
    ] {
        let (all, size) = (pair.concat(), (pair[0].len().max(256) - 96) / 32);
        let cut = (pair[0].len() * 256).div_ceil(all.len()).min(255) as u8;
        for (convention, op) in [(0, 1), (1, 2), (2, 1), (0, 3)] {
            // size, boolean, single, mend, flags, convention, op, tries, group, cut
            let header = [size as u8, op & 1, single, mend, mend, 7, 8, convention, op, 3, 1, cut];
            seeds.push(("boot_env", [&header[..], &all].concat()));
        }
    }
}

fn texts(seeds: &mut Seeds) {
    for path in [
        "cross/package/board.toml",
        "hil-tests/lab/boards/x86-board.toml",
        "hil-tests/lab/boards/arm64-board.toml",
        "hil-tests/lab/boards/armhf-board.toml",
        "board-support/boards/grub-x86-gateway.toml",
        "board-support/boards/uboot-emmc-gateway.toml",
    ] {
        seeds.push(("config", [b"\0", &read(path)[..]].concat()));
    }
    let checks = "[[check]]\nname = \"web\"\ntcp = \"127.0.0.1:80\"\n[[check]]\nname = \"room\"\nrequired = false\n\
                  disk = { path = \"/var\", free_mib = 64 }\n[[check]]\nname = \"x\"\ncommand = [\"/bin/true\", \"-v\"]\n\
                  [[check]]\nname = \"u\"\nunit = \"a.service\"\ntimeout_s = 3\nretries = 1\ninterval_s = 2\ngrace_s = 9\n";
    let broker = "device = \"gw-0001\"\nboard = \"board.toml\"\ntrust = \"trust.root\"\nimage_floor = 3\n[broker]\n\
                  url = \"mqtts://[fe80::1]:99\"\ngroup = \"line-1\"\nca = \"ca\"\ncert = \"c\"\nkey = \"k\"\n[update]\n\
                  reboot = \"approve\"\nlate_fallback = \"prevent\"\nhours = \"22:00-05:00\"\nretry_s = 7\n";
    for text in ["cross/package/mainstay.toml", "hil-tests/src/package/guest/mainstay.toml"] {
        seeds.push(("config", [b"\x01", &read(text)[..]].concat()));
    }
    seeds.push(("config", format!("\x01{broker}{checks}").into_bytes()));
    for line in [
        "status\n",
        "status json\n",
        "mark good\n",
        "mark bad A\n",
        "mark active B\n",
        "rollback\n",
        "approve\n",
        "cancel\n",
    ] {
        seeds.push(("console", line.into()));
    }
    let guard =
        ["--deadline-boot-ms", "5000", "--lock", "/run/guard", "--again-s", "30", "--command", "reboot"];
    seeds.push(("console", guard.join("\0").into_bytes()));
    let (secret, public) = (KEYS[1].to_bytes(), KEYS[1].verifying_key().to_bytes());
    let (hex, id) = (mainstayctl::values::hex, mainstay_core::trust::KeyId::of(&public));
    let plain = format!(
        "mainstay secret key 1\npublic {}\nkdf none\ncipher none\nsecret {}\n",
        hex(&public),
        hex(&secret)
    );
    let locked = format!(
        "mainstay secret key 1\npublic {}\nkdf argon2id 8 1 1 {}\ncipher chacha20poly1305 {}\nsecret {}\n",
        hex(&public),
        hex(&[1; 16]),
        hex(&[2; 12]),
        hex(&[3; 48])
    );
    let shown = format!("mainstay public key 1\nid {id}\npublic {}\n", hex(&public));
    for (kind, text) in [("\x02", shown), ("\x03", plain), ("\x03", locked)] {
        seeds.push(("ctl", [kind, &text].concat().into_bytes()));
    }
    for words in
        ["2026-11-20T10:00:00Z", "+7d", "1795000000", "12.5%", "18446744073709551615", "line-2", "release"]
    {
        seeds.push(("ctl", ["\x04", words].concat().into_bytes()));
    }
}

fn state(seeds: &mut Seeds) {
    let deployment = Deployment {
        manifest: Digest([7; 32]),
        version: clip("2.0.0"),
        security_version: 4,
        target: Group::B,
        attempt: 7,
        tries: 3,
        deadline_s: 600,
        required: [clip("web")].into_iter().collect(),
        not_before: None,
        expires: Some(4_102_444_800),
    };
    let outcome = |kind| Outcome { kind, detail: clip("why") };
    let d = || deployment.clone();
    for phase in [
        Phase::Idle,
        Phase::Waiting(d()),
        Phase::Downloading(d()),
        Phase::Verifying(d()),
        Phase::Installed(d()),
        Phase::Trial(d()),
        Phase::Committing(d()),
        Phase::RollingBack(d(), outcome(OutcomeKind::RolledBack)),
        Phase::Settled(d(), outcome(OutcomeKind::Committed)),
        Phase::Settled(d(), outcome(OutcomeKind::FellBack)),
    ] {
        let record = Record { phase, ..Record::factory(3) };
        let mut out = [0; RECORD_BYTES_MAX];
        let bytes = record.encode(&mut out).expect("it fits");
        for running in 0..2 {
            // written, seq ×2, running, no boot facts, first, lost, events, cut
            let mut header = vec![1, 1];
            header.extend([5u64.to_le_bytes(), 6u64.to_le_bytes()].concat());
            header.extend([running, 0, 1, 0, 5, 0, 5, 0, 9, 0, 5, 0, 5, 0, 1, 0, 0]);
            seeds.push(("state", [&header, bytes].concat()));
        }
    }
    let mut log = vec![0];
    let mut head = Head::genesis("gw");
    for (event, values) in [
        (Event::Started, ("device", "gw")),
        (Event::Settled, ("why", "it \"failed\"\n")),
        (Event::ClockSet, ("x", "é")),
    ] {
        let Ok((line, after)) = record(&head, Some(1_800_000_000), event, &[(values.0, &values.1)]) else {
            continue;
        };
        log.extend_from_slice(line.as_bytes());
        head = after;
    }
    seeds.push(("audit", log));
    seeds.push(("audit", [&[1, 9, 0, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 1][..], b"text of values"].concat()));

    // A table of one partition: both CRCs are made right by the target.
    let mut gpt = vec![0; 512 + 512];
    gpt[12] = 92;
    (gpt[40], gpt[48], gpt[80]) = (1, 9, 4);
    (gpt[512], gpt[512 + 32], gpt[512 + 40], gpt[512 + 56]) = (1, 2, 5, b'x');
    seeds.push(("gpt", [&[0, 1, 1, 1, 200][..], &gpt].concat()));
}

fn said(seeds: &mut Seeds) {
    let group = || GroupReport { version: clip("1.0.0"), boot: Some((2, 3, 0)) };
    let presence = Presence {
        availability: Availability::Online,
        session: 9,
        running: Group::B,
        groups: [group(), group()],
        phase: PhaseName::Downloading,
        deployment: Some((Digest([7; 32]), clip("2.0.0"))),
        outcome: Some((OutcomeKind::Failed, clip("why"))),
        floor: 4,
        trust: 1,
        desired_seq: 9,
        detail: clip("detail"),
        agent: clip("0.1.0"),
        audit: Head::genesis("gw"),
    };
    let progress = Progress { manifest: Digest([7; 32]), done: 1, total: 3, fetched: 1, copied: 0, kept: 0 };
    let ended = Ended {
        manifest: Digest([7; 32]),
        version: clip("2.0.0"),
        attempt: 1,
        kind: OutcomeKind::Committed,
        detail: clip("detail"),
        running: Group::B,
        running_version: clip("2.0.0"),
    };
    let bodies =
        [encode_body(&presence), encode_body(&progress), encode_body(&ended)].map(|b| b.expect("it fits"));
    let message = |what: u8, topic: &str, payload: &[u8]| {
        let [low, high, ..] = payload.len().to_le_bytes();
        [&[what, topic.len() as u8, low, high], topic.as_bytes(), payload].concat()
    };
    let mut all = Vec::new();
    for (leaf, body) in bodies.iter().enumerate() {
        seeds.push(("wire", message(8 + leaf as u8, "", body)));
        all.extend(message(4 + leaf as u8, "gw-7", body));
    }
    all.extend(message(0x88, "", &[]));
    seeds.push(("wire", all));
    let object = format!("mainstay/1/plant/c/{}", Digest([7; 32]));
    seeds.push((
        "wire",
        message(0, &object, &mainstay::transport::topics::data_payload(&Digest([7; 32]), b"object")),
    ));

    #[rustfmt::skip]
    let packets: [&[u8]; 8] = [
        &[0x20, 6, 0, 0, 3, 0x21, 0, 8],                                                    // CONNACK, Receive Maximum 8
        &[0x32, 13, 0, 3, b'a', b'/', b'b', 0, 1, 3, 0x23, 0, 1, b'x', b'y'],               // PUBLISH, QoS 1, topic alias 1
        &[0x34, 8, 0, 1, b'a', 0, 2, 0, b'x', b'y'],                                        // PUBLISH, QoS 2
        &[0x90, 4, 0, 1, 0, 1],                                                             // SUBACK
        &[0x40, 4, 0, 1, 0x10, 0],                                                          // PUBACK, no matching subscribers
        &[0x62, 2, 0, 2],                                                                   // PUBREL
        &[0xb0, 4, 0, 1, 0, 0],                                                             // UNSUBACK
        &[0xe0, 8, 0x8e, 6, 0x1f, 0, 3, b'w', b'h', b'y'],                                  // DISCONNECT, with a reason
    ];
    packets.iter().for_each(|packet| seeds.push(("mqtt", packet.to_vec())));
    seeds.push(("mqtt", packets.concat()));
    seeds.push(("mqtt", vec![0xd0, 0]));
    let answers: [&[u8]; 5] = [
        b"\x03HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 0-4/9\r\nContent-Length: 5\r\n\r\nhello",
        b"\x00HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;x=y\r\nhello\r\n0\r\nTrailer: z\r\n\r\n",
        b"\x09HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n\r\nto the end",
        b"\x01HTTP/1.1 404 Not Found\r\nConnection: close\r\nContent-Encoding: identity\r\nContent-Length: 0\r\n\r\n",
        b"\x01HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
    ];
    answers.iter().for_each(|answer| seeds.push(("http", answer.to_vec())));
}

fn frames(seeds: &mut Seeds) {
    seeds.push(("patch", a_patch()));
    for content in [
        vec![b'A'; 4000],
        b"a text that is short".to_vec(),
        (0..3000u32).map(|i| ((i * i) >> 5) as u8).collect(),
    ] {
        let mut frame = Vec::with_capacity(zstd_safe::compress_bound(content.len()));
        zstd_safe::compress(&mut frame, &content, 3).expect("zstd packs anything");
        seeds.push(("zstd", [&[0xff, 1], &frame[..]].concat()));
        seeds.push(("zstd", [&[0xff, 0x81], &content[..]].concat()));
        seeds.push(("zstd", [&[0xff, 0xc1, 9], &content[..]].concat()));
    }
    delta_routes(seeds);
    recoded(seeds);
    // A plan of one artifact and what it needs is a few dozen bytes: any will do, and of different lengths.
    for seed in 1..=12u32 {
        let mut x = seed.wrapping_mul(2_654_435_761);
        let mut next = || {
            x = x.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (x >> 24) as u8
        };
        let bytes: Vec<u8> = (0..64 * seed).map(|_| next()).collect();
        seeds.push(("patch", [&[0, 4, 4], &bytes[..]].concat()));
        seeds.push(("patch", [&[0, 0x80, seed as u8], &bytes[..]].concat()));
        seeds.push(("delta_route", bytes.clone()));
        seeds.push(("signed", bytes.clone()));
        seeds.push(("messages", bytes));
    }
}

/// Plans as `arbitrary` reads them: a number from the front as it stands, one of nine ways by its share of a u32, an option
/// by a bit before it. All but the last three come to their end by the delta route alone.
fn delta_routes(seeds: &mut Seeds) {
    let way = |number: u64, rest: &[u8]| {
        let share = ((2 * number + 1) << 31) / 9;
        [&[1], &share.to_le_bytes()[..4], rest].concat()
    };
    // kind, length, offset, transform; behind four of them no map, or one.
    let op = |kind: u8, length: u32, transform: u8| {
        [&[1, kind], &length.to_le_bytes()[..], &5000u32.to_le_bytes(), &[transform]].concat()
    };
    let patch = |ops: &[Vec<u8>], map: &[u8]| {
        let none = vec![0; 4 - ops.len()];
        way(4, &[&ops.concat()[..], &none, map].concat())
    };
    let map = [&[1][..], &0x40_0000u32.to_le_bytes(), &[0, 1, 16, 0, 0, 2, 48, 0, 0, 9, 0, 0]].concat();
    let one = patch(&[op(1, 5000, 0), op(2, 300, 0), op(0, 70_000, 0)], &[0]);
    let moved = patch(&[op(1, 60_000, 1), op(1, 60_000, 2), op(1, 60_000, 5), op(1, 60_000, 6)], &map);
    let [zero, same, raw, frame] = [way(0, &[]), way(1, &[]), way(2, &[5]), way(3, &[3])];
    let follow = way(6, &[7]);
    let hostile = |parts: u8| way(8, &[&b"not a frame."[..], &[9, 1, parts]].concat());
    // kind, length, offset, literal, bit; behind three of them nothing that is done to it.
    let part = |kind: u8, bit: u8| {
        [&[1, kind], &900u16.to_le_bytes()[..], &5000u32.to_le_bytes(), &[b'x', bit]].concat()
    };
    let parts =
        |of: [(u8, u8); 3]| way(5, &[&of.map(|(kind, bit)| part(kind, bit)).concat()[..], &[0]].concat());
    let each = parts([(0, 0), (1, 0), (2, 5)]);
    let blocks = parts([(2, 0), (2, 3), (1, 0)]);
    for (n, ways) in [
        [&same, &one, &frame],
        [&one, &moved, &one],
        [&raw, &same, &zero],
        [&zero, &moved, &raw],
        [&moved, &follow, &follow],
        [&each, &one, &blocks],
        [&blocks, &each, &frame],
        [&one, &hostile(0), &one],
        [&one, &hostile(1), &each],
        [&way(7, &[7]), &same, &one],
    ]
    .into_iter()
    .enumerate()
    {
        let mut plan = ways.map(Vec::as_slice).concat();
        // last, begins, base; nothing is spoiled; known, nothing drifted or unreadable; target, reuse, window; the source is honest.
        plan.extend([200, 9, 0b010, 0, 0, 0, 0, 0, 0, 0, 0, n as u8 % 2, 0, 0, 0, 1, 1, 2, 0, 0, 0]);
        assert_eq!(crate::delta_route::by_delta_alone(&plan), n < 7, "seed {n}");
        seeds.push(("delta_route", plan));
    }
}

/// A block, what it opens to, and a part that is that, of no source.
fn recoded(seeds: &mut Seeds) {
    struct Nothing;
    impl Base for Nothing {
        fn bytes(&self) -> u64 {
            0
        }
        fn read(&mut self, _: u64, out: &mut [u8]) -> mainstay_core::seam::Result<()> {
            out.fill(0);
            Ok(())
        }
    }
    for level in [1u8, 5, 19] {
        let content: Vec<u8> = (0..900u32).flat_map(|n| format!("{} ", n * n % 97).into_bytes()).collect();
        let mut frame = Vec::with_capacity(zstd_safe::compress_bound(content.len()));
        zstd_safe::compress(&mut frame, &content, level.into()).expect("zstd packs anything");
        let (mut opened, block) = (vec![0; 1 << 16], &frame[header_bytes(&frame)..]);
        let (_, made) = Box::<Tables>::default().open(block, &mut opened).expect("a block of zstd's own");
        seeds.push(("recode", [&[0], block].concat()));
        seeds.push(("recode", [&[1], &opened[..made]].concat()));
        seeds.push(("recode", [&[3, level], &content[..]].concat()));
        let items = [&[2], &opened[..made]].concat();
        let ops = [Op::Extra { length: items.len() as u32 }];
        let (codec, length) = (Codec::Zstd, block.len());
        let part = Part::Closed { codec, length, sources: &[], opened: &[], items: &items, ops: &ops };
        let parts = patch_parts(&[part], 7 << 18, &mut Box::default(), &mut Nothing, block).expect("parts");
        seeds.push(("recode", [&[2], &(block.len() as u16).to_le_bytes()[..], &parts].concat()));

        let level = flate2::Compression::new(u32::from(level).min(9));
        let mut packs = flate2::write::DeflateEncoder::new(Vec::new(), level);
        std::io::Write::write_all(&mut packs, &content).expect("deflate packs anything");
        let block = packs.finish().expect("deflate packs anything");
        let (_, made) = Box::<Tables>::default().open_deflate(&block, 0, &mut opened).expect("a block");
        seeds.push(("recode", [&[4, 0], &block[..]].concat()));
        seeds.push(("recode", [&[5, 3], &opened[..made]].concat()));
        seeds.push(("recode", [&[6, level.level() as u8], &content[..]].concat()));
        let items = [&[1], &opened[..made]].concat();
        let (codec, ops) = (Codec::Deflate { bit: 0 }, [Op::Extra { length: items.len() as u32 }]);
        let part =
            Part::Closed { codec, length: block.len(), sources: &[], opened: &[], items: &items, ops: &ops };
        let parts = patch_parts(&[part], 7 << 18, &mut Box::default(), &mut Nothing, &block).expect("parts");
        seeds.push(("recode", [&[2], &(block.len() as u16).to_le_bytes()[..], &parts].concat()));
    }
}

/// The target's input with a frame that has a map, every operation and every transform, over a base of zeros.
fn a_patch() -> Vec<u8> {
    struct Zeros;
    impl Base for Zeros {
        fn bytes(&self) -> u64 {
            4096
        }
        fn read(&mut self, _: u64, out: &mut [u8]) -> mainstay_core::seam::Result<()> {
            out.fill(0);
            Ok(())
        }
    }
    let bytes = 16 + 8 + 56 * Transform::ALL.len() as u32;
    let content: Vec<u8> = (0..bytes).map(|n| if n < 16 { 0 } else { ((n * n) >> 6) as u8 }).collect();
    let mut map = Box::<Map>::default();
    map.clear(0x40_0000);
    for (start, shift) in [(0, 16), (1024, 48), (4096, 0)] {
        assert!(map.push(start, shift));
    }
    let add = |transform| Op::Add { length: 56, from: From { at: 64, transform, address: 64, anchor: 8 } };
    let ops =
        [&[Op::Copy { length: 16, at: 7 }, Op::Extra { length: 8 }][..], &Transform::ALL.map(add)].concat();
    let frame = patch(&ops, Some(&map), 0, &mut Box::<PatchState>::default(), &mut Zeros, &content);
    let [low, high, ..] = bytes.to_le_bytes();
    [&[low, high, 4], frame.expect("a frame").as_slice()].concat()
}
