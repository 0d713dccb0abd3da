//! `mainstayctl publish | halt | pause | resume | watch | serve`

use super::{BrokerArgs, PassphraseArgs, say, warn};
use crate::broker::{Broker, Session};
use crate::fail;
use crate::fail::Result;
use crate::meter::{Audience, size};
use crate::rollout::{self, Schedule, Target};
use crate::serve::{self as serving, Shelf};
use crate::values::{duration_s, now_s, share, share_bp, time, utc};
use crate::watch::{self as watching, Fleet};
use crate::{keys, publish as publishing, trust};
use clap::{ArgGroup, Args};
use mainstay_core::policy::{DesiredAction, DesiredState, MaintenanceWindow};
use rumqttc::v5::mqttbytes::QoS;
use std::io::IsTerminal;
use std::path::PathBuf;
use std::time::{Duration, Instant};

#[derive(Debug, Args)]
#[command(group = ArgGroup::new("whom").required(true).args(["group", "device"]))]
struct TargetArgs {
    /// The group of gateways
    #[arg(long)]
    group: Option<String>,
    /// One gateway
    #[arg(long)]
    device: Option<String>,
}

impl TargetArgs {
    fn target(&self) -> Result<Target> {
        let target = match (&self.group, &self.device) {
            (Some(group), _) => Target::Group(group.clone()),
            (_, Some(device)) => Target::Device(device.clone()),
            (None, None) => return Err(fail!("expected --group or --device")), // clap has asked for one
        };
        target.check()?;
        Ok(target)
    }
}

#[derive(Debug, Args)]
struct OperatorArgs {
    /// The trust root that the gateways go by
    #[arg(long, value_name = "FILE")]
    trust: PathBuf,
    /// Secret key of the operator role; may be repeated
    #[arg(long, value_name = "K.key", required = true)]
    operator_key: Vec<PathBuf>,
    #[command(flatten)]
    passphrase: PassphraseArgs,
}

#[derive(Debug, Args)]
pub(super) struct Publish {
    /// The bundle
    bundle: PathBuf,
    #[command(flatten)]
    broker: BrokerArgs,
    #[command(flatten)]
    target: TargetArgs,
    #[command(flatten)]
    operator: OperatorArgs,
    /// The share of the group that takes it
    #[arg(long, value_name = "SHARE", default_value = "100%")]
    rollout: String,
    /// Sequence number of the desired state, or auto: above what stands there, and the Unix time
    #[arg(long, value_name = "N", default_value = "auto")]
    seq: String,
    /// Not before: Unix seconds, 2026-11-20T10:00:00Z, or +2h
    #[arg(long, value_name = "T")]
    not_before: Option<String>,
    /// Spread the gateways over so long after --not-before: 30m, 12h
    #[arg(long, value_name = "SPAN")]
    spread: Option<String>,
    /// The desired state counts for nothing after: Unix seconds, 2026-11-20T10:00:00Z, or +7d
    #[arg(long, value_name = "T")]
    expires: Option<String>,
    /// The broker forgets objects and manifest after so long: 30d [default: never]
    #[arg(long, value_name = "SPAN")]
    keep: Option<String>,
}

#[derive(Debug, Args)]
pub(super) struct Change {
    #[command(flatten)]
    broker: BrokerArgs,
    #[command(flatten)]
    target: TargetArgs,
    #[command(flatten)]
    operator: OperatorArgs,
}

#[derive(Debug, Args)]
pub(super) struct Resume {
    #[command(flatten)]
    change: Change,
    /// The share of the group that takes it [default: as it was]
    #[arg(long, value_name = "SHARE")]
    rollout: Option<String>,
    /// The desired state counts for nothing after: Unix seconds, 2026-11-20T10:00:00Z, or +7d [default: as it was;
    /// after a pause or a halt: never]
    #[arg(long, value_name = "T")]
    expires: Option<String>,
}

