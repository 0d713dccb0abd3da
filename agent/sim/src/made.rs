//! Stories that nobody told: put together from parts, written down in one line, made simpler part by part.
//!
//! ```text
//! made: 2=NeverBoots/2 3=Healthy/3+2 older prevent twist=OfflineDuringDownload(4)
//!       │ │          │            └ the generation of the agent in it, where it is not the first
//!       │ │          └ its security version
//!       │ └ what it does
//!       └ a release's version, in the order of publishing
//! ```

use crate::bundle::Deltas;
use crate::image::{Behaviour, Image};
use crate::life::Story;
use crate::outside::Twist;
use crate::power::Draw;
use mainstay_core::policy::LateFallback;
use mainstay_core::update::PhaseName;
use std::fmt;
use std::str::FromStr;

/// What a story is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Made {
    /// What is published: version, behaviour, security version, generation of the agent.
    pub releases: Vec<(u32, Behaviour, u32, u8)>,
    /// Does the other group hold an older release, good?
    pub older: bool,
    /// Is the late fallback prevented?
    pub prevent: bool,
    /// What else happens.
    pub twist: Twist,
}

impl Made {
    /// Draws one.
    pub fn draw(draw: &mut Draw) -> Self {
        let count = 1 + draw.below(3) as u32;
        let twist = draw.of(&TWISTS);
        let releases = (0..count).map(|n| {
            let behaviour = draw.of(&BEHAVIOURS);
            let security = if draw.below(4) == 0 { 1 } else { n + 2 };
            let agent = if draw.below(6) == 0 { 2 } else { 1 };
            (n + 2, behaviour, security, agent)
        });
        Made { releases: releases.collect(), older: draw.below(3) == 0, prevent: draw.below(4) == 0, twist }
    }

    /// Told.
    pub fn story(&self, tries: u8) -> Story {
        let releases = self.releases.iter().map(|(version, behaviour, security, agent)| {
            Image::new(*version, *security, *behaviour).with_agent(*agent)
        });
        Story {
            name: self.to_string(),
            factory: Image::new(1, 1, Behaviour::Healthy),
            older: self.older.then(|| Image::new(0, 1, Behaviour::Healthy)),
            releases: releases.collect(),
            tries,
            late_fallback: if self.prevent { LateFallback::Prevent } else { LateFallback::Keep },
            deltas: Deltas::From,
            twist: self.twist,
        }
    }

    /// Every story that lacks one part of this one.
    pub fn simpler(&self) -> Vec<Made> {
        let mut simpler = Vec::new();
        for n in 0..self.releases.len() {
            let mut without = self.clone();
            without.releases.remove(n);
            let mut healthy = self.clone();
            let (version, ..) = healthy.releases[n];
            healthy.releases[n] = (version, Behaviour::Healthy, version, 1);
            simpler.extend([without, healthy]);
        }
        simpler.push(Made { older: false, ..self.clone() });
        simpler.push(Made { prevent: false, ..self.clone() });
        simpler.push(Made { twist: Twist::None, ..self.clone() });
        simpler.retain(|made| made != self && !made.releases.is_empty());
        simpler
    }
}

impl fmt::Display for Made {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("made:")?;
        for (version, behaviour, security, agent) in &self.releases {
            write!(f, " {version}={behaviour:?}/{security}")?;
            if *agent != 1 {
                write!(f, "+{agent}")?;
            }
        }
        f.write_str(if self.older { " older" } else { "" })?;
        f.write_str(if self.prevent { " prevent" } else { "" })?;
        match self.twist {
            Twist::None => Ok(()),
            twist => write!(f, " twist={}", text(twist)),
        }
    }
}

impl FromStr for Made {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.strip_prefix("made:").ok_or("expected a story that begins with made:")?;
        let mut made = Made { releases: Vec::new(), older: false, prevent: false, twist: Twist::None };
        for part in parts.split_whitespace() {
            match part.split_once('=') {
                None if part == "older" => made.older = true,
                None if part == "prevent" => made.prevent = true,
                Some(("twist", twist)) => made.twist = twist_of(twist)?,
                Some((version, rest)) => made.releases.push(release(version, rest)?),
                None => return Err(format!("expected older, prevent, twist= or a release, found {part}")),
            }
        }
        Ok(made)
    }
}

fn release(version: &str, rest: &str) -> Result<(u32, Behaviour, u32, u8), String> {
    let wrong = || format!("expected a release like 2=Healthy/2, found {version}={rest}");
    let (behaviour, rest) = rest.split_once('/').ok_or_else(wrong)?;
    let (security, agent) = rest.split_once('+').unwrap_or((rest, "1"));
    let behaviour =
        BEHAVIOURS.into_iter().find(|known| format!("{known:?}") == behaviour).ok_or_else(wrong)?;
    let number = |text: &str| text.parse::<u32>().map_err(|_| wrong());
    Ok((number(version)?, behaviour, number(security)?, number(agent)? as u8))
}

fn text(twist: Twist) -> String {
    format!("{twist:?}").replace(' ', "")
}

fn twist_of(name: &str) -> Result<Twist, String> {
    TWISTS
        .into_iter()
        .find(|known| text(*known) == name)
        .ok_or_else(|| format!("expected a twist like {}, found {name}", text(TWISTS[1])))
}

/// What is drawn from; healthy ones more often, for most of what happens, happens to them.
const BEHAVIOURS: [Behaviour; 8] = [
    Behaviour::Healthy,
    Behaviour::Healthy,
    Behaviour::Healthy,
    Behaviour::Unhealthy,
    Behaviour::NeverBoots,
    Behaviour::FailsToLoad,
    Behaviour::HangsInTrial,
    Behaviour::CrashesAgent,
];

/// What is drawn from. A medium that rots beyond its two copies is not among them: it has stories of its own.
const TWISTS: [Twist; 18] = [
    Twist::None,
    Twist::PersonRollsBack,
    Twist::HaltDuringDownload,
    Twist::OfflineDuringDownload(4),
    Twist::SupersededDuringDownload,
    Twist::PersonGoesBackAfterCommit,
    Twist::ClockHasNoBattery,
    Twist::ExpiresBeforeReboot,
    Twist::ExpiresBeforeDownload,
    Twist::TrustRotates { at: PhaseName::Waiting, revokes: false },
    Twist::TrustRotates { at: PhaseName::Waiting, revokes: true },
    Twist::TrustRotates { at: PhaseName::Downloading, revokes: true },
    Twist::TrustRotates { at: PhaseName::Installed, revokes: true },
    Twist::TrustRotates { at: PhaseName::Trial, revokes: true },
    Twist::TrustRotates { at: PhaseName::Trial, revokes: false },
    Twist::TrustRotates { at: PhaseName::Settled, revokes: false },
    Twist::FactoryReset,
    Twist::Decommission,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_story_that_is_drawn_reads_back_and_can_be_made_simpler_to_one_release() {
        for seed in 0..500 {
            let mut made = Made::draw(&mut Draw::new(seed));
            assert_eq!(made.to_string().parse(), Ok(made.clone()), "{made}");
            while let Some(simpler) = made.simpler().into_iter().next() {
                made = simpler;
            }
            assert_eq!(made.to_string(), format!("made: {0}=Healthy/{0}", made.releases[0].0));
        }
    }
}
