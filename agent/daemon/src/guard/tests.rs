//! The goal: a trial without a verdict ends in a reset, whatever becomes of the agent, and one with a verdict never
//! does. The method: real processes. This test binary starts itself again as the guard and as the agent; the board's
//! way of rebooting is a command that writes a line.

use super::*;
use std::sync::atomic::{AtomicU32, Ordering};

/// Words on a command line are joined with this (ASCII's unit separator) to travel in one variable.
const BETWEEN: char = '\u{1f}';

/// How this test binary is started as something else: a shell puts the arguments into a variable, and the test of
/// that name finds them there.
fn as_test(name: &str) -> Vec<OsString> {
    let exe = std::env::current_exe().unwrap();
    let script = format!(
        "IFS=$(printf '\\037'); export MAINSTAY_TEST_{}=\"$*\"; exec \"$0\" --exact guard::tests::{name} --nocapture",
        name.to_uppercase()
    );
    vec!["sh".into(), "-c".into(), script.into(), exe.into()]
}

fn arguments(name: &str) -> Option<Vec<OsString>> {
    let joined = std::env::var(format!("MAINSTAY_TEST_{name}")).ok()?;
    Some(joined.split(BETWEEN).map(OsString::from).collect())
}

/// Is the guard where another test starts it; passes otherwise.
#[test]
fn as_guard() {
    if let Some(args) = arguments("AS_GUARD") {
        std::process::exit(guard(args.into_iter()).into());
    }
}

/// Is an agent with a guard and nothing else to do, where another test starts it; passes otherwise.
#[test]
fn as_agent() {
    if let Some(args) = arguments("AS_AGENT") {
        let [run, reboots, deadline] = args.as_slice() else { panic!("{args:?}") };
        let setup = setup(run.as_ref(), reboots.as_ref());
        let _guard = Guard::spawn(&setup, deadline.to_str().unwrap().parse().unwrap()).unwrap();
        std::thread::sleep(Duration::from_secs(600));
    }
}

/// A guard that is this test binary; its board reboots by adding a line to `reboots`.
pub(crate) fn setup(run: &Path, reboots: &Path) -> GuardSetup {
    let words = ["sh", "-c", "echo reboot >> \"$0\""].map(String::from).into_iter();
    let reboot = RebootSpec::Command(words.chain([reboots.display().to_string()]).collect());
    GuardSetup { program: as_test("as_guard"), run: run.into(), reboot, again_s: 60 }
}

impl GuardSetup {
    pub(crate) fn with_program<const N: usize>(self, words: [&str; N]) -> GuardSetup {
        GuardSetup { program: words.map(OsString::from).to_vec(), ..self }
    }
}

/// A machine: its run folder, what its board noted, and the processes to end with the test.
pub(crate) struct Machine {
    folder: tempfile::TempDir,
}

