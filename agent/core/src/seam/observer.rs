//! Who wants to know: the log, the audit trail, the reports, the console, the demo.

use crate::digest::Digest;
use crate::update::{Deployment, Outcome, PhaseName, Service};

/// What happened, as the driver says it.
#[derive(Clone, Debug)]
pub enum Note<'a> {
    /// A record with a new phase is durable.
    Phase {
        /// The phase that holds now.
        phase: PhaseName,
        /// What is being installed, where there is something.
        deployment: Option<&'a Deployment>,
    },
    /// So far: content bytes that stand in the target, of how many; and bytes fetched, copied and found in place.
    Progress {
        /// Content bytes that stand in the target group.
        done: u64,
        /// Content bytes in all.
        total: u64,
        /// Bytes that were fetched (as they travelled).
        fetched: u64,
        /// Content bytes that the running group gave, or the target at another place.
        copied: u64,
        /// Content bytes that stood in the target already.
        kept: u64,
    },
    /// From here on the content of a class comes by this route.
    Route {
        /// The class of its slot.
        class: &'a str,
        /// What the running group holds and a delta route begins from; `None`: the full route.
        base: Option<Digest>,
        /// Bytes of all the route's pieces.
        bytes: u64,
    },
    /// The running group does not hold what the record, or its own digest, says: these segments of it differ, and what a
    /// delta route would have made from them comes by the full route.
    Drift {
        /// The class of its slot.
        class: &'a str,
        /// The first of them.
        first: u32,
        /// How many of the segments from there to the end of its run (128 MiB).
        segments: u32,
    },
    /// An action failed; what the machine makes of it follows as a phase.
    Fault {
        /// What was being done.
        doing: &'static str,
        /// What went wrong.
        fault: &'a crate::fault::Fault,
    },
    /// The gate says: not now.
    Waiting {
        /// For what.
        why: &'a str,
    },
    /// A record is durable by which a factory reset, or the end of service, has begun or is done.
    Service {
        /// What was so.
        before: Service,
        /// What is so.
        now: Service,
    },
    /// The outcome is durable.
    Settled {
        /// What was being installed.
        deployment: &'a Deployment,
        /// How it ended.
        outcome: &'a Outcome,
    },
}

/// Is told what happened. It cannot fail and cannot stop the driver.
pub trait Observer {
    /// Something happened.
    fn note(&mut self, note: Note<'_>);
}
