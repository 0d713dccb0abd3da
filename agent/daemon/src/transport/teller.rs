//! What a download waits for, told to whoever wants to know: when it changes, and again after a while. Both sources tell it in
//! the same words.

use mainstay_core::digest::Digest;
use std::time::{Duration, Instant};

/// A status that does not change is told again this often.
pub const STATUS_EVERY: Duration = Duration::from_secs(30);

/// What a download waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BulkStatus {
    /// There is no connection (yet); it is tried for ever.
    Connecting {
        /// Why the last attempt failed.
        cause: Option<String>,
    },
    /// Objects come.
    Pulling,
    /// There is a connection, but nothing comes: it is asked again, less and less often.
    Stalled {
        /// What is waited for.
        object: Digest,
        /// Since the last time it was asked for.
        silent_for: Duration,
        /// What the other side said, if anything.
        cause: String,
    },
}

impl BulkStatus {
    /// Does it say the same, however long it has lasted?
    fn is_like(&self, other: &BulkStatus) -> bool {
        use BulkStatus::Stalled;
        match (self, other) {
            (Stalled { object: a, cause: x, .. }, Stalled { object: b, cause: y, .. }) => (a, x) == (b, y),
            (a, b) => a == b,
        }
    }
}

/// Remembers what it has told.
pub(super) struct Teller {
    on_status: Box<dyn FnMut(BulkStatus) + Send>,
    told: Option<(BulkStatus, Instant)>,
}

impl Teller {
    pub fn new(on_status: impl FnMut(BulkStatus) + Send + 'static) -> Self {
        Teller { on_status: Box::new(on_status), told: None }
    }

    /// Is there something to tell? Asked before a lock is let go for it.
    pub fn is_news(&self, status: &BulkStatus, now: Instant) -> bool {
        let old = |told: &BulkStatus, at: Instant| {
            told.is_like(status) && now.saturating_duration_since(at) < STATUS_EVERY
        };
        !self.told.as_ref().is_some_and(|(told, at)| old(told, *at))
    }

    /// Tells it, if it is news.
    pub fn tell(&mut self, status: BulkStatus, now: Instant) {
        if self.is_news(&status, now) {
            self.told = Some((status.clone(), now));
            (self.on_status)(status);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    #[test]
    fn a_change_is_told_once_and_again_after_half_a_minute_and_lasting_longer_is_no_change() {
        let stalled = |object: u8, silent_s: u64, cause: &str| BulkStatus::Stalled {
            object: Digest([object; 32]),
            silent_for: Duration::from_secs(silent_s),
            cause: cause.into(),
        };
        #[rustfmt::skip]
        let cases = [
            // after s   status                                          told
            (0,          BulkStatus::Connecting { cause: None },         true),
            (1,          BulkStatus::Connecting { cause: None },         false),
            (1,          BulkStatus::Pulling,                            true),
            (30,         BulkStatus::Pulling,                            false),
            (31,         BulkStatus::Pulling,                            true),
            (32,         stalled(1, 1, "nobody"),                        true),
            (33,         stalled(1, 2, "nobody"),                        false),
            (34,         stalled(2, 3, "nobody"),                        true),
            (35,         stalled(2, 4, "refused"),                       true),
        ];
        let (began, heard) = (Instant::now(), Arc::new(Mutex::new(Vec::new())));
        let hears = heard.clone();
        let mut teller = Teller::new(move |status| hears.lock().unwrap().push(status));
        for (after, status, told) in cases {
            let (now, before) = (began + Duration::from_secs(after), heard.lock().unwrap().len());
            assert_eq!(teller.is_news(&status, now), told, "{after} s: {status:?}");
            teller.tell(status.clone(), now);
            assert_eq!(heard.lock().unwrap().len() - before, usize::from(told), "{after} s: {status:?}");
        }
    }
}
