//! A bent trial: which verdict is given, and when.

use super::{Bent, Mutant};
use crate::image::Behaviour;
use crate::world::Shared;
use mainstay_core::seam::*;
use mainstay_core::update::Deployment;

pub(super) struct Trial<'a> {
    pub inner: Box<dyn TrialRunner + 'a>,
    pub bent: Bent,
    pub shared: Shared,
}

impl TrialRunner for Trial<'_> {
    fn run(&mut self, deployment: &Deployment) -> Result<Verdict> {
        use Mutant::*;
        let earlier = self.bent.memory().passed == Some(deployment.attempt);
        match self.bent.mutant {
            TrialSkipped => return Ok(Verdict::Healthy),
            VerdictOfAnEarlierBoot if earlier => return Ok(Verdict::Healthy),
            _ => {}
        }
        let verdict = self.inner.run(deployment);
        if verdict == Ok(Verdict::Healthy) {
            self.bent.memory().passed = Some(deployment.attempt);
        }
        let behaviour =
            self.shared.with(|world| world.running.and_then(|group| world.image(group)).map(|i| i.behaviour));
        match (self.bent.mutant, verdict) {
            (RequiredCountsAsWanted, Ok(Verdict::Unhealthy(_))) | (FaultCountsAsHealthy, Err(_)) => {
                Ok(Verdict::Healthy)
            }
            (WantedCountsAsRequired, Ok(Verdict::Healthy))
                if behaviour == Some(Behaviour::WantedCheckFails) =>
            {
                Ok(Verdict::Unhealthy("check cloud: expected exit 0, found 1".try_into().unwrap_or_default()))
            }
            (_, verdict) => verdict,
        }
    }
}
