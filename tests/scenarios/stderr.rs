//! The reader of stderr or stdout stops, goes away, or has no space: the gateway serves on, stays ready, and drains when it
//! is told to.

use std::{
    fs::File,
    io::{BufRead, BufReader, Write},
    os::fd::OwnedFd,
    process::Stdio,
};

use rustix::{
    fs::{OFlags, fcntl_setfl},
    pipe::pipe,
    process::{Pid, Signal, kill_process},
};

use crate::support::{Gateway, WEB, eventually, gateway::towncrier, notice, within};

/// A pipe that takes no further byte, as long as the first end is kept.
fn full_pipe() -> (OwnedFd, OwnedFd) {
    let (reader, writer) = pipe().unwrap();
    fcntl_setfl(&writer, OFlags::NONBLOCK).unwrap();
    let mut filled = File::from(writer);
    for piece in [&[0; 4096][..], &[0]] {
        while filled.write(piece).is_ok() {}
    }
    let writer = OwnedFd::from(filled);
    fcntl_setfl(&writer, OFlags::empty()).unwrap();
    (reader, writer)
}

/// A disk without space.
fn full_disk() -> File {
    File::options().write(true).open("/dev/full").unwrap()
}

/// Sessions connect, get their messages, and leave their line in the log, again and again. Then SIGTERM drains.
async fn serves_and_drains(gateway: &mut Gateway) {
    let mut admin = gateway.admin().await;
    for n in 0..20 {
        let mut web = gateway.connect("alice", WEB).await;
        admin.send(&notice("alice", "still here")).await;
        web.expect_messages(1).await;
        web.ack(n + 1).await;
        web.settle().await;
    }
    assert_eq!(admin.get("/healthz").await.status, 200);
    assert_eq!(admin.get("/readyz").await.status, 200);
    gateway.terminate();
    assert!(gateway.exited().await.success());
}

#[tokio::test]
async fn a_log_whose_reader_has_stopped_holds_nobody_up() {
    let (_reader, writer) = full_pipe();
    let mut gateway = Gateway::start_logging_to(writer).await;
    serves_and_drains(&mut gateway).await;
}

#[tokio::test]
async fn a_log_that_cannot_be_written_ends_nothing_and_its_lines_are_counted() {
    let (reader, closed) = pipe().unwrap();
    drop(reader);
    for stderr in [Stdio::from(closed), Stdio::from(full_disk())] {
        let mut gateway = Gateway::start_logging_to(stderr).await;
        let mut admin = gateway.admin().await;
        eventually("the lines to be counted", async || {
            admin.metric("towncrier_stderr_lines_dropped_total").await > 0.0
        })
        .await;
        serves_and_drains(&mut gateway).await;
    }
}

#[tokio::test]
async fn a_stdout_that_takes_nothing_holds_no_start_up_and_the_log_says_the_ports() {
    let (_reader, writer) = full_pipe();
    let dir = tempfile::tempdir().unwrap();
    for stdout in [Stdio::from(writer), Stdio::from(full_disk())] {
        let mut child = towncrier()
            .args([
                "--set",
                "listener.listen=127.0.0.1:0",
                "--set",
                "admin.listen=127.0.0.1:0",
            ])
            .arg("--data")
            .arg(dir.path())
            .stdout(stdout)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let ended = tokio::task::spawn_blocking(move || {
            let mut lines = lines.map_while(Result::ok);
            let says_ports =
                |line: &String| line.contains("listening") && line.contains("127.0.0.1:");
            assert!(lines.any(|line| says_ports(&line)));
            kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
            lines.for_each(drop);
            child.wait().unwrap()
        });
        assert!(within("its end", ended).await.unwrap().success());
    }
}

/// The process waits for its last lines for `LAST_LINES` and no longer.
#[tokio::test]
async fn a_command_that_fails_ends_whatever_becomes_of_its_reason() {
    let (_reader, writer) = full_pipe();
    for stderr in [Stdio::from(writer), Stdio::from(full_disk())] {
        let mut child = towncrier()
            .args(["check", "--config", "/no/such/file"])
            .stderr(stderr)
            .spawn()
            .unwrap();
        let ended = tokio::task::spawn_blocking(move || child.wait().unwrap());
        let status = within("its end", ended).await.unwrap();
        assert_eq!(status.code(), Some(1));
    }
    let said = towncrier()
        .args(["check", "--config", "/no/such/file"])
        .output()
        .unwrap();
    let said = String::from_utf8(said.stderr).unwrap();
    assert!(said.starts_with("towncrier: "), "{said}");
    assert!(
        said.ends_with('\n') && said.contains("/no/such/file"),
        "{said}"
    );
}
