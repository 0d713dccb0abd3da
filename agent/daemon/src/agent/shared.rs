//! What the agent shares with the threads around it: what it looks like from outside, what it should look up for, and
//! the way to say something while it is busy.
//!
//! ```text
//! who brings news         puts it into the inbox, THEN sets its flag      (see `Shared::bring`)
//! agent, in a download    looks at the flag before every object
//! agent, before a reboot  looks at the flag, and answers "not now"
//! agent, between turns    takes the flags down, THEN empties the inbox
//! ```
//! So news that stands in the inbox is never without its flag: whatever the order in which the two threads run, either
//! the agent finds it when it empties the inbox, or the flag is set after that and cuts the next turn short.

use super::{Command, presence};
use crate::health::Interrupt;
use crate::status::{LinkStatus, Status};
use crate::transport::{self, ControlLink};
use mainstay_board_support::gpio::Sign;
use mainstay_core::report::{Availability, Presence};
use mainstay_core::trust::TrustRoot;
use mainstay_core::update::Service;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

/// How soon what stands in the inbox has to be seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Urgency {
    /// Before the machine goes down into a trial.
    BeforeReboot,
    /// Before the end of a download that can be taken up again where it was.
    Soon,
    /// Before the end of any download, also of a file that cannot be read twice.
    AtOnce,
}

/// What the agent shares with the threads around it.
pub struct Shared {
    status: Mutex<Status>,
    /// News of any [`Urgency`] stands in the inbox.
    news: AtomicBool,
    /// `Soon` or `AtOnce`.
    pub(super) interrupt: Arc<AtomicBool>,
    /// `AtOnce`.
    end: AtomicBool,
    /// The daemon is to end.
    stopping: AtomicBool,
    /// The machine has been asked to go down.
    going_down: AtomicBool,
    /// The last word has been said, and the connection closed for good.
    gone: AtomicBool,
    /// Does the control connection stand? A health check may ask.
    pub connected: Arc<AtomicBool>,
    /// Ends a trial, in which the agent has no eye for its inbox.
    trial: Mutex<Option<Interrupt>>,
    /// A trial runs.
    in_trial: AtomicBool,
    /// It was ended by hand, and the audit log does not say so yet.
    ended_by_hand: AtomicBool,
    /// The trust root in force: who brings news asks whether anybody has signed it.
    trust: Mutex<TrustRoot>,
    voice: OnceLock<Voice>,
    /// The broker has taken the last [`farewell`](Shared::farewell).
    farewell_taken: AtomicBool,
}

/// Where presence goes.
struct Voice {
    link: ControlLink,
    topic: String,
    session: u64,
    /// What was said last, so that nothing is said twice.
    said: Mutex<Option<Presence>>,
}

impl Shared {
    /// Begins with `status`, under `trust`.
    pub fn new(status: Status, trust: TrustRoot) -> Arc<Self> {
        Arc::new(Shared {
            status: Mutex::new(status),
            news: AtomicBool::default(),
            interrupt: Arc::default(),
            end: AtomicBool::default(),
            stopping: AtomicBool::default(),
            going_down: AtomicBool::default(),
            gone: AtomicBool::default(),
            connected: Arc::default(),
            trial: Mutex::new(None),
            in_trial: AtomicBool::default(),
            ended_by_hand: AtomicBool::default(),
            trust: Mutex::new(trust),
            voice: OnceLock::new(),
            farewell_taken: AtomicBool::default(),
        })
    }

    /// What `mainstay status` shows now.
    pub fn status(&self) -> Status {
        lock(&self.status).clone()
    }

    pub(super) fn change<T>(&self, change: impl FnOnce(&mut Status) -> T) -> T {
        change(&mut lock(&self.status))
    }

    /// The trust root in force.
    pub fn trust(&self) -> TrustRoot {
        lock(&self.trust).clone()
    }

    pub(super) fn trust_is(&self, root: &TrustRoot) {
        *lock(&self.trust) = root.clone();
    }
}

/// News.
impl Shared {
    /// Puts `command` into the inbox and sees to it that the agent looks up in time. Waits while the inbox is full.
    /// `false`: the agent is gone.
    pub fn bring(&self, inbox: &SyncSender<Command>, command: Command, urgency: Option<Urgency>) -> bool {
        self.bring_patiently(inbox, command, urgency, || std::thread::sleep(FULL_PAUSE))
    }

    /// The same; `meanwhile` is called again and again while the inbox is full.
    pub fn bring_patiently(
        &self,
        inbox: &SyncSender<Command>,
        mut command: Command,
        urgency: Option<Urgency>,
        mut meanwhile: impl FnMut(),
    ) -> bool {
        while let Err(error) = inbox.try_send(command) {
            match error {
                TrySendError::Disconnected(_) => return false,
                TrySendError::Full(back) => command = back,
            }
            self.look_up(urgency);
            meanwhile();
        }
        self.look_up(urgency);
        true
    }

