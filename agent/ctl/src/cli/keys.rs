//! `mainstayctl key …`

use super::{PassphraseArgs, say, warn};
use crate::fail::Result;
use crate::keys::{self, Protection};
use crate::values::hex;
use clap::{Args, Subcommand};
use mainstay_core::trust::KeyId;
use mainstay_core::wire::check_name;
use std::path::PathBuf;

#[derive(Debug, Subcommand)]
pub(super) enum Key {
    /// Make a key: NAME.key (secret, mode 0600, encrypted) and NAME.pub
    Generate(Generate),
    /// Show the public half and the id of a key
    Public(Public),
}

#[derive(Debug, Args)]
pub(super) struct Generate {
    /// Name of the two files
    name: String,
    /// Folder to put them in
    #[arg(long, value_name = "DIR", default_value = ".")]
    out: PathBuf,
    /// Do not encrypt the secret key: whoever reads the file can sign
    #[arg(long, conflicts_with = "passphrase_file")]
    no_passphrase: bool,
    #[command(flatten)]
    passphrase: PassphraseArgs,
}

#[derive(Debug, Args)]
pub(super) struct Public {
    /// NAME.key or NAME.pub
    file: PathBuf,
}

pub(super) fn run(command: &Key) -> Result<()> {
    match command {
        Key::Generate(command) => generate(command),
        Key::Public(command) => public(command),
    }
}

fn generate(command: &Generate) -> Result<()> {
    check_name("name", &command.name)?;
    let stem = command.out.join(&command.name);
    let key = keys::generate()?;
    let (secret, public) = if command.no_passphrase {
        warn(format_args!(
            "WARNING: {}.key is NOT encrypted. Whoever can read it, or a backup of it, can sign in your name.",
            stem.display()
        ));
        keys::write_pair(&stem, &key, Protection::None)?
    } else {
        let words = command.passphrase.passphrases().choose(&stem)?;
        keys::write_pair(&stem, &key, Protection::Passphrase(&words))?
    };
    say(format_args!("secret  {}", secret.display()));
    say(format_args!("public  {}", public.display()));
    say(format_args!("id      {}", keys::id(&key)));
    Ok(())
}

fn public(command: &Public) -> Result<()> {
    let public = keys::read_public(&command.file)?;
    say(format_args!("id      {}", KeyId::of(&public)));
    say(format_args!("public  {}", hex(&public)));
    Ok(())
}
