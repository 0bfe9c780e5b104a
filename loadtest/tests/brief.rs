//! Every scenario in brief, against the gateway beside the rig: it ends well, and reports measurements.
//!
//! The values depend on the machine, so the tests only demand that there are some.

#![expect(
    clippy::unwrap_used,
    reason = "what a test cannot unwrap is a failure of the test"
)]

use std::{
    fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread::sleep,
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// The result of a run.
struct Run(Value);

/// Runs the rig, which must find no fault.
fn run(words: &str) -> Run {
    let mut rig = Command::new(env!("CARGO_BIN_EXE_loadtest"));
    let output = rig.args(words.split(' ')).arg("--json").output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let report: Value =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{words}: {said}"));
    assert!(output.status.success(), "{words}: {report:#}\n{said}");
    let run = Run(report);
    assert!(run.ledger("accepted") > 0, "{words}");
    assert_eq!(run.ledger("accepted"), run.ledger("landed"), "{words}");
    run
}

impl Run {
    fn row(&self, name: &str) -> f64 {
        let rows = self.0["rows"].as_array().unwrap();
        let row = rows.iter().find(|row| row["name"] == name);
        row.unwrap_or_else(|| panic!("no row {name}: {rows:#?}"))["value"]
            .as_f64()
            .unwrap()
    }

    fn ledger(&self, name: &str) -> u64 {
        self.0["ledger"][name].as_u64().unwrap()
    }

    /// The number of values in a distribution.
    fn count(&self, name: &str) -> u64 {
        self.0["latencies"][name]["count"].as_u64().unwrap()
    }
}

#[test]
fn connect_holds_its_sessions_and_reaches_each() {
    let run = run("connect --sessions 60 --hold 1");
    assert_eq!(run.row("sessions still connected"), 60.0);
    assert!(run.row("server RSS, all of it") > 1.0);
    assert!(run.count("send to landed, one message to each") >= 60);
}

#[test]
fn several_processes_come_to_one_result() {
    let run = run("send --processes 3 --users 50 --platforms 2 --rate 101 --seconds 1");
    assert_eq!(run.row("sessions connected"), 100.0);
    // The shares may be rounded in any way; the messages are as many as asked for, each at two sessions.
    assert_eq!(run.count("send to durable answer"), 101);
    assert_eq!(run.count("send to landed"), 202);
}

#[test]
fn sessions_speak_openim_in_each_form() {
    for form in ["openim", "openim:gob", "openim:json", "openim:json+gzip"] {
        let run = run(&format!(
            "send --protocol {form} --users 50 --rate 50 --seconds 1"
        ));
        assert_eq!(run.count("send to landed"), 50, "{form}");
    }
    let run = run("connect --protocol openim --sessions 60 --hold 1");
    assert_eq!(run.row("sessions still connected"), 60.0);
}

#[test]
fn batches_and_broadcasts_land_at_everyone_they_are_for() {
    let batches = run("send --users 30 --batch 10 --rate 20 --seconds 1");
    assert_eq!(batches.count("send to landed"), 200);
    let broadcasts = run("send --users 30 --broadcast --rate 5 --seconds 1");
    assert_eq!(broadcasts.count("send to landed"), 150);
}

#[test]
fn after_a_storm_everyone_is_back_with_the_whole_backlog() {
    let run = run("storm --sessions 60 --backlog 5");
    assert!(run.row("kill to everyone back and caught up") > 0.0);
    assert_eq!(run.count("away, a session"), 60);
    assert!(run.ledger("landed") >= 60 * 6);
}

#[test]
fn under_churn_sessions_come_back_and_miss_nothing() {
    let run = run("churn --sessions 40 --churn 40 --rate 100 --seconds 2");
    assert!(run.count("away, a session") > 0);
    assert!(run.count("send to landed, with churn") > 0);
}

#[test]
fn the_slow_and_the_deaf_get_all_of_it_in_the_end() {
    let run = run("slow --sessions 40 --slow 0.25 --deaf 0.25 --batch 20 --rate 20 --seconds 2");
    assert!(run.count("send to landed, the others") > 0);
    assert!(run.count("send to landed, the slow") > 0);
}

#[test]
fn one_who_was_away_catches_up() {
    let run = run("replay --messages 1000");
    assert!(run.row("caught up") > 0.0);
    assert_eq!(run.row("messages behind, all together"), 1000.0);
}

#[test]
fn a_soak_with_kills_of_clients_and_server_ends_well() {
    let words =
        "soak --users 60 --rate 200 --churn 20 --seconds 5 --kills 2 --processes 2 --seed 7";
    let run = run(words);
    assert_eq!(run.row("server killed and back"), 2.0);
    assert!(run.row("clients killed and back") > 0.0);
}

#[test]
fn a_report_is_a_page_with_plots_and_the_circumstances() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().to_str().unwrap();
    run(&format!(
        "send --users 20 --rate 50 --seconds 3 --report {dir}"
    ));
    let page = fs::read_to_string(format!("{dir}/index.html")).unwrap();
    for part in [
        "<polyline",
        "send --users 20",
        "Linux ",
        "the disk&#39;s own sync",
        "exactly once",
    ] {
        assert!(page.contains(part), "{part}: {page}");
    }
}

