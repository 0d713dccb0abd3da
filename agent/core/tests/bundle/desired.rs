//! Desired states: what a broker can and cannot make of one.

use crate::common::{refused, signed, simple_root, text};
use mainstay_core::digest::Digest;
use mainstay_core::policy::{DesiredAction, DesiredState, MaintenanceWindow, SIGNED_AHEAD_S_MAX, Wanted};
use mainstay_core::trust::{MessageKind, TrustRoot};

fn desired() -> DesiredState {
    DesiredState {
        fleet: text("plant-7"),
        group: text("line-2"),
        seq: 41,
        version: text("1.2.3"),
        manifest: Digest([8; 32]),
        action: DesiredAction::Run,
        rollout_bp: 10_000,
        window: None,
        expires: Some(2_000),
        signed_at: 1_000,
        salt: 0,
    }
}

fn sealed(desired: &DesiredState) -> Vec<u8> {
    signed(MessageKind::DesiredState, &desired.encode().unwrap(), &[3])
}

fn devices(count: usize) -> impl Iterator<Item = String> {
    (0..count).map(|n| format!("gw-{n:05}"))
}

#[test]
fn what_is_not_meant_for_this_gateway_now_is_refused() {
    let other_fleet = TrustRoot { fleet: text("plant-8"), ..simple_root() };
    let bytes = sealed(&desired());
    let open = |group: &str, seq: u64, now: u64| DesiredState::open(&simple_root(), &bytes, group, seq, now);
    assert_eq!(open("line-2", 0, 0).unwrap(), desired());
    open("line-2", 41, 0).unwrap(); // retained: the same comes again at each connection
    open("line-2", 0, 2_000).unwrap(); // its last second
    refused(open("line-2", 42, 0), "replayed: expected sequence 42 or later, found 41");
    refused(open("line-2", u64::MAX, 0), "replayed");
    refused(open("line-3", 0, 0), "expected group line-3, found line-2");
    refused(open("d/line-2", 0, 0), "expected group d/line-2, found line-2");
    refused(open("line-2", 0, 2_001), "expired at 2000, now is 2001");
    refused(
        DesiredState::open(&other_fleet, &bytes, "line-2", 0, 0),
        "expected fleet plant-8, found plant-7",
    );
    for seed in [1, 2, 9] {
        let bytes = signed(MessageKind::DesiredState, &desired().encode().unwrap(), &[seed]);
        let opened = DesiredState::open(&simple_root(), &bytes, "line-2", 0, 0);
        refused(opened, "valid signature(s) of role operator");
    }
    let manifest = signed(MessageKind::Manifest, &desired().encode().unwrap(), &[3]);
    let opened = DesiredState::open(&simple_root(), &manifest, "line-2", 0, 0);
    refused(opened, "expected a DesiredState, found a Manifest");
}

#[test]
fn one_gateway_is_addressed_by_its_device_id() {
    let one = DesiredState { group: text("d/gw-00001"), ..desired() };
    DesiredState::open(&simple_root(), &sealed(&one), "d/gw-00001", 0, 0).unwrap();
}

#[test]
fn a_field_out_of_its_bounds_is_refused_by_name() {
    #[rustfmt::skip]
    let cases = [
        (DesiredState { fleet: text("a b"), ..desired() },          "desired state: fleet: expected letters"),
        (DesiredState { group: text(""), ..desired() },             "desired state: group: expected a name"),
        (DesiredState { group: text("d/"), ..desired() },           "desired state: group: expected a name"),
        (DesiredState { group: text("d/d/x"), ..desired() },        "desired state: group: expected letters"),
        (DesiredState { group: text("line/2"), ..desired() },       "desired state: group: expected letters"),
        (DesiredState { version: text("1\u{7}"), ..desired() },     "desired state: version: expected printable"),
        (DesiredState { rollout_bp: 10_001, ..desired() },          "share of 0 to 10000, found 10001"),
        (DesiredState { expires: Some(999), ..desired() },          "expires at 999, before it was signed at 1000"),
    ];
    for (desired, words) in cases {
        refused(desired.check(), words);
    }
}

