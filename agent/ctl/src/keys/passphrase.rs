//! Where a passphrase comes from: a file, the environment, or the terminal, in this order.

use crate::fail;
use crate::fail::Result;
use crate::files::read_small;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// The environment variable that holds the passphrase of every key of one call.
pub const VARIABLE: &str = "MAINSTAY_PASSPHRASE";
/// A new passphrase has at least this many characters.
pub const CHARACTERS_MIN: usize = 8;
const BYTES_MAX: usize = 1024;

/// Asks for passphrases.
#[derive(Clone, Debug, Default)]
pub struct Passphrases {
    /// A file whose first line is the passphrase of every key of one call.
    pub file: Option<PathBuf>,
}

impl Passphrases {
    /// The passphrase of the key at `path`.
    pub fn ask(&self, path: &Path) -> Result<Zeroizing<String>> {
        match self.given()? {
            Some(words) => Ok(words),
            None => prompt(&format!("Passphrase of {}: ", path.display())),
        }
    }

    /// A passphrase for a new key: long enough, and typed twice where it is typed.
    pub fn choose(&self, path: &Path) -> Result<Zeroizing<String>> {
        let words = match self.given()? {
            Some(words) => words,
            None => {
                let words = prompt(&format!("New passphrase for {}: ", path.display()))?;
                if *words != *prompt("Once more: ")? {
                    return Err(fail!("the two passphrases differ").todo("try again"));
                }
                words
            }
        };
        match words.chars().count() {
            n if n < CHARACTERS_MIN => {
                Err(fail!("passphrase: expected at least {CHARACTERS_MIN} characters, found {n}")
                    .todo("choose a longer one; four random words are good"))
            }
            _ => Ok(words),
        }
    }

    fn given(&self) -> Result<Option<Zeroizing<String>>> {
        if let Some(file) = &self.file {
            let bytes = Zeroizing::new(read_small(file, BYTES_MAX)?);
            let text = str::from_utf8(&bytes);
            let text = text.map_err(|_| fail!("{}: expected a passphrase, found no text", file.display()))?;
            return Ok(Some(Zeroizing::new(text.lines().next().unwrap_or_default().to_owned())));
        }
        match std::env::var(VARIABLE) {
            Ok(words) => Ok(Some(Zeroizing::new(words))),
            Err(std::env::VarError::NotPresent) => Ok(None),
            Err(_) => Err(fail!("{VARIABLE}: expected a passphrase, found no text")),
        }
    }
}

fn prompt(text: &str) -> Result<Zeroizing<String>> {
    if !std::io::stdin().is_terminal() {
        return Err(fail!("a passphrase is needed, and there is no terminal to ask at")
            .todo(format!("set {VARIABLE}, or name a file with --passphrase-file")));
    }
    let words = rpassword::prompt_password(text).map_err(|e| fail!("cannot ask for the passphrase: {e}"))?;
    Ok(Zeroizing::new(words))
}
