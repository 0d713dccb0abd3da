//! Every bound in one place, with its arithmetic. Input from outside never makes the agent allocate or loop
//! beyond these; a bundle or message that wants more is refused with a Fault that names the bound.

/// Content is cut into segments of this size: 256 KiB. One segment is what stands in memory at a time.
pub const SEGMENT_BYTES: usize = 256 * 1024;
/// What media read and write at least, and what memory is aligned to that they read and write directly, bytes.
pub const BLOCK_BYTES: usize = 4096;

/// An object (page, table or piece) travels as one message: 96 KiB, under AWS IoT Core's hard limit of 128 KB.
pub const OBJECT_BYTES_MAX: usize = 96 * 1024;

/// A zstd frame with a prefix, encoded: 128 KiB. What hardly becomes smaller gains next to nothing by a prefix, and this is
/// what has to stand in memory beside the prefix and the segment.
pub const PREFIXED_BYTES_MAX: usize = 128 * 1024;

/// One pair of pages describes a run of at most 512 segments (128 MiB):
/// segment page 16 + 512 * 32 = 16,400 bytes; route page at worst 24 + 512 * 22 + 1536 * 36 = 66,584 bytes.
pub const RUN_SEGMENTS_MAX: usize = 512;

/// A segment's encoding never exceeds its content, so 256 KiB needs at most three pieces of 96 KiB when it is
/// cut alone; a run then needs at most 512 * 3.
pub const RUN_PIECES_MAX: usize = RUN_SEGMENTS_MAX * 3;

/// A table lists at most 512 runs: 512 * 128 MiB = 64 GiB for one artifact; 16 + 512 * 32 = 16,400 bytes.
pub const TABLE_RUNS_MAX: usize = 512;

/// Operations of one segment's patch: 262,144 / 32,768 = 8 bytes each on average, and as many reads of the base at most.
pub const PATCH_OPERATIONS_MAX: usize = SEGMENT_BYTES / 8;
/// Maps in one segment's patch: it may hold the ends of some executables. 16 * 4,096 entries are read at most.
pub const PATCH_MAPS_MAX: usize = 16;
/// Places at which the shift of addresses changes, in one executable: 4,096 * 8 bytes = 32 KiB of the state of a patch.
pub const PATCH_MAP_ENTRIES_MAX: usize = 4096;

/// Blocks of zstd and deflate are made opened in parts. What the sources of a part take, opened: 96 KiB.
pub const PART_SOURCES_BYTES_MAX: usize = 96 * 1024;
/// Sources of a part, each some blocks in a row.
pub const PART_SOURCES_MAX: usize = 8;
/// What a part makes, opened, and blocks of the base as they are: 128 KiB, for what gzip packs into one block takes up to that. It is
/// made where prefixed frames are put together.
pub const PART_MADE_BYTES_MAX: usize = PREFIXED_BYTES_MAX;
/// Parts of a segment: 64 * 96 KiB of sources are opened at most.
pub const PARTS_MAX: usize = 64;
/// A segment in parts, encoded: what a segment's memory has left beside the sources, 160 KiB.
pub const PARTS_BYTES_MAX: usize = SEGMENT_BYTES - PART_SOURCES_BYTES_MAX;

/// Segments of each group that the index of what both hold has room for: 16,384 * 256 KiB = 4 GiB; 2 * 16,384 entries of 12
/// bytes are 384 KiB. What lies beyond is looked for at its own place.
pub const INDEX_SEGMENTS_MAX: usize = 16 * 1024;

/// The largest artifact: 64 GiB.
pub const ARTIFACT_BYTES_MAX: u64 = TABLE_RUNS_MAX as u64 * RUN_SEGMENTS_MAX as u64 * SEGMENT_BYTES as u64;

/// Artifacts of one bundle.
pub const ARTIFACTS_MAX: usize = 8;
/// Routes of one artifact: the full one and seven bases.
pub const ROUTES_MAX: usize = 8;

/// An envelope: 12 bytes of header, 8 signatures of 72 bytes, and a body.
pub const ENVELOPE_BYTES_MAX: usize = 12 + SIGNATURES_MAX * 72 + BODY_BYTES_MAX;
/// The body of any signed message: 12 KiB holds the largest manifest (8.7 KiB with every field full).
pub const BODY_BYTES_MAX: usize = 12 * 1024;
/// Signatures on one envelope.
pub const SIGNATURES_MAX: usize = 8;

/// Keys in a trust root.
pub const KEYS_MAX: usize = 16;

/// A tries counter stays one decimal digit: RAUC writes it in hexadecimal, U-Boot's bootmeth_rauc reads it in
/// decimal, and the two agree only up to nine.
pub const TRIES_MAX: u8 = 9;
/// A power cut inside a trial costs one try; with three, no two cuts make a healthy image fall back.
pub const TRIES_DEFAULT: u8 = 3;

/// The longest trial, one day; the default is ten minutes.
pub const TRIAL_SECONDS_MAX: u32 = 86_400;
/// See [`TRIAL_SECONDS_MAX`].
pub const TRIAL_SECONDS_DEFAULT: u32 = 600;

/// Health checks that a manifest or a configuration can name.
pub const CHECKS_MAX: usize = 16;

/// Digests of bundles whose trial failed, remembered so that they are not tried again by themselves.
pub const FAILED_MAX: usize = 8;

/// Outcomes that wait for an acknowledgement: 4 * (32 + 49 + 5 + 163) is about 1 KiB of the record.
pub const UNREPORTED_MAX: usize = 4;

/// The agent's durable record, encoded: about 3.7 KiB when every text is full.
pub const RECORD_BYTES_MAX: usize = 4096;

/// How often an action that must succeed (mark good, mark bad) is tried before the agent lets the bootloader
/// decide by rebooting.
pub const RETRIES_MAX: u8 = 5;

/// Longest class name of a slot: `rootfs`, `kernel`, `appfs`, `config` …
pub const CLASS_BYTES_MAX: usize = 16;
/// Longest compatible.
pub const COMPATIBLE_BYTES_MAX: usize = 64;
/// Longest version.
pub const VERSION_BYTES_MAX: usize = 48;
/// Longest name of a fleet, a boot-control group's members, a device or a health check.
pub const NAME_BYTES_MAX: usize = 48;
/// Longest free text in a report or an outcome.
pub const DETAIL_BYTES_MAX: usize = 160;

/// A `Manifest` on the stack: 8 artifacts of 816 bytes (8 routes of 88 each), 16 pairs of 176, 16 checks of 56, and
/// about 600 bytes more: 10,760. Opening one takes less than 160 KiB of stack unoptimized, 64 KiB optimized.
pub const MANIFEST_STACK_BYTES_MAX: usize = 10 * 1024 + 576;
/// A `Record` on the stack: a phase of 1,224 bytes, 4 reports of 272, 8 digests, 2 releases of 616: 3,856.
pub const RECORD_STACK_BYTES_MAX: usize = 4 * 1024;
/// A `TrustRoot` on the stack: 16 keys of 32 bytes, and little else.
pub const ROOT_STACK_BYTES_MAX: usize = 640;
