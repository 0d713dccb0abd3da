//! A bundle as one file: it can be streamed from front to back without seeking.
//!
//! ```text
//! 0    16   magic "MAINSTAY-BUNDLE1"
//! 16   …    objects, each: kind (1), zero (3), length (4, little endian), bytes
//!
//! Manifest                          the signed envelope
//! for each artifact, in the manifest's order
//!   Table                           of its segment pages
//!   Table                           of its full route's pages
//!   for each run of up to 512 segments
//!     SegmentPage
//!     RoutePage
//!     Piece …                       in the route's order
//!   for each delta route, in the manifest's order
//!     Table                         of its pages
//!     for each run
//!       DeltaPage
//!       Piece …
//! End                               length 0
//! ```
//! On a broker or in a store the same objects lie under their SHA-256; the file only puts them in a row. An object
//! that stands in the row a second time (two runs alike) is written again.

use crate::fault;
use crate::limits::{ENVELOPE_BYTES_MAX, OBJECT_BYTES_MAX};
use crate::seam::Result;

/// The first bytes of a bundle file.
pub const BUNDLE_MAGIC: [u8; 16] = *b"MAINSTAY-BUNDLE1";

/// The header before each object of a bundle file.
pub const OBJECT_HEADER_BYTES: usize = 8;

/// What an object of a bundle file is. The numbers stand in files: append only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Object {
    /// The signed envelope of the manifest.
    Manifest = 1,
    /// A list of pages.
    Table = 2,
    /// Digests of a run's segments.
    SegmentPage = 3,
    /// Encodings and pieces of a run.
    RoutePage = 4,
    /// A piece.
    Piece = 5,
    /// Encodings, digests and pieces of a run of a delta route. Two bits away from whatever may stand where it does: one bit
    /// that flips makes none of these of another.
    DeltaPage = 9,
    /// Nothing follows.
    End = 255,
}

impl Object {
    /// The header of an object of `length` bytes.
    pub fn header(self, length: usize) -> [u8; OBJECT_HEADER_BYTES] {
        let [a, b, c, d] = (length as u32).to_le_bytes();
        [self as u8, 0, 0, 0, a, b, c, d]
    }

    /// May it stand behind `before`? The row above, as a table: no object's bytes depend on its kind, so a flipped
    /// kind would otherwise go unnoticed.
    pub const fn may_follow(self, before: Object) -> bool {
        use Object::*;
        match before {
            Manifest => matches!(self, Table),
            Table => matches!(self, Table | SegmentPage | DeltaPage),
            SegmentPage => matches!(self, RoutePage),
            RoutePage | Piece | DeltaPage => matches!(self, Piece | SegmentPage | DeltaPage | Table | End),
            End => false,
        }
    }

    /// Reads a header: what follows, and its length.
    pub fn parse_header(header: &[u8; OBJECT_HEADER_BYTES]) -> Result<(Object, usize)> {
        let [kind, z0, z1, z2, a, b, c, d] = *header;
        let length = u32::from_le_bytes([a, b, c, d]) as usize;
        let object = match kind {
            1 => Object::Manifest,
            2 => Object::Table,
            3 => Object::SegmentPage,
            4 => Object::RoutePage,
            5 => Object::Piece,
            9 => Object::DeltaPage,
            255 => Object::End,
            _ => {
                return Err(fault!(
                    Unsupported,
                    "bundle: unknown kind of object {kind}; this agent is too old for it"
                ));
            }
        };
        let most = match object {
            Object::Manifest => ENVELOPE_BYTES_MAX,
            Object::End => 0,
            _ => OBJECT_BYTES_MAX,
        };
        if [z0, z1, z2] != [0; 3] {
            return Err(fault!(Corrupt, "bundle: reserved bytes of an object's header are not zero"));
        }
        if length > most {
            return Err(fault!(Corrupt, "bundle: {object:?} of {length} bytes, expected at most {most}"));
        }
        Ok((object, length))
    }
}
