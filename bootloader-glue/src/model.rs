//! A bootloader in a few lines: what a boot script does with the bytes of an environment.
//!
//! The simulator and the demo boot by it. It goes through the same codecs and conventions as the agent, and says what
//! is written in which order before the jump, so that the caller can let the power fail inside any of it. The scripts
//! in `scripts/` do the same; that both agree is shown where they run on real bootloaders.

use crate::convention::{Convention, Why};
use crate::{Env, Format, Result, Vars, Write, uboot};
use mainstay_core::boot::Group;

/// What one pass of the boot script comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Boot {
    /// What it jumps into. `None`: nothing could be loaded; the script waits (our own does) and resets.
    pub group: Option<(Group, Why)>,
    /// What it writes before the jump, in this order, each write durable before the next.
    pub writes: Vec<Write>,
}

/// Runs the boot script of `convention` over the copies. `loads`: does loading this group's kernel work?
///
/// An environment that cannot be read is what each bootloader makes of it: U-Boot goes on with its default
/// environment, in which none of our variables is set, and saves to copy 0; GRUB goes on without variables and can
/// save nothing (its script boots what it can all the same).
pub fn boot(
    format: &Format,
    convention: &dyn Convention,
    copies: &[Vec<u8>],
    mut loads: impl FnMut(Group) -> bool,
) -> Result<Boot> {
    let mut copies = copies.to_vec();
    let mut env = format.parse(&copies).ok();
    let mut vars = env.as_ref().map_or_else(Vars::new, |env| env.vars().clone());
    let mut writes = Vec::new();
    for step in convention.script(&vars) {
        if !step.save.is_empty() {
            vars = vars.with(&step.save);
            let saved = save(format, env.as_ref(), &vars, convention.names())?;
            for write in &saved {
                write.apply(&mut copies);
            }
            env = format.parse(&copies).ok();
            writes.extend(saved);
        }
        if let Some((group, why)) = step.load
            && loads(group)
        {
            return Ok(Boot { group: Some((group, why)), writes });
        }
    }
    Ok(Boot { group: None, writes })
}

fn save(format: &Format, env: Option<&Env>, vars: &Vars, front: &[&str]) -> Result<Vec<Write>> {
    match (env, format) {
        (Some(env), _) => env.writes_of_a_bootloader(vars, front),
        (None, Format::UbootSingle { bytes }) => Ok(vec![whole(uboot::encode(vars, None, *bytes)?)]),
        (None, Format::UbootRedundant { bytes, .. }) => {
            Ok(vec![whole(uboot::encode(vars, Some(1), *bytes)?)])
        }
        (None, Format::Grub) => Ok(Vec::new()),
    }
}

