//! The tables `[[check]]` of the agent's configuration.
//!
//! ```toml
//! [[check]]
//! name       = "historian"              # letters, digits, '.', '_', '-'; bundles name it so
//! required   = true                     # false: wanted, stands in the log and decides nothing
//! timeout_s  = 10                       # an attempt without an answer after this long has failed
//! retries    = 3                        # attempts after a failed first one
//! interval_s = 5                        # between the end of an attempt and the start of the next
//! grace_s    = 0                        # while the trial is younger, a failed attempt costs no retry
//! # and exactly one of:
//! command    = ["/usr/lib/acme/check", "--quick"]     # passes if it exits with 0
//! file       = "/run/acme/ready"                      # passes if it is there
//! tcp        = "127.0.0.1:502"                        # passes if the port takes a connection
//! unit       = "acme.service"                         # passes if systemd says that it is active
//! broker     = true                                   # passes if the agent has reached its MQTT broker
//! disk       = { path = "/var", free_mib = 64 }       # passes if so much is free for everybody
//! greenboot  = "/etc/greenboot/check"                 # the executables in its required.d and wanted.d, each a check
//! ```
//! What is left out has the value shown, down to `grace_s`. Nothing here starts, opens or resolves anything.

use std::path::{Path, PathBuf};

use mainstay_board_support::toml_file::{Result, Table, Value};
use mainstay_core::limits::{CHECKS_MAX, NAME_BYTES_MAX, TRIAL_SECONDS_MAX};
use mainstay_core::trial::CheckPlan;

/// The longest timeout and interval: an hour.
const SECONDS_MAX: u64 = 3600;
/// A check that needs more attempts than this needs a grace period instead.
const RETRIES_MAX: u64 = 100;
/// Words of a command.
const WORDS_MAX: usize = 32;
/// The most space that can be asked for, in MiB: 1 PiB.
const FREE_MIB_MAX: u64 = 1 << 30;

/// One check: how it is run, and what it looks at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckConfig {
    /// Name, required or wanted, and its times.
    pub plan: CheckPlan,
    /// What it looks at.
    pub probe: Probe,
}

/// What a check looks at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Probe {
    /// A program and its arguments; passes if it exits with 0.
    Command(Vec<String>),
    /// Passes if something is there.
    File(PathBuf),
    /// Passes if the port takes a connection.
    Tcp {
        /// A name or an address, without brackets.
        host: String,
        /// The port.
        port: u16,
    },
    /// Passes if systemd says that the unit is active.
    Unit(String),
    /// Passes if the agent's control connection stands.
    Broker,
    /// Passes if a file system has so much room for everybody (not only for root).
    Disk {
        /// Anything on the file system.
        path: PathBuf,
        /// In MiB.
        free_mib: u64,
    },
    /// greenboot's folder: becomes one check for each executable in it when the trial begins.
    Greenboot(PathBuf),
}

/// The keys that say what a check looks at.
const PROBES: [&str; 7] = ["command", "file", "tcp", "unit", "broker", "disk", "greenboot"];

/// Reads the tables; relative paths begin at `base`.
pub fn read_checks(tables: Vec<Value<'_>>, base: &Path) -> Result<Vec<CheckConfig>> {
    let mut checks: Vec<CheckConfig> = Vec::new();
    for value in tables {
        if checks.len() == CHECKS_MAX {
            return Err(value.error(format!("expected at most {CHECKS_MAX} checks, found more")));
        }
        let check = check(value.table()?, base, &checks)?;
        checks.push(check);
    }
    Ok(checks)
}

fn check(mut table: Table<'_>, base: &Path, others: &[CheckConfig]) -> Result<CheckConfig> {
    let name = name(&mut table, others)?;
    let required = table.flag("required")?.unwrap_or(true);
    let mut ms = |key, within, default| -> Result<u32> {
        Ok(table.integer(key, within)?.unwrap_or(default) as u32 * 1000) // a day in ms is below 2^27
    };
    let timeout_ms = ms("timeout_s", 1..=SECONDS_MAX, 10)?;
    let interval_ms = ms("interval_s", 1..=SECONDS_MAX, 5)?;
    let grace_ms = ms("grace_s", 0..=TRIAL_SECONDS_MAX.into(), 0)?;
    let retries = table.integer("retries", 0..=RETRIES_MAX)?.unwrap_or(3) as u8;
    let plan = CheckPlan { name, required, timeout_ms, retries, interval_ms, grace_ms };
    let check = CheckConfig { plan, probe: probe(&mut table, base)? };
    table.finish().map(|()| check)
}

