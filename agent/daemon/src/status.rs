//! What the agent says of itself to a technician: as text on a serial console, or as JSON for tools. The daemon keeps
//! one of these up to date; without a daemon the commands make one from what stands on the medium.

use crate::terminal::printable;
use mainstay_board_support::gpio::Sign;
use mainstay_core::audit::Head;
use mainstay_core::boot::{BootState, Group};
use mainstay_core::update::{Outcome, OutcomeKind, Phase, PhaseName, Record, Service};
use std::fmt::Write as _;

/// Everything that `mainstay status` shows.
#[derive(Clone, Debug)]
pub struct Status {
    /// This gateway's name.
    pub device: String,
    /// The trust root's fleet and version.
    pub trust: (String, u32),
    /// The board's compatible.
    pub compatible: String,
    /// The group that was booted.
    pub running: Group,
    /// What the agent remembers.
    pub record: Record,
    /// Was the record lost and begun anew?
    pub record_lost: bool,
    /// What the bootloader knows, or why it could not be read.
    pub boot: Result<BootState, String>,
    /// The way to the broker.
    pub link: LinkStatus,
    /// Content bytes done and in all, bytes fetched, copied and kept, of the download that is on.
    pub progress: Option<[u64; 5]>,
    /// What the operator desires, and why it is not under way where it is not.
    pub desired: Option<String>,
    /// What it waits for.
    pub waiting: Option<String>,
    /// The last thing that failed.
    pub fault: Option<String>,
    /// Where the audit log stands.
    pub audit: Head,
    /// Is a daemon running?
    pub daemon: bool,
}

/// The way to the broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LinkStatus {
    /// None is configured, or no daemon runs.
    None,
    /// The broker has taken us.
    Connected,
    /// It is down, and why.
    Down(String),
}

impl Status {
    /// What a person beside the machine sees of it.
    pub fn sign(&self) -> Sign {
        use OutcomeKind::{Committed, Halted};
        match &self.record.phase {
            _ if self.record_lost || self.boot.is_err() => Sign::Trouble,
            Phase::Settled(_, outcome) if !matches!(outcome.kind, Committed | Halted) => Sign::Trouble,
            phase => Sign::of(phase.name()),
        }
    }

    /// For people: at most 80 columns wherever names allow it.
    pub fn text(&self) -> String {
        let mut out = String::new();
        let _ = self.write_text(&mut out); // a String takes everything
        out
    }

    fn write_text(&self, out: &mut String) -> std::fmt::Result {
        let (fleet, version) = &self.trust;
        writeln!(
            out,
            "gateway    {} ({}), fleet {fleet}, trust root v{version}",
            self.device, self.compatible
        )?;
        for group in Group::BOTH {
            let mark = if group == self.running { "running" } else { "" };
            let held = match self.record.release(group) {
                Some(release) => format!(
                    "{} (security version {}{})",
                    printable(&release.version),
                    release.security_version,
                    if release.committed { ", committed" } else { "" }
                ),
                None => "not written by this agent".into(),
            };
            let boot = match &self.boot {
                Ok(boot) => boot_text(boot, group),
                Err(_) => "?".into(),
            };
            writeln!(out, "group {group}    {mark:8} {boot:24} {held}")?;
        }
        if let Err(fault) = &self.boot {
            writeln!(out, "boot state not readable: {}", printable(fault))?;
        }
        writeln!(out, "floor      security version {}", self.record.floor)?;
        write!(out, "update     {}", phase_name(self.record.phase.name()))?;
        if let Some(deployment) = self.record.phase.deployment() {
            write!(
                out,
                ": {} for group {}, attempt {}",
                printable(&deployment.version),
                deployment.target,
                deployment.attempt
            )?;
        }
        if let Phase::Settled(_, outcome) | Phase::RollingBack(_, outcome) = &self.record.phase {
            write!(out, ": {}", printable(&outcome_text(outcome)))?;
        }
        writeln!(out)?;
        if let Some([done, total, fetched, copied, kept]) = self.progress {
            let percent = done.saturating_mul(100).checked_div(total).unwrap_or(0);
            writeln!(
                out,
                "progress   {percent} % of {total} bytes; fetched {fetched}, copied {copied}, kept {kept}"
            )?;
        }
        if let Some(desired) = &self.desired {
            writeln!(out, "desired    {}", printable(desired))?;
        }
        if let Some(waiting) = &self.waiting {
            writeln!(out, "waits for  {}", printable(waiting))?;
        }
        if let Some(fault) = &self.fault {
            writeln!(out, "last fault {}", printable(fault))?;
        }
        if self.record_lost {
            writeln!(out, "ATTENTION  the agent's record was damaged and has been begun anew")?;
        }
        if !self.record.unreported.is_empty() {
            writeln!(out, "unreported {} outcome(s) wait for the broker", self.record.unreported.len())?;
        }
        match self.record.service {
            Service::In => {}
            Service::Resetting => writeln!(out, "service    a factory reset is under way")?,
            Service::Decommissioning(since) | Service::Decommissioned(since) => writeln!(
                out,
                "service    {} since {}: takes no update, connects to no broker",
                service_name(self.record.service),
                crate::erase::time_text(since)
            )?,
        }
        match (&self.link, self.daemon) {
            (_, false) => writeln!(out, "agent      not running"),
            (LinkStatus::None, _) => writeln!(out, "broker     none configured"),
            (LinkStatus::Connected, _) => writeln!(out, "broker     connected"),
            (LinkStatus::Down(why), _) => writeln!(out, "broker     down: {}", printable(why)),
        }
    }

