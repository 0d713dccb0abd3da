//! Goal: a power cut inside any write leaves the old variables or the new ones, readable, and the next change works.
//! Method: random sequences of the agent's operations and of boots by the model of our script; each write may be cut,
//! the medium then holds any mixture of the old and the new sectors (512 bytes), in any order of writing. For the
//! redundant U-Boot environment even any mixture of bytes and garbage inside the written copy.
//!
//! One exception, which this test found: `saveenv` of U-Boot writes over a damaged copy without wiping it first, and a
//! second cut, in that very write, may complete the write that the first cut had left (sectors out of order). What
//! then stands there is a change that the agent had decided itself, only earlier. Our own writes wipe, and never do.

use mainstay_bootloader_glue::convention::{Bootcount, Mainstay, Op, RaucGrub, RaucUboot};
use mainstay_bootloader_glue::uboot::{self, Scheme};
use mainstay_bootloader_glue::{Convention, Format, Vars, Write, model};
use mainstay_core::boot::Group;
use proptest::prelude::*;

const SECTOR: usize = 512;
/// Not under the CRC: garbage there, and there alone, would be believed (said in src/uboot/mod.rs).
const FLAGS_AT: usize = 4;

/// One thing that happens to the environment, and whether the power fails in it.
#[derive(Clone, Debug)]
enum Event {
    Change(Op),
    Boot { a_loads: bool, b_loads: bool },
}

/// Where the power fails: in the write with this number, leaving this damage. `sectors`: bit n: sector n is new.
#[derive(Clone, Debug)]
struct Cut {
    write: usize,
    sectors: u64,
    garbage: Option<(usize, u8)>,
}

fn events() -> impl Strategy<Value = Vec<(Event, Option<Cut>)>> {
    let group = prop_oneof![Just(Group::A), Just(Group::B)];
    let op = (group, 0..4, 1u8..=9).prop_map(|(g, which, tries)| match which {
        0 => Op::Withdraw(g),
        1 => Op::ArmTrial(g, tries),
        2 => Op::MarkGood(g),
        _ => Op::MarkBad(g),
    });
    let event = prop_oneof![
        op.prop_map(Event::Change),
        any::<(bool, bool)>().prop_map(|(a_loads, b_loads)| Event::Boot { a_loads, b_loads }),
    ];
    let garbage = proptest::option::of((0usize..2048, 1u8..));
    let cut = (0usize..3, any::<u64>(), garbage).prop_map(|(write, sectors, garbage)| Cut {
        write,
        sectors,
        garbage,
    });
    proptest::collection::vec((event, proptest::option::of(cut)), 1..20)
}

/// The writes that the event makes; none where the convention refuses it.
fn writes(format: &Format, convention: &dyn Convention, copies: &[Vec<u8>], event: &Event) -> Vec<Write> {
    let env = format.parse(copies).unwrap();
    match event {
        Event::Boot { a_loads, b_loads } => {
            let loads = |g| if g == Group::A { *a_loads } else { *b_loads };
            model::boot(format, convention, copies, loads).unwrap().writes
        }
        Event::Change(op) => match convention.change(env.vars(), *op) {
            Ok(changes) => {
                let vars = env.vars().with(&changes);
                if &vars == env.vars() { Vec::new() } else { env.writes(&vars, convention.names()).unwrap() }
            }
            Err(_) => Vec::new(), // what RAUC's convention and bootcount cannot say
        },
    }
}

/// Makes the write, cut short.
fn tear(write: &Write, copies: &mut [Vec<u8>], cut: &Cut, garbage_allowed: bool) {
    let place = &mut copies[write.copy][write.at..write.at + write.bytes.len()];
    for (n, (old, new)) in place.chunks_mut(SECTOR).zip(write.bytes.chunks(SECTOR)).enumerate() {
        if cut.sectors & (1 << n) != 0 {
            old.copy_from_slice(new);
        }
    }
    if let Some((at, with)) = cut.garbage.filter(|_| garbage_allowed && write.bytes.len() > 1) {
        let at = if at % place.len() == FLAGS_AT { FLAGS_AT + 1 } else { at % place.len() };
        place[at] ^= with;
    }
}

