//! The emulated boards.
