//! Mainstay decides here. No I/O, no clock, no heap, no unsafe: bytes and values in, decisions out.
//!
//! # Glossary
//! | word | means |
//! |---|---|
//! | slot | a place on the medium that an artifact is written to; a slot has a class (`rootfs`, `kernel`, `appfs`, `config` …) |
//! | boot group (A, B) | the slots that are booted together |
//! | bundle | what is delivered: a signed manifest, its index and the pieces of its routes |
//! | manifest | the signed description: compatible, version, security version, artifacts, policy, provenance |
//! | artifact | the content for one slot |
//! | segment | 256 KiB of an artifact's content; the index lists its digest |
//! | route | one way to make an artifact's segments: full, or delta from a base |
//! | piece | what travels: at most 96 KiB of a route, named by the hash of its bytes |
//! | run | up to 512 neighbouring segments, described by one segment page and one route page |
//! | table | the list of an artifact's (or a route's) pages; the manifest names it by its digest |
//! | object | a table, page or piece: anything content-addressed |
//! | envelope | a signed message as it travels: context, signatures, body |
//! | trust root | the signed record of keys, roles and thresholds that a device goes by |
//! | compatible | the name of the hardware that a bundle is made for |
//! | security version, floor | the number that never falls: a bundle under the floor is refused (anti-rollback) |
//! | deployment | one manifest on its way onto this gateway, with its target group and attempt |
//! | desired state | the signed, retained message that says what a group of gateways shall run |
//! | trial boot | a boot of a group that is not yet committed, with tries left |
//! | tries left | how many more times the bootloader tries a group (U-Boot's `bootcount` counts the other way) |
//! | withdraw | make a group not bootable, before its first byte is written |
//! | mark good, mark bad | tell the bootloader that a group may, or may not, be booted again |
//! | commit | the trial has passed its health checks: mark good, and raise the floor last |
//! | fallback | the bootloader goes back by itself |
//! | rollback | the agent, or a person, decides to go back |
//! | settled | the outcome is known and durable |
//! | factory reset | the data that the integrator named is erased, what people said by hand is forgotten; no downgrade |
//! | decommission | take out of service for good: the client key is destroyed, the data erased |
//! | audit log, head | hash-chained lines of what happened; the number and hash of the last one |
//! | drift | the running slot's content differs from its manifest |
//! | wave | the part of a fleet that a rollout reaches in one step |

#![no_std]
#![forbid(unsafe_code)]
#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::unreachable,
        clippy::todo,
        clippy::unimplemented,
        clippy::indexing_slicing,
        clippy::string_slice,
        clippy::get_unwrap
    )
)]

#[cfg(any(test, feature = "author"))]
extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod audit;
pub mod boot;
pub mod bundle;
pub mod copies;
pub mod digest;
pub mod fault;
pub mod limits;
pub mod policy;
pub mod report;
pub mod seam;
pub mod topic;
pub mod trial;
pub mod trust;
pub mod update;
pub mod wire;