/// Keeps a run below a folder, and returns its raw data and its summary.
fn keep(dir: &Path, words: &str) -> (Value, String) {
    fs::create_dir_all(dir.join("loadtest/runs")).unwrap();
    let mut rig = Command::new(env!("CARGO_BIN_EXE_loadtest"));
    let status = rig.args(words.split(' ')).current_dir(dir).status();
    assert!(status.unwrap().success(), "{words}");
    let day = within(&dir.join("loadtest/runs")).unwrap();
    assert!(day.to_str().unwrap().ends_with("-a-machine"), "{day:?}");
    let run = within(&day).unwrap();
    let file = |name: &str| fs::read_to_string(run.join(name)).unwrap();
    let raw = serde_json::from_str(&file("run.json")).unwrap();
    (raw, file("summary.md"))
}

#[test]
fn a_kept_run_has_its_circumstances_and_the_medians_of_its_rounds() {
    let dir = tempfile::tempdir().unwrap();
    let words = "send --users 20 --rate 50 --seconds 1";
    let (raw, summary) = keep(
        dir.path(),
        &format!("{words} --keep a-machine/send --repeat 2"),
    );
    assert_eq!(raw["machine"]["command"], format!("loadtest {words}"));
    for fact in ["commit", "kernel", "processor", "cores", "memory_bytes"] {
        assert!(!raw["machine"][fact].is_null(), "{fact}: {raw:#}");
    }
    let rounds = raw["rounds"].as_array().unwrap();
    assert_eq!(rounds.len(), 2);
    for round in rounds {
        assert_eq!(round["report"]["ledger"]["landed"], 70);
        assert!(round["report"]["machine"]["sync"]["p99_us"].is_u64());
    }
    for part in ["| server CPU, sending and landing |", "| rounds | 2 |"] {
        assert!(summary.contains(part), "{part}: {summary}");
    }
}

#[test]
fn the_output_of_another_program_is_kept_without_paths() {
    let dir = tempfile::tempdir().unwrap();
    let words = "command --keep a-machine/bench -- echo 42 appends in /tmp/x";
    let (raw, summary) = keep(dir.path(), words);
    assert_eq!(raw["machine"]["command"], "echo 42 appends in PATH");
    assert!(summary.contains("\n42 appends in PATH\n"), "{summary}");
}

/// The only entry of a directory, if there is one.
fn within(dir: &Path) -> Option<PathBuf> {
    let mut entries = fs::read_dir(dir).unwrap();
    entries.next().map(|entry| entry.unwrap().path())
}

/// True if any process was started with an argument that begins with this path.
fn is_used(path: &Path) -> bool {
    let commands = fs::read_dir("/proc").unwrap();
    // A process may end during this reading.
    let mut commands = commands
        .filter_map(|process| fs::read_to_string(process.ok()?.path().join("cmdline")).ok());
    commands.any(|words| words.contains(path.to_str().unwrap()))
}

