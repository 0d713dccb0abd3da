//! What the operator's tool reads: bundle files of unknown origin, key files, and what people type.
//!
//! Claims: `inspect` and `verify` are total over any file, show nothing that steers a terminal, and say of no bundle that
//! it is trusted which the device would refuse; a key file that opens is one that we would have written.

use crate::throwaway::TRUST;
use mainstay::check_bundle::check;
use mainstay::file_source::FileSource;
use mainstayctl::bundle::{Depth, inspect::inspect};
use mainstayctl::meter::Audience;
use mainstayctl::{keys, values};
use std::cell::RefCell;
use std::io::{Cursor, Write};
use std::os::unix::fs::PermissionsExt;
use tempfile::NamedTempFile;

/// First byte: what the rest is. 0 a bundle, 1 the same signed anew, 2 a public key, 3 a secret one, else words.
pub fn run(data: &[u8]) {
    match data {
        [0, bytes @ ..] => looked_into(bytes),
        [1, bytes @ ..] => crate::bundle::resigned(bytes).iter().for_each(|bytes| looked_into(bytes)),
        [2, bytes @ ..] => in_a_file(bytes, |path| {
            let _ = keys::read_public(path);
        }),
        [3, bytes @ ..] => in_a_file(bytes, |path| {
            let _ = keys::read_public(path);
            // Argon2 takes as long as the file says, up to a bound: only what needs no passphrase is opened here.
            let mut nobody = |_: &std::path::Path| Err(mainstayctl::Failure::new("no passphrase".into()));
            let _ = keys::read_secret(path, &mut nobody);
        }),
        [_, words @ ..] => std::str::from_utf8(words).iter().for_each(|text| typed(text)),
        [] => {}
    }
}

fn looked_into(bytes: &[u8]) {
    in_a_file(bytes, |path| {
        for depth in [Depth::Objects, Depth::Content] {
            let Ok(found) = inspect(path, Some(&TRUST), depth, Audience::Nobody) else { continue };
            assert!(!found.text().chars().any(|c| c.is_control() && c != '\n'), "{}", found.text());
            let _ = found.json();
            let device =
                FileSource::open(Box::new(Cursor::new(bytes.to_vec()))).and_then(|s| check(s, &TRUST));
            if depth == Depth::Content && matches!(found.trusted, Some(Ok(()))) {
                device.expect("what the operator verifies, the device takes");
            }
        }
    });
}

fn typed(text: &str) {
    if let Ok(time) = values::time(text, 1_800_000_000) {
        // Dates of four digits are read as they are written.
        let shown = values::utc(time);
        assert!(time > 253_402_300_799 || values::time(&shown, 0) == Ok(time), "{shown}");
    }
    let _ = values::duration_s(text);
    if let Ok(share) = values::share_bp(text) {
        assert!(share <= 10_000 && values::share_bp(&values::share(share)) == Ok(share));
    }
    let _ = values::unhex::<32>(text).map(|bytes| assert_eq!(values::hex(&bytes), text.to_lowercase()));
    let _ = mainstayctl::trust::role(text);
    for target in
        [mainstayctl::rollout::Target::Group(text.into()), mainstayctl::rollout::Target::Device(text.into())]
    {
        if target.check().is_ok() && text.len() <= 48 {
            assert!(target.topic("plant").ends_with("/desired"));
        }
    }
}

fn in_a_file(bytes: &[u8], work: impl FnOnce(&std::path::Path)) {
    FILE.with_borrow_mut(|file| {
        let written = file.as_file().set_len(0).and_then(|()| {
            std::os::unix::fs::FileExt::write_all_at(file.as_file(), bytes, 0)?;
            file.flush()
        });
        written.expect("a file in memory can be written");
        work(file.path());
    });
}

thread_local! {
    static FILE: RefCell<NamedTempFile> = RefCell::new({
        let file = NamedTempFile::new_in(crate::memory_folder()).expect("a file in memory");
        std::fs::set_permissions(file.path(), std::fs::Permissions::from_mode(0o600)).expect("our own");
        file
    });
}