#[derive(Debug, Args)]
pub(super) struct Watch {
    #[command(flatten)]
    broker: BrokerArgs,
    /// The fleet
    #[arg(long)]
    fleet: String,
    /// A line of JSON for each message
    #[arg(long)]
    json: bool,
    /// Show what stands there now, and end
    #[arg(long)]
    once: bool,
}

#[derive(Debug, Args)]
pub(super) struct Serve {
    /// The bundles
    #[arg(required = true)]
    bundles: Vec<PathBuf>,
    #[command(flatten)]
    broker: BrokerArgs,
    /// The fleet
    #[arg(long)]
    fleet: String,
}

/// A line for each gateway that asks; ends when it is ended.
pub(super) fn serve(command: &Serve, audience: Audience) -> Result<()> {
    let filter = serving::filter(&command.fleet)?;
    let mut shelf = Shelf::default();
    for bundle in &command.bundles {
        shelf.add(bundle, audience)?;
    }
    let mut session = Session::open(&Broker { keeps: false, ..command.broker.broker()? })?;
    session.listen(&filter, QoS::AtLeastOnce)?;
    say(format_args!("serving  {} objects to fleet {}", shelf.len(), command.fleet));
    loop {
        let Some(message) = session.hear(REDRAW)? else { continue };
        match serving::read(&command.fleet, &message.topic, &message.payload) {
            Ok((id, names)) => {
                let sent = serving::answer(&mut session, &shelf, &command.fleet, &id, &names)?;
                say(format_args!("{id}  {sent} of {}", names.len()));
            }
            Err(failure) => warn(failure),
        }
    }
}

pub(super) fn publish(command: &Publish, audience: Audience) -> Result<()> {
    let now = now_s();
    let seq = match command.seq.as_str() {
        "auto" => None,
        number => {
            Some(number.parse().map_err(|_| fail!("--seq: expected auto or a number, found {number:?}"))?)
        }
    };
    let spread_s = command.spread.as_deref().map(duration_s).transpose()?;
    let not_before = command.not_before.as_deref().map(|t| time(t, now)).transpose()?;
    let window = match (not_before, spread_s) {
        (None, None) => None,
        (not_before, spread_s) => Some(MaintenanceWindow {
            not_before: not_before.unwrap_or(now),
            spread_s: u32::try_from(spread_s.unwrap_or(0))
                .map_err(|_| fail!("--spread: expected at most {} s", u32::MAX))?,
        }),
    };
    let expiry_s = command.keep.as_deref().map(duration_s).transpose()?;
    let plan = publishing::Plan {
        bundle: command.bundle.clone(),
        root: trust::load(&command.operator.trust)?,
        target: Some(command.target.target()?),
        schedule: Schedule {
            rollout_bp: share_bp(&command.rollout)?,
            window,
            expires: command.expires.as_deref().map(|t| time(t, now)).transpose()?,
            seq,
        },
        expiry_s: expiry_s
            .map(|s| u32::try_from(s).map_err(|_| fail!("--keep: expected at most {} s", u32::MAX)))
            .transpose()?,
    };
    let broker = command.broker.broker()?;
    let signers =
        keys::read_all(&command.operator.operator_key, &mut command.operator.passphrase.passphrases())?;
    let published = publishing::publish(&plan, &broker, &signers, audience)?;
    if let Some(why) = &published.replaced_refused {
        warn(format_args!(
            "note: what stood there before is refused by this trust root, and was replaced: {why}"
        ));
    }
    let seconds = published.took.as_secs_f64();
    say(format_args!("published {} {}", published.version, published.name));
    say(format_args!(
        "objects   {} ({}) in {seconds:.1} s, {}/s",
        published.objects,
        size(published.bytes),
        size((published.bytes as f64 / seconds.max(0.001)) as u64)
    ));
    if let Some(state) = &published.desired {
        say_desired(state);
    }
    Ok(())
}

