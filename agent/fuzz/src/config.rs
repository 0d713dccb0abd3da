//! Configuration files: the agent's, with its health checks, and the board's.
//!
//! Claims: any text is read whole or refused with a line that the text has and a sentence of one line; memory stays in
//! proportion to the file, of which no more than 64 KiB are ever read.

use crate::allocations::bounded;
use mainstay::config::Config;
use mainstay_board_support::board::{Board, SLOTS_MAX, TomlError};
use mainstay_core::limits::CHECKS_MAX;
use std::path::Path;

/// First byte: 0 a board file, else the agent's configuration.
pub fn run(data: &[u8]) {
    let [which, text @ ..] = data else { return };
    let Ok(text) = std::str::from_utf8(text) else { return };
    // For a text of nothing but mistakes the parser keeps up to 300 bytes each (measured); this is three times that.
    bounded(1024 * text.len() + 64 * 1024, || match which {
        0 => match Board::parse(text, "/etc/mainstay/board.toml") {
            Ok(board) => sound(&board),
            Err(error) => named(&error, text),
        },
        _ => match Config::parse(text, Path::new("/etc/mainstay/mainstay.toml")) {
            Ok(config) => {
                assert!(config.checks.len() <= CHECKS_MAX && !config.device.is_empty());
                assert!(config.control_socket().as_os_str().len() <= 107);
                assert!(config.update.hours.is_none_or(|(from, to)| from != to && from.max(to) < 86_400));
            }
            Err(error) => named(&error, text),
        },
    });
}

fn sound(board: &Board) {
    assert!(!board.slots.is_empty() && board.slots.len() <= SLOTS_MAX);
    for slot in &board.slots {
        assert!(board.slot(slot.group.other(), &slot.class).is_some(), "both groups have each class");
    }
    assert_eq!(board.classes().count() * 2, board.slots.len());
}

fn named(error: &TomlError, text: &str) {
    let lines = text.bytes().filter(|byte| *byte == b'\n').count() + 1;
    assert!(error.line as usize <= lines, "{error}");
    assert!(!error.what.is_empty());
}