    fn look_up(&self, urgency: Option<Urgency>) {
        let Some(urgency) = urgency else { return };
        self.end.fetch_or(urgency >= Urgency::AtOnce, Ordering::AcqRel);
        self.interrupt.fetch_or(urgency >= Urgency::Soon, Ordering::AcqRel);
        self.news.store(true, Ordering::Release);
    }

    /// Is there news that this kind of work has to stop for?
    pub fn has_news(&self, work: Urgency) -> bool {
        let flag = match work {
            Urgency::BeforeReboot => &self.news,
            Urgency::Soon => &self.interrupt,
            Urgency::AtOnce => &self.end,
        };
        flag.load(Ordering::Acquire)
    }

    /// Takes the flags down, before the inbox is emptied. `true`: one was up.
    pub(super) fn news_is_being_read(&self) -> bool {
        self.end.store(false, Ordering::Release);
        self.interrupt.store(false, Ordering::Release);
        self.news.swap(false, Ordering::AcqRel)
    }

    /// The daemon is to end, also where the inbox is full.
    pub fn stop(&self, inbox: &SyncSender<Command>) {
        self.stopping.store(true, Ordering::Release);
        let _ = inbox.try_send(Command::Stop);
        self.look_up(Some(Urgency::AtOnce));
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }
}

/// Trials.
impl Shared {
    /// How a trial is ended from outside.
    pub fn trial_runs_under(&self, interrupt: Interrupt) {
        *lock(&self.trial) = Some(interrupt);
    }

    /// Ends the trial that runs: a person says so. `false`: none runs.
    pub fn end_trial(&self, why: &str) -> bool {
        let trial = lock(&self.trial);
        let ended = trial.as_ref().is_some_and(|trial| trial.roll_back(why));
        self.ended_by_hand.fetch_or(ended, Ordering::AcqRel);
        ended
    }

    /// Has a trial been ended by hand since this was asked last? The lock is that of [`end_trial`](Self::end_trial): the
    /// agent may come by here before who ended the trial has noted it.
    pub(super) fn was_ended_by_hand(&self) -> bool {
        let _ending = lock(&self.trial);
        self.ended_by_hand.swap(false, Ordering::AcqRel)
    }

    /// A trial runs: the agent has no eye for its inbox until there is a verdict.
    pub fn in_trial(&self) -> bool {
        self.in_trial.load(Ordering::Acquire)
    }

    pub(super) fn trial_is_on(&self, on: bool) {
        self.in_trial.store(on, Ordering::Release);
    }
}

/// What the broker is told.
impl Shared {
    /// Presence goes out by `link`, under `topic`, from now on.
    pub(super) fn speak_through(&self, link: ControlLink, topic: String, session: u64) {
        let _ = self.voice.set(Voice { link, topic, session, said: Mutex::new(None) }); // once in a process
    }

    /// Notes the way to the broker, as this event says that it is. `true`: that is all, the agent need not hear of it.
    pub fn link_is(&self, event: &transport::Event) -> bool {
        let link = match event {
            transport::Event::Connected { .. } => LinkStatus::Connected,
            transport::Event::Disconnected { cause } => LinkStatus::Down(cause.clone()),
            transport::Event::Acknowledged { ticket: FAREWELL } => {
                self.farewell_taken.store(true, Ordering::Release);
                return true; // who said it waits for it, and nobody has to be woken
            }
            _ => return false,
        };
        if self.gone.load(Ordering::Acquire) {
            return true; // that it is down now is what was wanted
        }
        // Here and not in the agent: it may be in the middle of a trial whose checks ask.
        self.connected.store(link == LinkStatus::Connected, Ordering::Release);
        self.change(|status| status.link = link);
        false
    }

    /// What the status LED shows.
    pub fn sign(&self) -> Sign {
        lock(&self.status).sign()
    }

    /// The link as it is, for who has no time to read what it tells.
    pub fn look_at_the_link(&self) {
        if let Some(voice) = self.voice.get() {
            self.connected.store(voice.link.is_connected(), Ordering::Release);
        }
    }

    /// How things are, for the birth that each connection begins with.
    pub fn birth(&self, session: u64) -> Presence {
        presence(&self.status(), self.availability(Availability::Online), session)
    }

    /// Tells how things are, where that differs from what was told last.
    pub fn tell(&self) {
        let Some(voice) = self.voice.get().filter(|_| !self.gone.load(Ordering::Acquire)) else { return };
        let now = self.birth(voice.session);
        let mut said = lock(&voice.said);
        // The audit log grows with things that nobody needs to hear of by themselves.
        let same = |said: &Presence| *said == Presence { audit: said.audit, ..now.clone() };
        if !said.as_ref().is_some_and(same) {
            voice.publish(&now, None);
            *said = Some(now);
        }
    }

    /// The machine has been asked to go down, and the broker is told before it does.
    pub(super) fn goes_down(&self) {
        self.going_down.store(true, Ordering::Release);
        self.farewell(Availability::Rebooting);
    }

    /// It could not.
    pub(super) fn stays_up(&self) {
        self.going_down.store(false, Ordering::Release);
        self.tell();
    }

