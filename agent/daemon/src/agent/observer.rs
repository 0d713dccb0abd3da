//! Turns what the driver notes into what others see: log lines with stable event ids, the status, progress messages,
//! lines for a technician who watches, and heartbeats for the watchdog.

use super::Shared;
use crate::audit_log::AuditLog;
use crate::health::Heartbeat;
use crate::status::{outcome_text, phase_name};
use crate::terminal::{printable, say};
use crate::transport::ControlLink;
use mainstay_core::audit::Event;
use mainstay_core::digest::Digest;
use mainstay_core::fault::FaultKind;
use mainstay_core::report::Progress;
use mainstay_core::seam::{Note, Observer};
use mainstay_core::topic::{self, Leaf};
use mainstay_core::update::{Deployment, Outcome, OutcomeKind, Phase, PhaseName};
use mainstay_core::wire::encode_body_into;
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A line for a technician: the last one says how it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Line {
    /// On the way.
    Note(String),
    /// Done.
    Done(String),
    /// Not done, and why.
    Failed(String),
}

/// Who asked for something, and hears what comes of it. Clones are one and the same.
#[derive(Clone, Debug)]
pub enum Watcher {
    /// Behind a channel: a thread of the control socket's.
    Elsewhere(Sender<Line>),
    /// At this terminal: what is on the way is said at once, for the agent's turn may take half an hour, and how it ended is kept.
    Here(Arc<Mutex<Option<End>>>),
}

impl Watcher {
    /// At this terminal.
    pub fn here() -> Watcher {
        Watcher::Here(Arc::default())
    }

    /// `false`: nobody listens any more.
    pub fn hears(&self, line: Line) -> bool {
        let (end, how) = match (self, line) {
            (Watcher::Elsewhere(listens), line) => return listens.send(line).is_ok(),
            (Watcher::Here(_), Line::Note(text)) => {
                say(printable(&text));
                return true;
            }
            (Watcher::Here(end), Line::Done(text)) => (end, Ok(text)),
            (Watcher::Here(end), Line::Failed(text)) => (end, Err(text)),
        };
        *end.lock().unwrap_or_else(PoisonError::into_inner) = Some(how);
        true
    }

    /// How it ended, if it has and that was to be said here.
    pub fn end(&self) -> Option<End> {
        match self {
            Watcher::Here(end) => end.lock().unwrap_or_else(PoisonError::into_inner).take(),
            Watcher::Elsewhere(_) => None,
        }
    }
}

/// What was done, or why it was not.
pub type End = std::result::Result<String, String>;

/// The one observer of the agent.
pub struct AgentObserver {
    /// What `status` shows.
    pub shared: Arc<Shared>,
    /// Where progress goes.
    pub link: Option<ControlLink>,
    /// The topic of progress messages.
    topic: String,
    /// The technician who watches this deployment.
    watcher: Option<Watcher>,
    /// The bundle in work, for progress messages.
    manifest: Digest,
    /// When progress was told last, and at which percent.
    told: Option<(Instant, u64)>,
    /// What happened, for auditors: recorded first, before anybody is told.
    pub audit: AuditLog,
    /// Beaten with every note: the watchdog is fed while it is young.
    pub heart: Arc<Heartbeat>,
}

/// Progress is told at most this often, or every five percent, whichever comes first.
const PROGRESS_EVERY: Duration = Duration::from_secs(5);
/// See [`PROGRESS_EVERY`].
const PROGRESS_PERCENT: u64 = 5;

impl AgentObserver {
    /// An observer for this device's topics.
    pub fn new(
        shared: Arc<Shared>,
        audit: AuditLog,
        heart: Arc<Heartbeat>,
        fleet: &str,
        device: &str,
    ) -> Self {
        let topic = topic::device(fleet, device, Leaf::Progress).to_string();
        AgentObserver {
            shared,
            link: None,
            topic,
            watcher: None,
            manifest: Digest::default(),
            told: None,
            audit,
            heart,
        }
    }

    /// From now on this technician watches; who did before is told so.
    pub fn watched_by(&mut self, watcher: Watcher) {
        self.tell(Line::Failed(
            "another command has taken this update over; `mainstay status` shows it".into(),
        ));
        self.watcher = Some(watcher);
    }

    /// Says something to the technician who watches, if one does.
    pub fn tell(&mut self, line: Line) {
        let last = !matches!(line, Line::Note(_));
        if let Some(watcher) = &self.watcher
            && (!watcher.hears(line) || last)
        {
            self.watcher = None;
        }
    }

    /// The control socket ends a trial without the agent, which is in the middle of it.
    pub fn record_what_was_ended_by_hand(&mut self) {
        if self.shared.was_ended_by_hand() {
            self.audit.record(Event::RolledBackByHand, &[]);
        }
    }

    /// A turn of the driver may last for hours and go through many phases: who asks, and the operator, is told of each.
    fn phase(&mut self, phase: PhaseName, deployment: Option<&Deployment>) {
        let entered = deployment.and_then(|deployment| under_way(phase, deployment.clone()));
        let told = self.shared.change(|status| {
            (status.waiting, status.progress) = (None, None);
            if phase == PhaseName::Waiting {
                status.fault = None; // it was another deployment's
            }
            entered.map(|entered| status.record.phase = entered).is_some()
        });
        if told {
            self.shared.tell();
        }
    }

