//! Images that are compressed before a delta can look at them: as a whole, or by their file system.

use super::Hint;
use super::content::{Content, Opaque, opaque, packing};
use crate::layout::{Compressed, Extent, FileExtents, Kind, Layout, ReadAt, stored_compressed};

pub(super) fn hints(new: &dyn ReadAt, layout: &Layout) -> Vec<Hint> {
    let hint = match layout.kind {
        Kind::Ext4 => None,
        Kind::Erofs => stored_compressed(new).ok().and_then(|compressed| by_file_system("erofs", compressed)),
        Kind::Squashfs if layout.trouble.is_some() => unread_squashfs(new),
        Kind::Squashfs => {
            stored_compressed(new).ok().and_then(|compressed| by_file_system("squashfs", compressed))
        }
        Kind::Raw => whole(new),
    };
    hint.into_iter().collect()
}

fn by_file_system(name: &str, compressed: Compressed) -> Option<Hint> {
    let Compressed { files, content_bytes, stored_bytes } = compressed;
    let how = match name {
        "erofs" => "mkfs.erofs without -z",
        _ => "mksquashfs -noI -noD -noF -noX",
    };
    (files > 0).then(|| Hint {
        title: format!("{name} stores {content_bytes} bytes of content compressed, in {stored_bytes}"),
        bytes: stored_bytes,
        advice: format!("make the slot's image uncompressed ({how}): {ON_THE_WIRE}"),
    })
}

/// Its tables cannot be read, but where content ends can, and whether blocks are packed.
fn unread_squashfs(new: &dyn ReadAt) -> Option<Hint> {
    let mut superblock = [0; 96];
    new.read_at(0, &mut superblock).ok()?;
    let packed = superblock[24] & SQUASHFS_BLOCKS_AS_THEY_ARE == 0;
    let content_end = u64::from_le_bytes(*superblock[64..].first_chunk()?);
    let stored_bytes = content_end.min(new.bytes()).saturating_sub(96);
    packed.then(|| Hint {
        title: format!("squashfs stores its content compressed, in {stored_bytes} bytes"),
        bytes: stored_bytes,
        advice: format!("make the slot's image uncompressed (mksquashfs -noI -noD -noF -noX): {ON_THE_WIRE}"),
    })
}

/// A stream, or a kernel, that is an artifact of its own.
fn whole(new: &dyn ReadAt) -> Option<Hint> {
    let bytes = new.bytes();
    let extents = vec![Extent { at: 0, bytes }];
    let image = FileExtents { path: String::new(), bytes, extents, holes: Vec::new() };
    let content = Content::of(new, &image);
    let (title, advice) = match opaque("", &content)? {
        Opaque::Kernel { form, packing } => {
            (format!("the image is a kernel: {form} with {packing}"), super::changed::kernel_advice(form))
        }
        Opaque::Initrd { .. } => {
            ("the image is a packed initial RAM disk".into(), super::changed::INITRD_ADVICE.into())
        }
        _ => {
            let packing = packing(&content.read(0, 16))?;
            let advice = format!("give pack what is in it, unpacked: {ON_THE_WIRE}");
            (format!("the image is compressed as a whole, with {packing}"), advice)
        }
    };
    Some(Hint { title, bytes, advice })
}

const ON_THE_WIRE: &str = "a delta opens what zstd and gzip have packed, and takes lz4 and lzo as they are: several times what the plain content \
     would; of xz and lzma it sees nothing; and pieces are compressed on their way anyway";
const SQUASHFS_BLOCKS_AS_THEY_ARE: u8 = 2;
