//! What an image costs its integrator, in bytes: what `pack` says at its end.
//!
//! A delta is as small as the two images let it be. Most of what makes it large is not the change but how the image was
//! made: content that was compressed before a delta could look at it, times and numbers that differ from build to
//! build, old bytes where nothing is. Each hint names one such thing, what it costs and what to do.
//!
//! What of this can the device undo? Blocks of zstd and deflate are opened, patched and closed again to the bit (`delta/closed.rs`): a
//! delta of them takes several times what the plain content would, instead of all that has changed. lz4 and lzo keep whole bytes, and
//! what stands behind a change as it was: patched as they are, they take no more. xz carries its state through the whole stream, and
//! would want its dictionary of tens of megabytes: nearly all behind a change is new (DESIGN, "What is packed"). These hints are how
//! the bytes are saved: where the image is made.
//!
//! Figures are of two kinds. What a file costs in this delta is what was encoded for it (`encoded_by_file`); all else is
//! counted in the image before compression, and says so where it is an estimate. A hint is never worth a failure: where
//! the image cannot be read, there is none.

mod changed;
mod content;
mod ext4;
mod stored;

use crate::layout::{Layout, ReadAt};

/// Something about an image that costs bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hint {
    /// What there is.
    pub title: String,
    /// What it costs.
    pub bytes: u64,
    /// What to do.
    pub advice: String,
}

/// The dearest first. `encoded_by_file`: the path of a file of `new`, and what its changed content takes in the delta from
/// `base`.
pub fn hints(
    new: &dyn ReadAt,
    layout: &Layout,
    base: Option<(&dyn ReadAt, &Layout)>,
    encoded_by_file: &[(String, u64)],
) -> Vec<Hint> {
    let mut hints = stored::hints(new, layout);
    hints.extend(ext4::stale(new, layout));
    if let Some((base, base_layout)) = base {
        let (new, base) = ((new, layout), (base, base_layout));
        hints.extend(changed::hints(new, base, encoded_by_file));
        hints.extend(ext4::differences(new, base));
    }
    hints.sort_by(|a, b| b.bytes.cmp(&a.bytes).then_with(|| a.title.cmp(&b.title)));
    hints
}

/// An image and what is known of it.
type Image<'i> = (&'i dyn ReadAt, &'i Layout);

#[cfg(test)]
mod tests;
