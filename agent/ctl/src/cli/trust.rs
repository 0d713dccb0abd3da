//! `mainstayctl trust …`

use super::{BrokerArgs, PassphraseArgs, pair, say};
use crate::broker::Session;
use crate::fail;
use crate::fail::{Result, Within};
use crate::files::{read_small, write_whole};
use crate::keys;
use crate::trust::{self, Holders, Plan, Standing};
use crate::values::{hex, unhex};
use clap::{Args, Subcommand};
use mainstay_core::digest::Digest;
use mainstay_core::limits::ENVELOPE_BYTES_MAX;
use mainstay_core::topic;
use mainstay_core::trust::{Envelope, KeyId, MessageKind, Role, TrustRoot};
use serde_json::json;
use std::path::{Path, PathBuf};

#[derive(Debug, Subcommand)]
pub(super) enum Trust {
    /// Make the first trust root of a fleet
    Init(Box<Init>),
    /// Make the trust root that follows another one
    Rotate(Box<Rotate>),
    /// Add a signature to a trust root
    Sign(Sign),
    /// Show a trust root
    Show(Show),
    /// Bring a trust root that rotates onto a broker, for the gateways to take
    Publish(Publish),
}

#[derive(Debug, Args)]
pub(super) struct Init {
    /// Name of the fleet
    #[arg(long)]
    fleet: String,
    /// Version of the root. Where the root keys of a chain are lost and an image brings a new one: above the newest
    /// that gateways have
    #[arg(long, value_name = "N", default_value_t = 1)]
    root_version: u32,
    /// Public key that may sign trust roots; may be repeated
    #[arg(long, value_name = "K.pub", required = true)]
    root_key: Vec<PathBuf>,
    /// How many root keys must sign
    #[arg(long, value_name = "N", default_value_t = 1)]
    root_threshold: u8,
    /// Public key that may sign manifests: what may run; may be repeated
    #[arg(long, value_name = "K.pub", required = true)]
    release_key: Vec<PathBuf>,
    /// How many release keys must sign
    #[arg(long, value_name = "N", default_value_t = 1)]
    release_threshold: u8,
    /// Public key that may sign desired states: who runs what, and when; may be repeated
    #[arg(long, value_name = "K.pub")]
    operator_key: Vec<PathBuf>,
    /// How many operator keys must sign
    #[arg(long, value_name = "N", default_value_t = 1)]
    operator_threshold: u8,
    /// Public key that may sign a gateway's birth record; may be repeated
    #[arg(long, value_name = "K.pub")]
    factory_key: Vec<PathBuf>,
    /// How many factory keys must sign
    #[arg(long, value_name = "N", default_value_t = 1)]
    factory_threshold: u8,
    #[command(flatten)]
    output: Output,
}

#[derive(Debug, Args)]
pub(super) struct Rotate {
    /// The trust root before
    #[arg(long, value_name = "FILE")]
    from: PathBuf,
    /// Give a key a role (root, release, operator, factory); may be repeated
    #[arg(long, value_name = "ROLE=K.pub", value_parser = pair)]
    add: Vec<(String, String)>,
    /// Take a role from a key, named by its file or its id; may be repeated
    #[arg(long, value_name = "ROLE=K.pub|ID", value_parser = pair)]
    remove: Vec<(String, String)>,
    /// Change how many of a role must sign; may be repeated
    #[arg(long, value_name = "ROLE=N", value_parser = pair)]
    threshold: Vec<(String, String)>,
    #[command(flatten)]
    output: Output,
}

#[derive(Debug, Args)]
struct Output {
    /// Secret key to sign with; may be repeated
    #[arg(long, value_name = "K.key", required = true)]
    sign_with: Vec<PathBuf>,
    /// Where to write the trust root
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Write it although not all who must have signed yet; `trust sign` adds the others
    #[arg(long)]
    draft: bool,
    #[command(flatten)]
    passphrase: PassphraseArgs,
}

#[derive(Debug, Args)]
pub(super) struct Sign {
    /// The trust root; the signature is added in place
    file: PathBuf,
    /// Secret key to sign with; may be repeated
    #[arg(long, value_name = "K.key", required = true)]
    key: Vec<PathBuf>,
    /// The trust root before, for one that rotates
    #[arg(long, value_name = "FILE")]
    from: Option<PathBuf>,
    #[command(flatten)]
    passphrase: PassphraseArgs,
}

