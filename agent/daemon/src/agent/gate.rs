//! When: maintenance hours, the operator's window, approval, interlock. Never what.

use super::{Shared, Urgency};
use crate::config::Update;
use crate::transport::meter::{Meter, within};
use mainstay_core::fault::clip;
use mainstay_core::seam::{Clock, Gate, Permission};
use mainstay_core::update::{Deployment, OutcomeKind};
use std::sync::Arc;

/// The input from the plant that says whether the machine may go down.
pub type Interlock = Box<dyn FnMut() -> mainstay_core::seam::Result<bool> + Send>;

/// Decides when.
pub struct AgentGate {
    update: Update,
    clock: Box<dyn Clock + Send>,
    interlock: Option<Interlock>,
    /// Knows whether the month's bytes are used up.
    meter: Option<Arc<Meter>>,
    /// Knows whether there is news that has not been read.
    shared: Arc<Shared>,
    /// A person brought the bundle: hours and the operator's word do not hold it up, the interlock does. Not kept over a
    /// restart of the agent: the file is gone then, and who brings it again says so again.
    pub by_hand: bool,
    /// A person has said that it may reboot now. Not kept over a restart of the agent: whoever said it has looked at the
    /// plant as it was then.
    pub approved: bool,
    /// What the operator's desired state says against going on now.
    pub held: Option<String>,
}

impl AgentGate {
    /// Nothing held, nothing approved.
    pub fn new(
        update: Update,
        clock: Box<dyn Clock + Send>,
        interlock: Option<Interlock>,
        shared: Arc<Shared>,
    ) -> Self {
        let meter = None;
        AgentGate { update, clock, interlock, meter, shared, by_hand: false, approved: false, held: None }
    }

    /// Begins no download whose bytes the month has not got any more.
    pub fn with_meter(mut self, meter: Arc<Meter>) -> Self {
        self.meter = Some(meter);
        self
    }

    /// A new deployment: what was said for the one before does not count for it.
    pub fn reset(&mut self, by_hand: bool) {
        self.by_hand = by_hand;
        self.approved = false;
    }

    fn hours(&mut self) -> Permission {
        let Some((from, to)) = self.update.hours.filter(|_| !self.by_hand) else { return Permission::Go };
        match self.clock.now().unix_s {
            None => wait("the maintenance hours: the clock is not set"),
            Some(now) if within(from, to, (now % 86_400) as u32) => Permission::Go,
            Some(_) => {
                wait(format_args!("the maintenance hours: {}-{} UTC", clock_text(from), clock_text(to)))
            }
        }
    }
}

impl Gate for AgentGate {
    fn may_download(&mut self, deployment: &Deployment) -> Permission {
        let now = self.clock.now().unix_s;
        if let (Some(now), Some(expires)) = (now, deployment.expires)
            && now > expires
        {
            return Permission::Stop(
                OutcomeKind::Expired,
                clip(format_args!("it could be begun until {expires}, now is {now}")),
            );
        }
        if let (Some(now), Some(from)) = (now, deployment.not_before)
            && now < from
        {
            return wait(format_args!("its time: not before {from} (Unix seconds)"));
        }
        match &self.held {
            Some(why) if !self.by_hand => return wait(why),
            _ => {}
        }
        let used_up = self.meter.as_ref().filter(|_| !self.by_hand).and_then(|meter| meter.used_up());
        used_up.map_or_else(|| self.hours(), wait)
    }

    fn may_reboot(&mut self, _deployment: &Deployment) -> Permission {
        // A halt or a cancel that came while the last bytes were read back must not come too late.
        if self.shared.has_news(Urgency::BeforeReboot) {
            return wait("news that has just come to be read");
        }
        if self.update.approve_reboot && !self.approved {
            return wait("approval: `mainstay approve`");
        }
        if let Some(interlock) = &mut self.interlock {
            match interlock() {
                Ok(true) => {}
                Ok(false) => return wait("the interlock: the plant says that the machine may not go down"),
                Err(fault) => return wait(format_args!("the interlock: {fault}")),
            }
        }
        match &self.held {
            Some(why) if !self.by_hand && !self.approved => wait(why),
            _ if self.approved => Permission::Go,
            _ => self.hours(),
        }
    }
}

fn wait(why: impl std::fmt::Display) -> Permission {
    Permission::Wait(clip(why))
}

fn clock_text(seconds: u32) -> String {
    format!("{:02}:{:02}", seconds / 3600, seconds / 60 % 60)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::{Command, tests::shared};
    use mainstay_core::boot::Group;
    use mainstay_core::digest::Digest;
    use mainstay_core::seam::Now;

    struct At(Option<u64>);
    impl Clock for At {
        fn now(&mut self) -> Now {
            Now { boot_ms: 0, unix_s: self.0 }
        }
    }

    fn deployment() -> Deployment {
        Deployment {
            manifest: Digest([1; 32]),
            version: clip("2"),
            security_version: 1,
            target: Group::B,
            attempt: 1,
            tries: 3,
            deadline_s: 60,
            required: heapless::Vec::new(),
            not_before: Some(1_000),
            expires: Some(2_000),
        }
    }

    #[test]
    fn hours_may_run_over_midnight() {
        const H: u32 = 3600;
        #[rustfmt::skip]
        let cases = [
            // from    to      now      within
            (22 * H,   5 * H,  23 * H,  true),
            (22 * H,   5 * H,  4 * H,   true),
            (22 * H,   5 * H,  5 * H,   false),
            (22 * H,   5 * H,  12 * H,  false),
            (H,        2 * H,  H,       true),
            (H,        2 * H,  2 * H,   false),
        ];
        for (from, to, now, expected) in cases {
            assert_eq!(within(from, to, now), expected, "{from} {to} {now}");
        }
    }

    #[test]
    fn a_download_waits_for_its_time_and_is_dropped_after_it() {
        let at = |now| {
            AgentGate::new(Update::default(), Box::new(At(now)), None, shared()).may_download(&deployment())
        };
        assert!(matches!(at(Some(999)), Permission::Wait(_)));
        assert_eq!(at(Some(1_500)), Permission::Go);
        assert!(matches!(at(Some(2_001)), Permission::Stop(OutcomeKind::Expired, _)));
        assert_eq!(at(None), Permission::Go, "a gateway without a clock still updates");
    }

    #[test]
    fn a_reboot_waits_for_approval_and_for_the_interlock_even_by_hand() {
        let update = Update { approve_reboot: true, ..Update::default() };
        let closed: Interlock = Box::new(|| Ok(false));
        let mut gate = AgentGate::new(update.clone(), Box::new(At(None)), None, shared());
        gate.reset(true);
        assert!(matches!(gate.may_reboot(&deployment()), Permission::Wait(why) if why.contains("approve")));
        gate.approved = true;
        assert_eq!(gate.may_reboot(&deployment()), Permission::Go);
        let mut gate = AgentGate::new(update, Box::new(At(None)), Some(closed), shared());
        gate.approved = true;
        assert!(matches!(gate.may_reboot(&deployment()), Permission::Wait(why) if why.contains("interlock")));
    }

    #[test]
    fn nothing_reboots_while_there_is_news_that_nobody_has_read() {
        let shared = shared();
        let mut gate = AgentGate::new(Update::default(), Box::new(At(None)), None, shared.clone());
        gate.approved = true;
        let (inbox, _commands) = std::sync::mpsc::sync_channel(1);
        shared.bring(&inbox, Command::Stop, Some(Urgency::BeforeReboot));
        assert!(matches!(gate.may_reboot(&deployment()), Permission::Wait(why) if why.contains("news")));
    }
}