#[test]
fn no_bit_of_it_can_be_flipped_and_no_end_of_it_cut() {
    let mut bytes = sealed(&desired());
    let open = |bytes: &[u8]| DesiredState::open(&simple_root(), bytes, "line-2", 0, 0);
    for bit in 0..bytes.len() * 8 {
        bytes[bit / 8] ^= 1 << (bit % 8);
        assert!(open(&bytes).is_err(), "bit {bit}");
        bytes[bit / 8] ^= 1 << (bit % 8);
    }
    for cut in 0..bytes.len() {
        assert!(open(&bytes[..cut]).is_err(), "cut at {cut}");
    }
}

#[test]
fn a_larger_share_only_adds_gateways() {
    for device in devices(500) {
        let at = |rollout_bp| DesiredState { rollout_bp, ..desired() }.wanted(&device, None) == Wanted::Now;
        let shares: Vec<bool> = (0..=10_000).step_by(50).map(at).collect();
        assert!(shares.is_sorted(), "{device}: in at one share, out at a larger one");
        assert!(!shares[0] && shares[200], "{device}: nobody at 0, everybody at 10000");
    }
}

#[test]
fn the_places_of_the_gateways_are_spread_evenly() {
    let mut tenths = [0u32; 10];
    for device in devices(10_000) {
        let place = desired().membership(&device).place;
        assert!(place < 10_000);
        tenths[place as usize / 1000] += 1;
    }
    // Expected 1000 in each, standard deviation 30: five of them either way.
    assert!(tenths.iter().all(|n| (850..=1150).contains(n)), "{tenths:?}");
}

#[test]
fn who_goes_first_changes_with_the_salt_and_with_the_release() {
    let first = |desired: &DesiredState| -> Vec<String> {
        devices(1000).filter(|device| desired.membership(device).place < 1000).collect()
    };
    let base = first(&desired());
    for other in
        [DesiredState { salt: 1, ..desired() }, DesiredState { manifest: Digest([9; 32]), ..desired() }]
    {
        let both = first(&other).iter().filter(|device| base.contains(device)).count();
        assert!(both < base.len() / 2, "{both} of {} go first both times", base.len());
    }
    // What does not change the release does not change the order: a share, a window, a sequence number.
    let later = DesiredState { seq: 99, rollout_bp: 1, signed_at: 7, group: text("other"), ..desired() };
    assert_eq!(first(&later), base);
}

/// What it says becomes the time floor, which never falls: u64::MAX made every later certificate an expired one.
#[test]
fn what_was_signed_in_the_far_future_is_refused_where_the_clock_can_tell() {
    const AHEAD: u64 = SIGNED_AHEAD_S_MAX;
    #[rustfmt::skip]
    let cases = [
        // signed at      clock          floor      taken
        (1_000,           Some(5_000),   0,         true),
        (5_000 + AHEAD,   Some(5_000),   0,         true),
        (5_001 + AHEAD,   Some(5_000),   0,         false),
        (u64::MAX,        Some(5_000),   0,         false),
        (5_000 + AHEAD,   Some(5_000),   9_000,     true),
        (5_001 + AHEAD,   Some(5_000),   9_000,     false), // else each word could reach further than the one before
        (5_001 + AHEAD,   Some(5_000),   5_000 + AHEAD,     false),
        (5_001 + 2 * AHEAD, Some(5_000), 5_001 + AHEAD,     true), // a clock that has fallen back: the floor counts
        (5_002 + 2 * AHEAD, Some(5_000), 5_001 + AHEAD,     false),
        (u64::MAX,        None,          9_000,     true),  // nobody can tell
        (u64::MAX,        Some(1),       u64::MAX,  true),
    ];
    for (signed_at, clock, floor, taken) in cases {
        let signed = DesiredState { signed_at, expires: None, ..desired() }.signed_in_time(clock, floor);
        assert_eq!(signed.is_ok(), taken, "{signed_at} {clock:?} {floor}");
        if let Err(fault) = signed {
            assert!(fault.what.contains("expected at most 30 days after now"), "{fault}");
        }
    }
}

