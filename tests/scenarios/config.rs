//! The configuration is checked before any port is bound. An error names the fault, and the key that was probably meant.

use std::process::Output;

use crate::support::{Gateway, gateway::towncrier};

fn run(arguments: &[&str], environment: &[(&str, &str)]) -> (Output, String) {
    let dir = tempfile::tempdir().unwrap();
    let output = towncrier()
        .args(arguments)
        .envs(environment.iter().copied())
        .current_dir(dir.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let left = dir.path().read_dir().unwrap().count();
    assert_eq!(left, 0, "nothing is written by a start that fails: {said}");
    (output, said)
}

#[test]
fn an_unknown_key_is_refused_with_the_nearest_known_one_wherever_it_stands() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("towncrier.toml");
    std::fs::write(&file, "[delivery]\nwindwo = 3\n").unwrap();
    let (output, said) = run(&["--config", file.to_str().unwrap()], &[]);
    assert!(
        !output.status.success() && said.contains("delivery.window"),
        "{said}"
    );
    assert!(output.stdout.is_empty());

    let (output, said) = run(&["--set", "session.policy=1"], &[]);
    assert!(
        !output.status.success() && said.contains("sessions.policy"),
        "{said}"
    );

    let (output, said) = run(&[], &[("TOWNCRIER_LISTENER__LISTENS", "127.0.0.1:0")]);
    assert!(
        !output.status.success() && said.contains("TOWNCRIER_LISTENER__LISTEN?"),
        "{said}"
    );
}

#[test]
fn what_kubernetes_tells_of_a_service_called_towncrier_is_no_setting() {
    let told = [
        ("TOWNCRIER_SERVICE_HOST", "10.0.0.7"),
        ("TOWNCRIER_SERVICE_PORT", "10001"),
        ("TOWNCRIER_PORT", "tcp://10.0.0.7:10001"),
        ("TOWNCRIER_PORT_10001_TCP_ADDR", "10.0.0.7"),
        ("TOWNCRIER_LOG", "warn"),
    ];
    let (output, said) = run(&["check"], &told);
    assert!(output.status.success(), "{said}");
}

#[test]
fn a_value_that_cannot_work_is_refused() {
    let (output, said) = run(&["--set", "delivery.window=0"], &[]);
    assert!(
        !output.status.success() && said.contains("delivery.window"),
        "{said}"
    );
}

#[test]
fn check_says_whether_a_configuration_is_good_and_starts_nothing() {
    let (output, said) = run(&["check", "--set", "delivery.window=4"], &[]);
    assert!(output.status.success(), "{said}");
    let (output, said) = run(&["check", "--set", "delivery.window=many"], &[]);
    assert!(
        !output.status.success() && said.contains("delivery.window"),
        "{said}"
    );
}

#[test]
fn check_names_a_data_directory_that_cannot_be_made_and_leaves_none() {
    let file = tempfile::NamedTempFile::new().unwrap();
    for under in ["", "/data", "/deep/data"] {
        let data = format!("{}{under}", file.path().display());
        let (output, said) = run(&["check", "--data", &data], &[]);
        assert!(!output.status.success() && said.contains(&data), "{said}");
    }
    let (output, said) = run(&["check", "--data", "deep/new/data"], &[]);
    assert!(output.status.success(), "{said}");
    let (output, said) = run(&["check", "--set", "auth.secrets_file=none.toml"], &[]);
    assert!(
        !output.status.success() && said.contains("none.toml"),
        "{said}"
    );
}

#[tokio::test]
async fn check_says_that_a_gateway_runs_with_the_data_directory() {
    let mut gateway = Gateway::start(&[]).await;
    let check = |gateway: &Gateway| {
        let output = gateway.command("check").output().unwrap();
        assert!(output.status.success());
        String::from_utf8(output.stdout).unwrap()
    };
    assert!(check(&gateway).contains("is in use"));
    gateway.kill();
    assert_eq!(check(&gateway), "the configuration is good\n");
}

#[test]
fn config_prints_every_default_and_what_is_in_force_without_secrets() {
    let (output, said) = run(&["config"], &[]);
    let printed = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{said}");
    assert_eq!(printed, include_str!("../../config/towncrier.toml"));

    let secret = "auth.secret=not-to-be-seen";
    let (output, said) = run(
        &["config", "--effective", "--set", secret],
        &[("TOWNCRIER_DELIVERY__WINDOW", "4")],
    );
    let printed = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{said}");
    assert!(printed.contains("window = 4"), "{printed}");
    assert!(!printed.contains("not-to-be-seen"), "{printed}");
}
