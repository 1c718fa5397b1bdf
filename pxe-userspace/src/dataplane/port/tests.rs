//! A port on the real kernel: tests the assumptions of the kernel in memory.

use std::{
    net::Ipv4Addr,
    os::fd::{AsFd as _, AsRawFd as _, OwnedFd},
    process::Command,
    thread,
    time::{Duration, Instant},
};

use nix::{
    ifaddrs::getifaddrs,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sched::{CloneFlags, unshare},
    sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, bind, recv, send, socket},
    unistd::geteuid,
};
use pxe_common::testing::{FrameBuilder, KNOWN};

use super::*;
use crate::{
    dataplane::{Addressing, Context, Datapath, addressing::Served, plan::Answered},
    dhcp::Mode,
    model::{
        architecture::Architecture,
        event::EventSink,
        inventory::{Inventory, Machine, SharedInventory, Site},
        testing,
    },
    net::xdp_programs,
};

/// The longest time that an answer may take on a busy machine.
const SOON: Duration = Duration::from_secs(10);

const OURS: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);

/// A port on one end of a veth pair, and a socket on the other.
struct Cable {
    kernel: Linux,
    port: Port,
    far_end: OwnedFd,
}

impl Cable {
    /// Lays a cable in the network namespace of this thread.
    fn lay(paths: &'static [Path]) -> Self {
        ip("link add near type veth peer name far");
        ip("address add 10.0.0.1/24 dev near");
        ip("link set near up");
        ip("link set far up");
        let template = testing::machine(1, Architecture::Amd64, "v1.13.0", None);
        let site = Arc::new(Site { interface: "near".into(), address: OURS });
        let machine = Machine { mac: KNOWN, site, ..Machine::clone(&template) };
        let inventory = SharedInventory::default();
        inventory.store(Arc::new(Inventory::new(vec![Arc::new(machine)])));
        let mut kernel = Linux::new(Context {
            datapath: Datapath::Auto,
            addressing: Addressing::OfSpec,
            settings: Default::default(),
            mode: Mode::Server,
            http_port: 8000,
            lease_seconds: 3600,
            guard: None,
            inventory,
            policies: Arc::default(),
            events: EventSink::channel(100).0,
            counters: Arc::default(),
            duplicate_answers: Arc::default(),
            trusted_relays: Arc::default(),
            sharing: None,
            tap: Default::default(),
            dropped_strangers: Arc::new(|_, _, _| ()),
        });
        let port = open(&mut kernel, paths);
        Self { kernel, port, far_end: packet_socket("far") }
    }

    fn execute(&mut self, step: Step) {
        self.port.execute(&mut self.kernel, step, Instant::now()).unwrap();
    }

    /// Sends a request and waits for an answer that passed through the program.
    fn is_answered(&self) {
        let before = self.redirected();
        send(self.far_end.as_raw_fd(), &FrameBuilder::default().build(), MsgFlags::empty()).unwrap();
        let deadline = Instant::now() + SOON;
        let mut frame = [0; 2048];
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "no answer");
            let timeout = PollTimeout::try_from(left).unwrap();
            poll(&mut [PollFd::new(self.far_end.as_fd(), PollFlags::POLLIN)], timeout).unwrap();
            // IPv4, UDP, to the port of clients.
            match recv(self.far_end.as_raw_fd(), &mut frame, MsgFlags::MSG_DONTWAIT) {
                Ok(42..) if frame[12..14] == [8, 0] && frame[36..38] == [0, 68] => break,
                _ => {}
            }
        }
        assert_eq!(self.redirected(), before + 1);
    }

    fn redirected(&self) -> u64 {
        let counters = self.port.counters();
        counters.iter().find(|(counter, _)| *counter == Counter::Redirected).map_or(0, |&(_, count)| count)
    }

    fn programs(&self) -> Vec<u32> {
        xdp_programs::programs(self.port.interface().index).unwrap()
    }
}

