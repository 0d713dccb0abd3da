//! `whole OLD NEW PATCH`: a bsdiff of a whole image, in bsdiff 4's format, by the crate qbsdiff: a suffix array of the old
//! image, and one scan of the new one. What it makes is what a delta without disassembly can be at its smallest, for the
//! memory of several times the image; so it is what ours is measured by (`cargo xtask bench size`).
//!
//! A package of its own, because it has to be optimized where the benches are not: Debian's own bsdiff does the same, in an hour
//! of CPU on 384 MiB.

use std::process::ExitCode;

fn main() -> ExitCode {
    let words: Vec<_> = std::env::args_os().skip(1).collect();
    let [old, new, patch] = words.as_slice() else {
        eprintln!("whole OLD NEW PATCH");
        return ExitCode::from(2);
    };
    let make = || {
        let (old, new) = (std::fs::read(old)?, std::fs::read(new)?);
        let mut out = std::io::BufWriter::new(std::fs::File::create(patch)?);
        // One thread: its CPU is what is measured, and the result does not depend on it.
        let differ = qbsdiff::Bsdiff::new(&old, &new);
        differ.parallel_scheme(qbsdiff::ParallelScheme::Never).compression_level(9).compare(&mut out)?;
        std::io::Write::flush(&mut out)
    };
    match make() {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("whole: {why}");
            ExitCode::from(1)
        }
    }
}
