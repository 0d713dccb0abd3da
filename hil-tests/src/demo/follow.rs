//! Watching the gateway until something has come about, and drawing it meanwhile.
//!
//! Looked at many times a second: the board (its events, its environment, what is in its slots) and the agent's log. Asked less
//! often, because it takes a process: `mainstay status`. Heard: what the gateway tells its operator.

use super::stage::Stage;
use crate::board::Happening;
use crate::gateway::Status;
use crate::image::Behaviour;
use crate::listener::{Heard, Said};
use crate::screen::{GroupView, View};
use crate::{Result, Trouble};
use mainstay_core::boot::{BootState, Group};
use mainstay_core::digest::Digest;
use mainstay_core::report::{Outcome, Progress};
use std::time::{Duration, Instant};

/// A moment in the past: what has come since can be looked at.
#[derive(Clone, Copy, Debug)]
pub struct Mark {
    /// When it was.
    pub at: Instant,
    board: usize,
    heard: usize,
    log: usize,
    gate: u64,
}

/// How it stands, and what has come since a [`Mark`].
#[derive(Clone, Debug)]
pub struct Moment {
    /// What the agent said last; `None`: it does not run, or has not answered in this boot.
    pub status: Option<Status>,
    /// What the bootloader's environment says; `None`: it is being written.
    pub boot: Option<BootState>,
    /// What has happened on the board.
    pub events: Vec<Happening>,
    /// What the operator has heard of this gateway.
    pub heard: Vec<Heard>,
    /// What the agent has logged.
    pub log: String,
    /// Bytes that the broker has sent.
    pub sent: u64,
}

/// What has been shown and asked.
#[derive(Default)]
pub struct Shown {
    events: usize,
    log: usize,
    agent_runs: bool,
    status: Option<Status>,
    asked: Option<Instant>,
}

/// How often it is looked at.
const TICK: Duration = Duration::from_millis(50);
/// How often the agent is asked.
const ASK_EVERY: Duration = Duration::from_millis(200);

impl Stage {
    /// A mark.
    pub fn mark(&self) -> Mark {
        Mark {
            at: Instant::now(),
            board: self.gateway.board().mark(),
            heard: self.listener.mark(),
            log: self.gateway.log_since(0).1,
            gate: self.broker.gate().to_clients(),
        }
    }

    /// Draws, until `over` gives something; `what` is what the trouble says that was waited for.
    pub fn follow<T>(
        &mut self,
        mark: Mark,
        what: &str,
        patience: Duration,
        mut over: impl FnMut(&Moment) -> Option<T>,
    ) -> Result<T> {
        let until = Instant::now() + patience;
        loop {
            let moment = self.moment(mark);
            self.draw(&moment);
            if let Some(over) = over(&moment) {
                return Ok(over);
            }
            let broken = moment.events.iter().find(|event| {
                matches!(event, Happening::Broken(_) | Happening::NothingBootable | Happening::AgentEnded(_))
            });
            if let Some(broken) = broken {
                return Err(self.trouble(&format!("waiting for {what}: {broken:?}"), &moment));
            }
            if self.interrupted() {
                return Err(Trouble::new("interrupted"));
            }
            if Instant::now() > until {
                return Err(
                    self.trouble(&format!("waited {} s for {what} in vain", patience.as_secs()), &moment)
                );
            }
            std::thread::sleep(TICK);
        }
    }

    /// Until the agent is up, is connected, has nothing to do and has told everything.
    pub fn settle(&mut self) -> Result<()> {
        self.follow(self.mark(), "a quiet gateway", PATIENCE, |moment| {
            let status = moment.status.as_ref()?;
            let quiet = matches!(status.phase.as_str(), "idle" | "settled") && status.unreported == 0;
            (status.broker == "connected" && quiet).then_some(())
        })
    }

    /// Until the operator hears how the bundle of this name fared.
    pub fn outcome(&mut self, mark: Mark, name: Digest, patience: Duration) -> Result<Outcome> {
        self.follow(mark, "an outcome", patience, |moment| moment.outcome(name))
    }