pub(super) fn halt(command: &Change) -> Result<()> {
    change(command, rollout::Change { action: DesiredAction::Halt, rollout_bp: None, expires: None })
}

pub(super) fn pause(command: &Change) -> Result<()> {
    change(command, rollout::Change { action: DesiredAction::Pause, rollout_bp: None, expires: None })
}

pub(super) fn resume(command: &Resume) -> Result<()> {
    let rollout_bp = command.rollout.as_deref().map(share_bp).transpose()?;
    let expires = command.expires.as_deref().map(|t| time(t, now_s())).transpose()?;
    change(&command.change, rollout::Change { action: DesiredAction::Run, rollout_bp, expires })
}

fn change(command: &Change, change: rollout::Change) -> Result<()> {
    let root = trust::load(&command.operator.trust)?;
    let target = command.target.target()?;
    let broker = command.broker.broker()?;
    let signers =
        keys::read_all(&command.operator.operator_key, &mut command.operator.passphrase.passphrases())?;
    let mut session = Session::open(&broker)?;
    let state = rollout::change(&mut session, &root, &target, change, &signers)?;
    session.close()?;
    say_desired(&state);
    Ok(())
}

fn say_desired(state: &DesiredState) {
    say(format_args!(
        "desired   {:?} {} for {} of {} in fleet {}, sequence {}",
        state.action,
        state.version,
        share(state.rollout_bp),
        state.group,
        state.fleet,
        state.seq
    ));
    if let Some(window) = state.window {
        say(format_args!("window    from {}, spread over {} s", utc(window.not_before), window.spread_s));
    }
    if let Some(expires) = state.expires {
        say(format_args!("expires   {}", utc(expires)));
    }
}

pub(super) fn watch(command: &Watch) -> Result<()> {
    let filters = watching::filters(&command.fleet)?;
    let broker = command.broker.broker()?;
    let mut session = Session::open(&broker)?;
    for filter in &filters {
        session.listen(filter, QoS::AtMostOnce)?;
    }
    let mut fleet = Fleet::default();
    let live = !command.once && !command.json && std::io::stdout().is_terminal();
    let (mut drawn, mut stale) = (Instant::now(), true);
    loop {
        let patience = if command.once { KEPT_GRACE } else { REDRAW };
        let heard = session.hear(patience)?;
        let Some(message) = heard else {
            if command.once {
                break;
            }
            if live && stale {
                draw(&fleet);
                (drawn, stale) = (Instant::now(), false);
            }
            continue;
        };
        let (id, said) = match watching::read(&command.fleet, &message.topic, &message.payload) {
            Ok(read) => read,
            Err(failure) => {
                warn(format_args!("note: {failure}"));
                continue;
            }
        };
        let new = fleet.take(&id, &said, message.retained);
        if command.json {
            say(watching::one_line(&watching::as_json(&id, &said)));
        } else if live {
            stale |= new;
            if stale && drawn.elapsed() >= REDRAW {
                draw(&fleet);
                (drawn, stale) = (Instant::now(), false);
            }
        } else if new && !command.once {
            let line = fleet.gateways.get(&id).map_or(format!("{id}  cleared"), |gateway| gateway.line(&id));
            say(format_args!("{}  {line}", utc(now_s())));
        }
    }
    if !command.json {
        say(fleet.table(usize::MAX).trim_end());
    }
    session.close()
}

/// The whole screen, as many gateways as it holds.
fn draw(fleet: &Fleet) {
    let (rows, _) = console::Term::stdout().size();
    let room = usize::from(rows).saturating_sub(4).max(1);
    say(format_args!("\x1b[H\x1b[2J{}", fleet.table(room)));
}

/// How long the broker may be silent before what it kept counts as told.
const KEPT_GRACE: Duration = Duration::from_millis(700);
/// Not more often than the eye follows.
const REDRAW: Duration = Duration::from_millis(250);
