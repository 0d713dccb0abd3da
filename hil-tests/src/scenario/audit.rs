//! The gateway's audit log, read on the gateway and proven here: from the first record of this very gateway on, and past the
//! head that it told the operator.

use super::world::World;
use crate::{Doing, Result, Trouble};
use mainstay_core::audit::{Event, Head, Verifier};
use mainstay_core::digest::Digest;

/// A record whose place in the chain has been proven.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// What happened.
    pub event: Event,
    /// Keys and values.
    pub values: Vec<(String, String)>,
}

impl Entry {
    /// The value of `key`; empty where there is none.
    pub fn value(&self, key: &str) -> &str {
        self.values.iter().find(|(found, _)| found == key).map_or("", |(_, value)| value)
    }

    /// Is it about this bundle?
    pub fn about(&self, bundle: Digest) -> bool {
        self.value("manifest") == bundle.to_string()
    }
}

/// The whole log; a chain that does not hold is an error.
pub fn read(world: &mut World<'_>) -> Result<Vec<Entry>> {
    let presence = world.presence().doing(|| "the gateway has not said how it stands")?;
    let text = world.bench.agent(&["log"])?;
    prove(&text, world.device(), presence.audit)
}

fn prove(text: &str, device: &str, told: Head) -> Result<Vec<Entry>> {
    let mut verifier = Verifier::from(Head::genesis(device)).remembering(told);
    let mut entries = Vec::new();
    // On a console standard error comes along: the command's own verdict. To leave out a line hides nothing, the chain tells.
    let record = |line: &&str| !line.is_empty() && !line.contains(VERDICT);
    for line in text.lines().map(str::trim_end).filter(record) {
        let record = verifier.line(line).map_err(|fault| Trouble::new(fault.what))?;
        let event = record.event.doing(|| format!("audit: no event {:?}", record.id))?;
        let values = record.values().map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
        entries.push(Entry { event, values });
    }
    verifier.finish().map_err(|fault| Trouble::new(fault.what))?;
    Ok(entries)
}

/// How `mainstay log` ends, on standard error, where it is content.
const VERDICT: &str = " records, the chain holds; head ";

#[cfg(test)]
mod tests {
    use super::*;
    use mainstay_core::audit::record;

    #[test]
    fn a_log_is_read_whole_and_one_that_lacks_its_end_or_is_another_gateway_s_is_not() {
        let (one, head) =
            record(&Head::genesis("gw-1"), Some(1), Event::Started, &[("running", &"A")]).unwrap();
        let (two, head) = record(&head, Some(2), Event::Settled, &[("outcome", &"Committed")]).unwrap();
        let log = format!("{one}{two}");
        let entries = prove(&log, "gw-1", head).unwrap();
        assert_eq!(
            entries.iter().map(|entry| entry.event).collect::<Vec<_>>(),
            [Event::Started, Event::Settled]
        );
        assert_eq!((entries[0].value("running"), entries[1].value("outcome")), ("A", "Committed"));
        let told = format!("{log}2 records, the chain holds; head 2 {}\r\n", head.hash);
        assert_eq!(prove(&told, "gw-1", head).unwrap(), entries, "as a console shows it");
        assert!(prove(&one, "gw-1", head).unwrap_err().to_string().contains("its end has been cut"));
        assert!(prove(&log, "gw-2", head).is_err());
        assert!(prove(&log.replace("Committed", "RolledBack"), "gw-1", head).is_err());
    }
}