    /// For tools: one JSON object (RFC 8259) on one line. Keys are only ever added.
    pub fn json(&self) -> String {
        let (fleet, version) = &self.trust;
        let groups = Group::BOTH.map(|group| {
            let release = self.record.release(group);
            let boot = self.boot.as_ref().ok().map(|boot| *boot.group(group));
            Json::new()
                .text("group", group.name())
                .flag("running", group == self.running)
                .maybe("version", release.map(|r| quoted(&r.version)))
                .maybe("manifest", release.map(|r| quoted(&r.manifest.to_string())))
                .maybe("security_version", release.map(|r| r.security_version.to_string()))
                .flag("committed", release.is_some_and(|r| r.committed))
                .maybe("priority", boot.map(|b| b.priority.to_string()))
                .maybe("tries_left", boot.map(|b| b.tries_left.to_string()))
                .maybe("good", boot.and_then(|b| b.good).map(|good| good.to_string()))
                .maybe("bootable", boot.map(|b| b.bootable().to_string()))
                .done()
        });
        let deployment = self.record.phase.deployment().map(|d| {
            Json::new()
                .text("manifest", &d.manifest.to_string())
                .text("version", &d.version)
                .number("security_version", d.security_version.into())
                .text("target", d.target.name())
                .number("attempt", d.attempt.into())
                .done()
        });
        let outcome = match &self.record.phase {
            Phase::Settled(_, outcome) | Phase::RollingBack(_, outcome) => Some(
                Json::new().text("kind", outcome_name(outcome.kind)).text("detail", &outcome.detail).done(),
            ),
            _ => None,
        };
        let progress = self.progress.map(|[done, total, fetched, copied, kept]| {
            let numbers =
                [("done", done), ("total", total), ("fetched", fetched), ("copied", copied), ("kept", kept)];
            numbers.into_iter().fold(Json::new(), |json, (key, n)| json.number(key, n)).done()
        });
        let link = match &self.link {
            LinkStatus::None => Json::new().text("state", "none"),
            LinkStatus::Connected => Json::new().text("state", "connected"),
            LinkStatus::Down(why) => Json::new().text("state", "down").text("cause", why),
        };
        Json::new()
            .text("device", &self.device)
            .text("compatible", &self.compatible)
            .text("fleet", fleet)
            .number("trust_version", (*version).into())
            .text("running", self.running.name())
            .raw("groups", &format!("[{}]", groups.join(",")))
            .number("floor", self.record.floor.into())
            .text("phase", phase_name(self.record.phase.name()))
            .maybe("deployment", deployment)
            .maybe("outcome", outcome)
            .maybe("progress", progress)
            .maybe("desired", self.desired.as_deref().map(quoted))
            .maybe("waiting", self.waiting.as_deref().map(quoted))
            .maybe("fault", self.fault.as_deref().map(quoted))
            .maybe("boot_fault", self.boot.as_ref().err().map(|why| quoted(why)))
            .flag("record_lost", self.record_lost)
            .number("unreported", self.record.unreported.len() as u64)
            .text("service", service_name(self.record.service))
            .maybe("out_since", self.record.service.out_since().map(|since| since.to_string()))
            .raw("broker", &link.done())
            .number("audit_seq", self.audit.seq)
            .text("audit_hash", &self.audit.hash.to_string())
            .flag("daemon", self.daemon)
            .done()
    }
}

