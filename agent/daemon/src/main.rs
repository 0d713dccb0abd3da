//! `mainstay`: the device binary. Reads its words, and hands over.
//!
//! Exit codes: 0 done; 1 refused or failed, and standard error says why; 2 the words were wrong.

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

use mainstay::agent::{Agent, Command, Mark, Request, Shared, Watcher, Wish};
use mainstay::file_source::FileSource;
use mainstay::run::{self, Base};
use mainstay::status::{LinkStatus, Status};
use mainstay::store::FolderStore;
use mainstay::terminal::{complain, printable, say};
use mainstay::{check_bundle, config, doctor, erase, guard, logger, socket};
use mainstay_core::boot::Group;
use mainstay_core::fault;
use mainstay_core::fault::Fault;
use mainstay_core::update::Rest;
use std::ffi::OsString;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

const HELP: &str = "\
mainstay: updates this gateway as a whole, or not at all

usage: mainstay [--config FILE] COMMAND

  run [--verbose]             the daemon
  status [--json]             what runs, what is under way, what waits
  install FILE|- [--retry] [--reboot]
                              install a bundle; --retry: also one that runs already, or
                              whose trial failed here; --reboot: without `approve`
  verify FILE|-               check a bundle whole, and install nothing
  approve                     reboot into the trial when all is written
  cancel                      drop the update that is not yet in its trial
  rollback                    end the trial, or go back to the other group
  mark good                   the running group is good
  mark bad A|B|other          this group may not be booted again
  mark active A|B|other       this group is booted next
  factory-reset [--yes]       erase this gateway's data; without --yes: say what, and what stays
  decommission [--yes] NAME   destroy the key of the gateway of this name, and erase its data;
                              out of service for good
  log                         what happened, and whether its chain holds
  doctor                      is this board integrated right?
  version                     the version of this binary

The configuration is /etc/mainstay/mainstay.toml unless --config says otherwise.
";

fn main() -> ExitCode {
    match words() {
        Err(wrong) => {
            complain(format_args!("{wrong}\n\n{HELP}"));
            ExitCode::from(2)
        }
        Ok((path, wanted)) => match command(&path, wanted) {
            Ok(code) => code,
            Err(fault) => {
                complain(fault);
                ExitCode::FAILURE
            }
        },
    }
}

