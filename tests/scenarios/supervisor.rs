//! systemd's `Type=notify` with a watchdog: the gateway says when it serves, that it is well, and that it goes down.

use std::{
    io::{BufRead as _, BufReader},
    os::unix::net::UnixDatagram,
    process::{Child, Stdio},
};

use rustix::process::{Pid, Signal, kill_process};

use crate::support::{DEADLINE, Gateway};

/// Kills the process if the test fails.
struct KilledAtTheEnd(Child);

impl Drop for KilledAtTheEnd {
    fn drop(&mut self) {
        // The process may have ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Reads until a notification comes that is `awaited`.
fn hear(systemd: &UnixDatagram, awaited: &str) {
    let mut bytes = [0; 256];
    loop {
        let count = systemd.recv(&mut bytes).unwrap_or_else(|error| {
            panic!("{awaited} does not come: {error}");
        });
        if str::from_utf8(&bytes[..count]).unwrap().trim_end() == awaited {
            return;
        }
    }
}

/// A stopped gateway's next start, under a service manager with this environment.
async fn serve_under(environment: &[(&str, &str)]) -> (Gateway, KilledAtTheEnd) {
    let mut gateway = Gateway::start(&[]).await;
    gateway.terminate();
    assert!(gateway.exited().await.success());
    let mut command = gateway.command("serve");
    command.envs(environment.iter().copied());
    command.stdout(Stdio::piped()).stderr(Stdio::null());
    let serving = KilledAtTheEnd(command.spawn().unwrap());
    (gateway, serving)
}

#[tokio::test]
async fn systemd_hears_ready_then_the_watchdogs_food_then_stopping() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("notify");
    let systemd = UnixDatagram::bind(&path).unwrap();
    systemd.set_read_timeout(Some(DEADLINE)).unwrap();
    let path = path.to_str().unwrap();
    let environment = [("NOTIFY_SOCKET", path), ("WATCHDOG_USEC", "100000")];
    let (_directory, mut serving) = serve_under(&environment).await;
    hear(&systemd, "READY=1");
    hear(&systemd, "WATCHDOG=1");
    hear(&systemd, "WATCHDOG=1");
    kill_process(Pid::from_child(&serving.0), Signal::TERM).unwrap();
    hear(&systemd, "STOPPING=1");
    assert!(serving.0.wait().unwrap().success());
}

#[tokio::test]
async fn a_service_manager_that_does_not_hear_keeps_nothing_from_serving() {
    let environment = [("NOTIFY_SOCKET", "/nowhere/notify")];
    let (_directory, mut serving) = serve_under(&environment).await;
    let mut stdout = BufReader::new(serving.0.stdout.take().unwrap());
    let mut line = String::new();
    stdout.read_line(&mut line).unwrap();
    assert!(line.starts_with("listening "), "{line:?}");
}