    fn moment(&mut self, mark: Mark) -> Moment {
        let board = self.gateway.board();
        let alive = board.status().agent.is_some();
        if !alive {
            (self.shown.status, self.shown.asked) = (None, None);
        } else if self.shown.asked.is_none_or(|asked| asked.elapsed() >= ASK_EVERY) {
            self.shown.asked = Some(Instant::now());
            self.shown.status = self.gateway.status().ok().filter(|status| status.daemon);
        }
        let mut heard = self.listener.since(mark.heard);
        heard.retain(|heard| heard.who == self.gateway.name());
        let board = self.gateway.board();
        Moment {
            status: self.shown.status.clone(),
            boot: board.boot_state().ok(),
            events: board.since(mark.board),
            heard,
            log: self.gateway.log_since(mark.log).0,
            sent: self.broker.gate().to_clients() - mark.gate,
        }
    }

    fn draw(&mut self, moment: &Moment) {
        for event in self.gateway.board().since(self.shown.events) {
            self.shown.events += 1;
            self.shown.agent_runs = match event {
                Happening::Boots(..) => false,
                Happening::AgentStarted => true,
                _ => self.shown.agent_runs,
            };
            if let Some(line) = line(&event, self.shown.agent_runs) {
                self.screen.say(&format!("   board     {line}"));
            }
        }
        let (log, end) = self.gateway.log_since(self.shown.log);
        if let Some(whole) = log.rfind('\n') {
            self.shown.log = end - (log.len() - whole - 1);
            for said in log.lines().filter_map(worth_showing) {
                self.screen.say(&format!("   gateway   {said}"));
            }
        }
        let board = self.gateway.board();
        let status = board.status();
        let standing = moment.boot.as_ref().map(View::standing).unwrap_or_default();
        let group = |group: Group| {
            let image = board.image_in(group).ok().flatten();
            let version = image.map(|image| image.version).unwrap_or_default();
            let empty = version.is_empty() && standing[group as usize] != "not bootable";
            let standing = if empty { "empty".to_owned() } else { standing[group as usize].clone() };
            GroupView { version, standing }
        };
        let agent = moment.status.as_ref().filter(|_| status.agent.is_some());
        let phase = match (status.power, &status.running, &status.image, agent) {
            (false, ..) => "power is off".to_owned(),
            (_, None, ..) => "bootloader".to_owned(),
            (_, Some((group, _)), image, None) if status.agent.is_none() => {
                let dead = image.as_ref().is_some_and(|image| image.behaviour == Behaviour::NeverUp);
                format!("{group} {}", if dead { "does not come up" } else { "comes up" })
            }
            (.., None) => "the agent starts".to_owned(),
            (.., Some(status)) => match &status.waiting {
                Some(why) => format!("{}, waits for {why}", status.phase),
                None if status.broker == "down" => format!("{}, the broker is gone", status.phase),
                None => status.phase.clone(),
            },
        };
        let progress =
            agent.filter(|status| status.phase == "downloading").and_then(|status| status.progress);
        let view = View {
            groups: Group::BOTH.map(group),
            running: status.running.map(|(group, _)| group),
            phase,
            progress: progress.map(|progress| (progress.done, progress.total)),
        };
        if moment.boot.is_some() {
            self.screen.show(&view);
        }
    }

    /// What was waited for, and what may explain why it did not come.
    fn trouble(&self, what: &str, moment: &Moment) -> Trouble {
        let (log, _) = self.gateway.log_since(0);
        let last: Vec<&str> = log.lines().rev().take(LOG_LINES).collect();
        let last: Vec<String> = last.iter().rev().map(|line| format!("         | {line}")).collect();
        let events: Vec<String> = moment.events.iter().map(|event| format!("{event:?}")).collect();
        let status = moment.status.as_ref().map_or("none".to_owned(), |status| format!("{status:?}"));
        Trouble::new(format!(
            "{what}\n         board: {}\n         status: {status}\n{}",
            events.join(", "),
            last.join("\n")
        ))
    }
}

/// When to give up on what takes seconds on an idle machine.
pub const PATIENCE: Duration = Duration::from_secs(120);
/// How much of the agent's log a trouble shows.
const LOG_LINES: usize = 12;

impl Moment {
    /// How the bundle of this name fared, where that has been heard.
    pub fn outcome(&self, name: Digest) -> Option<Outcome> {
        crate::listener::outcome(&self.heard, name)
    }

