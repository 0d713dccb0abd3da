//! Answers gateways that ask for objects which the broker does not hold (`need`): from bundle files, which are read when they
//! are asked for. Several servers share the work: a broker gives each `need` to one of them.
//!
//! What is served is proven by its name before it is sent, so a file that changes underneath is noticed here and not in the
//! field.

use crate::broker::Session;
use crate::bundle::{BundleReader, Depth, walk};
use crate::fail;
use crate::fail::{Result, Within};
use crate::meter::{Audience, Meter};
use mainstay_core::digest::Digest;
use mainstay_core::topic::{Leaf, device};
use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// First byte of `need` and `data`.
const FORMAT: u8 = 1;
/// One `need` names at most so many.
const NAMES_MAX: usize = 16;

/// Where each object of some bundles lies.
#[derive(Debug, Default)]
pub struct Shelf {
    files: Vec<(PathBuf, File)>,
    objects: HashMap<Digest, Spot>,
}

#[derive(Clone, Copy, Debug)]
struct Spot {
    file: usize,
    at: u64,
    bytes: usize,
}

impl Shelf {
    /// Reads a bundle through, proves each object, and remembers where it lies.
    pub fn add(&mut self, bundle: &Path, audience: Audience) -> Result<()> {
        if bundle.as_os_str() == "-" {
            return Err(fail!("expected a bundle file, found standard input: it cannot be read twice"));
        }
        let (mut reader, head, total) = BundleReader::open(bundle)?;
        let manifest = head.unproven_manifest().within(|| bundle.display())?;
        let mut meter = Meter::start(audience, "read", total);
        let file = self.files.len();
        walk(&mut reader, &manifest, Depth::Objects, &mut |seen| {
            meter.set(seen.at);
            let bytes = seen.bytes.len();
            self.objects.insert(seen.name, Spot { file, at: seen.at - bytes as u64, bytes });
            Ok(())
        })
        .within(|| bundle.display())?;
        meter.finish();
        self.files.push((bundle.into(), File::open(bundle).within(|| bundle.display())?));
        Ok(())
    }

    /// How many objects there are.
    pub fn len(&self) -> usize {
        self.objects.len()
    }

    /// There are none.
    pub fn is_empty(&self) -> bool {
        self.objects.is_empty()
    }

    /// An object, proven; `None`: it lies in no bundle here.
    pub fn get(&self, name: &Digest) -> Result<Option<Vec<u8>>> {
        let Some(spot) = self.objects.get(name) else { return Ok(None) };
        let Some((path, file)) = self.files.get(spot.file) else { return Ok(None) };
        let mut bytes = vec![0; spot.bytes];
        file.read_exact_at(&mut bytes, spot.at).within(|| path.display())?;
        let found = Digest::of(&bytes);
        match found == *name {
            true => Ok(Some(bytes)),
            false => Err(fail!(
                "{}: at byte {}: expected object {name}, found {found}: the file has changed",
                path.display(),
                spot.at
            )),
        }
    }
}

/// What to listen to: one of all servers gets each message.
pub fn filter(fleet: &str) -> Result<String> {
    mainstay_core::wire::check_name("fleet", fleet)?;
    Ok(format!("$share/chunkd/{}", device(fleet, "+", Leaf::Need).as_str()))
}

/// Whose `need` it is, and what it names.
pub fn read(fleet: &str, topic: &str, payload: &[u8]) -> Result<(String, Vec<Digest>)> {
    let wrong = || fail!("expected a `need` of a gateway of fleet {fleet}, found {} bytes", payload.len());
    let rest = topic.strip_prefix("mainstay/1/").and_then(|rest| rest.strip_prefix(fleet));
    let id = rest.and_then(|rest| rest.strip_prefix("/d/")?.strip_suffix("/need")).ok_or_else(wrong)?;
    mainstay_core::wire::check_name("device", id)?;
    let (format, names) = payload.split_first().ok_or_else(wrong)?;
    let (names, rest) = names.as_chunks::<32>();
    if *format != FORMAT || !rest.is_empty() || !(1..=NAMES_MAX).contains(&names.len()) {
        return Err(wrong());
    }
    Ok((id.to_owned(), names.iter().map(|name| Digest(*name)).collect()))
}

/// Answers one `need`: how many of its objects were sent.
pub fn answer(
    session: &mut Session,
    shelf: &Shelf,
    fleet: &str,
    id: &str,
    names: &[Digest],
) -> Result<usize> {
    let topic = device(fleet, id, Leaf::Data);
    let mut sent = 0;
    for name in names {
        let Some(object) = shelf.get(name)? else { continue };
        session.say(topic.as_str(), &[&[FORMAT][..], &name.0, &object].concat())?;
        sent += 1;
    }
    session.flush()?;
    Ok(sent)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_need_names_one_to_sixteen_objects_of_one_gateway() {
        let topic = "mainstay/1/plant/d/gw-1/need";
        let names = |count: usize| [&[FORMAT][..], &vec![7; 32 * count]].concat();
        assert_eq!(read("plant", topic, &names(1)).unwrap(), ("gw-1".into(), vec![Digest([7; 32])]));
        assert_eq!(read("plant", topic, &names(16)).unwrap().1.len(), 16);
        let mut format = names(1);
        format[0] = 2;
        let cut = &names(2)[..40];
        for (topic, payload) in [
            (topic, &names(0)[..]),
            (topic, &names(17)),
            (topic, &[]),
            (topic, &format),
            (topic, cut),
            ("mainstay/1/other/d/gw-1/need", &names(1)),
            ("mainstay/1/plant/d/gw-1/data", &names(1)),
            ("mainstay/1/plant/d/a/b/need", &names(1)),
        ] {
            assert!(read("plant", topic, payload).is_err(), "{topic}, {} bytes", payload.len());
        }
    }
}