fn boot_text(boot: &BootState, group: Group) -> String {
    let state = boot.group(group);
    let order = if boot.select() == Some(group) { "next" } else { "" };
    let verdict = match (state.priority, state.good) {
        (0, _) => "withdrawn".to_string(),
        (_, Some(true)) => "good".to_string(),
        (_, Some(false)) => format!("on trial, {} left", state.tries_left),
        (_, None) => format!("{} tries left", state.tries_left),
    };
    format!("{verdict}{}{order}", if order.is_empty() { "" } else { ", " })
}

/// A phase, as people read it.
pub const fn phase_name(phase: PhaseName) -> &'static str {
    match phase {
        PhaseName::Idle => "idle",
        PhaseName::Waiting => "waiting",
        PhaseName::Downloading => "downloading",
        PhaseName::Verifying => "verifying",
        PhaseName::Installed => "installed",
        PhaseName::Trial => "trial",
        PhaseName::Committing => "committing",
        PhaseName::RollingBack => "rolling-back",
        PhaseName::Settled => "settled",
    }
}

/// Whether the gateway is in service, as people read it.
pub const fn service_name(service: Service) -> &'static str {
    match service {
        Service::In => "in-service",
        Service::Resetting => "resetting",
        Service::Decommissioning(_) => "decommissioning",
        Service::Decommissioned(_) => "decommissioned",
    }
}

/// An outcome's kind, as people read it.
pub const fn outcome_name(kind: OutcomeKind) -> &'static str {
    match kind {
        OutcomeKind::Committed => "committed",
        OutcomeKind::RolledBack => "rolled-back",
        OutcomeKind::FellBack => "fell-back",
        OutcomeKind::Failed => "failed",
        OutcomeKind::Rejected => "rejected",
        OutcomeKind::Halted => "halted",
        OutcomeKind::Expired => "expired",
    }
}

/// An outcome with its reason.
pub fn outcome_text(outcome: &Outcome) -> String {
    match outcome.detail.as_str() {
        "" => outcome_name(outcome.kind).to_string(),
        why => format!("{}: {why}", outcome_name(outcome.kind)),
    }
}

/// A JSON object in the making. Small enough not to pay for a library on the device.
pub struct Json(String);

impl Json {
    /// An empty object.
    #[allow(clippy::new_without_default)]
    pub fn new() -> Self {
        Json("{".into())
    }
    /// A text.
    pub fn text(self, key: &str, value: &str) -> Self {
        let value = quoted(value);
        self.raw(key, &value)
    }
    /// A number.
    pub fn number(self, key: &str, value: u64) -> Self {
        self.raw(key, &value.to_string())
    }
    /// `true` or `false`.
    pub fn flag(self, key: &str, value: bool) -> Self {
        self.raw(key, if value { "true" } else { "false" })
    }
    /// What is JSON already; `null` where there is none.
    pub fn maybe(self, key: &str, value: Option<String>) -> Self {
        self.raw(key, value.as_deref().unwrap_or("null"))
    }
    /// What is JSON already.
    pub fn raw(mut self, key: &str, value: &str) -> Self {
        if self.0.len() > 1 {
            self.0.push(',');
        }
        self.0.push_str(&quoted(key));
        self.0.push(':');
        self.0.push_str(value);
        self
    }
    /// The object.
    pub fn done(mut self) -> String {
        self.0.push('}');
        self.0
    }
}