impl Machine {
    pub(crate) fn new() -> Machine {
        Machine { folder: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn run(&self) -> PathBuf {
        self.folder.path().join("run")
    }

    pub(crate) fn setup(&self) -> GuardSetup {
        setup(&self.run(), &self.folder.path().join("reboots"))
    }

    pub(crate) fn reboots(&self) -> usize {
        let text = std::fs::read_to_string(self.folder.path().join("reboots"));
        text.map_or(0, |text| text.lines().count())
    }

    /// Waits until it has been rebooted; when that was, on the clock of the deadlines.
    fn rebooted(&self) -> u64 {
        eventually("the machine is rebooted", || self.reboots() > 0);
        now_ms()
    }

    fn agent(&self, deadline_ms: u64) -> Child {
        let agent = as_test("as_agent");
        let mut command = Command::new(&agent[0]);
        command.args(&agent[1..]).arg(self.run()).arg(self.folder.path().join("reboots"));
        let child = command.arg(deadline_ms.to_string()).stdout(Stdio::null()).spawn().unwrap();
        eventually("the agent's guard stands", || standing(&self.run()).is_some());
        child
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if let Some(pid) = standing(&self.run()) {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }
}

#[track_caller]
pub(crate) fn eventually(what: &str, mut so: impl FnMut() -> bool) {
    let started = Instant::now();
    while !so() {
        assert!(started.elapsed() < Duration::from_secs(20), "not after 20 s: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn now_ms() -> u64 {
    SystemClock.now().boot_ms
}

/// Its fields from the third on (proc(5)): state, parent, group, session …
fn stat(pid: i32) -> Option<Vec<String>> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    Some(stat.rsplit_once(") ")?.1.split(' ').map(String::from).collect())
}

fn runs(pid: i32) -> bool {
    stat(pid).is_some_and(|fields| !matches!(fields[0].as_str(), "Z" | "X"))
}

#[test]
fn a_dismissed_guard_goes_and_nothing_is_rebooted() {
    let machine = Machine::new();
    let deadline = now_ms() + 1500;
    let guard = Guard::spawn(&machine.setup(), deadline).unwrap();
    let pid = guard.id() as i32;
    assert_eq!(standing(&machine.run()), Some(pid));
    guard.dismiss();
    assert_eq!((standing(&machine.run()), stat(pid)), (None, None), "gone, and reaped");
    std::thread::sleep(Duration::from_millis(deadline + 500 - now_ms()));
    assert_eq!(machine.reboots(), 0);
}

#[test]
fn an_agent_that_is_killed_leaves_a_guard_that_reboots_at_the_deadline() {
    let machine = Machine::new();
    let deadline = now_ms() + 3000;
    let mut agent = machine.agent(deadline);
    agent.kill().unwrap();
    agent.wait().unwrap();
    std::thread::sleep(Duration::from_millis(300));
    assert!(standing(&machine.run()).is_some_and(runs), "the guard outlives the agent");
    assert_eq!(machine.reboots(), 0, "not before the deadline");
    let at = machine.rebooted();
    assert!((deadline..deadline + 1500).contains(&at), "{at}, deadline {deadline}");
}

#[test]
fn an_agent_that_is_stopped_is_rebooted_at_the_deadline() {
    let machine = Machine::new();
    let deadline = now_ms() + 3000;
    let mut agent = machine.agent(deadline);
    kill(Pid::from_raw(agent.id() as i32), Signal::SIGSTOP).unwrap();
    let at = machine.rebooted();
    assert!((deadline..deadline + 1500).contains(&at), "{at}, deadline {deadline}");
    agent.kill().unwrap();
    agent.wait().unwrap();
}

#[test]
fn a_restarted_agent_has_one_guard_and_its_verdict_holds_for_the_old_one_too() {
    let machine = Machine::new();
    let deadline = now_ms() + 4000;
    let mut old = machine.agent(deadline);
    let orphan = standing(&machine.run()).unwrap();
    old.kill().unwrap();
    old.wait().unwrap();
    let guard = Guard::spawn(&machine.setup(), deadline).unwrap();
    assert_eq!(standing(&machine.run()), Some(guard.id() as i32));
    eventually("the old guard is gone", || !runs(orphan));
    guard.dismiss();
    std::thread::sleep(Duration::from_millis(deadline + 500 - now_ms()));
    assert_eq!(machine.reboots(), 0);
}

#[test]
fn a_board_that_does_not_go_down_is_asked_again() {
    let machine = Machine::new();
    let setup = GuardSetup { again_s: 1, ..machine.setup() };
    let _guard = Guard::spawn(&setup, now_ms()).unwrap();
    eventually("it is asked three times", || machine.reboots() >= 3);
}

#[test]
fn it_stands_in_a_session_of_its_own_and_is_no_prey_of_the_oom_killer() {
    let machine = Machine::new();
    let guard = Guard::spawn(&machine.setup(), now_ms() + 60_000).unwrap();
    let pid = guard.id() as i32;
    assert_eq!(stat(pid).unwrap()[3], pid.to_string(), "session");
    let score = std::fs::read_to_string(format!("/proc/{pid}/oom_score_adj")).unwrap();
    let may = "echo -1000 > /proc/self/oom_score_adj";
    if Command::new("sh").args(["-c", may]).stderr(Stdio::null()).status().unwrap().success() {
        assert_eq!(score.trim(), "-1000");
    } else {
        println!("not run: lowering oom_score_adj needs CAP_SYS_RESOURCE");
    }
    guard.dismiss();
}

#[test]
fn a_guard_that_nobody_owns_any_more_can_be_sent_away() {
    let machine = Machine::new();
    assert!(!stand_down(&machine.run()));
    SigSet::from_iter([Signal::SIGTERM]).thread_block().unwrap(); // as the agent does
    let guard = Guard::spawn(&machine.setup(), now_ms() + 1500).unwrap();
    drop(guard);
    assert!(stand_down(&machine.run()));
    eventually("it is gone", || standing(&machine.run()).is_none());
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(machine.reboots(), 0);
}

#[test]
fn a_guard_that_cannot_stand_is_a_fault_and_not_a_hope() {
    let machine = Machine::new();
    #[rustfmt::skip]
    let cases = [
        (machine.setup().with_program(["/no/such/mainstay"]),   "second guard: start: No such file"),
        (machine.setup().with_program(["sh", "-c", "exit 7"]),  "expected it to stand, found that it ended: exit status: 7"),
    ];
    for (setup, words) in cases {
        let fault = Guard::spawn(&setup, u64::MAX).err().unwrap();
        assert!(fault.what.contains(words), "{fault}");
    }
}

#[test]
fn its_command_line_says_what_it_was_told() {
    static ROUND: AtomicU32 = AtomicU32::new(7);
    let words = |words: &[&str]| RebootSpec::Command(words.iter().map(|w| w.to_string()).collect());
    for reboot in
        [RebootSpec::System, words(&["reboot-board"]), words(&["sh", "-c", "--system; true", "--lock"])]
    {
        let again_s = u64::from(ROUND.fetch_add(1, Ordering::Relaxed));
        let setup =
            GuardSetup { again_s, ..GuardSetup::of_this_program(Path::new("/run/mainstay"), &reboot) };
        let command = setup.command(123);
        assert_eq!(command.get_program(), "/proc/self/exe");
        let mut args = command.get_args().map(OsString::from);
        assert_eq!(args.next().as_deref(), Some("guard".as_ref()));
        let lock = PathBuf::from("/run/mainstay/guard");
        let again = Duration::from_secs(again_s);
        assert_eq!(Order::parse(args), Ok(Order { deadline_ms: 123, again, lock, reboot }));
    }
    for (line, found) in [
        ("", "found no --system and no --command"),
        ("--system", "found no --deadline-boot-ms or no --lock"),
        ("--deadline-boot-ms soon --lock x --system", "found --deadline-boot-ms \"soon\""),
        ("--deadline-boot-ms", "found --deadline-boot-ms without a value"),
        ("--help", "found \"--help\""),
    ] {
        let error = Order::parse(line.split_whitespace().map(OsString::from)).unwrap_err();
        assert!(error.ends_with(found), "{line}: {error}");
    }
}

/// What only a process with `CAP_SYS_RESOURCE` sees of it, `tests/sandbox.rs` asks: a plain file stands for the one in `/proc` here.
#[test]
fn a_guard_is_started_spared_and_its_agent_is_what_it_was() {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(b"200\n").unwrap();
    let beginning = |length: usize| {
        let mut read = vec![0; length];
        file.read_exact_at(&mut read, 0).unwrap();
        String::from_utf8(read).unwrap()
    };
    assert_eq!(spared(Some(&file), || beginning(5)), "-1000");
    assert_eq!(beginning(4), "200\n");
    assert_eq!(spared(None, || 7), 7, "without the file");
}
