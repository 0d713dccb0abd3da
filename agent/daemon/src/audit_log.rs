//! The audit log.
/// Shows it.
pub fn show(_folder: &std::path::Path) -> Result<bool, mainstay_core::fault::Fault> { Err(mainstay_core::fault!(Unsupported, "log: not yet")) }