    /// The last word, and a moment's wait until the broker has taken it: else it would be lost with the connection, and
    /// the will would say instead that we are gone without a word.
    pub fn farewell(&self, availability: Availability) {
        let (Some(voice), true) = (self.voice.get(), self.connected.load(Ordering::Acquire)) else { return };
        let message = presence(&self.status(), self.availability(availability), voice.session);
        self.farewell_taken.store(false, Ordering::Release);
        let begun = Instant::now();
        if voice.publish(&message, Some(FAREWELL)) {
            *lock(&voice.said) = Some(message);
            while !self.farewell_taken.load(Ordering::Acquire) && begun.elapsed() < FAREWELL_WAIT {
                std::thread::sleep(FAREWELL_LOOK);
            }
        }
    }

    /// The last word of a gateway that is decommissioned, if it can still be said, and the connection closed for good. No
    /// condition of what follows: whoever holds the cable must not be able to keep a key alive.
    pub(super) fn leaves_for_good(&self) {
        if self.gone.swap(true, Ordering::AcqRel) {
            return;
        }
        self.farewell(Availability::Decommissioned);
        self.hang_up();
        self.connected.store(false, Ordering::Release);
        self.change(|status| status.link = LinkStatus::None);
    }

    /// The farewell of a daemon that ends; then the connection is closed, so that the broker drops the will.
    pub fn close(&self) {
        self.farewell(Availability::Offline);
        self.hang_up();
    }

    fn hang_up(&self) {
        let Some(voice) = self.voice.get() else { return };
        voice.link.stop();
        let begun = Instant::now();
        while voice.link.is_connected() && begun.elapsed() < FAREWELL_WAIT {
            std::thread::sleep(FAREWELL_LOOK);
        }
    }

    fn availability(&self, otherwise: Availability) -> Availability {
        let service = lock(&self.status).record.service;
        match (service, otherwise) {
            (Service::Decommissioning(_) | Service::Decommissioned(_), _) => Availability::Decommissioned,
            _ if self.going_down.load(Ordering::Acquire) => Availability::Rebooting,
            (Service::Resetting, Availability::Online) => Availability::Resetting,
            _ => otherwise,
        }
    }
}

impl Voice {
    fn publish(&self, message: &Presence, ticket: Option<u64>) -> bool {
        let mut bytes = [0; 1024]; // about 600 when every text is full
        let sent = mainstay_core::wire::encode_body_into(message, &mut bytes)
            .and_then(|body| self.link.publish(&self.topic, body, true, ticket));
        sent.inspect_err(|fault| log::warn!("presence: {fault}")).is_ok()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The ticket of a farewell; reports count from 1.
const FAREWELL: u64 = u64::MAX;
/// How long the broker is given to take a farewell: a reboot does not wait for a network.
const FAREWELL_WAIT: Duration = Duration::from_secs(2);
/// See [`FAREWELL_WAIT`].
const FAREWELL_LOOK: Duration = Duration::from_millis(10);
/// How often a full inbox is tried again.
const FULL_PAUSE: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::tests::shared;
    use std::sync::mpsc::sync_channel;

    #[test]
    fn news_cuts_short_what_it_is_urgent_for_and_nothing_else() {
        use Urgency::*;
        #[rustfmt::skip]
        let cases = [
            // news                  reboot  broker  file
            (None,                   [false, false,  false]),
            (Some(BeforeReboot),     [true,  false,  false]),
            (Some(Soon),             [true,  true,   false]),
            (Some(AtOnce),           [true,  true,   true]),
        ];
        for (urgency, expected) in cases {
            let (shared, (inbox, commands)) = (shared(), sync_channel(1));
            assert!(shared.bring(&inbox, Command::Stop, urgency));
            assert_eq!(
                [BeforeReboot, Soon, AtOnce].map(|work| shared.has_news(work)),
                expected,
                "{urgency:?}"
            );
            assert_eq!(shared.news_is_being_read(), urgency.is_some());
            assert!(!shared.has_news(BeforeReboot) && commands.try_recv().is_ok());
        }
    }

    /// The agent takes the flags down and empties the inbox just before the message comes; the flag has to be up all
    /// the same, or a `cancel` would wait for the end of a download.
    #[test]
    fn news_that_waited_for_room_in_the_inbox_has_its_flag_up_when_it_is_in() {
        let (shared, (inbox, commands)) = (shared(), sync_channel(1));
        inbox.try_send(Command::Stop).unwrap();
        shared.bring_patiently(&inbox, Command::Stop, Some(Urgency::AtOnce), || {
            assert!(shared.has_news(Urgency::AtOnce), "a full inbox has to be emptied");
            shared.news_is_being_read();
            commands.try_recv().unwrap();
        });
        assert!(shared.has_news(Urgency::AtOnce) && commands.try_recv().is_ok());
    }

    #[test]
    fn a_daemon_can_be_told_to_end_though_its_inbox_is_full() {
        let (shared, (inbox, _commands)) = (shared(), sync_channel(1));
        inbox.try_send(Command::Stop).unwrap();
        shared.stop(&inbox);
        assert!(shared.is_stopping() && shared.has_news(Urgency::AtOnce));
    }
}
