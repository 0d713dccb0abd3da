//! A good update: through every phase, into the other group, committed, and the operator knows.

use super::{Change, Update, mib, percent};
use crate::Result;
use crate::demo::stage::Stage;
use crate::image::Behaviour;
use crate::listener::Said;
use crate::proof::Proof;

const PHASES: &str = "waiting, downloading, verifying, installed, trial, committing, settled";

pub fn play(stage: &mut Stage, proof: &mut Proof) -> Result<()> {
    let update = Update::ready(stage, "2.0.0", Behaviour::Healthy, Change::Some)?;
    let mark = update.publish(stage)?;
    let (outcome, moment) = update.follow(stage, mark)?;
    let heard = moment.heard.iter().find(|heard| matches!(heard.what, Said::Outcome(_)));
    let took = heard.map(|heard| heard.at - mark.at).unwrap_or_default();

    proof.equal(
        "every phase was gone through",
        moment.phases(&update.bundle.version).join(", "),
        PHASES.to_owned(),
    );
    update.is_committed(stage, proof, &outcome)?;
    proof.hold("from publishing to the outcome", true, format!("{:.1} s", took.as_secs_f64()));
    let runs = moment.runs(update.bundle.name);
    let fetched = runs.iter().map(|run| run.fetched).sum::<u64>();
    let copied = runs.last().map_or(0, |run| run.copied);
    proof.hold(
        "fetched no more than the pieces that differ",
        fetched == update.bill.needed,
        format!(
            "{} of the bundle's {} ({:.1} % of the image); {} copied from the running group",
            mib(fetched),
            mib(update.bill.object_bytes),
            percent(fetched, update.bill.content),
            mib(copied)
        ),
    );
    Ok(())
}