/// With the operator's key in his hands, somebody signs a hundred words, each as far ahead as the last one made possible.
/// They used to carry the time floor on by 30 days each, and every certificate was an expired one from then on.
#[test]
fn however_many_words_are_signed_ahead_the_time_floor_stays_within_thirty_days_of_a_right_clock() {
    let (clock, mut floor) = (1_800_000_000, 0);
    for _ in 0..100 {
        let ahead = floor.max(clock) + SIGNED_AHEAD_S_MAX;
        for signed_at in [ahead, clock + SIGNED_AHEAD_S_MAX] {
            let word = DesiredState { signed_at, expires: None, ..desired() };
            if word.signed_in_time(Some(clock), floor).is_ok() {
                floor = floor.max(signed_at);
            }
        }
    }
    assert_eq!(floor, clock + SIGNED_AHEAD_S_MAX);
}

#[test]
fn each_gateway_begins_at_its_own_place_within_the_window() {
    let window = |spread_s| DesiredState {
        window: Some(MaintenanceWindow { not_before: 100_000, spread_s }),
        expires: None,
        ..desired()
    };
    let mut quarters = [0; 4];
    for device in devices(2000) {
        let Wanted::Later(Some(begins)) = window(3600).wanted(&device, Some(99_999)) else {
            panic!("{device}: begins before the window");
        };
        assert!((100_000..103_600).contains(&begins), "{device}: {begins}");
        assert_eq!(window(3600).wanted(&device, Some(begins - 1)), Wanted::Later(Some(begins)));
        assert_eq!(window(3600).wanted(&device, Some(begins)), Wanted::Now);
        assert_eq!(window(0).wanted(&device, Some(100_000)), Wanted::Now);
        quarters[(begins - 100_000) as usize / 900] += 1;
    }
    assert!(quarters.iter().all(|n| (400..=600).contains(n)), "{quarters:?}");
}

#[test]
fn a_window_at_the_end_of_time_does_not_overflow() {
    let window = Some(MaintenanceWindow { not_before: u64::MAX, spread_s: u32::MAX });
    let desired = DesiredState { window, ..desired() };
    assert_eq!(desired.wanted("gw", Some(1)), Wanted::Later(Some(u64::MAX)));
}

/// The story: a gateway with a dead clock battery and no time server waited for ever, though the message that it had in
/// hand was signed after the window had begun.
#[test]
fn a_gateway_without_a_clock_goes_by_the_time_of_signing() {
    let window = |not_before, spread_s| DesiredState {
        window: Some(MaintenanceWindow { not_before, spread_s }),
        ..desired()
    };
    #[rustfmt::skip]
    let cases = [
        // window begins  spread   clock        wanted          (signed at 1000)
        (1_000,           0,       None,        Wanted::Now),
        (900,             100,     None,        Wanted::Now),
        (900,             100,     Some(5),     Wanted::Now),   // the clock fell back to 1970
        (1_001,           0,       None,        Wanted::Later(None)),
        (1_001,           0,       Some(5),     Wanted::Later(Some(1_001))),
        (1_001,           0,       Some(1_001), Wanted::Now),
    ];
    for (not_before, spread, clock, wanted) in cases {
        assert_eq!(window(not_before, spread).wanted("gw", clock), wanted, "{not_before} {clock:?}");
    }
}

#[test]
fn pause_and_halt_hold_for_every_gateway_in_the_wave_or_not() {
    for (action, wanted) in [(DesiredAction::Pause, Wanted::Nothing), (DesiredAction::Halt, Wanted::Drop)] {
        for rollout_bp in [0, 5_000, 10_000] {
            let desired = DesiredState { action, rollout_bp, ..desired() };
            assert!(devices(50).all(|device| desired.wanted(&device, Some(1)) == wanted));
        }
    }
}
