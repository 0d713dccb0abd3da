//! `mainstayctl pack | sign | verify | inspect | export`

use super::{PassphraseArgs, pair, say, warn};
use crate::bundle::base::BaseSpec;
use crate::bundle::inspect::inspect as look;
use crate::bundle::pack::{Plan, pack as make};
use crate::bundle::sign::sign as add;
use crate::bundle::{Depth, Head};
use crate::fail;
use crate::fail::{Result, Within};
use crate::meter::{Audience, size};
use crate::values::{now_s, time};
use crate::{files, keys, publish, trust};
use clap::{Args, value_parser};
use mainstay_core::bundle::{Manifest, Provenance, TrialPolicy};
use mainstay_core::digest::Digest;
use mainstay_core::limits::{TRIAL_SECONDS_DEFAULT, TRIES_DEFAULT};
use std::fs::File;
use std::path::{Path, PathBuf};

#[derive(Debug, Args)]
pub(super) struct Pack {
    /// Image for the slots of a class (rootfs, kernel, appfs …); may be repeated, and is written in this order
    #[arg(long, value_name = "CLASS=IMAGE", required = true, value_parser = pair)]
    artifact: Vec<(String, String)>,
    /// What gateways hold now, an older bundle or image: they fetch only what differs; may be repeated
    #[arg(long, value_name = "[CLASS=]BUNDLE|IMAGE")]
    base: Vec<String>,
    /// Do not predict how code has moved in executables: deltas get larger, packing a little faster
    #[arg(long)]
    no_transforms: bool,
    /// Name of the hardware that this is for; must equal the board's
    #[arg(long)]
    compatible: String,
    /// Version, for people and reports
    #[arg(long)]
    version: String,
    /// For anti-rollback: a gateway whose floor is higher refuses this
    #[arg(long, value_name = "N", default_value_t = 0)]
    security_version: u32,
    /// How often the bootloader tries it
    #[arg(long, value_name = "N", default_value_t = TRIES_DEFAULT)]
    tries: u8,
    /// Seconds until the trial must have come to its verdict
    #[arg(long, value_name = "S", default_value_t = TRIAL_SECONDS_DEFAULT)]
    deadline_s: u32,
    /// Health check that must pass, beside those that the gateway itself requires; may be repeated
    #[arg(long, value_name = "NAME")]
    require_check: Vec<String>,
    /// Not to be begun before: Unix seconds, 2026-11-20T10:00:00Z, or +7d
    #[arg(long, value_name = "T")]
    not_before: Option<String>,
    /// Not to be begun after: Unix seconds, 2026-11-20T10:00:00Z, or +7d
    #[arg(long, value_name = "T")]
    expires: Option<String>,
    /// Provenance: the source's address
    #[arg(long, value_name = "URL", default_value = "")]
    source: String,
    /// Provenance: the source's revision
    #[arg(long, value_name = "REV", default_value = "")]
    commit: String,
    /// Provenance: who or what built it
    #[arg(long, value_name = "B", default_value = "")]
    builder: String,
    /// Provenance: bill of materials; its SHA-256 goes into the manifest
    #[arg(long, value_name = "FILE")]
    sbom: Option<PathBuf>,
    /// Free pair, for your own tools; may be repeated
    #[arg(long, value_name = "K=V", value_parser = pair)]
    meta: Vec<(String, String)>,
    /// zstd level
    #[arg(long, value_name = "L", default_value_t = 19, value_parser = value_parser!(i32).range(1..=22))]
    level: i32,
    /// Worker threads [default: one for each core]; the result does not depend on it
    #[arg(long, value_name = "N", value_parser = value_parser!(u16).range(1..=256))]
    threads: Option<u16>,
    /// The bundle; without --sign-with, FILE.unsigned is written
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Replace a file of this name
    #[arg(long)]
    force: bool,
    /// Say what was packed for programs
    #[arg(long)]
    json: bool,
    /// Secret key to sign with; may be repeated
    #[arg(long, value_name = "K.key")]
    sign_with: Vec<PathBuf>,
    #[command(flatten)]
    passphrase: PassphraseArgs,
}

#[derive(Debug, Args)]
pub(super) struct Sign {
    /// The bundle, signed or not
    bundle: PathBuf,
    /// Secret key to sign with; may be repeated
    #[arg(long, value_name = "K.key", required = true)]
    key: Vec<PathBuf>,
    /// Where to write it [default: x.bundle.unsigned becomes x.bundle; a signed bundle is replaced]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    #[command(flatten)]
    passphrase: PassphraseArgs,
}

#[derive(Debug, Args)]
pub(super) struct Verify {
    /// The bundle, or - for standard input
    bundle: PathBuf,
    /// The trust root that gateways go by
    #[arg(long, value_name = "FILE")]
    trust: PathBuf,
}

