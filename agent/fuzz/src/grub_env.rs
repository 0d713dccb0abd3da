//! The GRUB environment block.
//!
//! Claims: what is read is written as something that reads the same; a change of ours leaves every other line as it
//! was, in its order; a refusal to write comes only for what GRUB itself could not hold.

use crate::boot_env::{GROUPS, others};
use mainstay_bootloader_glue::convention::{Op, by_name};
use mainstay_bootloader_glue::{Format, grub};

/// Byte 0: bit 7, the rest stands behind a signature and padding; the other bits choose a change. Then the block.
pub fn run(data: &[u8]) {
    let [choice, body @ ..] = data else { return };
    let mut block = body.to_vec();
    if choice & 0x80 != 0 {
        block = [grub::SIGNATURE, body].concat();
        block.resize(grub::BLOCK_BYTES, b'#');
    }
    let Ok(env) = Format::Grub.parse(&[block.clone()]) else { return };
    let vars = env.vars().clone();
    match grub::encode(&vars, &[]) {
        Ok(again) => {
            assert_eq!(grub::decode(&again).as_ref(), Ok(&vars), "written, it reads the same");
            assert_eq!(grub::encode(&vars, &[]), Ok(again), "and is written the same again");
        }
        Err(fault) => assert!(block.contains(&0), "only a NUL cannot be written back: {fault}"),
    }
    for name in ["mainstay", "rauc"] {
        let convention = by_name(name, &Format::Grub).expect("for GRUB");
        let _ = convention.state(&vars);
        let _ = convention.script(&vars);
        let group = GROUPS[usize::from(choice & 1)];
        let op = [
            Op::Withdraw(group),
            Op::ArmTrial(group, choice >> 3 & 15),
            Op::MarkGood(group),
            Op::MarkBad(group),
        ][usize::from(choice >> 1 & 3)];
        let Ok(changes) = convention.change(&vars, op) else { continue };
        let changed = vars.with(&changes);
        let Ok(writes) = env.writes(&changed, convention.names()) else { continue };
        let mut copies = [block.clone()];
        writes.iter().for_each(|write| write.apply(&mut copies));
        let after = Format::Grub.parse(&copies).expect("what is written is read");
        assert_eq!(others(after.vars(), &*convention), others(&vars, &*convention), "{op:?}");
        let state = convention.state(after.vars()).expect("what we have changed has a meaning");
        crate::boot_env::obeyed(&state, op);
    }
}
