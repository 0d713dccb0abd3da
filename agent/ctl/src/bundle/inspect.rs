//! Looks into a bundle: what it says of itself, what it is made of, and who has signed it. What has not been
//! verified is said to be so, in the text and in the JSON.

use super::{BundleReader, Depth, Figures, Head, walk};
use crate::fail::{Result, Within};
use crate::meter::{Audience, Meter, size};
use crate::trust;
use crate::values::utc;
use mainstay_core::bundle::Manifest;
use mainstay_core::trust::{Envelope, KeyId, MessageKind, Role, TrustRoot};
use serde_json::{Value, json};
use std::fmt::Write;
use std::path::Path;

/// What was found.
#[derive(Clone, Debug)]
pub struct Found {
    /// What the file begins with.
    pub head: Head,
    /// What it says of itself.
    pub manifest: Manifest,
    /// What it is made of; every object has the name that the manifest or a page of it gives.
    pub figures: Figures,
    /// Who has signed it, and what that is worth under the root (`None`: no root was given).
    pub signers: Vec<(KeyId, Option<bool>)>,
    /// `Ok`: enough of the release role have signed. `None`: no root was given.
    pub trusted: Option<std::result::Result<(), String>>,
}

/// Reads the whole file at `depth`, and holds it against `root` where there is one.
pub fn inspect(path: &Path, root: Option<&TrustRoot>, depth: Depth, audience: Audience) -> Result<Found> {
    let (mut reader, head, total) = BundleReader::open(path)?;
    let manifest = head.unproven_manifest().within(|| path.display())?;
    let mut meter = Meter::start(audience, "read", total);
    let figures = walk(&mut reader, &manifest, depth, &mut |seen| {
        meter.set(seen.at);
        Ok(())
    })
    .within(|| path.display())?;
    meter.finish();
    let signers = match &head {
        Head::Unsigned(_) => Vec::new(),
        Head::Signed(bytes) => signers(bytes, root)?,
    };
    let trusted = root.map(|root| head.proven_manifest(root).map(|_| ()).map_err(|f| f.what));
    Ok(Found { head, manifest, figures, signers, trusted })
}

fn signers(bytes: &[u8], root: Option<&TrustRoot>) -> Result<Vec<(KeyId, Option<bool>)>> {
    let envelope = Envelope::parse(bytes)?;
    let body = envelope.unproven_body();
    let judge = |id: KeyId, signature: &[u8; 64], root: &TrustRoot| {
        trust::holds(root, Role::Release, id)
            && root
                .keys
                .iter()
                .filter(|key| KeyId::of(key) == id)
                .any(|key| trust::signature_holds(MessageKind::Manifest, body, key, signature))
    };
    Ok(envelope.signatures().map(|(id, s)| (id, root.map(|root| judge(id, s, root)))).collect())
}

impl Found {
    /// For people.
    pub fn text(&self) -> String {
        let mut out = String::new();
        let m = &self.manifest;
        let mut line = |name: &str, value: String| {
            let _ = writeln!(out, "{name:<18}{value}"); // a String takes everything
        };
        match self.head.name() {
            Some(name) => line("bundle", name.to_string()),
            None => line("bundle", "(no name yet: nobody has signed it)".into()),
        }
        line("compatible", m.compatible.to_string());
        line("version", m.version.to_string());
        line("security version", m.security_version.to_string());
        line("trial", format!("{} tries, {} s{}", m.trial.tries, m.trial.deadline_s, required(m)));
        if let Some(t) = m.not_before {
            line("not before", utc(t));
        }
        if let Some(t) = m.expires {
            line("expires", utc(t));
        }
        let p = &m.provenance;
        for (name, value) in [("source", p.source.as_str()), ("commit", &p.commit), ("builder", &p.builder)] {
            if !value.is_empty() {
                line(name, value.into());
            }
        }
        if let Some(sbom) = p.sbom {
            line("sbom sha256", sbom.to_string());
        }
        for (key, value) in &m.meta {
            line("meta", format!("{key} = {value}"));
        }
        for (artifact, figures) in m.artifacts.iter().zip(&self.figures.artifacts) {
            let [zero, raw, zstd, _, _, prefixed, _] = figures.segments;
            line(
                &format!("artifact {}", artifact.class),
                format!("{} ({} B)", size(artifact.size), artifact.size),
            );
            line("  sha256", artifact.digest.to_string());
            line("  segments", format!("{} zstd, {raw} raw, {zero} zero", zstd + prefixed));
            line(
                "  travels as",
                format!(
                    "{} in {} pieces, {} of its size",
                    size(figures.piece_bytes),
                    figures.pieces,
                    ratio(figures.piece_bytes, artifact.size)
                ),
            );
            for delta in &figures.deltas {
                let [zero, raw, zstd, copy, patch, prefixed, recoded] = delta.segments;
                let (zstd, patch) = (zstd + prefixed, patch + recoded);
                let whole = delta.piece_bytes + delta.index_bytes;
                line("  from base", delta.base.to_string());
                line(
                    "    travels as",
                    format!(
                        "{} ({whole} B, index and all), {} of the full route",
                        size(whole),
                        ratio(whole, figures.piece_bytes + figures.index_bytes)
                    ),
                );
                line(
                    "    segments",
                    format!("{copy} copied, {patch} patched, {zstd} zstd, {raw} raw, {zero} zero"),
                );
            }
        }
        line("file", format!("{} ({} objects)", size(self.figures.file_bytes), self.figures.objects));
        for (id, good) in &self.signers {
            let worth = match good {
                None => "not verified: no trust root was given",
                Some(true) => "valid, of the release role",
                Some(false) => "counts for nothing under this trust root",
            };
            line("signature", format!("{id}  {worth}"));
        }
        match &self.trusted {
            None => line("trust", UNVERIFIED.into()),
            Some(Ok(())) => line("trust", "verified: a threshold of the release role has signed it".into()),
            Some(Err(why)) => line("trust", format!("REFUSED: {why}")),
        }
        out
    }

