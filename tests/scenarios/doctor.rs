//! `towncrier doctor`: figures for this host, from a gateway of its own that is gone afterwards.

use std::{
    collections::BTreeSet,
    ffi::OsString,
    path::Path,
    process::{Command, Stdio},
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::support::{Gateway, WEB, eventually, gateway::towncrier};

fn names(dir: &Path) -> BTreeSet<OsString> {
    let entries = dir.read_dir().unwrap();
    entries.map(|entry| entry.unwrap().file_name()).collect()
}

#[tokio::test]
async fn doctor_has_figures_also_beside_a_running_gateway_and_leaves_its_directory_as_it_was() {
    let gateway = Gateway::start(&[]).await;
    let before = names(&gateway.data());
    let output = gateway.command("doctor").arg("--json").output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    for figure in [
        "/sessions",
        "/single/beside_rig",
        "/single/alone",
        "/batches/beside_rig",
        "/batches/alone",
    ] {
        let ceiling = report.pointer(figure).unwrap();
        assert!(ceiling["expected"].as_u64() > Some(0), "{figure}: {report}");
        for limit in ceiling["limits"].as_array().unwrap() {
            assert!(!limit["lift"].as_str().unwrap().is_empty(), "{report}");
        }
    }
    assert_eq!(report["is_in_use"], true);
    assert_eq!(names(&gateway.data()), before);
    // The gateway was not disturbed.
    gateway.connect("alice", WEB).await;
}

#[tokio::test]
async fn a_doctor_that_is_interrupted_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let mut doctor = towncrier()
        .args(["doctor", "--data"])
        .arg(&data)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let trial = data.join(format!("doctor-{}/data/log", doctor.id()));
    eventually("the gateway that is tried out", async || trial.exists()).await;
    kill_process(Pid::from_child(&doctor), Signal::TERM).unwrap();
    let status = tokio::task::spawn_blocking(move || doctor.wait().unwrap());
    assert_eq!(status.await.unwrap().code(), Some(1));
    assert!(names(dir.path()).is_empty());
}

#[test]
fn a_host_on_which_no_gateway_starts_is_a_failure_with_its_cure() {
    let dir = tempfile::tempdir().unwrap();
    let output = Command::new("sh")
        .args(["-c", "ulimit -n 200 && exec \"$0\" doctor"])
        .arg(towncrier().get_program())
        .current_dir(dir.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        !output.status.success() && said.contains("LimitNOFILE="),
        "{said}"
    );
    assert!(names(dir.path()).is_empty());
}