    /// The farthest that the writing of this bundle came, as the operator was told: once for each run, for a download that
    /// begins anew counts anew.
    pub fn runs(&self, name: Digest) -> Vec<Progress> {
        let mut runs: Vec<Progress> = Vec::new();
        for heard in &self.heard {
            match (&heard.what, runs.last_mut()) {
                (Said::Progress(said), Some(last)) if said.manifest == name && said.done >= last.done => {
                    *last = *said;
                }
                (Said::Progress(said), _) if said.manifest == name => runs.push(*said),
                _ => {}
            }
        }
        runs
    }

    /// The phases that the agent says it went through for this version, each as often as it was entered.
    pub fn phases(&self, version: &str) -> Vec<String> {
        let about = format!(": {version} for group ");
        let lines = self.log.lines().filter(|line| line.contains(&about));
        let mut phases: Vec<String> = lines
            .filter_map(|line| line.split_once("phase ")?.1.split_once(':'))
            .map(|(phase, _)| phase.to_owned())
            .collect();
        phases.dedup(); // a phase is said again by the agent of the next boot
        phases
    }
}

/// An event of the board, for people; `None`: the groups show it.
fn line(event: &Happening, agent_runs: bool) -> Option<String> {
    Some(match event {
        Happening::PowerOn => "power on".into(),
        Happening::PowerCut => "POWER CUT".into(),
        Happening::Boots(group, why) => format!("boots {group} ({})", why.name()),
        Happening::NothingBootable => "NOTHING IS BOOTABLE".into(),
        Happening::NeverComesUp => "nothing comes up".into(),
        Happening::AgentStarted => return None,
        Happening::AgentEnded(how) => format!("the agent has ended: {how}"),
        Happening::AgentRestarted => "the agent is started again".into(),
        Happening::AgentStopped => "the agent hangs".into(),
        Happening::Froze => "the machine freezes".into(),
        Happening::WatchdogArmed(seconds) => {
            let who = if agent_runs { "agent" } else { "bootloader" };
            format!("the {who} arms the watchdog, {seconds} s")
        }
        Happening::WatchdogBites => "the watchdog bites".into(),
        Happening::ResetAsked => "reset".into(),
        Happening::Broken(why) => format!("BROKEN: {why}"),
    })
}

/// The lines of the agent's log that tell the story.
fn worth_showing(line: &str) -> Option<&str> {
    let (level, said) = line.strip_prefix("mainstay: ")?.split_once(": ")?;
    let told = ["settled: ", "refused "].iter().any(|begin| said.starts_with(begin));
    (told || matches!(level, "error") || said.contains("desired state: ")).then_some(said)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phases_are_read_from_the_log_for_one_version_and_once_each() {
        let log = "-- boots A, good
mainstay: info: phase downloading: 2.0.0 for group B, attempt 1
mainstay: info: phase trial: 2.0.0 for group B, attempt 1
-- boots B, trial
mainstay: info: phase trial: 2.0.0 for group B, attempt 1
mainstay: info: phase waiting: 3.0.0 for group A, attempt 2
";
        let moment =
            Moment { status: None, boot: None, events: vec![], heard: vec![], log: log.into(), sent: 0 };
        assert_eq!(moment.phases("2.0.0"), ["downloading", "trial"]);
        assert_eq!(moment.phases("3.0.0"), ["waiting"]);
        assert!(moment.phases("1.0.0").is_empty());
    }

    #[test]
    fn a_download_that_counts_from_nothing_again_is_another_run() {
        let heard = |done: u64, manifest: u8| {
            let manifest = Digest([manifest; 32]);
            let progress = Progress { manifest, done, total: 9, fetched: done, copied: 0, kept: 0 };
            Heard { at: Instant::now(), who: "gw".into(), what: Said::Progress(progress) }
        };
        let heard = [(1, 1), (4, 1), (9, 2), (3, 1), (9, 1)].map(|(done, manifest)| heard(done, manifest));
        let moment = Moment {
            status: None,
            boot: None,
            events: vec![],
            heard: heard.to_vec(),
            log: String::new(),
            sent: 0,
        };
        let runs = moment.runs(Digest([1; 32]));
        assert_eq!(runs.iter().map(|run| run.fetched).collect::<Vec<_>>(), [4, 9]);
    }
}
