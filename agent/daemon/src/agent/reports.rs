//! What the operator is told: presence whenever something changes, and each outcome until the broker has taken it.

use super::Agent;
use crate::status::Status;
use mainstay_core::fault;
use mainstay_core::limits::DETAIL_BYTES_MAX;
use mainstay_core::report::{Availability, GroupReport, Outcome, Presence};
use mainstay_core::topic::Leaf;
use mainstay_core::update::{Phase, Report};
use std::time::{Duration, Instant};

/// How the oldest outcome that the operator does not have yet is on its way.
#[derive(Default)]
pub(super) enum Reporting {
    /// Not at all.
    #[default]
    Not,
    /// Under this ticket. The link sends it again after each reconnect, so nothing has to be done here.
    Sent(u64, Box<Report>),
    /// The broker has refused it: its access control may be mended without a reconnect, so it is tried again then.
    Refused(Instant),
    /// The broker has taken it, and that could not be put on record: tried again then, and not sent again before.
    Unnoted(Box<Report>, Instant),
}

impl Agent {
    /// Sends the oldest outcome that the operator does not have yet.
    pub(super) fn report(&mut self) {
        let Some(link) = self.link.clone().filter(|_| self.connected) else { return };
        match &self.reporting {
            Reporting::Sent(..) => return,
            Reporting::Refused(again) | Reporting::Unnoted(_, again) if Instant::now() < *again => return,
            Reporting::Unnoted(report, _) => {
                let report = report.clone();
                self.note_as_reported(report);
                if matches!(self.reporting, Reporting::Unnoted(..)) {
                    return;
                }
            }
            _ => {}
        }
        let Some(report) = self.driver.record().unreported.first().cloned() else { return };
        let running = self.driver.running();
        let message = Outcome {
            manifest: report.manifest,
            version: report.version.clone(),
            attempt: report.attempt,
            kind: report.outcome.kind,
            detail: report.outcome.detail.clone(),
            running,
            running_version: self
                .driver
                .record()
                .release(running)
                .map(|r| r.version.clone())
                .unwrap_or_default(),
        };
        let topic = self.topic(Leaf::Report);
        self.tickets += 1;
        let mut bytes = [0; 1024];
        let sent = mainstay_core::wire::encode_body_into(&message, &mut bytes)
            .and_then(|body| link.publish(&topic, body, false, Some(self.tickets)));
        match sent {
            Ok(()) => self.reporting = Reporting::Sent(self.tickets, Box::new(report)),
            Err(fault) => log::warn!("report: {fault}"),
        }
    }

    /// The broker has taken what was sent under `ticket`.
    pub(super) fn acknowledged(&mut self, ticket: u64) {
        let report = match std::mem::take(&mut self.reporting) {
            Reporting::Sent(ours, report) if ours == ticket => report,
            other => return self.reporting = other,
        };
        self.note_as_reported(report);
        self.report();
    }

    /// On a medium that takes no record the outcome would be sent, taken and sent again, as fast as the broker answers.
    fn note_as_reported(&mut self, report: Box<Report>) {
        let noted = self.driver.acknowledge(&report, &mut self.world.parts());
        let known = matches!(self.reporting, Reporting::Unnoted(..));
        self.reporting = match noted {
            Ok(()) => Reporting::Not,
            Err(fault) => {
                if !known {
                    let fault = format!("the outcome was reported, but that could not be noted: {fault}");
                    log::warn!("{fault}");
                    self.shared.change(|status| status.fault = Some(fault));
                }
                Reporting::Unnoted(report, Instant::now() + self.config.update.retry)
            }
        };
        self.show();
    }

    /// The broker refuses something, for good.
    pub(super) fn refused_by_broker(&mut self, ticket: Option<u64>, what: &str) {
        log::error!("broker refuses: {what}");
        self.shared.change(|status| status.fault = Some(format!("broker refuses: {what}")));
        if matches!(&self.reporting, Reporting::Sent(ours, _) if Some(*ours) == ticket) {
            self.reporting = Reporting::Refused(Instant::now() + REFUSED_AGAIN);
        }
    }

    /// A new connection may have new rights.
    pub(super) fn report_again(&mut self) {
        if matches!(self.reporting, Reporting::Refused(_)) {
            self.reporting = Reporting::Not;
        }
    }
}

/// What a gateway says of itself, from its status.
pub fn presence(status: &Status, availability: Availability, session: u64) -> Presence {
    let group = |group| GroupReport {
        version: status.record.release(group).map(|r| r.version.clone()).unwrap_or_default(),
        boot: status.boot.as_ref().ok().map(|boot| {
            let state = boot.group(group);
            (state.priority, state.tries_left, state.good.map_or(2, u8::from))
        }),
    };
    let lost = status.record_lost.then_some("the agent's record was damaged and has been begun anew");
    let boot = status.boot.as_ref().err().map(String::as_str);
    let detail = lost.or(boot).or(status.waiting.as_deref()).or(status.fault.as_deref()).unwrap_or("");
    let [group_seq, device_seq] = status.record.desired_seq;
    Presence {
        availability,
        session,
        running: status.running,
        groups: mainstay_core::boot::Group::BOTH.map(group),
        phase: status.record.phase.name(),
        deployment: status.record.phase.deployment().map(|d| (d.manifest, d.version.clone())),
        outcome: match &status.record.phase {
            Phase::Settled(_, outcome) => Some((outcome.kind, outcome.detail.clone())),
            _ => None,
        },
        floor: status.record.floor,
        trust: status.trust.1,
        desired_seq: group_seq.max(device_seq),
        detail: fault::clip::<DETAIL_BYTES_MAX>(detail),
        agent: fault::clip(crate::VERSION),
        audit: status.audit,
    }
}

/// Different at every start, and rising as long as the clock does.
pub(super) fn session() -> u64 {
    let since_1970 = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since_1970.map_or(0, |time| time.as_millis() as u64)
}

/// How long a broker that refuses a report is left alone with it.
const REFUSED_AGAIN: Duration = Duration::from_secs(60);
