//! What was packed, for people and for programs.

use super::Head;
use super::delta_route::is_worth_it;
use crate::delta;
use crate::hints::Hint;
use crate::meter::size;
use mainstay_core::bundle::Manifest;
use mainstay_core::digest::Digest;
use serde_json::{Value, json};
use std::fmt::Write;
use std::path::PathBuf;

/// What was packed.
#[derive(Clone, Debug)]
pub struct Packed {
    /// The file.
    pub path: PathBuf,
    /// What it begins with.
    pub head: Head,
    /// Its manifest.
    pub manifest: Manifest,
    /// Its length.
    pub bytes: u64,
    /// What became of the bases, artifact by artifact.
    pub deltas: Vec<PackedDelta>,
    /// What the images cost beyond what changed in them, by class; the dearest first in each.
    pub hints: Vec<(String, Hint)>,
}

/// A delta route that was made.
#[derive(Clone, Debug)]
pub struct PackedDelta {
    /// The artifact's class.
    pub class: String,
    /// The base, as it was named.
    pub base: String,
    /// SHA-256 of the base's content.
    pub digest: Digest,
    /// What a gateway with this base fetches, index and all.
    pub bytes: u64,
    /// What it would fetch by the full route.
    pub full_bytes: u64,
    /// Does the bundle hold it? If not, it saves nothing, or others save more.
    pub kept: bool,
    /// What it is made of.
    pub summary: delta::Summary,
}

impl Packed {
    /// For people.
    pub fn text(&self) -> String {
        let mut out = String::new();
        let mut line = |what: &str, text: String| {
            let _ = writeln!(out, "{what:<9}{text}"); // a String takes everything
        };
        let content = size(self.manifest.content_bytes());
        line("packed", format!("{} ({} from {content})", self.path.display(), size(self.bytes)));
        match self.head.name() {
            Some(name) => line("bundle", name.to_string()),
            None => line("bundle", "(not signed yet: no gateway takes it)".into()),
        }
        for delta in &self.deltas {
            line("delta", delta.text());
            for (file, bytes) in delta.summary.files.iter().take(WORST_FILES) {
                line("", format!("{:>9}  {file}", size(*bytes)));
            }
        }
        for (class, Hint { title, bytes, advice }) in self.hints.iter().take(HINTS_SAID) {
            line("hint", format!("{:>9}  {class}: {title}", size(*bytes)));
            line("", format!("{:>9}  {advice}", "to do:"));
        }
        if self.hints.len() > HINTS_SAID {
            line("", format!("({} hints more: --json)", self.hints.len() - HINTS_SAID));
        }
        out
    }

    /// For programs.
    pub fn json(&self) -> Value {
        let hint = |(class, hint): &(String, Hint)| {
            let Hint { title, bytes, advice } = hint;
            json!({"class": class, "title": title, "bytes": bytes, "advice": advice})
        };
        json!({
            "hints": self.hints.iter().map(hint).collect::<Vec<_>>(),
            "file": self.path.display().to_string(),
            "name": self.head.name().map(|name| name.to_string()),
            "bytes": self.bytes,
            "content_bytes": self.manifest.content_bytes(),
            "deltas": self.deltas.iter().map(PackedDelta::json).collect::<Vec<_>>(),
        })
    }
}

impl PackedDelta {
    fn text(&self) -> String {
        let PackedDelta { class, base, bytes, full_bytes, .. } = self;
        if !self.kept {
            let why = match is_worth_it(*bytes, *full_bytes) {
                true => "other bases save more, and a bundle has room for seven",
                false => "it saves less than a hundredth of the full route",
            };
            return format!("{class} from {base}: left out, {} ({why})", size(*bytes));
        }
        let share = *bytes as f64 * 100.0 / (*full_bytes).max(1) as f64;
        format!("{class} from {base}: {} ({bytes} B), {share:.2} % of the full route", size(*bytes))
    }

    fn json(&self) -> Value {
        let files = self.summary.files.iter().map(|(file, bytes)| json!({"path": file, "bytes": bytes}));
        json!({
            "class": self.class, "base": self.base, "base_sha256": self.digest.to_string(),
            "bytes": self.bytes, "full_bytes": self.full_bytes, "kept": self.kept,
            "pieces_bytes": self.summary.bytes(), "transforms_saved": self.summary.transforms_saved,
            "files": files.collect::<Vec<_>>(),
        })
    }
}

/// The files that cost most, of those that a delta knows.
const WORST_FILES: usize = 5;
/// Hints that people are told.
const HINTS_SAID: usize = 5;