fn name(table: &mut Table<'_>, others: &[CheckConfig]) -> Result<heapless::String<NAME_BYTES_MAX>> {
    let expected = "a name of 1 to 48 letters, digits, '.', '_' and '-', not beginning with a dot";
    let value = table.need("name", expected)?;
    let text = value.text(expected)?;
    if others.iter().any(|other| other.plan.name == text) {
        return Err(value.error(format!("expected a name of its own, found {text:?} twice")));
    }
    let name = mainstay_core::wire::check_name("name", text).ok().and_then(|()| text.try_into().ok());
    name.ok_or_else(|| value.wrong(expected))
}

fn probe(table: &mut Table<'_>, base: &Path) -> Result<Probe> {
    let mut found = PROBES.into_iter().filter_map(|key| Some((key, table.value(key)?)));
    let list = PROBES.join(", ");
    let first = found.next();
    if let (Some((first, _)), Some((second, value))) = (&first, found.next()) {
        return Err(value.error(format!("expected exactly one of {list}; found {first} and {second}")));
    }
    drop(found);
    match first {
        Some(("command", value)) => command(&value),
        Some(("file", value)) => Ok(Probe::File(value.path(base)?)),
        Some(("tcp", value)) => tcp(&value),
        Some(("unit", value)) => unit(&value),
        Some(("broker", value)) => match value.flag()? {
            true => Ok(Probe::Broker),
            false => Err(value.wrong("true (leave the check out otherwise)")),
        },
        Some(("disk", value)) => {
            let mut disk = value.table()?;
            let path = disk.need("path", "a path on the file system")?.path(base)?;
            let free_mib = disk.need_integer("free_mib", 1..=FREE_MIB_MAX)?;
            disk.finish().map(|()| Probe::Disk { path, free_mib })
        }
        Some((_, value)) => Ok(Probe::Greenboot(value.path(base)?)),
        None => Err(table.error("", format!("expected exactly one of {list}; found none"))),
    }
}

fn command(value: &Value<'_>) -> Result<Probe> {
    let expected = "an array of 1 to 32 texts: a program and its arguments";
    let words = value.array(expected)?;
    if !(1..=WORDS_MAX).contains(&words.len()) {
        return Err(value.wrong(expected));
    }
    let word = |word: Value<'_>| word.text("a text").map(String::from);
    Ok(Probe::Command(words.into_iter().map(word).collect::<Result<_>>()?))
}

fn tcp(value: &Value<'_>) -> Result<Probe> {
    let expected = "host:port, as in \"127.0.0.1:502\" or \"[::1]:502\"";
    let parts = || {
        let (host, port) = value.text(expected).ok()?.rsplit_once(':')?;
        let port = port.parse().ok().filter(|port| *port != 0_u16)?;
        let host = match host.strip_prefix('[') {
            Some(inner) => inner.strip_suffix(']').filter(|ip| ip.parse::<std::net::Ipv6Addr>().is_ok())?,
            None => host,
        };
        let letters = |c: char| c.is_ascii_alphanumeric() || ".-_:".contains(c);
        let plain = (1..=253).contains(&host.len()) && host.chars().all(letters);
        plain.then(|| Probe::Tcp { host: host.into(), port })
    };
    parts().ok_or_else(|| value.wrong(expected))
}

