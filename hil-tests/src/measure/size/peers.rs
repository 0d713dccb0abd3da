//! The peers: tools of Debian, each really run, and what it makes is really applied and compared with the new image. Each
//! function reads like the commands that one would type; `old` and `new` are the images.
//!
//! What is counted as packing is what each new release costs; what a store holds of the old one is there already. What is
//! counted as applying begins with what was fetched and ends with the new image as a file.

use super::desk::{Desk, Weighed};
use super::emulated;
use crate::measure::cost::Cost;
use crate::pki::Pki;
use crate::{Doing, Result, Trouble};
use std::collections::BTreeMap;
use std::path::Path;

/// Programs, and the one or two methods that they are weighed for.
pub struct Peer {
    /// What it is called in the table; all are weighed at once.
    pub names: &'static [&'static str],
    /// Programs that it needs, and Debian's packages of them.
    pub needs: &'static [(&'static str, &'static str)],
    /// Weighs.
    pub weigh: fn(&Desk) -> Result<Vec<Weighed>>,
}

const ZSTD: (&str, &str) = ("zstd", "zstd");

/// All of them.
pub const PEERS: [Peer; 15] = [
    Peer { names: &["full, zstd -19"], needs: &[ZSTD], weigh: |desk| one(zstd_full(desk)) },
    Peer {
        names: &["RAUC, verity bundle"],
        needs: &[("rauc", "rauc"), ("mksquashfs", "squashfs-tools")],
        weigh: |desk| one(rauc(desk)),
    },
    Peer {
        names: &["RAUC, adaptive, 64 KiB (emulated)"],
        needs: &[],
        weigh: |desk| one(emulated::rauc_adaptive(desk)),
    },
    Peer {
        names: &["fixed 4 KiB blocks (emulated)"],
        needs: &[],
        weigh: |desk| one(emulated::fixed_blocks(desk)),
    },
    Peer {
        names: &["casync, 64 KiB"],
        needs: &[("casync", "casync")],
        weigh: |desk| one(casync(desk, "65536")),
    },
    Peer {
        names: &["casync, 16 KiB"],
        needs: &[("casync", "casync")],
        weigh: |desk| one(casync(desk, "16384")),
    },
    Peer {
        names: &["zchunk"],
        needs: &[("zck", "zchunk"), ("zck_delta_size", "zchunk")],
        weigh: |desk| one(zchunk(desk)),
    },
    Peer {
        names: &["rdiff, 2 KiB, zstd -19"],
        needs: &[("rdiff", "rdiff"), ZSTD],
        weigh: |desk| one(rdiff(desk)),
    },
    Peer { names: &["zstd -12 --patch-from"], needs: &[ZSTD], weigh: |desk| one(zstd_patch(desk, 12)) },
    Peer { names: &["zstd -19 --patch-from"], needs: &[ZSTD], weigh: |desk| one(zstd_patch(desk, 19)) },
    Peer { names: &["xdelta3"], needs: &[("xdelta3", "xdelta3")], weigh: |desk| one(xdelta3(desk, "")) },
    Peer {
        names: &["xdelta3 -9 -S djw"],
        needs: &[("xdelta3", "xdelta3")],
        weigh: |desk| one(xdelta3(desk, "-9 -S djw")),
    },
    Peer {
        names: &["xdelta3 -9 -S djw -B 1 GiB"],
        needs: &[("xdelta3", "xdelta3")],
        weigh: |desk| one(xdelta3(desk, "-9 -S djw -B 1073741824")),
    },
    Peer {
        names: &["bsdiff"],
        needs: &[("bsdiff", "bsdiff"), BSPATCH, ("prlimit", "util-linux")],
        weigh: |desk| one(bsdiff(desk)),
    },
    Peer {
        names: &["bsdiff (qbsdiff)", BSDIFF_XZ],
        needs: &[BSPATCH, ("bzip2", "bzip2"), ("xz", "xz-utils")],
        weigh: qbsdiff,
    },
];

const BSPATCH: (&str, &str) = ("bspatch", "bsdiff");

/// The smallest that is known without disassembly: what our delta is measured by.
pub const BSDIFF_XZ: &str = "bsdiff, xz -9 (emulated)";

fn one(weighed: Result<Weighed>) -> Result<Vec<Weighed>> {
    weighed.map(|weighed| vec![weighed])
}

fn zstd_full(desk: &Desk) -> Result<Weighed> {
    let pack = desk.run("zstd -q -f -T1 -19 new -o wire")?;
    let apply = desk.run("zstd -q -d -f wire -o out")?;
    desk.prove()?;
    weighed(desk.weigh("wire")?, 0, pack, Some(apply))
}

