//! See `src/delta_route.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| mainstay_fuzz::delta_route::run(data));
