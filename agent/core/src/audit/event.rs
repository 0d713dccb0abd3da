//! What is recorded. The ids stand in logs that are kept for years: append only, never change one, never use one again.

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Event {
    /// The agent started. Carries `prev`, the whole hash before it.
    Started,
    /// A deployment was accepted.
    Accepted,
    /// A bundle was refused.
    Rejected,
    /// The update went into another phase.
    Phase,
    /// A deployment ended; the outcome says how.
    Settled,
    /// An action or a seam failed.
    Fault,
    /// The trust root was replaced by its successor.
    TrustRotated,
    /// A person marked a group good, bad or active.
    MarkedByHand,
    /// A person asked to go back.
    RolledBackByHand,
    /// The durable record was damaged in both copies, and begun anew.
    StateLost,
    /// A committed group was left: the bootloader came up with the other one.
    LateFallback,
    /// The running slot's content differs from its manifest.
    Drift,
    /// The floor rose.
    FloorRaised,
    /// The clock was not set, and has been.
    ClockSet,
    /// A desired state was taken.
    DesiredTaken,
    /// The watchdog, and not the agent, restarted the machine.
    WatchdogBit,
    /// The log itself was found broken, or its end torn.
    LogBroken,
    /// A factory reset began, or was done.
    FactoryReset,
    /// Decommissioning began, or was done.
    Decommissioned,
}

/// One row for each event: it and its id.
const IDS: [(Event, &str); 19] = [
    (Event::Started, "started"),
    (Event::Accepted, "accepted"),
    (Event::Rejected, "rejected"),
    (Event::Phase, "phase"),
    (Event::Settled, "settled"),
    (Event::Fault, "fault"),
    (Event::TrustRotated, "trust-rotated"),
    (Event::MarkedByHand, "marked-by-hand"),
    (Event::RolledBackByHand, "rolled-back-by-hand"),
    (Event::StateLost, "state-lost"),
    (Event::LateFallback, "late-fallback"),
    (Event::Drift, "drift"),
    (Event::FloorRaised, "floor-raised"),
    (Event::ClockSet, "clock-set"),
    (Event::DesiredTaken, "desired-taken"),
    (Event::WatchdogBit, "watchdog-bit"),
    (Event::LogBroken, "log-broken"),
    (Event::FactoryReset, "factory-reset"),
    (Event::Decommissioned, "decommissioned"),
];

/// The longest id.
pub(super) const ID_BYTES_MAX: usize = 24;

impl Event {
    /// All of them.
    pub fn all() -> impl Iterator<Item = Event> {
        IDS.iter().map(|(event, _)| *event)
    }

    /// As it stands in the log.
    pub fn id(self) -> &'static str {
        IDS.iter().find(|(event, _)| *event == self).map_or("", |(_, id)| id)
    }

    /// Reads [`Event::id`]; `None` for the events of agents to come.
    pub fn from_id(id: &str) -> Option<Event> {
        IDS.iter().find(|(_, known)| *known == id).map(|(event, _)| *event)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_event_has_an_id_of_its_own_that_never_changes() {
        // This list is written twice on purpose: it is what stands in logs.
        let ids = "started accepted rejected phase settled fault trust-rotated marked-by-hand rolled-back-by-hand \
                   state-lost late-fallback drift floor-raised clock-set desired-taken watchdog-bit log-broken \
                   factory-reset decommissioned";
        assert!(Event::all().map(Event::id).eq(ids.split(' ')));
        for event in Event::all() {
            // A new event that has no row has no id: the match makes the compiler ask for it here.
            match event {
                Event::Started
                | Event::Accepted
                | Event::Rejected
                | Event::Phase
                | Event::Settled
                | Event::Fault
                | Event::TrustRotated
                | Event::MarkedByHand
                | Event::RolledBackByHand
                | Event::StateLost
                | Event::LateFallback
                | Event::Drift
                | Event::FloorRaised
                | Event::ClockSet
                | Event::DesiredTaken
                | Event::WatchdogBit
                | Event::LogBroken
                | Event::FactoryReset
                | Event::Decommissioned => {}
            }
            assert_eq!(Event::from_id(event.id()), Some(event));
            assert!(!event.id().is_empty() && event.id().len() <= ID_BYTES_MAX);
        }
        assert_eq!(Event::from_id("teleported"), None);
    }
}