#[derive(Debug, Args)]
pub(super) struct Show {
    /// The trust root
    file: PathBuf,
    /// The trust root before, for one that rotates
    #[arg(long, value_name = "FILE")]
    from: Option<PathBuf>,
    /// For programs
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub(super) struct Publish {
    /// The trust root
    file: PathBuf,
    /// The trust root before: what gateways go by now
    #[arg(long, value_name = "FILE")]
    from: PathBuf,
    #[command(flatten)]
    broker: BrokerArgs,
}

pub(super) fn run(command: &Trust) -> Result<()> {
    match command {
        Trust::Init(command) => init(command),
        Trust::Rotate(command) => rotate(command),
        Trust::Sign(command) => sign(command),
        Trust::Show(command) => show(command),
        Trust::Publish(command) => publish(command),
    }
}

fn init(command: &Init) -> Result<()> {
    let holders = |paths: &[PathBuf], threshold: u8| -> Result<Holders> {
        let keys = paths.iter().map(|path| keys::read_public(path)).collect::<Result<Vec<_>>>()?;
        let threshold = if keys.is_empty() { 0 } else { threshold };
        Ok(Holders { keys, threshold })
    };
    let plan = Plan {
        fleet: command.fleet.clone(),
        version: command.root_version,
        roles: [
            holders(&command.root_key, command.root_threshold)?,
            holders(&command.release_key, command.release_threshold)?,
            holders(&command.operator_key, command.operator_threshold)?,
            holders(&command.factory_key, command.factory_threshold)?,
        ],
    };
    write(&plan.root()?, None, &command.output)
}

fn rotate(command: &Rotate) -> Result<()> {
    let previous = trust::load(&command.from)?;
    let mut plan = Plan::after(&previous);
    for (role, key) in &command.add {
        let key = keys::read_public(Path::new(key))?;
        let holders = plan.role_mut(read_role(role)?);
        if holders.keys.contains(&key) {
            return Err(fail!("key {} holds the role {role} already", KeyId::of(&key)));
        }
        holders.keys.push(key);
        holders.threshold = holders.threshold.max(1);
    }
    for (role, key) in &command.remove {
        let id = match unhex(key) {
            Some(id) => KeyId(id),
            None => KeyId::of(&keys::read_public(Path::new(key))?),
        };
        let holders = plan.role_mut(read_role(role)?);
        let before = holders.keys.len();
        holders.keys.retain(|key| KeyId::of(key) != id);
        if holders.keys.len() == before {
            return Err(fail!("key {id} does not hold the role {role}"));
        }
        if holders.keys.is_empty() {
            holders.threshold = 0;
        }
    }
    for (role, threshold) in &command.threshold {
        plan.role_mut(read_role(role)?).threshold = threshold
            .parse()
            .map_err(|_| fail!("--threshold {role}: expected a number, found {threshold:?}"))?;
    }
    if Plan::after(&previous) == plan {
        return Err(fail!("nothing changes").todo("say what: --add, --remove or --threshold"));
    }
    write(&plan.root()?, Some(&previous), &command.output)
}

fn write(root: &TrustRoot, previous: Option<&TrustRoot>, output: &Output) -> Result<()> {
    let signers = keys::read_all(&output.sign_with, &mut output.passphrase.passphrases())?;
    let bytes = trust::sign_new(root, previous, &signers)?;
    let standing = trust::standing(previous, &bytes);
    if let Standing::Draft(why) = &standing
        && !output.draft
    {
        return Err(fail!("{why}").todo(
            "add more --sign-with, or --draft and let the others add theirs with `mainstayctl trust sign`",
        ));
    }
    write_whole(&output.out, &bytes, 0o644, false)?;
    report(root, &bytes, &output.out, &standing);
    Ok(())
}

fn sign(command: &Sign) -> Result<()> {
    let previous = command.from.as_deref().map(trust::load).transpose()?;
    let bytes = read_small(&command.file, ENVELOPE_BYTES_MAX)?;
    let signers = keys::read_all(&command.key, &mut command.passphrase.passphrases())?;
    let signed = trust::countersign(&bytes, previous.as_ref(), &signers).within(|| command.file.display())?;
    write_whole(&command.file, &signed, 0o644, true)?;
    let root = TrustRoot::decode(Envelope::parse(&signed)?.unproven_body())?;
    report(&root, &signed, &command.file, &trust::standing(previous.as_ref(), &signed));
    Ok(())
}

fn report(root: &TrustRoot, bytes: &[u8], path: &Path, standing: &Standing) {
    say(format_args!("trust root  {} v{}, {}", root.fleet, root.version, path.display()));
    say(format_args!("sha256      {}", Digest::of(bytes)));
    match standing {
        Standing::Complete => say("standing    complete: gateways take it"),
        Standing::Draft(why) => say(format_args!("standing    DRAFT: {why}")),
    }
}

fn show(command: &Show) -> Result<()> {
    let previous = command.from.as_deref().map(trust::load).transpose()?;
    let bytes = read_small(&command.file, ENVELOPE_BYTES_MAX)?;
    let envelope = Envelope::parse(&bytes).within(|| command.file.display())?;
    if envelope.kind() != MessageKind::TrustRoot {
        return Err(fail!(
            "{}: expected a trust root, found a {:?}",
            command.file.display(),
            envelope.kind()
        ));
    }
    let root = TrustRoot::decode(envelope.unproven_body()).within(|| command.file.display())?;
    let standing = trust::standing(previous.as_ref(), &bytes);
    let valid = |id: KeyId, signature: &[u8; 64]| {
        let known = [Some(&root), previous.as_ref()].into_iter().flatten().flat_map(|r| &r.keys);
        known.filter(|key| KeyId::of(key) == id).any(|key| {
            trust::signature_holds(MessageKind::TrustRoot, envelope.unproven_body(), key, signature)
        })
    };
    let signatures: Vec<(KeyId, bool)> = envelope.signatures().map(|(id, s)| (id, valid(id, s))).collect();
    if command.json {
        let roles = Role::ALL.map(|role| {
            json!({"role": role.name(), "threshold": root.role(role).threshold, "keys": holders(&root, role)})
        });
        let keys: Vec<_> =
            root.keys.iter().map(|k| json!({"id": KeyId::of(k).to_string(), "public": hex(k)})).collect();
        let signatures: Vec<_> =
            signatures.iter().map(|(id, good)| json!({"key": id.to_string(), "valid": good})).collect();
        let why = match &standing {
            Standing::Complete => None,
            Standing::Draft(why) => Some(why),
        };
        say(json!({
            "fleet": root.fleet.as_str(), "version": root.version, "sha256": Digest::of(&bytes).to_string(),
            "complete": why.is_none(), "missing": why, "keys": keys, "roles": roles, "signatures": signatures,
        }));
        return Ok(());
    }
    report(&root, &bytes, &command.file, &standing);
    for role in Role::ALL {
        let holders = holders(&root, role);
        match holders.len() {
            0 => say(format_args!("{:<12}nobody", role.name())),
            n => say(format_args!(
                "{:<12}{} of {n}: {}",
                role.name(),
                root.role(role).threshold,
                holders.join(" ")
            )),
        }
    }
    for (id, good) in signatures {
        say(format_args!(
            "signed by   {id}{}",
            if good { "" } else { "  NOT VALID, or by a key that is not listed" }
        ));
    }
    Ok(())
}

/// Gateways walk the chain of roots one by one, so each stands at a topic of its own, for good.
fn publish(command: &Publish) -> Result<()> {
    let previous = trust::load(&command.from)?;
    let bytes = read_small(&command.file, ENVELOPE_BYTES_MAX)?;
    let root = previous.rotate(&bytes).within(|| command.file.display())?;
    let mut session = Session::open(&command.broker.broker()?)?;
    session.put(&topic::trust(&root.fleet, root.version), &bytes, None)?;
    session.close()?;
    say(format_args!("published   trust root {} v{}", root.fleet, root.version));
    Ok(())
}

fn holders(root: &TrustRoot, role: Role) -> Vec<String> {
    let ids = root.keys.iter().map(KeyId::of);
    ids.filter(|id| trust::holds(root, role, *id)).map(|id| id.to_string()).collect()
}

fn read_role(name: &str) -> Result<Role> {
    trust::role(name)
        .ok_or_else(|| fail!("role: expected root, release, operator or factory, found {name:?}"))
}