#[test]
fn a_run_that_is_ended_leaves_neither_data_nor_a_gateway_behind() {
    for signal in [Signal::TERM, Signal::INT] {
        let dir = tempfile::tempdir().unwrap();
        let mut rig = Command::new(env!("CARGO_BIN_EXE_loadtest"))
            .args(["connect", "--sessions", "10", "--hold", "600", "--data"])
            .arg(dir.path())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        while !within(dir.path()).is_some_and(|data| data.join("data/lock").exists()) {
            assert!(rig.try_wait().unwrap().is_none(), "it ended by itself");
            sleep(Duration::from_millis(10));
        }
        kill_process(Pid::from_child(&rig), signal).unwrap();
        assert_eq!(rig.wait().unwrap().code(), Some(2), "{signal:?}");
        assert_eq!(within(dir.path()), None, "{signal:?}");
        assert!(!is_used(dir.path()), "{signal:?}");
    }
}

/// A gateway that the rig did not start, over TLS on both ports. Dropping it kills it.
struct Elsewhere {
    process: Child,
    /// The options for the rig to reach it.
    words: String,
}

impl Elsewhere {
    fn start(dir: &Path) -> Self {
        let certificate = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let (ca, key) = (dir.join("ca.pem"), dir.join("key.pem"));
        fs::write(&ca, certificate.cert.pem()).unwrap();
        fs::write(&key, certificate.signing_key.serialize_pem()).unwrap();
        let (ca, key) = (ca.display(), key.display());
        let program = Path::new(env!("CARGO_BIN_EXE_loadtest")).with_file_name("towncrier");
        let mut command = Command::new(program);
        command.args(["serve", "--data"]).arg(dir.join("data"));
        for setting in [
            "auth.secret=elsewhere".to_owned(),
            "listener.listen=127.0.0.1:0".to_owned(),
            "admin.listen=127.0.0.1:0".to_owned(),
            format!("listener.tls_certificate={ca}"),
            format!("listener.tls_key={key}"),
            format!("admin.tls_certificate={ca}"),
            format!("admin.tls_key={key}"),
        ] {
            command.args(["--set", &setting]);
        }
        let mut process = command
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let said = process.stdout.take().unwrap();
        BufReader::new(said).read_line(&mut line).unwrap();
        let ports = line.trim().strip_prefix("listening ws=127.0.0.1:").unwrap();
        let (ws, admin) = ports.split_once(" admin=127.0.0.1:").unwrap();
        let words = format!(
            "--ws wss://localhost:{ws}/ws --admin https://localhost:{admin} --secret elsewhere --ca {ca}"
        );
        Self { process, words }
    }
}

impl Drop for Elsewhere {
    fn drop(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

#[test]
fn a_gateway_elsewhere_is_loaded_over_tls() {
    let dir = tempfile::tempdir().unwrap();
    let gateway = Elsewhere::start(dir.path());
    let words = &gateway.words;
    let run = run(&format!("send --users 20 --rate 50 --seconds 1 {words}"));
    assert_eq!(run.count("send to landed"), 50);
}

#[test]
fn each_user_who_is_away_gets_a_push_and_nobody_who_acked() {
    let run =
        run("push --users 60 --online 50 --rate 60 --seconds 1 --webhooks ok --set push.after=2s");
    assert_eq!(run.row("devices registered"), 60.0);
    assert_eq!(run.row("decisions: pushed"), 31.0);
    // Each of 30 users got a first message, and one of the load.
    assert_eq!(run.row("decisions: served"), 60.0);
    assert_eq!(run.row("users missed"), 0.0);
    assert_eq!(run.row("pushes for users who acked"), 0.0);
    assert_eq!(run.count("send to the vendor's call"), 30);
    assert_eq!(run.row("messages told"), 91.0);
}

#[test]
fn a_dead_vendor_and_a_dead_receiver_lose_nothing() {
    let run = run(
        "push --users 40 --online 50 --rate 40 --seconds 1 --vendor dead --webhooks dead --set push.after=2s",
    );
    assert_eq!(run.row("pushes that wait for the vendor"), 21.0);
    assert_eq!(run.row("users missed"), 0.0);
    assert_eq!(run.row("messages told"), 0.0);
}

#[test]
fn without_a_vendor_the_same_load_has_no_devices() {
    let run = run("push --users 40 --online 50 --rate 40 --seconds 1 --vendor none");
    assert_eq!(run.count("send to landed"), 20);
}