fn whole(bytes: Vec<u8>) -> Write {
    Write { copy: 0, at: 0, bytes }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::convention::{Bootcount, Mainstay, RaucGrub, RaucUboot};
    use crate::uboot::Scheme;
    use Group::*;
    use Why::*;

    const PAIR: Format = Format::UbootRedundant { bytes: 1024, scheme: Scheme::Incremental };

    fn run(
        format: Format,
        convention: &dyn Convention,
        values: &[&str],
        dead: &[Group],
    ) -> (Option<(Group, Why)>, usize, Vec<String>) {
        let vars: Vars = convention.names().iter().zip(values).collect();
        let mut copies = format.blank(&vars, convention.names()).unwrap();
        let boot = boot(&format, convention, &copies, |g| !dead.contains(&g)).unwrap();
        boot.writes.iter().for_each(|w| w.apply(&mut copies));
        let env = format.parse(&copies).unwrap();
        let after = convention.names().iter().map(|n| env.vars().text(n).unwrap_or_default()).collect();
        (boot.group, boot.writes.len(), after)
    }

    /// Variables before, groups that cannot be loaded, what is booted, writes, variables after.
    type Case = ([&'static str; 5], &'static [Group], Option<(Group, Why)>, usize, [&'static str; 5]);

    #[test]
    fn our_script_boots_what_the_state_says_and_counts_only_what_is_not_good() {
        #[rustfmt::skip]
        let cases: &[Case] = &[
            // order  A left good  B left good      dead       boots                    writes  after
            (["A B", "0", "1",    "0", "1"],        &[],       Some((A, Good)),         0,      ["A B", "0", "1", "0", "1"]),
            (["B A", "0", "1",    "3", "0"],        &[],       Some((B, Trial)),        1,      ["B A", "0", "1", "2", "0"]),
            (["B A", "0", "1",    "1", "0"],        &[],       Some((B, Trial)),        1,      ["B A", "0", "1", "0", "0"]),
            (["B A", "0", "1",    "0", "0"],        &[],       Some((A, Good)),         0,      ["B A", "0", "1", "0", "0"]),
            (["A  ", "0", "1",    "9", "0"],        &[],       Some((A, Good)),         0,      ["A  ", "0", "1", "9", "0"]),
            (["A B", "0", "1",    "0", "1"],        &[A],      Some((B, Good)),         0,      ["A B", "0", "1", "0", "1"]),
            (["B A", "0", "1",    "3", "0"],        &[B],      Some((A, Good)),         1,      ["B A", "0", "1", "2", "0"]),
            (["A B", "0", "0",    "0", "0"],        &[],       Some((A, LastResort)),   1,      ["B A", "0", "0", "0", "0"]),
            (["B A", "0", "0",    "0", "0"],        &[],       Some((B, LastResort)),   1,      ["A B", "0", "0", "0", "0"]),
            (["A B", "0", "0",    "0", "0"],        &[A],      Some((B, LastResort)),   1,      ["B A", "0", "0", "0", "0"]),
            (["A  ", "0", "0",    "0", "1"],        &[],       Some((A, LastResort)),   0,      ["A  ", "0", "0", "0", "1"]),
            (["A B", "0", "1",    "0", "0"],        &[A, B],   None,                    1,      ["B A", "0", "1", "0", "0"]),
            (["   ", "0", "1",    "3", "0"],        &[],       None,                    0,      ["   ", "0", "1", "3", "0"]),
            (["A B", "x", "0",    "3", "0"],        &[],       Some((B, Trial)),        1,      ["A B", "x", "0", "2", "0"]),
        ];
        for (values, dead, boots, writes, after) in cases {
            for format in [PAIR, Format::UbootSingle { bytes: 1024 }, Format::Grub] {
                let found = run(format, &Mainstay, values, dead);
                let after = after.map(str::to_owned).to_vec();
                assert_eq!(found, (*boots, *writes, after), "{format:?} {values:?} dead: {dead:?}");
            }
        }
    }

    #[test]
    fn u_boot_counts_a_trial_before_bootcmd_and_goes_back_once_the_limit_is_exceeded() {
        #[rustfmt::skip]
        let cases: &[Case] = &[
            // group other    trial count limit   dead       boots                    writes  after
            (["A", "good",    "0", "0", "3"],     &[],       Some((A, Good)),         0,      ["A", "good",  "0", "0", "3"]),
            (["A", "good",    "0", "9", "3"],     &[],       Some((A, Good)),         0,      ["A", "good",  "0", "9", "3"]),
            (["B", "tried",   "1", "0", "3"],     &[],       Some((B, Trial)),        2,      ["B", "tried", "1", "1", "3"]),
            (["B", "tried",   "1", "2", "3"],     &[],       Some((B, Trial)),        2,      ["B", "tried", "1", "3", "3"]),
            (["B", "tried",   "1", "3", "3"],     &[],       Some((A, Good)),         2,      ["A", "tried", "0", "0", "3"]),
            (["B", "tried",   "1", "4", "3"],     &[],       Some((A, Good)),         2,      ["A", "tried", "0", "0", "3"]),
            (["B", "tried",   "1", "0", "3"],     &[B],      Some((A, Good)),         3,      ["A", "tried", "0", "0", "3"]),
            (["A", "good",    "0", "0", "3"],     &[A],      Some((B, Good)),         0,      ["A", "good",  "0", "0", "3"]),
            (["A", "tried",   "0", "0", "3"],     &[A],      Some((B, LastResort)),   0,      ["A", "tried", "0", "0", "3"]),
            (["A", "none",    "0", "0", "3"],     &[A],      None,                    0,      ["A", "none",  "0", "0", "3"]),
            (["B", "tried",   "1", "0", "3"],     &[A, B],   None,                    3,      ["A", "tried", "0", "0", "3"]),
            (["C", "tried",   "1", "0", "3"],     &[],       Some((A, Good)),         2,      ["A", "none",  "0", "0", "3"]),
        ];
        for (values, dead, boots, writes, after) in cases {
            for format in [PAIR, Format::UbootSingle { bytes: 1024 }] {
                let found = run(format, &Bootcount, values, dead);
                let after = after.map(str::to_owned).to_vec();
                assert_eq!(found, (*boots, *writes, after), "{format:?} {values:?} dead: {dead:?}");
            }
        }
    }

    #[test]
    fn a_fresh_board_boots_a_and_knows_it_to_be_good() {
        let (group, writes, after) = run(PAIR, &Mainstay, &[], &[]);
        assert_eq!((group, writes), (Some((A, Good)), 1));
        assert_eq!(after, ["A B", "0", "1", "0", "0"]);
    }

    #[test]
    fn an_unreadable_environment_still_boots() {
        for format in [PAIR, Format::UbootSingle { bytes: 1024 }, Format::Grub] {
            let mut copies = vec![vec![0xff; 1024]; format.copies()];
            let boot = boot(&format, &Mainstay, &copies, |_| true).unwrap();
            assert_eq!(boot.group, Some((A, Good)));
            boot.writes.iter().for_each(|w| w.apply(&mut copies));
            assert_eq!(format.parse(&copies).is_ok(), format != Format::Grub, "U-Boot saves, GRUB cannot");
        }
    }

    #[test]
    fn groups_that_are_used_up_have_their_chance_in_turns() {
        let vars: Vars = Mainstay.names().iter().zip(["A B", "0", "0", "0", "0"]).collect();
        let mut copies = PAIR.blank(&vars, &[]).unwrap();
        let mut turns = Vec::new();
        for _ in 0..4 {
            let boot = boot(&PAIR, &Mainstay, &copies, |_| true).unwrap();
            boot.writes.iter().for_each(|w| w.apply(&mut copies));
            turns.push(boot.group.unwrap().0);
        }
        assert_eq!(turns, [A, B, A, B]);
    }

    #[test]
    fn raucs_scripts_count_every_boot() {
        let rauc = RaucUboot::default();
        assert_eq!(run(PAIR, &rauc, &["A B", "3", "3"], &[]).2, ["A B", "2", "3"]);
        assert_eq!(run(PAIR, &rauc, &["B A", "3", "0"], &[]).0, Some((A, Trial)));
        assert_eq!(
            run(PAIR, &rauc, &["A B", "0", "0"], &[]),
            (None, 1, ["A B", "3", "3"].map(str::to_owned).to_vec())
        );
        let grub = |values: &[&str]| run(Format::Grub, &RaucGrub, values, &[]);
        assert_eq!(grub(&["B A", "1", "0", "1", "0"]).2, ["B A", "1", "0", "1", "1"]);
        assert_eq!(grub(&["B A", "1", "0", "1", "1"]).0, Some((A, Trial)));
        assert_eq!(
            grub(&["B A", "1", "1", "0", "0"]),
            (None, 1, ["B A", "1", "0", "0", "1"].map(str::to_owned).to_vec())
        );
    }
}