/// A JSON string (RFC 8259, section 7). Of what it lets stand as it is, control characters are escaped, too: people see
/// these lines on terminals.
pub fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            c if c.is_control() => {
                let _ = write!(out, "\\u{:04x}", c as u32);
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use mainstay_core::digest::Digest;
    use mainstay_core::update::{Deployment, GroupRelease};

    #[test]
    fn json_strings_escape_what_json_wants_escaped() {
        assert_eq!(quoted("a\"b\\c\nd\u{1}é\u{9b}"), r#""a\"b\\c\u000ad\u0001é\u009b""#);
    }

    fn status() -> Status {
        Status {
            device: "gw".into(),
            trust: ("plant".into(), 1),
            compatible: "acme".into(),
            running: Group::A,
            record: Record::factory(3),
            record_lost: false,
            boot: Err("env: both copies damaged".into()),
            link: LinkStatus::Down("refused".into()),
            progress: None,
            desired: None,
            waiting: None,
            fault: None,
            daemon: true,
            audit: Head::genesis("gw"),
        }
    }

    /// Found by the fuzz target `state`: a manifest's version is printable, but a record is read from a medium, which may
    /// hold anything, and its versions were shown as they stood there.
    #[test]
    fn a_version_from_the_medium_does_not_steer_the_terminal() {
        let rude = "2.0\u{1b}[2J\u{9b}2J";
        let mut record = Record::factory(3);
        *record.release_mut(Group::A) = Some(GroupRelease {
            manifest: Digest([7; 32]),
            version: rude.try_into().unwrap(),
            security_version: 3,
            committed: true,
            artifacts: Default::default(),
        });
        record.phase = Phase::Waiting(Deployment {
            manifest: Digest([7; 32]),
            version: rude.try_into().unwrap(),
            security_version: 3,
            target: Group::B,
            attempt: 1,
            tries: 3,
            deadline_s: 600,
            required: heapless::Vec::new(),
            not_before: None,
            expires: None,
        });
        let text = Status { record, ..status() }.text();
        assert!(!text.chars().any(|c| c.is_control() && c != '\n'), "{text:?}");
        assert_eq!(text.matches("2.0\\u{1b}[2J\\u{9b}2J").count(), 2, "{text}");
    }

    #[test]
    fn a_status_is_one_line_of_json_and_says_null_for_what_is_not_known() {
        let json = status().json();
        assert!(
            !json.contains('\n') && json.contains("\"deployment\":null") && json.contains("\"floor\":3"),
            "{json}"
        );
        assert!(
            status().text().contains("boot state not readable: env: both copies damaged"),
            "{}",
            status().text()
        );
    }

    #[test]
    fn the_led_shows_trouble_when_something_needs_a_person() {
        let deployment = mainstay_core::update::Deployment {
            manifest: mainstay_core::digest::Digest([1; 32]),
            version: "2".try_into().unwrap(),
            security_version: 1,
            target: Group::B,
            attempt: 1,
            tries: 3,
            deadline_s: 60,
            required: heapless::Vec::new(),
            not_before: None,
            expires: None,
        };
        let boot = Ok(BootState {
            a: mainstay_core::boot::GroupState { priority: 2, tries_left: 0, good: Some(true) },
            b: mainstay_core::boot::GroupState { priority: 1, tries_left: 0, good: Some(true) },
        });
        let settled =
            |kind| Phase::Settled(deployment.clone(), Outcome { kind, detail: heapless::String::new() });
        #[rustfmt::skip]
        let cases = [
            (Phase::Idle,                           Sign::Quiet),
            (Phase::Installed(deployment.clone()),  Sign::Waiting),
            (settled(OutcomeKind::Committed),       Sign::Quiet),
            (settled(OutcomeKind::Halted),          Sign::Quiet),
            (settled(OutcomeKind::RolledBack),      Sign::Trouble),
            (settled(OutcomeKind::FellBack),        Sign::Trouble),
            (settled(OutcomeKind::Failed),          Sign::Trouble),
        ];
        for (phase, sign) in cases {
            let mut status = Status { boot: boot.clone(), ..status() };
            status.record.phase = phase.clone();
            assert_eq!(status.sign(), sign, "{phase:?}");
            status.record_lost = true;
            assert_eq!(status.sign(), Sign::Trouble, "{phase:?}");
        }
        assert_eq!(status().sign(), Sign::Trouble, "a boot state that cannot be read");
    }
}
