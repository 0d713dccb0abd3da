//! Goal: the stories of delta updates are what they say: the gateway takes the delta route, from what it holds, and in the
//! drifted one finds that it does not hold it. What cuts and failures make of them, the sweeps show.

use mainstay_sim::stories::{BOARDS, all};
use mainstay_sim::sweep::Sweep;

#[test]
fn delta_updates_go_by_delta_routes_and_drift_is_found() {
    #[rustfmt::skip]
    let cases = [
        // story                                  delta routes  full  drifted
        ("two delta updates",                     6,            0,    0),
        // Of kernel and rootfs, copies of what is something else; of the appfs, a patch.
        ("a delta update from a drifted group",   3,            0,    3),
    ];
    for (name, deltas, full, drifted) in cases {
        let case = all(3).into_iter().find(|case| case.story.name == name).expect("such a story");
        let mut sweep = Sweep::new(&case.story, BOARDS[0].1, None);
        let life =
            sweep.live(&Vec::new(), &|life| case.as_told(life)).unwrap_or_else(|found| panic!("{found}"));
        let count = |words: &str| life.trace.iter().filter(|line| line.contains(words)).count();
        assert_eq!((count(": from "), count(": the full route, ")), (deltas, full), "{:#?}", life.trace);
        assert_eq!(count("drift: "), drifted, "{:#?}", life.trace);
        assert_eq!(count("taking a delta route"), 0, "{:#?}", life.trace);
    }
}
