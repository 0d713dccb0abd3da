//! Ctrl-C: everything is taken down in good order, as at any other end. The second time the process ends at once.

use crate::{Doing, Result};
use async_signal::{Signal, Signals};
use smol::stream::StreamExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Set when Ctrl-C is pressed or the process is asked to end.
pub fn flag() -> Result<Arc<AtomicBool>> {
    let flag = Arc::new(AtomicBool::new(false));
    let mut signals = Signals::new([Signal::Int, Signal::Term]).doing(|| "signals")?;
    let ours = flag.clone();
    let body = move || {
        while smol::block_on(signals.next()).is_some() {
            if ours.swap(true, Ordering::Relaxed) {
                std::process::exit(130);
            }
        }
    };
    std::thread::Builder::new().name("signals".into()).spawn(body).doing(|| "the thread of signals")?;
    Ok(flag)
}