/// Plays the events and checks after each write, cut or whole.
fn play(
    format: Format,
    convention: &dyn Convention,
    others: &[(&str, &str)],
    events: &[(Event, Option<Cut>)],
) {
    let fresh = others.iter().copied().collect::<Vars>().with(&convention.fresh());
    let mut copies = format.blank(&fresh, convention.names()).unwrap();
    let mut left_by_cuts: Vec<Vars> = Vec::new();
    for (event, cut) in events {
        for (n, write) in writes(&format, convention, &copies, event).iter().enumerate() {
            let before = format.parse(&copies).unwrap();
            let old = before.vars().clone();
            let mut whole = copies.clone();
            write.apply(&mut whole);
            let new = format.parse(&whole).unwrap().vars().clone();
            if let Some(cut) = cut.as_ref().filter(|cut| cut.write == n) {
                tear(write, &mut copies, cut, format != Format::Grub);
                let found =
                    format.parse(&copies).unwrap_or_else(|fault| panic!("{event:?} {cut:?}: {fault}"));
                let completed_earlier = matches!(event, Event::Boot { .. })
                    && before.damaged().is_some()
                    && left_by_cuts.contains(found.vars());
                let expected = *found.vars() == old || *found.vars() == new;
                assert!(expected || completed_earlier, "{event:?} {cut:?}: {:?}", found.vars());
                left_by_cuts.extend(uboot::decode(&write.bytes, true).map(|copy| copy.vars));
                break; // the power is gone: the writes behind it are not made
            }
            copies = whole;
        }
        let env = format.parse(&copies).unwrap();
        convention.state(env.vars()).unwrap();
        for (name, value) in others {
            assert_eq!(env.vars().get(name), Some(value.as_bytes()), "{name} is not ours");
        }
    }
}

const OTHERS: [(&str, &str); 3] =
    [("bootcmd", "run distro_bootcmd"), ("ethaddr", "02:00:00:00:00:01"), ("script", "a\\b; c\n")];

proptest! {
    #[test]
    fn a_redundant_u_boot_environment_holds_the_old_or_the_new_variables(events in events()) {
        for scheme in [Scheme::Incremental, Scheme::Boolean] {
            let format = Format::UbootRedundant { bytes: 2048, scheme };
            play(format, &Mainstay, &OTHERS, &events);
            play(format, &RaucUboot::default(), &OTHERS, &events);
            play(format, &Bootcount, &OTHERS, &events);
        }
    }

    #[test]
    fn a_grub_block_on_a_medium_that_writes_sectors_whole_holds_the_old_or_the_new_variables(
        events in events(), filler in 0usize..760,
    ) {
        let filler = "x".repeat(filler); // reaches over the sector border in most of the cases
        let others = [OTHERS[1], OTHERS[2], ("saved_entry", &filler)];
        play(Format::Grub, &Mainstay, &others, &events);
        play(Format::Grub, &RaucGrub, &others, &events);
    }
}

/// The price that uboot/mod.rs names.
#[test]
fn a_single_u_boot_environment_can_be_lost_whole_and_says_so() {
    let format = Format::UbootSingle { bytes: 2048 };
    assert!(!format.survives_a_power_cut());
    let long = "x".repeat(600);
    let fresh = [("a", long.as_str())].into_iter().collect::<Vars>().with(&Mainstay.fresh());
    let mut copies = format.blank(&fresh, &[]).unwrap();
    let event = Event::Change(Op::ArmTrial(Group::B, 3));
    let cut = Cut { write: 0, sectors: 0b01, garbage: None };
    tear(&writes(&format, &Mainstay, &copies, &event)[0], &mut copies, &cut, false);
    assert!(format.parse(&copies).is_err());
}