    /// For programs.
    pub fn json(&self) -> Value {
        let m = &self.manifest;
        let artifacts: Vec<Value> = m
            .artifacts
            .iter()
            .zip(&self.figures.artifacts)
            .map(|(artifact, figures)| {
                let [zero, raw, zstd, _, _, prefixed, _] = figures.segments;
                let full = json!({
                    "kind": "full", "bytes": figures.piece_bytes, "pieces": figures.pieces, "index_bytes": figures.index_bytes,
                });
                let routes: Vec<Value> = std::iter::once(full)
                    .chain(figures.deltas.iter().map(|delta| {
                        let [zero, raw, zstd, copy, patch, prefixed, recoded] = delta.segments;
                        json!({
                            "kind": "delta", "base": delta.base.to_string(),
                            "bytes": delta.piece_bytes, "pieces": delta.pieces, "index_bytes": delta.index_bytes,
                            "segments": {
                                "zero": zero, "raw": raw, "zstd": zstd, "prefixed": prefixed, "copy": copy,
                                "patch": patch, "recoded": recoded,
                            },
                        })
                    }))
                    .collect();
                json!({
                    "class": artifact.class.as_str(), "size": artifact.size, "sha256": artifact.digest.to_string(),
                    "segments": {"zero": zero, "raw": raw, "zstd": zstd, "prefixed": prefixed},
                    "pieces": figures.pieces, "piece_bytes": figures.piece_bytes, "routes": routes,
                })
            })
            .collect();
        let signers: Vec<Value> =
            self.signers.iter().map(|(id, good)| json!({"key": id.to_string(), "valid": good})).collect();
        let meta: serde_json::Map<String, Value> =
            m.meta.iter().map(|(key, value)| (key.as_str().into(), json!(value.as_str()))).collect();
        let p = &m.provenance;
        json!({
            "name": self.head.name().map(|n| n.to_string()),
            "signed": matches!(self.head, Head::Signed(_)),
            "trust": match &self.trusted {
                None => json!({"verified": false, "why": "no trust root was given"}),
                Some(Ok(())) => json!({"verified": true}),
                Some(Err(why)) => json!({"verified": false, "why": why}),
            },
            "signers": signers,
            "compatible": m.compatible.as_str(),
            "version": m.version.as_str(),
            "security_version": m.security_version,
            "trial": {
                "tries": m.trial.tries, "deadline_s": m.trial.deadline_s,
                "required": m.trial.required.iter().map(|r| r.as_str()).collect::<Vec<_>>(),
            },
            "not_before": m.not_before,
            "expires": m.expires,
            "provenance": {
                "source": p.source.as_str(), "commit": p.commit.as_str(), "builder": p.builder.as_str(),
                "sbom": p.sbom.map(|d| d.to_string()),
            },
            "meta": meta,
            "artifacts": artifacts,
            "objects": self.figures.objects,
            "object_bytes": self.figures.object_bytes,
            "file_bytes": self.figures.file_bytes,
        })
    }
}

fn ratio(part: u64, whole: u64) -> String {
    format!("{:.1} %", part as f64 * 100.0 / whole.max(1) as f64)
}

const UNVERIFIED: &str =
    "NOT VERIFIED: no trust root was given; its objects fit its manifest, but who says so is open";

fn required(manifest: &Manifest) -> String {
    match manifest.trial.required.as_slice() {
        [] => String::new(),
        checks => format!(", requires {}", checks.join(", ")),
    }
}