fn zstd_patch(desk: &Desk, level: u32) -> Result<Weighed> {
    let window = window_log(desk.weigh("old")?.max(desk.new_bytes()));
    let pack = desk.run(&format!("zstd -q -f -T1 -{level} --long={window} --patch-from=old new -o wire"))?;
    let apply = desk.run(&format!("zstd -q -d -f --long={window} --patch-from=old wire -o out"))?;
    desk.prove()?;
    weighed(desk.weigh("wire")?, 0, pack, Some(apply))
}

/// The smallest window that holds so many bytes, as a power of two; zstd takes 10 to 31.
fn window_log(bytes: u64) -> u32 {
    bytes.max(1).next_power_of_two().ilog2().clamp(10, 31)
}

fn xdelta3(desk: &Desk, words: &str) -> Result<Weighed> {
    let pack = desk.run(&format!("xdelta3 -q -f {words} -e -s old new wire"))?;
    // Its window of the old image has to be as large again; the compression stands in the file.
    let window = words.split_once("-B").map_or_else(String::new, |(_, bytes)| format!("-B {bytes}"));
    let apply = desk.run(&format!("xdelta3 -q -f {window} -d -s old wire out"))?;
    desk.prove()?;
    weighed(desk.weigh("wire")?, 0, pack, Some(apply))
}

/// Debian's. Its sort takes an hour of CPU for some images; it is given some minutes.
fn bsdiff(desk: &Desk) -> Result<Weighed> {
    let pack = desk.run(&format!("prlimit --cpu={BSDIFF_CPU_S_MAX} bsdiff old new wire"));
    let pack = pack.map_err(|why| match why.to_string() {
        why if why.contains("SIGXCPU") || why.contains("SIGKILL") => {
            Trouble::new(format!("not finished after {BSDIFF_CPU_S_MAX} s of CPU"))
        }
        _ => why,
    })?;
    let apply = desk.run("bspatch old out wire")?;
    desk.prove()?;
    weighed(desk.weigh("wire")?, 0, pack, Some(apply))
}

const BSDIFF_CPU_S_MAX: u32 = 300;

/// The same format by another suffix array, applied by Debian's tool; and with xz, which is made of it.
fn qbsdiff(desk: &Desk) -> Result<Vec<Weighed>> {
    let pack = desk.run(&format!("./{WHOLE} old new wire"))?;
    let apply = desk.run("bspatch old out wire")?;
    desk.prove()?;
    let first = weighed(desk.weigh("wire")?, 0, pack, Some(apply))?;
    Ok(vec![first, emulated::bsdiff_xz(desk, "wire")?])
}

/// The program of `hil-tests/whole`, as it lies on a desk.
pub const WHOLE: &str = "mainstay-whole";

fn rdiff(desk: &Desk) -> Result<Weighed> {
    let pack = desk.run("rdiff -b 2048 signature old signature")?;
    let pack = pack.then(desk.run("rdiff delta signature new delta")?);
    let pack = pack.then(desk.run("zstd -q -f -T1 -19 delta -o wire")?);
    std::fs::remove_file(desk.at("delta")).doing(|| "delta")?;
    let apply = desk.run("zstd -q -d -f wire -o delta")?.then(desk.run("rdiff patch old delta out")?);
    desk.prove()?;
    weighed(desk.weigh("wire")?, 0, pack, Some(apply))
}

/// The new index, and each chunk that the old image's store does not have. The device makes the image of its old one and
/// just these.
fn casync(desk: &Desk, average: &str) -> Result<Weighed> {
    desk.run(&format!("casync make --chunk-size={average} --store=old.castr old.caibx old"))?;
    let pack = desk.run(&format!("casync make --chunk-size={average} --store=new.castr new.caibx new"))?;
    let there = chunks(&desk.at("old.castr"))?;
    let mut content = 0;
    for (name, bytes) in chunks(&desk.at("new.castr"))? {
        match there.contains_key(&name) {
            true => std::fs::remove_file(desk.at("new.castr").join(&name)).doing(|| name.clone())?,
            false => content += bytes,
        }
    }
    let index = desk.weigh("new.caibx")?;
    let apply = desk.run("casync extract --store=new.castr --seed=old new.caibx out")?;
    desk.prove()?;
    weighed(index + content, index, pack, Some(apply))
}

/// What stands in a store: `abcd/abcdef….cacnk`, and how long each is.
fn chunks(store: &Path) -> Result<BTreeMap<String, u64>> {
    let what = || store.display().to_string();
    let mut chunks = BTreeMap::new();
    for folder in std::fs::read_dir(store).doing(what)? {
        let folder = folder.doing(what)?.path();
        for chunk in std::fs::read_dir(&folder).doing(what)? {
            let chunk = chunk.doing(what)?;
            let name = Path::new(folder.file_name().unwrap_or_default()).join(chunk.file_name());
            let bytes = chunk.metadata().doing(what)?.len();
            chunks.insert(name.to_string_lossy().into_owned(), bytes);
        }
    }
    Ok(chunks)
}