#[derive(Debug, Args)]
pub(super) struct Inspect {
    /// The bundle, or - for standard input
    bundle: PathBuf,
    /// Also say what its signatures are worth under this trust root
    #[arg(long, value_name = "FILE")]
    trust: Option<PathBuf>,
    /// For programs
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub(super) struct Export {
    /// The bundle, or - for standard input
    bundle: PathBuf,
    /// The folder that the web server serves; files of other bundles in it stay
    #[arg(long, value_name = "FOLDER")]
    to: PathBuf,
}

pub(super) fn export(command: &Export, audience: Audience) -> Result<()> {
    let made = crate::export::export(&command.bundle, &command.to, audience)?;
    say(format_args!("bundle    {}", made.name));
    say(format_args!(
        "exported  {} objects and {} routes, {}, to {}",
        made.objects,
        made.routes,
        size(made.bytes),
        command.to.display()
    ));
    Ok(())
}

pub(super) fn pack(command: &Pack, audience: Audience) -> Result<()> {
    let manifest = manifest(command)?;
    // Passphrases are asked for before the long work, not after it.
    let signers = keys::read_all(&command.sign_with, &mut command.passphrase.passphrases())?;
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let classes: Vec<&str> = command.artifact.iter().map(|(class, _)| class.as_str()).collect();
    let plan = Plan {
        images: command.artifact.iter().map(|(class, image)| (class.clone(), image.into())).collect(),
        manifest,
        bases: command.base.iter().map(|text| BaseSpec::read(text, &classes)).collect(),
        transforms: !command.no_transforms,
        level: command.level,
        threads: command.threads.map_or(cores, usize::from),
        out: command.out.clone(),
        replace: command.force,
    };
    let packed = make(&plan, &signers, audience)?;
    if command.json {
        say(packed.json());
    } else {
        say(packed.text().trim_end());
    }
    if let Head::Unsigned(_) = packed.head {
        warn(format_args!("next: mainstayctl sign {} --key RELEASE.key", packed.path.display()));
    }
    Ok(())
}

fn manifest(command: &Pack) -> Result<Manifest> {
    let mut manifest = Manifest {
        compatible: bounded("--compatible", &command.compatible)?,
        version: bounded("--version", &command.version)?,
        security_version: command.security_version,
        artifacts: heapless::Vec::new(),
        trial: TrialPolicy {
            tries: command.tries,
            deadline_s: command.deadline_s,
            required: heapless::Vec::new(),
        },
        not_before: command.not_before.as_deref().map(|t| time(t, now_s())).transpose()?,
        expires: command.expires.as_deref().map(|t| time(t, now_s())).transpose()?,
        provenance: Provenance {
            source: bounded("--source", &command.source)?,
            commit: bounded("--commit", &command.commit)?,
            builder: bounded("--builder", &command.builder)?,
            sbom: command.sbom.as_deref().map(digest_of).transpose()?,
        },
        meta: heapless::Vec::new(),
    };
    for check in &command.require_check {
        let checks = &mut manifest.trial.required;
        let most = checks.capacity();
        checks
            .push(bounded("--require-check", check)?)
            .map_err(|_| fail!("--require-check: expected at most {most}, found more"))?;
    }
    for (key, value) in &command.meta {
        let most = manifest.meta.capacity();
        let pair = (bounded("--meta", key)?, bounded("--meta", value)?);
        manifest.meta.push(pair).map_err(|_| fail!("--meta: expected at most {most}, found more"))?;
    }
    Ok(manifest)
}

fn bounded<const N: usize>(what: &str, text: &str) -> Result<heapless::String<N>> {
    text.try_into().map_err(|_| fail!("{what}: expected at most {N} bytes, found {} ({text:?})", text.len()))
}

fn digest_of(path: &Path) -> Result<Digest> {
    let file = File::open(path).within(|| path.display())?;
    files::digest_of(&file, &mut |_| ()).within(|| path.display())
}

pub(super) fn sign(command: &Sign, audience: Audience) -> Result<()> {
    let signers = keys::read_all(&command.key, &mut command.passphrase.passphrases())?;
    let signed = add(&command.bundle, command.out.as_deref(), &signers, audience)?;
    let m = &signed.manifest;
    say(format_args!("signed   {} for {}: {}", m.version, m.compatible, signed.path.display()));
    for id in &signed.signers {
        say(format_args!("by       {id}"));
    }
    say(format_args!("bundle   {}", signed.name));
    if let Some(old) = signed.old_name
        && old != signed.name
    {
        say(format_args!("before   {old} (a bundle's name changes with each signature)"));
    }
    Ok(())
}

pub(super) fn verify(command: &Verify, audience: Audience) -> Result<()> {
    let root = trust::load(&command.trust)?;
    let (manifest, figures) = publish::verify(&command.bundle, &root, audience)?;
    say(format_args!("verified {} for {}", manifest.version, manifest.compatible));
    say(format_args!("bundle   {}", manifest.name()));
    say(format_args!("under    trust root {} v{}", root.fleet, root.version));
    say(format_args!(
        "proven   {} of content, {} objects, to the end mark",
        size(manifest.content_bytes()),
        figures.objects
    ));
    Ok(())
}

pub(super) fn inspect(command: &Inspect, audience: Audience) -> Result<()> {
    let root = command.trust.as_deref().map(trust::load).transpose()?;
    let found = look(&command.bundle, root.as_ref(), Depth::Objects, audience)?;
    if command.json {
        say(found.json());
    } else {
        say(found.text().trim_end());
    }
    match &found.trusted {
        Some(Err(why)) => Err(fail!("{}: {why}", command.bundle.display())),
        _ => Ok(()),
    }
}
