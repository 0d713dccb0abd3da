//! Files that have changed and that a delta cannot see into: what each costs in this delta.

use super::content::{Content, Opaque, opaque};
use super::{Hint, Image};
use crate::layout::FileExtents;
use std::collections::BTreeMap;

pub(super) fn hints(new: Image, base: Image, encoded_by_file: &[(String, u64)]) -> Vec<Hint> {
    let mut costs: BTreeMap<&str, u64> = BTreeMap::new();
    for (path, bytes) in encoded_by_file {
        *costs.entry(path).or_default() += bytes;
    }
    let (mut hints, mut modules, mut packed, mut compiled) =
        (Vec::new(), Group::new(), Group::new(), Group::new());
    for (path, bytes) in costs.into_iter().filter(|(_, bytes)| *bytes > 0) {
        let Some(file) = file(new, path) else { continue };
        let content = Content::of(new.0, file);
        let Some(what) = opaque(path, &content) else { continue };
        let before = file_of(base, path);
        if before.as_ref().is_some_and(|before| before.equals(&content)) {
            continue;
        }
        match what {
            Opaque::Kernel { form, packing } => hints.push(Hint {
                title: format!("{path}: {form} with {packing} has changed"),
                bytes,
                advice: kernel_advice(form),
            }),
            Opaque::Initrd { packing, early } => hints.push(Hint {
                title: format!(
                    "{path}: initial RAM disk with {packing}{} has changed",
                    if early { " behind an early one" } else { "" }
                ),
                bytes,
                advice: INITRD_ADVICE.into(),
            }),
            Opaque::Module => modules.add(path, bytes),
            Opaque::Packed => packed.add(path, bytes),
            Opaque::Pyc => compiled.add(path, bytes),
        }
    }
    hints.extend(modules.hint("packed kernel modules", MODULE_ADVICE));
    hints.extend(packed.hint("packed files (documents, archives)", PACKED_ADVICE));
    hints.extend(compiled.hint("files of compiled Python", PYC_ADVICE));
    hints
}

fn file<'i>(image: Image<'i>, path: &str) -> Option<&'i FileExtents> {
    let index = image.1.files.binary_search_by(|file| file.path.as_str().cmp(path)).ok()?;
    image.1.files.get(index)
}

fn file_of<'i>(image: Image<'i>, path: &str) -> Option<Content<'i>> {
    file(image, path).map(|file| Content::of(image.0, file))
}

/// What to do about a kernel depends on who unpacks it.
pub(super) fn kernel_advice(form: &str) -> String {
    let how = match form {
        "bzImage" | "unified kernel image" => {
            "mainline Linux has no uncompressed form of it for x86; keep the kernel in a slot or an artifact of its own, so \
             that it costs only when it is updated"
        }
        "EFI zboot" | "a packed Image" => "boot the plain Image (arm64: `booti`; without CONFIG_EFI_ZBOOT)",
        _ => "boot the plain Image (U-Boot: a FIT or uImage with compression \"none\")",
    };
    format!(
        "a delta of packed bytes is nearly as large as they are, and no device can pack them again: {how}"
    )
}

/// Files of one kind.
struct Group {
    files: Vec<(u64, String)>,
}

impl Group {
    fn new() -> Self {
        Group { files: Vec::new() }
    }

    fn add(&mut self, path: &str, bytes: u64) {
        self.files.push((bytes, path.into()));
    }

    /// One hint for all of them, which names the dearest and what each costs.
    fn hint(mut self, what: &str, advice: &str) -> Option<Hint> {
        self.files.sort_by(|a, b| b.0.cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
        let dearest: Vec<_> =
            self.files.iter().take(NAMED_MAX).map(|(bytes, path)| format!("{path} {bytes}")).collect();
        (!dearest.is_empty()).then(|| Hint {
            title: format!("{} {what} have changed; in bytes: {}", self.files.len(), dearest.join(", ")),
            bytes: self.files.iter().map(|(bytes, _)| bytes).sum(),
            advice: advice.into(),
        })
    }
}

/// The others are in the sum.
const NAMED_MAX: usize = 5;
pub(super) const INITRD_ADVICE: &str = "make it unpacked (dracut: --no-compress, mkinitcpio: COMPRESSION=cat), with fixed times (SOURCE_DATE_EPOCH): the delta \
     then sees the files in it. If it has to be packed, gzip -n is what a delta opens best";
const MODULE_ADVICE: &str =
    "install modules unpacked (CONFIG_MODULE_COMPRESS_NONE, or unpack them and run depmod)";
const PACKED_ADVICE: &str =
    "leave them out or store them unpacked; what must be packed, pack with fixed times (gzip -n)";
const PYC_ADVICE: &str = "leave compiled Python out, or compile with SOURCE_DATE_EPOCH set: it then names its source by a hash instead of a time";