/// Its own tool says what a device would fetch, header and all. That device needs a web server with ranges, so nothing is
/// applied here.
fn zchunk(desk: &Desk) -> Result<Weighed> {
    desk.run("zck -o old.zck old")?;
    let pack = desk.run("zck -o new.zck new")?;
    let said = desk.ask("zck_delta_size old.zck new.zck")?;
    let wire = would_download(&said).doing(|| format!("zck_delta_size: found {said:?}"))?;
    weighed(wire, 0, pack, None)
}

/// From `Would download 12644065 of 56546994 bytes`.
fn would_download(said: &str) -> Option<u64> {
    said.lines().find_map(|line| line.strip_prefix("Would download ")?.split(' ').next()?.parse().ok())
}

/// A bundle as its integrators make it. It is installed by a service over D-Bus, dm-verity and a loop device, which is not played
/// here. Its packing is mksquashfs', whose memory is not seen.
fn rauc(desk: &Desk) -> Result<Weighed> {
    let pki = Pki::create(&desk.at("pki"))?;
    let release = pki.client("release")?;
    std::fs::create_dir(desk.at("content")).doing(|| "content")?;
    std::fs::copy(desk.at("new"), desk.at("content/rootfs.img")).doing(|| "content/rootfs.img")?;
    desk.write("content/manifest.raucm", RAUC_MANIFEST)?;
    for (file, name) in [(&release.certificate, "cert.pem"), (&release.key, "key.pem")] {
        std::fs::copy(file, desk.at(name)).doing(|| name)?;
    }
    let pack = desk.run("rauc --cert=cert.pem --key=key.pem bundle content wire.raucb")?;
    let pack = Some(Cost { peak: None, ..pack });
    Ok(Weighed { wire: desk.weigh("wire.raucb")?, pack, ..Weighed::default() })
}

const RAUC_MANIFEST: &[u8] = b"\
[update]
compatible=bench-gateway
version=2

[bundle]
format=verity

[image.rootfs]
filename=rootfs.img
";

fn weighed(wire: u64, index: u64, pack: Cost, apply: Option<Cost>) -> Result<Weighed> {
    Ok(Weighed { wire, index, pack: Some(pack), apply, note: String::new() })
}

#[cfg(test)]
mod tests {
    use super::super::desk::tests::desk;
    use super::*;
    use crate::image::Random;

    #[test]
    fn what_zchunk_would_download_is_read_from_its_words() {
        assert_eq!(would_download("Would download 12644065 of 56546994 bytes\nMatched 1"), Some(12_644_065));
        assert_eq!(would_download("Matched 1096 of 1374 chunks\n"), None);
    }

    #[test]
    fn a_window_holds_what_it_has_to() {
        let cases = [(0, 10), (1024, 10), (1025, 11), (384 << 20, 29), (512 << 20, 29), (u64::MAX / 4, 31)];
        for (bytes, log) in cases {
            assert_eq!(window_log(bytes), log, "{bytes}");
        }
    }

    /// Goal: each peer's commands do what they are there for. Method: 1 MiB of noise of which the last quarter is another; what
    /// comes of it is proven by [`Desk::prove`], and a delta has to be smaller than half of the image and no smaller than
    /// what is new in it.
    #[test]
    fn every_peer_that_is_here_makes_the_new_image_of_the_old_one_and_sends_no_less_than_what_is_new() {
        let mut random = Random(5);
        let mut noise =
            |bytes: usize| (0..bytes / 8).flat_map(|_| random.next().to_le_bytes()).collect::<Vec<u8>>();
        let old = noise(1 << 20);
        let mut new = old.clone();
        new[768 << 10..].copy_from_slice(&noise(256 << 10));
        for peer in &PEERS {
            let missing: Vec<_> = peer.needs.iter().filter(|need| !super::super::installed(need.0)).collect();
            if !missing.is_empty() {
                eprintln!("not run: {:?}: {missing:?}", peer.names);
                continue;
            }
            let (_folder, desk) = desk(&old, &new);
            let whole = crate::programs::target().join("tool").join(WHOLE);
            if peer.names.contains(&BSDIFF_XZ) && !whole.is_file() {
                eprintln!("not run: {:?}: cargo build --profile tool --package {WHOLE}", peer.names);
                continue;
            }
            desk.link(WHOLE, &whole).unwrap();
            let all = (peer.weigh)(&desk).unwrap_or_else(|why| panic!("{:?}: {why}", peer.names));
            assert_eq!(all.len(), peer.names.len());
            for (name, weighed) in peer.names.iter().zip(all) {
                let full = name.starts_with("full") || name.contains("bundle");
                let most = if full { 1200 << 10 } else { 512 << 10 };
                assert!((256 << 10..most).contains(&weighed.wire), "{name}: {weighed:?}");
            }
        }
    }
}
