//! What the reader of bundles and trust promises, claim by claim, through its public interface alone.
//!
//! | file | holds |
//! |---|---|
//! | `envelope` | the grammar, every cut, every flipped bit; what a signature is worth |
//! | `rotation` | trust roots: what a device may go by, thresholds, the chain of versions |
//! | `manifest` | each field's bound and the words of its refusal |
//! | `pages` | tables, segment pages, route pages, bundle files: every lie, every cut, random bytes |
//! | `desired` | desired states: replay, expiry, waves, windows |
//! | `eligibility` | what a gateway refuses, and why it says it does |
//! | `stack` | what the large values cost on the stack |
//! | `unproven` | nothing is read before its signature or name is proven |

mod common;
mod delta_pages;
mod desired;
mod eligibility;
mod envelope;
mod manifest;
mod pages;
mod rotation;
mod stack;
mod unproven;