/// systemd.unit(5): names are of letters, digits and `:-_.\@`.
fn unit(value: &Value<'_>) -> Result<Probe> {
    let expected = "the name of a systemd unit, as in \"acme.service\"";
    let text = value.text(expected)?;
    let letters = |c: char| c.is_ascii_alphanumeric() || ":-_.\\@".contains(c);
    match text.len() <= 255
        && text.chars().all(letters)
        && text.contains('.')
        && !text.starts_with(['-', '.'])
    {
        true => Ok(Probe::Unit(text.into())),
        false => Err(value.wrong(expected)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mainstay_board_support::toml_file::TomlFile;

    fn read(text: &str) -> std::result::Result<Vec<CheckConfig>, String> {
        let read = TomlFile::parse(text, "mainstay.toml", |mut top| {
            let tables = top.need("check", "tables [[check]]")?.array("tables [[check]]")?;
            let checks = read_checks(tables, Path::new("/etc/mainstay"))?;
            top.finish()?;
            Ok(checks)
        });
        read.map_err(|e| e.to_string())
    }

    #[test]
    fn what_is_left_out_has_its_default() {
        let checks = read("[[check]]\nname = \"a\"\nfile = \"ready\"\n").unwrap();
        #[rustfmt::skip]
        let plan = CheckPlan {
            name: "a".try_into().unwrap(), required: true,
            timeout_ms: 10_000, retries: 3, interval_ms: 5_000, grace_ms: 0,
        };
        assert_eq!(checks, [CheckConfig { plan, probe: Probe::File("/etc/mainstay/ready".into()) }]);
    }

    #[test]
    fn each_probe_is_read() {
        let tcp = |host: &str, port| Probe::Tcp { host: host.into(), port };
        let cases = [
            (
                "command = [\"sh\", \"-c\", \"true\"]",
                Probe::Command(["sh", "-c", "true"].map(String::from).into()),
            ),
            ("tcp = \"plc.line-1:502\"", tcp("plc.line-1", 502)),
            ("tcp = \"[fe80::1]:502\"", tcp("fe80::1", 502)),
            ("unit = \"acme@1.service\"", Probe::Unit("acme@1.service".into())),
            ("broker = true", Probe::Broker),
            ("disk = { path = \"/var\", free_mib = 64 }", Probe::Disk { path: "/var".into(), free_mib: 64 }),
            ("greenboot = \"/etc/greenboot/check\"", Probe::Greenboot("/etc/greenboot/check".into())),
        ];
        for (line, probe) in cases {
            let text =
                format!("[[check]]\nname = \"a\"\nrequired = false\ngrace_s = 60\ntimeout_s = 1\n{line}\n");
            let checks = read(&text).unwrap_or_else(|e| panic!("{line}: {e}"));
            assert_eq!(checks[0].probe, probe);
            assert!(!checks[0].plan.required);
            assert_eq!((checks[0].plan.grace_ms, checks[0].plan.timeout_ms), (60_000, 1_000));
        }
    }

    #[test]
    fn each_wrong_line_is_named_with_what_was_expected_and_found() {
        let cases = [
            (
                "name = \"a\"",
                "check[0]: expected exactly one of command, file, tcp, unit, broker, disk, greenboot; found none",
            ),
            (
                "name = \"a\"\nfile = \"x\"\ntcp = \"h:1\"",
                "check[0].tcp: expected exactly one of command, file, tcp, unit, broker, disk, greenboot; found file and tcp",
            ),
            (
                "file = \"x\"",
                "check[0].name: expected a name of 1 to 48 letters, digits, '.', '_' and '-', not beginning with a dot, found nothing",
            ),
            ("name = \"a b\"\nfile = \"x\"", "mainstay.toml:2: check[0].name: expected a name"),
            (
                "name = \"a\"\nfile = \"x\"\ntimeout = 3",
                "mainstay.toml:4: check[0].timeout: expected one of name, required,",
            ),
            (
                "name = \"a\"\nfile = \"x\"\ntimeout_s = 0",
                "check[0].timeout_s: expected an integer of 1 to 3600, found the integer 0",
            ),
            (
                "name = \"a\"\nfile = \"x\"\nretries = 101",
                "check[0].retries: expected an integer of 0 to 100",
            ),
            (
                "name = \"a\"\nfile = \"x\"\ninterval_s = \"5\"",
                "check[0].interval_s: expected an integer of 1 to 3600, found the text \"5\"",
            ),
            (
                "name = \"a\"\nfile = \"x\"\ngrace_s = 86401",
                "check[0].grace_s: expected an integer of 0 to 86400",
            ),
            ("name = \"a\"\nfile = \"x\"\nrequired = \"yes\"", "check[0].required: expected true or false"),
            (
                "name = \"a\"\ncommand = []",
                "check[0].command: expected an array of 1 to 32 texts: a program and its arguments, found an empty array",
            ),
            ("name = \"a\"\ncommand = \"true\"", "check[0].command: expected an array"),
            ("name = \"a\"\ncommand = [1]", "check[0].command[0]: expected a text, found the integer 1"),
            ("name = \"a\"\ntcp = \"host\"", "check[0].tcp: expected host:port"),
            ("name = \"a\"\ntcp = \"host:0\"", "check[0].tcp: expected host:port"),
            ("name = \"a\"\ntcp = \":80\"", "check[0].tcp: expected host:port"),
            ("name = \"a\"\ntcp = \"[1.2.3.4]:80\"", "check[0].tcp: expected host:port"),
            ("name = \"a\"\nunit = \"--force\"", "check[0].unit: expected the name of a systemd unit"),
            (
                "name = \"a\"\nbroker = false",
                "check[0].broker: expected true (leave the check out otherwise), found false",
            ),
            ("name = \"a\"\ndisk = { path = \"/\" }", "check[0].disk.free_mib: expected an integer"),
            (
                "name = \"a\"\ndisk = { path = \"/\", free_mib = 1, inodes = 1 }",
                "check[0].disk.inodes: expected one of path, free_mib",
            ),
            (
                "name = \"a\"\nfile = \"x\"\n[[check]]\nname = \"a\"\nbroker = true",
                "check[1].name: expected a name of its own, found \"a\" twice",
            ),
        ];
        for (lines, words) in cases {
            let error = read(&format!("[[check]]\n{lines}\n")).expect_err(lines);
            assert!(error.contains(words), "{lines}\n{error}");
        }
        let many: String = (0..17).map(|n| format!("[[check]]\nname = \"{n}\"\nbroker = true\n")).collect();
        assert!(read(&many).unwrap_err().contains("check[16]: expected at most 16 checks, found more"));
    }
}
