//! An ear that talks: it reports what it believes will come of the trial.

use super::state::committed;
use super::{Bent, Mutant};
use crate::outside::Truth;
use crate::power::{Down, down};
use crate::world::Shared;
use mainstay_core::seam::*;
use mainstay_core::update::PhaseName;

pub(super) struct Ear<'a> {
    pub inner: Box<dyn Observer + 'a>,
    pub bent: Bent,
    pub shared: Shared,
}

impl Observer for Ear<'_> {
    fn note(&mut self, note: Note<'_>) {
        let too_early = |phase| match phase {
            PhaseName::Trial => self.bent.is(Mutant::ReportsAtTrialStart),
            PhaseName::Committing => self.bent.is(Mutant::ReportsAtVerdict),
            _ => false,
        };
        if let Note::Phase { phase, deployment: Some(deployment) } = &note
            && too_early(*phase)
        {
            let received = self.shared.with(|world| {
                let truth = Truth::of(world);
                world.outside.receive(&committed(deployment), false, &truth)
            });
            if let Err(lie) = received {
                down(Down::Violation(lie));
            }
        }
        self.inner.note(note);
    }
}
