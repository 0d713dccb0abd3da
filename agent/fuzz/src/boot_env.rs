//! The U-Boot environment: one copy, and two of which either may be anything.
//!
//! Claims: parse, write, parse is stable; unknown variables are kept, in their order; a valid copy beside garbage is
//! always found; a change goes to the copy that is not in force, and is in force then; a change means what was asked.

use arbitrary::{Arbitrary, Unstructured};
use mainstay_bootloader_glue::convention::{Convention, Op, by_name};
use mainstay_bootloader_glue::uboot::{self, Scheme};
use mainstay_bootloader_glue::{Format, Vars, model};
use mainstay_core::boot::{BootState, Group};
use mainstay_core::fault::FaultKind;

/// Both groups.
pub const GROUPS: [Group; 2] = Group::BOTH;

const CRC: crc::Crc<u32> = crc::Crc::<u32>::new(&crc::CRC_32_ISO_HDLC);

/// What an input says.
#[derive(Arbitrary, Debug)]
struct Input<'a> {
    /// Of one copy, in steps of 32 bytes from 96 on (128 is the least that is taken).
    size: u8,
    boolean: bool,
    single: bool,
    /// Gives copy 0, copy 1 the CRC that it should have.
    mend: [bool; 2],
    flags: [u8; 2],
    convention: u8,
    op: u8,
    tries: u8,
    group: bool,
    /// Where the first copy's data ends and the second's begins, in 1/256.
    cut: u8,
    data: &'a [u8],
}

/// A structure, then data of two copies.
pub fn run(data: &[u8]) {
    let Ok(input) = Input::arbitrary_take_rest(Unstructured::new(data)) else { return };
    let bytes = 96 + usize::from(input.size) * 32;
    let format = match (input.single, input.boolean) {
        (true, _) => Format::UbootSingle { bytes },
        (false, boolean) => {
            let scheme = if boolean { Scheme::Boolean } else { Scheme::Incremental };
            Format::UbootRedundant { bytes, scheme }
        }
    };
    let (one, two) = input.data.split_at(input.data.len() * usize::from(input.cut) / 256);
    let all = [one, two];
    let copies: Vec<Vec<u8>> = (0..format.copies()).map(|n| copy(&input, n, all[n], bytes)).collect();
    let valid = copies.iter().filter(|copy| uboot::decode(copy, !input.single).is_ok()).count();
    let parsed = format.parse(&copies);
    assert_eq!(parsed.is_ok(), valid > 0, "a valid copy beside garbage is found: {parsed:?}");
    let name = ["mainstay", "rauc", "bootcount"][usize::from(input.convention % 3)];
    let convention = by_name(name, &format).expect("for U-Boot");
    let _ = model::boot(&format, &*convention, &copies, |group| (group == Group::A) == input.group);
    let Ok(env) = parsed else { return };
    assert_eq!(env.damaged().is_some(), valid < copies.len());

    let vars = env.vars();
    let again = uboot::encode(vars, (!input.single).then_some(1), bytes).expect("what was read fits again");
    assert_eq!(&uboot::decode(&again, !input.single).expect("what is written is read").vars, vars);

    let group = GROUPS[usize::from(input.group)];
    let ops =
        [Op::Withdraw(group), Op::ArmTrial(group, input.tries), Op::MarkGood(group), Op::MarkBad(group)];
    let op = ops[usize::from(input.op % 4)];
    let _ = convention.state(vars);
    let Ok(changes) = convention.change(vars, op) else { return };
    let changed = vars.with(&changes);
    let writes = match env.writes(&changed, convention.names()) {
        Ok(writes) => writes,
        Err(fault) => return assert_eq!(fault.kind, FaultKind::Full, "{fault}"),
    };
    let mut after = copies.clone();
    for write in &writes {
        assert!(write.at + write.bytes.len() <= bytes, "a write lies within its copy");
        let touches_the_one_in_force = write.copy == env.in_force() && !input.single;
        assert!(!touches_the_one_in_force || (input.boolean && write.at == 4 && write.bytes.len() == 1));
        write.apply(&mut after);
        assert!(input.single || format.parse(&after).is_ok(), "after each write there is a valid copy");
    }
    let found = format.parse(&after).expect("what is written is read");
    assert_eq!(found.vars(), &changed);
    assert!(input.single || found.in_force() != env.in_force());
    assert_eq!(others(found.vars(), &*convention), others(vars, &*convention), "{op:?}");
    obeyed(&convention.state(found.vars()).expect("what we have changed has a meaning"), op);
}

/// The bytes of copy `n`.
fn copy(input: &Input<'_>, n: usize, data: &[u8], bytes: usize) -> Vec<u8> {
    let mut copy = vec![0; bytes];
    if !input.mend[n] {
        let most = data.len().min(bytes);
        copy[..most].copy_from_slice(&data[..most]);
        return copy;
    }
    let header = if input.single { 4 } else { 5 };
    let most = data.len().min(bytes - header);
    copy[header..header + most].copy_from_slice(&data[..most]);
    if !input.single {
        copy[4] = input.flags[n];
    }
    let crc = CRC.checksum(&copy[header..]);
    copy[..4].copy_from_slice(&crc.to_ne_bytes());
    copy
}

/// Every line that is not the convention's own.
pub fn others(vars: &Vars, convention: &dyn Convention) -> Vec<(Vec<u8>, Option<Vec<u8>>)> {
    let ours = |name: &[u8]| convention.names().iter().any(|n| n.as_bytes() == name);
    let lines = vars.entries().iter().filter(|e| e.value.is_none() || !ours(&e.name));
    lines.map(|e| (e.name.clone(), e.value.clone())).collect()
}

/// What was asked for is so.
pub fn obeyed(state: &BootState, op: Op) {
    match op {
        Op::Withdraw(group) | Op::MarkBad(group) => {
            assert!(!state.group(group).bootable(), "{op:?}: {state:?}")
        }
        Op::ArmTrial(group, _) => {
            assert!(
                state.group(group).bootable() && state.group(group).good != Some(true),
                "{op:?}: {state:?}"
            );
            assert_eq!(state.select(), Some(group), "{op:?}");
        }
        Op::MarkGood(group) => assert!(state.group(group).good != Some(false), "{op:?}: {state:?}"),
    }
}