fn open(kernel: &mut Linux, paths: &'static [Path]) -> Port {
    let interface = kernel.interface("near").unwrap();
    let answered = Answered {
        servers: vec![Served::of_spec(OURS)],
        addresses: vec![(OURS, 24)],
        asked_at: [OURS].into(),
        taken: Arc::default(),
    };
    let opening = Opening { interface, paths, answered, vlans: [].into(), machines: [KNOWN].into() };
    Port::open(kernel, opening, Instant::now()).unwrap()
}

fn ip(arguments: &str) {
    let output = Command::new("ip").args(arguments.split(' ')).output().expect("ip(8), of iproute2");
    assert!(output.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&output.stderr));
}

fn packet_socket(interface: &str) -> OwnedFd {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket(AddressFamily::Packet, SockType::Raw, flags, SockProtocol::EthAll).unwrap();
    let mut entries = getifaddrs().unwrap().filter(|entry| entry.interface_name == interface);
    let address = entries.find_map(|entry| entry.address?.as_link_addr().copied()).unwrap();
    bind(socket.as_raw_fd(), &address).unwrap();
    socket
}

/// Runs a test in its own network namespace, if the process may create one.
fn in_a_namespace(test: fn()) {
    if !geteuid().is_root() {
        let message = "dataplane::port: needs root";
        assert!(std::env::var_os("PXED_TESTS_REQUIRE_ALL").is_none(), "{message}");
        eprintln!("SKIPPED {message}");
        return;
    }
    let test = thread::spawn(move || {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        test();
    });
    if let Err(panic) = test.join() {
        std::panic::resume_unwind(panic);
    }
}

#[test]
fn program_is_replaced_under_the_running_sockets() {
    in_a_namespace(|| {
        for paths in [&[Path::Driver], &[Path::Generic]] {
            let mut cable = Cable::lay(paths);
            cable.is_answered();
            let before = cable.port.state().program;
            cable.execute(Step::Enlarge([KNOWN].into()));
            let after = cable.port.state().program;
            assert_ne!(after, before);
            assert_eq!(cable.programs(), Vec::from_iter(after));
            cable.is_answered();
            drop(cable.port);
            ip("link delete near");
        }
    });
}

/// The kernel releases a queue shortly after its socket was closed. This must not force a slower path.
#[test]
fn closed_port_is_reopened_at_once_on_the_same_path() {
    in_a_namespace(|| {
        let mut cable = Cable::lay(&[Path::Driver]);
        drop(cable.port);
        cable.port = open(&mut cable.kernel, Datapath::Auto.paths(false));
        assert_eq!((cable.port.path(), &cable.port.state().fallback), (Path::Driver, &None));
        cable.is_answered();
    });
}

#[test]
fn ended_worker_is_found_and_restarted_on_its_queue() {
    in_a_namespace(|| {
        let mut cable = Cable::lay(&[Path::Driver]);
        cable.is_answered();
        let worker = cable.port.machinery.workers[0].as_ref().unwrap();
        worker.ask_to_end();
        let deadline = Instant::now() + SOON;
        while !worker.has_ended() {
            assert!(Instant::now() < deadline, "the worker does not end");
            thread::yield_now();
        }
        cable.port.look_after_workers(Instant::now());
        assert_eq!(cable.port.state().ended, [0]);
        cable.execute(Step::RestartWorker(0));
        cable.port.look_after_workers(Instant::now());
        assert!(cable.port.state().ended.is_empty());
        cable.is_answered();
    });
}

#[test]
fn waiting_worker_gives_signs_of_life() {
    fn check(path: &'static [Path]) {
        let cable = Cable::lay(path);
        let pulse = || cable.port.machinery.workers[0].as_ref().unwrap().pulse();
        let deadline = Instant::now() + SOON;
        let (first, mut later) = (pulse(), 0);
        while later < first + 3 {
            assert!(Instant::now() < deadline, "{later} signs of life, after {first}");
            thread::sleep(Duration::from_millis(50));
            later = pulse();
        }
    }
    in_a_namespace(|| check(&[Path::Driver]));
    in_a_namespace(|| check(&[Path::Socket]));
}
