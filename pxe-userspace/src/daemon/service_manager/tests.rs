use std::{
    collections::BTreeSet,
    os::{
        linux::net::SocketAddrExt as _,
        unix::net::{SocketAddr, UnixDatagram},
    },
    path::Path,
};

use super::*;
use crate::model::inventory::Inventory;

/// A service manager of the test's own.
struct Receiver(UnixDatagram);

impl Receiver {
    fn at(path: &Path) -> Self {
        Self::of(UnixDatagram::bind(path).unwrap())
    }

    fn of(socket: UnixDatagram) -> Self {
        socket.set_nonblocking(true).unwrap();
        Self(socket)
    }

    /// Returns the messages that have come.
    fn take(&self) -> Vec<String> {
        let mut buffer = [0; 4096];
        let next =
            || self.0.recv(&mut buffer).ok().map(|length| String::from_utf8_lossy(&buffer[..length]).into_owned());
        std::iter::from_fn(next).collect()
    }
}

fn manager(variables: &[(&str, &str)], now: Instant) -> ServiceManager {
    let variable = |name: &str| variables.iter().find(|(other, _)| *other == name).map(|(_, value)| value.into());
    ServiceManager::find(variable, now)
}

/// Says that nothing is served, because of a problem.
fn status(manager: &ServiceManager, problem: &str) {
    let (inventory, interfaces) = (&Inventory::default(), &BTreeSet::new());
    let problems = &[problem.to_owned()];
    manager.status(&StatusLine { inventory, interfaces, is_matchbox_alone: false, mistakes: 0, problems });
}

#[test]
fn life_of_a_service_is_told_in_order_and_each_change_once() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("notify");
    let receiver = Receiver::at(&path);
    let manager = manager(&[("NOTIFY_SOCKET", path.to_str().unwrap())], Instant::now());
    let told = |step: &dyn Fn()| {
        step();
        receiver.take()
    };
    assert_eq!(told(&|| status(&manager, "a")), ["STATUS=Serving no machine yet; a"]);
    assert_eq!(told(&|| status(&manager, "a")), [""; 0]);
    assert_eq!(told(&|| manager.ready()), ["READY=1"]);
    assert_eq!(told(&|| status(&manager, "b\nREADY=0")), ["STATUS=Serving no machine yet; b READY=0"]);
    let reloading = told(&|| manager.reloading());
    let since = reloading[0].strip_prefix("RELOADING=1\nMONOTONIC_USEC=").unwrap().parse::<i64>().unwrap();
    assert!(reloading.len() == 1 && (1..=monotonic_microseconds()).contains(&since), "{reloading:?}");
    assert_eq!(told(&|| manager.ready()), ["READY=1"]);
    assert_eq!(told(&|| manager.tick(Instant::now())), [""; 0], "there is no watchdog");
    assert_eq!(told(&|| manager.stopping()), ["STOPPING=1\nSTATUS=Stopping: running transfers may finish"]);
}

#[test]
fn failed_start_is_told_in_one_line() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("notify");
    let receiver = Receiver::at(&path);
    let manager = manager(&[("NOTIFY_SOCKET", path.to_str().unwrap())], Instant::now());
    manager.failed(&anyhow::anyhow!("cannot start:\n  no eth1\n  no eth2"));
    assert_eq!(receiver.take(), ["STATUS=cannot start: no eth1 no eth2"]);
}

#[test]
fn abstract_socket_is_found() {
    let name = format!("pxed-test-{}", process::id());
    let address = SocketAddr::from_abstract_name(&name).unwrap();
    let receiver = Receiver::of(UnixDatagram::bind_addr(&address).unwrap());
    manager(&[("NOTIFY_SOCKET", &format!("@{name}"))], Instant::now()).ready();
    assert_eq!(receiver.take(), ["READY=1"]);
}

#[test]
fn service_manager_that_is_not_there_harms_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let nobody = directory.path().join("nobody").to_str().unwrap().to_owned();
    let long = format!("/{}", "x".repeat(200));
    for name in ["", "@", "/", "notify", "vsock:2:1234", "\u{fffd}", &long, &nobody, "/dev/null"] {
        let now = Instant::now();
        let manager = manager(&[("NOTIFY_SOCKET", name), ("WATCHDOG_USEC", "6000000")], now);
        manager.ready();
        manager.looked();
        manager.tick(now + Duration::from_secs(5));
        status(&manager, "a");
        manager.stopping();
    }
}

#[test]
fn message_that_is_not_taken_is_sent_again_in_its_last_form() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("notify");
    let manager = manager(&[("NOTIFY_SOCKET", path.to_str().unwrap())], Instant::now());
    status(&manager, "a");
    manager.ready();
    status(&manager, "b");
    let receiver = Receiver::at(&path);
    manager.tick(Instant::now());
    assert_eq!(receiver.take(), ["READY=1\nSTATUS=Serving no machine yet; b"]);
    // Nobody reads, so that the queue is full in the end. Nothing waits for it.
    for number in 0..10_000 {
        status(&manager, &number.to_string());
    }
    let queued = receiver.take();
    assert!(queued.len() < 10_000, "the queue never was full");
    manager.tick(Instant::now());
    assert_eq!(receiver.take(), ["STATUS=Serving no machine yet; 9999"]);
}

#[test]
fn keep_alive_needs_a_look_and_a_tick_of_the_main_loop() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("notify");
    let receiver = Receiver::at(&path);
    let begun = Instant::now();
    let after = |seconds| begun + Duration::from_secs(seconds);
    let pid = process::id().to_string();
    let variables = [("NOTIFY_SOCKET", path.to_str().unwrap()), ("WATCHDOG_USEC", "20000000"), ("WATCHDOG_PID", &*pid)];
    let manager = manager(&variables, begun);
    manager.tick(after(10));
    assert_eq!(receiver.take(), [""; 0], "no look");
    manager.looked();
    assert_eq!(receiver.take(), [""; 0], "no tick");
    manager.tick(after(11));
    assert_eq!(receiver.take(), ["WATCHDOG=1"]);
    manager.tick(after(20));
    assert_eq!(receiver.take(), [""; 0], "no look since then");
}

#[test]
fn watchdog_that_is_too_short_is_made_longer() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("notify");
    let receiver = Receiver::at(&path);
    let variables = [("NOTIFY_SOCKET", path.to_str().unwrap()), ("WATCHDOG_USEC", "1000")];
    let manager = manager(&variables, Instant::now());
    manager.ready();
    assert_eq!(receiver.take(), [format!("WATCHDOG_USEC={}\nREADY=1", watchdog::SHORTEST.as_micros())]);
}

#[test]
fn watchdog_of_another_process_is_left_to_it() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("notify");
    let receiver = Receiver::at(&path);
    let now = Instant::now();
    let variables = [("NOTIFY_SOCKET", path.to_str().unwrap()), ("WATCHDOG_USEC", "6000000"), ("WATCHDOG_PID", "1")];
    let manager = manager(&variables, now);
    manager.looked();
    manager.tick(now + Duration::from_secs(6));
    assert_eq!(receiver.take(), [""; 0]);
}