/// What was asked for.
enum Wanted {
    Help,
    Version,
    Run { verbose: bool },
    Status { json: bool },
    Install { file: PathBuf, retry: bool, reboot: bool },
    Verify { file: PathBuf },
    Simple(&'static str),
    Mark { what: &'static str, group: Option<String> },
    FactoryReset { yes: bool },
    Decommission { yes: bool, name: String },
    Log,
    Doctor,
    Guard(Vec<OsString>),
}

fn words() -> Result<(PathBuf, Wanted), lexopt::Error> {
    use lexopt::prelude::*;
    let mut path = PathBuf::from(config::DEFAULT_PATH);
    let mut parser = lexopt::Parser::from_env();
    let verb = loop {
        match parser.next()? {
            Some(Long("config")) => path = parser.value()?.into(),
            Some(Short('h') | Long("help")) => return Ok((path, Wanted::Help)),
            Some(Short('V') | Long("version")) => return Ok((path, Wanted::Version)),
            Some(Value(verb)) => break verb.string()?,
            Some(other) => return Err(other.unexpected()),
            None => return Err("expected a command".into()),
        }
    };
    if verb == "guard" {
        return Ok((path, Wanted::Guard(parser.raw_args()?.collect())));
    }
    let (mut flags, mut values) = (Vec::new(), Vec::new());
    while let Some(word) = parser.next()? {
        match word {
            Long("config") => path = parser.value()?.into(),
            Short('h') | Long("help") => return Ok((path, Wanted::Help)),
            Long(flag) => flags.push(flag.to_string()),
            Value(value) => values.push(value),
            other => return Err(other.unexpected()),
        }
    }
    let mut flag = |name: &str| {
        let before = flags.len();
        flags.retain(|flag| flag != name);
        flags.len() < before
    };
    let mut values = values.into_iter();
    let wanted = match verb.as_str() {
        "run" => Wanted::Run { verbose: flag("verbose") },
        "status" => Wanted::Status { json: flag("json") },
        "install" => {
            let file = values.next().ok_or("install: expected a FILE, or - for standard input")?.into();
            Wanted::Install { file, retry: flag("retry"), reboot: flag("reboot") }
        }
        "verify" => Wanted::Verify {
            file: values.next().ok_or("verify: expected a FILE, or - for standard input")?.into(),
        },
        "approve" => Wanted::Simple("approve"),
        "cancel" => Wanted::Simple("cancel"),
        "rollback" => Wanted::Simple("rollback"),
        "mark" => {
            let what = values.next().map(|v| v.string()).transpose()?;
            let group = values.next().map(|v| v.string()).transpose()?;
            match (what.as_deref(), &group) {
                (Some("good"), None) => Wanted::Mark { what: "good", group },
                (Some("bad"), Some(_)) => Wanted::Mark { what: "bad", group },
                (Some("active"), Some(_)) => Wanted::Mark { what: "active", group },
                _ => return Err("mark: expected good, bad GROUP or active GROUP".into()),
            }
        }
        "factory-reset" => Wanted::FactoryReset { yes: flag("yes") },
        "decommission" => {
            let name = values.next().ok_or("decommission: expected the NAME of this gateway")?.string()?;
            Wanted::Decommission { yes: flag("yes"), name }
        }
        "log" => Wanted::Log,
        "doctor" => Wanted::Doctor,
        "version" => Wanted::Version,
        "help" => Wanted::Help,
        other => return Err(format!("expected a command, found {other:?}").into()),
    };
    if let Some(flag) = flags.first() {
        return Err(format!("{verb} takes no --{flag}").into());
    }
    match values.next() {
        Some(extra) => Err(format!("{verb}: one word too many: {extra:?}").into()),
        None => Ok((path, wanted)),
    }
}

fn command(path: &Path, wanted: Wanted) -> Result<ExitCode, Fault> {
    match wanted {
        Wanted::Help => say(HELP.trim_end()),
        Wanted::Version => say(format_args!("mainstay {}", mainstay::VERSION)),
        Wanted::Guard(words) => return Ok(guard::main(words.into_iter())),
        Wanted::Run { verbose } => {
            logger::start(verbose);
            run::run(path)?;
        }
        Wanted::Status { json } => status(path, json)?,
        Wanted::Install { file, retry, reboot } => return install(path, &file, retry, reboot),
        Wanted::Verify { file } => verify(path, &file)?,
        Wanted::Simple(verb) => {
            let wish = match verb {
                "approve" => Wish::Approve,
                "cancel" => Wish::Cancel,
                _ => Wish::RollBack,
            };
            return request(path, verb, wish);
        }
        Wanted::Mark { what, group } => return mark(path, what, group.as_deref()),
        Wanted::FactoryReset { yes } => return part(path, yes, "factory-reset".into(), Wish::FactoryReset),
        Wanted::Decommission { yes, name } => {
            return part(path, yes, format!("decommission {name}"), Wish::Decommission(name));
        }
        Wanted::Log => return show_log(path),
        Wanted::Doctor => {
            let socket = config::Config::load(path).map(|config| config.control_socket());
            let daemon = socket.is_ok_and(|socket| std::os::unix::net::UnixStream::connect(socket).is_ok());
            return Ok(ExitCode::from(u8::from(!doctor::examine(path, daemon))));
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn status(path: &Path, json: bool) -> Result<(), Fault> {
    let config = config::Config::load(path)?;
    let request = if json { "status json" } else { "status" };
    match socket::ask(&config.control_socket(), request, &mut None, |line: &str| say(line)) {
        Some(Ok(_)) => Ok(()),
        Some(Err(why)) => Err(fault!(Io, "{why}")),
        None => {
            let status = without_daemon(config)?;
            if json {
                say(status.json())
            } else {
                say(status.text().trim_end())
            }
            Ok(())
        }
    }
}

/// The status, from what stands on the medium.
fn without_daemon(config: config::Config) -> Result<Status, Fault> {
    let mut store = FolderStore::look(&config.state);
    let opened = mainstay::agent::Opened::open(&config, &mut store)?;
    let record = run::journal(&mut store);
    let (record, lost) = match record {
        Ok(record) => (record, false),
        Err(_) => (mainstay_core::update::Record::factory(config.image_floor), true),
    };
    Ok(Status {
        device: config.device.clone(),
        trust: (opened.trust.fleet.to_string(), opened.trust.version),
        compatible: opened.board.compatible.to_string(),
        running: opened.running,
        record,
        record_lost: lost,
        boot: run::boot_state(&opened.board),
        link: LinkStatus::None,
        progress: None,
        desired: None,
        waiting: None,
        fault: None,
        daemon: false,
        audit: mainstay::audit_log::head(&config.state, &config.device),
    })
}

fn open_bundle(file: &Path) -> Result<Box<dyn Read + Send>, Fault> {
    if file == Path::new("-") {
        return Ok(Box::new(std::io::stdin()));
    }
    let opened = std::fs::File::open(file);
    Ok(Box::new(opened.map_err(|e| mainstay::store::io_fault("open the bundle", file, &e))?))
}

fn install(path: &Path, file: &Path, retry: bool, reboot: bool) -> Result<ExitCode, Fault> {
    let mut bundle = Some(open_bundle(file)?);
    let config = config::Config::load(path)?;
    let flags = [(retry, " retry"), (reboot, " approve")].into_iter().filter(|(set, _)| *set);
    let line = flags.fold("install".to_string(), |line, (_, flag)| line + flag);
    let asked = socket::ask(&config.control_socket(), &line, &mut bundle, |line: &str| say(line));
    match (asked, bundle) {
        (None, Some(bundle)) => {
            let bundle = Box::new(FileSource::open(bundle)?);
            by_itself(path, Wish::Install { bundle, retry, approve: reboot })
        }
        (asked, _) => Ok(answer(asked)),
    }
}

fn mark(path: &Path, what: &'static str, group: Option<&str>) -> Result<ExitCode, Fault> {
    let config = config::Config::load(path)?;
    let group = match group {
        Some("other") => Some(mainstay_board_support::Board::load(&config.board)?.running_group()?.other()),
        Some(name) => {
            let group = Group::from_name(name);
            Some(group.ok_or_else(|| fault!(Refused, "expected group A, B or other, found {name:?}"))?)
        }
        None => None,
    };
    let (line, mark) = match (what, group) {
        ("bad", Some(group)) => (format!("mark bad {group}"), Mark::Bad(group)),
        ("active", Some(group)) => (format!("mark active {group}"), Mark::Active(group)),
        _ => ("mark good".to_string(), Mark::Good),
    };
    request(path, &line, Wish::Mark(mark))
}

/// What cannot be taken back is said first, and done only then. The agent compares the name; here it is compared so that
/// nobody is told the plan of another gateway than the one that was meant.
fn part(path: &Path, yes: bool, line: String, wish: Wish) -> Result<ExitCode, Fault> {
    let config = config::Config::load(path)?;
    if let Wish::Decommission(name) = &wish
        && *name != config.device
    {
        return Err(fault!(Refused, "decommission: this gateway is {}, not {name}", config.device));
    }
    say(erase::plan(&config, matches!(wish, Wish::Decommission(_))).trim_end());
    if !yes {
        return Err(fault!(Refused, "nothing was done: say it again with --yes"));
    }
    request(path, &line, wish)
}

/// Asks the daemon, or does it here where none runs.
fn request(path: &Path, line: &str, wish: Wish) -> Result<ExitCode, Fault> {
    let config = config::Config::load(path)?;
    match socket::ask(&config.control_socket(), line, &mut None, |line: &str| say(line)) {
        None => by_itself(path, wish),
        asked => Ok(answer(asked)),
    }
}

fn answer(asked: Option<Result<String, String>>) -> ExitCode {
    match asked {
        Some(Ok(said)) => {
            say(printable(&said));
            ExitCode::SUCCESS
        }
        Some(Err(why)) => {
            complain(printable(&why));
            ExitCode::FAILURE
        }
        None => ExitCode::FAILURE,
    }
}

/// No daemon runs: the same agent, here, until it has answered. What was under way before is not taken further, or
/// `cancel` would reboot into the trial that it was to prevent.
fn by_itself(path: &Path, wish: Wish) -> Result<ExitCode, Fault> {
    logger::start(false);
    let base = Base::open(path)?;
    let shared = Shared::new(base.status(false), base.opened.trust.clone());
    let mut agent: Agent = base.agent(None, shared)?;
    if agent.nothing_is_under_way() {
        agent.turn();
    }
    let goes_on = matches!(wish, Wish::RollBack | Wish::Approve);
    let reply = Watcher::here();
    agent.take(Command::Technician(Request { what: wish, reply: reply.clone() }));
    loop {
        match reply.end() {
            // Nobody else does what was promised: the way back, or the reboot into the trial.
            Some(Ok(end)) if goes_on && agent.has_work() => {
                if agent.turn() == Rest::Paused {
                    say(format_args!("not yet: {}", agent.waits_for()));
                    return Ok(ExitCode::FAILURE);
                }
                return Ok(answer(Some(Ok(end))));
            }
            Some(end) => return Ok(answer(Some(end))),
            None => {}
        }
        match agent.turn() {
            Rest::Idle if !agent.has_work() => {
                let end = "ended without a word; `mainstay log` says what was done".to_owned();
                return Ok(answer(reply.end().or(Some(Err(end)))));
            }
            Rest::Idle => {}
            Rest::Paused | Rest::Rebooting => {
                let end = reply.end();
                if end.is_some() {
                    return Ok(answer(end));
                }
                std::thread::sleep(std::time::Duration::from_secs(1));
            }
        }
    }
}

fn verify(path: &Path, file: &Path) -> Result<(), Fault> {
    let config = config::Config::load(path)?;
    let mut store = FolderStore::look(&config.state);
    let trust = mainstay::agent::load_trust(&config, &mut store)?;
    let manifest = check_bundle::check(FileSource::open(open_bundle(file)?)?, &trust)?;
    say(format_args!(
        "good: {} {} (security version {}), {} bytes of content, signed for fleet {}",
        manifest.compatible,
        manifest.version,
        manifest.security_version,
        manifest.content_bytes(),
        trust.fleet
    ));
    Ok(())
}

fn show_log(path: &Path) -> Result<ExitCode, Fault> {
    let config = config::Config::load(path)?;
    Ok(ExitCode::from(u8::from(!mainstay::audit_log::show(&config.state)?)))
}