    fn progress(&mut self, progress: Progress) {
        let percent = progress.done.saturating_mul(100).checked_div(progress.total).unwrap_or(0);
        let due = self
            .told
            .is_none_or(|(when, at)| when.elapsed() >= PROGRESS_EVERY || percent >= at + PROGRESS_PERCENT);
        if !due && progress.done < progress.total {
            return;
        }
        self.told = Some((Instant::now(), percent));
        let Progress { done, total, fetched, copied, kept, .. } = progress;
        self.tell(Line::Note(format!(
            "{percent} % of {total} bytes; fetched {fetched}, copied {copied}, kept {kept}"
        )));
        log::debug!("progress: {done} of {total} bytes; fetched {fetched}, copied {copied}, kept {kept}");
        if let Some(link) = &self.link {
            let mut bytes = [0; 128];
            if let Ok(body) = encode_body_into(&progress, &mut bytes) {
                match done < total {
                    true => _ = link.tell(&self.topic, body),
                    // Whoever watches shall not be left at 94 %: a quick download is over before the link is idle.
                    false => _ = link.publish(&self.topic, body, false, None),
                }
            }
        }
    }
}

/// The phase of a deployment that is under way. Which outcome a rollback has is shown when the turn is over; that of a
/// deployment that has settled, too.
fn under_way(phase: PhaseName, deployment: Deployment) -> Option<Phase> {
    Some(match phase {
        PhaseName::Waiting => Phase::Waiting(deployment),
        PhaseName::Downloading => Phase::Downloading(deployment),
        PhaseName::Verifying => Phase::Verifying(deployment),
        PhaseName::Installed => Phase::Installed(deployment),
        PhaseName::Trial => Phase::Trial(deployment),
        PhaseName::Committing => Phase::Committing(deployment),
        PhaseName::RollingBack => {
            let outcome = Outcome { kind: OutcomeKind::RolledBack, detail: heapless::String::new() };
            Phase::RollingBack(deployment, outcome)
        }
        PhaseName::Idle | PhaseName::Settled => return None,
    })
}

impl Observer for AgentObserver {
    fn note(&mut self, note: Note<'_>) {
        self.heart.beat();
        // Somebody wanted to be heard: nothing has failed, and an auditor need not read of it.
        if let Note::Fault { doing, fault } = &note
            && fault.kind == FaultKind::Cancelled
        {
            return log::debug!("{doing}: {fault}");
        }
        self.audit.note(&note);
        match note {
            Note::Phase { phase, deployment } => {
                let about = deployment
                    .map(|d| format!(": {} for group {}, attempt {}", d.version, d.target, d.attempt));
                let about = about.unwrap_or_default();
                log::info!("phase {}{about}", phase_name(phase));
                self.tell(Line::Note(format!("{}{about}", phase_name(phase))));
                self.phase(phase, deployment);
                // On record before the reboot: this process may not see the end of the turn.
                if phase == PhaseName::RollingBack {
                    self.record_what_was_ended_by_hand();
                }
            }
            Note::Progress { done, total, fetched, copied, kept } => {
                let manifest = self.shared.change(|status| {
                    status.progress = Some([done, total, fetched, copied, kept]);
                    // From the record: after a power cut a download goes on without a new phase.
                    status.record.phase.deployment().map(|d| d.manifest).unwrap_or_default()
                });
                if self.manifest != manifest {
                    (self.manifest, self.told) = (manifest, None);
                }
                self.progress(Progress { manifest, done, total, fetched, copied, kept });
            }
            Note::Route { class, base: Some(base), bytes } => {
                log::info!("{class}: by the delta route from {base:?}, {bytes} bytes");
                self.tell(Line::Note(format!("{class}: by the delta route from {base:?}, {bytes} bytes")));
            }
            Note::Route { class, base: None, bytes } => {
                log::debug!("{class}: by the full route, {bytes} bytes");
            }
            Note::Drift { class, first, segments } => {
                let what = format!(
                    "drift: {class}: segments of the running group that are not what was installed: {segments}, the first is \
                     number {first}; they come by the full route"
                );
                log::warn!("{what}");
                self.tell(Line::Note(what.clone()));
                self.shared.change(|status| status.fault = Some(what));
                self.shared.tell();
            }
            Note::Fault { doing, fault } => {
                log::warn!("{doing}: {fault}");
                self.shared.change(|status| status.fault = Some(format!("{doing}: {fault}")));
                self.tell(Line::Note(format!("{doing}: {fault}")));
            }
            Note::Waiting { why } => {
                let new = self.shared.change(|status| {
                    let new = status.waiting.as_deref() != Some(why);
                    status.waiting = Some(why.to_string());
                    new
                });
                if new {
                    log::info!("waits for {why}");
                    self.tell(Line::Note(format!("waits for {why}")));
                }
            }
            Note::Service { now, .. } => {
                let now = now.to_owned();
                log::warn!("service: {}", crate::status::service_name(now));
                self.shared.change(|status| status.record.service = now);
                self.shared.tell();
            }
            Note::Settled { deployment, outcome } => {
                log::info!("settled: {} {}", deployment.version, outcome_text(outcome));
                if outcome.kind == OutcomeKind::Committed {
                    self.shared.change(|status| status.fault = None); // whatever it was, it has been overcome
                }
            }
        }
    }
}
