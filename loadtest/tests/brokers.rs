//! The rig against a real MQTT broker: the broker's messages are entered in the same ledger, and so are its losses.
//!
//! The tests pass without Mosquitto (`apt-get install mosquitto`), and then say that it is missing.

#![expect(
    clippy::unwrap_used,
    reason = "what a test cannot unwrap is a failure of the test"
)]

use std::process::{Command, Output};

use serde_json::Value;

/// The rig's report and exit code. `None`: there is no Mosquitto.
fn load(words: &str) -> Option<(i32, Value)> {
    let rig = env!("CARGO_BIN_EXE_loadtest");
    let run = Command::new(rig)
        .args(words.split(' '))
        .arg("--json")
        .output();
    let Output {
        status,
        stdout,
        stderr,
    } = run.unwrap();
    let said = String::from_utf8_lossy(&stderr);
    if said.contains("no mosquitto on the PATH") {
        eprintln!("left out: {said}");
        return None;
    }
    let report = serde_json::from_slice(&stdout).unwrap_or_else(|_| panic!("{said}"));
    Some((status.code().unwrap(), report))
}

/// Both qualities of service, to one user and to several, over several sessions each: every message lands.
#[test]
fn what_a_broker_accepts_lands_once() {
    for (qos, receivers) in [
        (1, "--batch 1"),
        (2, "--batch 1"),
        (1, "--batch 30"),
        (2, "--batch 30"),
    ] {
        let words = format!(
            "send --target mosquitto --qos {qos} --users 40 --platforms 2 {receivers} --lanes 8 --rate 50 --seconds 1"
        );
        let Some((code, report)) = load(&words) else {
            return;
        };
        let ledger = &report["ledger"];
        assert_eq!(
            (code, &ledger["accepted"]),
            (0, &ledger["landed"]),
            "{report}"
        );
        // One to each of 80 sessions beforehand, and 50 sends to both sessions of each receiver.
        let accepted = 80 + 50 * 2 * if receivers == "--batch 1" { 1 } else { 30 };
        assert_eq!(ledger["accepted"], accepted, "{report}");
    }
}

/// Messages that come all at once, more than a session takes in one turn, are in order like all others.
#[test]
fn what_has_waited_lands_in_order() {
    let words =
        "slow --target mosquitto --sessions 2 --slow 0 --deaf 1 --batch 1 --rate 100 --seconds 1";
    let Some((code, report)) = load(words) else {
        return;
    };
    let ledger = &report["ledger"];
    assert_eq!(
        (code, &ledger["landed"]),
        (0, &Value::from(202)),
        "{report}"
    );
}

/// A broker that keeps nothing still acks. After kill -9 each acked message is lost, and the ledger finds it.
#[test]
fn what_a_broker_forgets_is_lost() {
    let words = "storm --target mosquitto-memory --sessions 5 --backlog 4 --patience 8";
    let Some((code, report)) = load(words) else {
        return;
    };
    let ledger = &report["ledger"];
    assert_eq!((code, &ledger["lost"]), (1, &Value::from(20)), "{report}");
    assert_eq!(
        (&ledger["accepted"], &ledger["pending"]),
        (&Value::from(25), &Value::from(0)),
        "{report}"
    );
}

/// Every load runs on every side, and the comparison shows which side lost accepted messages.
#[test]
fn a_comparison_knows_who_lost_what() {
    let words = "compare --sessions 20 --hold 1 --seconds 1 --lanes 4 --rounds 1 --patience 6";
    let Some((code, comparison)) = load(words) else {
        return;
    };
    assert_eq!(code, 0, "{comparison}");
    let loads = comparison["loads"].as_array().unwrap();
    assert_eq!(loads.len(), 4, "{comparison}");
    for load in loads {
        let sides = load["sides"].as_array().unwrap();
        let rounds = |side: &Value| side["rows"][0]["rounds"].as_array().unwrap().len();
        assert_eq!(sides.iter().map(rounds).collect::<Vec<_>>(), [1, 1, 1]);
        if load["load"] == "kill" {
            let lost = |side: usize| sides[side]["lost"].as_u64().unwrap();
            // Each session had a backlog of ten messages.
            assert_eq!((lost(0), lost(2)), (0, 200), "{comparison}");
        }
    }
}
