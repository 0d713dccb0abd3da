//! What is delivered. SPEC-bundle states each byte; the layouts are drawn on the types.

mod layout;
mod manifest;
mod page;
pub mod patch;
pub mod recode;
mod route;

#[cfg(any(test, feature = "author"))]
pub mod author;

pub use layout::{BUNDLE_MAGIC, OBJECT_HEADER_BYTES, Object};
pub use manifest::{Artifact, Manifest, Provenance, Route, RouteKind, TrialPolicy, VerifiedManifest};
pub use page::{
    Proof, SEGMENT_PAGE_BYTES_MAX, SHORT_DIGEST_BYTES, SegmentPage, ShortDigest, TABLE_BYTES_MAX, Table,
    VerifiedObject, VerifiedSegment,
};
pub use route::{Encoding, Piece, ROUTE_PAGE_BYTES_MAX, RoutePage};
