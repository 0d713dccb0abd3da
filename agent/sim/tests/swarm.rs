//! Goal: nobody thought of this story. Method: a few hundred drawn lives under drawn upsets, each from its seed alone;
//! `sim swarm` lives them for as long as one likes. What a broken life is made into is shown on a mutant.

use mainstay_sim::mutant::Mutant;
use mainstay_sim::power::{Draw, Figure, Keeps, Upset};
use mainstay_sim::stories::{BOARDS, all};
use mainstay_sim::swarm::{self, Drawn};
use mainstay_sim::sweep::{Sweep, Tally};

#[test]
fn drawn_lives_hold() {
    let mut tally = Tally::default();
    for seed in 1_000..1_300 {
        if let Err((line, broken)) = swarm::life(seed, &mut tally) {
            panic!("seed {seed}: {}: {}\n  {line}", broken.figure.name(), broken.what);
        }
    }
    assert!(tally.faults > 300, "{} faults: are they drawn?", tally.faults);
}

#[test]
fn a_seed_draws_the_same_life_each_time_and_its_line_plays_it_again() {
    for seed in 0..20 {
        let (one, two) = (Drawn::new(seed), Drawn::new(seed));
        assert_eq!(one.line(), two.line());
        let again = one.line().to_string().parse().expect("a line that reads back");
        assert!(swarm::replay(&again).expect("a row").is_ok(), "{}", one.line());
    }
}

/// The trace of the same line is the same, effect by effect.
#[test]
fn a_life_is_deterministic() {
    let case = &all(3)[0];
    let row = vec![(17, Upset::Cut(Keeps::Torn(2))), (23, Upset::Fails)];
    let live = || Sweep::new(&case.story, BOARDS[0].1, None).live(&row, &|_| true).expect("a life").trace;
    assert_eq!(live(), live());
}

/// A cut where the life forks leaves what the same cut leaves in a life that is lived from its beginning: else the sweeps
/// would sweep something else than what a line plays again.
#[test]
fn what_is_lived_on_from_a_cut_is_what_is_lived_from_the_beginning() {
    let mut draw = Draw::new(1);
    for case in all(3).iter().take(4) {
        let mut sweep = Sweep::new(&case.story, BOARDS[3].1, None);
        let effects = sweep.live(&Vec::new(), &|_| true).expect("a life").effects;
        for _ in 0..10 {
            let row = vec![(1 + draw.below(effects.into()) as u32, Upset::Cut(Keeps::Torn(7)))];
            sweep.live(&row, &|life| case.after_cuts(life, 1, 1)).unwrap_or_else(|found| panic!("{found}"));
        }
        let one_by_one = sweep.tally.histories.keys().cloned().collect::<Vec<_>>();
        let mut forked = Sweep::new(&case.story, BOARDS[3].1, None);
        let fits = |life: &_| case.after_cuts(life, 1, 1);
        forked.one(&[Upset::Cut(Keeps::Torn(7))], &fits).unwrap_or_else(|found| panic!("{found}"));
        let all_seen = one_by_one.iter().all(|history| forked.tally.histories.contains_key(history));
        assert!(all_seen, "{one_by_one:?} {:?}", forked.tally.histories);
    }
}

/// A driver that does not sync its slots, in a story with much beside it, under three upsets: what is left is one release
/// and the one cut that shows it.
#[test]
fn a_life_that_breaks_is_made_as_small_as_it_gets() {
    let drawn = Drawn {
        made: "made: 2=Unhealthy/2 3=Healthy/3 4=NeverBoots/4 older prevent".parse().expect("a story"),
        board: BOARDS[4],
        tries: 2,
        upsets: vec![
            (5, Upset::Fails),
            (34, Upset::Cut(Keeps::Torn(9))),
            (40, Upset::Full(3)),
            (90, Upset::Cut(Keeps::Torn(9))),
        ],
        mutant: Some(Mutant::NotSynced),
    };
    let found = drawn.live(&mut Tally::default()).expect_err("a mutant");
    let (smallest, found) = drawn.shrink(found);
    assert_eq!(found.broken.figure, Figure::UnverifiedBooted, "{found}");
    assert!(
        smallest.made.releases.len() == 1 && !smallest.made.older && !smallest.made.prevent,
        "{}",
        smallest.line()
    );
    assert!(smallest.upsets.len() <= 1 && smallest.board.0 == BOARDS[0].0, "{}", smallest.line());
}
