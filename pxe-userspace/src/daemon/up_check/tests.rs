use std::{
    net::{Ipv4Addr, TcpListener},
    time::Duration,
};

use tempfile::TempDir;
use tokio::task::JoinHandle;

use super::*;
use crate::{
    journal::samples::{dora, machine, timed, uefi_boot},
    model::{
        event::ClientKind,
        inventory::{Inventory, Machine, SharedInventory},
    },
};

/// Short intervals, so that a test sees retries soon.
const QUICK: Pace = Pace {
    first: Duration::from_millis(1),
    longest: Duration::from_millis(20),
    give_up: Duration::from_secs(60),
    spacing: Duration::from_millis(1),
    at_once: 2,
    patience: Duration::from_millis(100),
};
const SOON: Duration = Duration::from_secs(20);

/// The journal of machines at 127.0.0.1, 127.0.0.2 and so on, and what a check needs besides.
struct World {
    journal: Arc<Journal>,
    begun: Option<mpsc::Receiver<MacAddr>>,
    sink: EventSink,
    events: mpsc::Receiver<crate::model::event::BootEvent>,
    _state: TempDir,
}

fn local(number: u32) -> Machine {
    Machine { address: Ipv4Addr::from(0x7f00_0000 + number), ..machine(number) }
}

impl World {
    fn new(machines: u32) -> Self {
        let state = tempfile::tempdir().unwrap();
        let machines = (1..=machines).map(|number| Arc::new(local(number))).collect();
        let inventory: SharedInventory = Arc::new(arc_swap::ArcSwap::from_pointee(Inventory::new(machines)));
        let (running, begun) = mpsc::channel(CAPACITY);
        let journal = Journal::new(inventory, Default::default(), state.path()).unwrap().with_running(Some(running));
        let (sink, events) = EventSink::channel(100);
        Self { journal: Arc::new(journal), begun: Some(begun), sink, events, _state: state }
    }

    /// Lets a machine boot.
    fn boots(&self, number: u32) {
        let mac = local(number).mac;
        self.journal.apply(&timed(mac, uefi_boot()));
        assert_eq!(self.stage(number), Stage::Running);
    }

    fn stage(&self, number: u32) -> Stage {
        self.journal.summaries(&[Arc::new(local(number))])[0].stage
    }

    fn check(&mut self, pace: Pace, port: u16) -> JoinHandle<()> {
        let check = UpCheck { pace, port, ..UpCheck::new(Arc::clone(&self.journal), self.sink.clone()) };
        tokio::spawn(check.run(self.begun.take().unwrap()))
    }

    /// Waits until a machine is said to be up, and returns it.
    async fn up(&mut self, port: u16) -> MacAddr {
        let event = timeout(SOON, self.events.recv()).await.expect("a machine that is up").unwrap();
        assert_eq!((&event.kind, event.origin), (&EventKind::Up { port }, Origin::Machine));
        self.journal.apply(std::slice::from_ref(&event));
        event.mac
    }
}

/// Returns a listener that takes no connection any more, and the connections that fill its queue.
fn full(address: SocketAddr) -> (socket2::Socket, Vec<std::net::TcpStream>) {
    let listener = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    listener.bind(&address.into()).unwrap();
    listener.listen(0).unwrap();
    let connect = || std::net::TcpStream::connect_timeout(&address, Duration::from_millis(200)).ok();
    let filling = std::iter::from_fn(connect).take(16).collect::<Vec<_>>();
    assert!(filling.len() < 16, "the queue has no end");
    (listener, filling)
}

#[tokio::test]
async fn machine_is_up_once_it_accepts_a_connection() {
    let mut world = World::new(3);
    let first = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = first.local_addr().unwrap().port();
    let (_hangs, _filling) = full(SocketAddr::from(([127, 0, 0, 3], port)));
    // The one that hangs comes first: it must not hold up the others, nor be said to be up.
    for number in [3, 2, 1] {
        world.boots(number);
    }
    let task = world.check(QUICK, port);
    assert_eq!(world.up(port).await, local(1).mac);
    assert_eq!(world.stage(1), Stage::Up);
    // The second one refused until now.
    let _second = TcpListener::bind(("127.0.0.2", port)).unwrap();
    assert_eq!(world.up(port).await, local(2).mac);
    assert_eq!((world.stage(2), world.stage(3)), (Stage::Up, Stage::Running));
    assert!(world.events.try_recv().is_err(), "the third one hangs");
    assert!(!task.is_finished());
    task.abort();
}

#[tokio::test]
async fn machine_is_tried_after_each_boot() {
    let mut world = World::new(1);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let task = world.check(QUICK, port);
    for _ in 0..2 {
        world.boots(1);
        assert_eq!(world.up(port).await, local(1).mac);
        assert_eq!(world.stage(1), Stage::Up);
    }
    task.abort();
}

#[tokio::test]
async fn machine_that_runs_since_before_is_tried() {
    let day = Duration::from_secs(86_400);
    for ago in [Duration::ZERO, 3 * day] {
        let mut world = World::new(1);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let mac = local(1).mac;
        let mut boot = timed(mac, uefi_boot());
        boot.iter_mut().for_each(|event| event.at = SystemTime::now() - ago);
        world.journal.apply(&boot);
        let task = world.check(QUICK, port);
        assert_eq!(world.up(port).await, mac);
        task.abort();
    }
}

#[test]
fn machine_that_renews_an_address_is_tried_only_if_it_cannot_run_for_long() {
    let world = World::new(1);
    let check = UpCheck::new(Arc::clone(&world.journal), world.sink.clone());
    let renewal = |at| {
        let mut events = timed(local(1).mac, dora(ClientKind::Plain));
        events.iter_mut().for_each(|event| event.at = at);
        world.journal.apply(&events);
        assert_eq!(world.stage(1), Stage::Running);
        check.running_already()
    };
    assert_eq!(renewal(SystemTime::now() - 2 * check.pace.give_up), []);
}

#[test]
fn only_running_machines_of_this_node_are_tried() {
    let world = World::new(2);
    let check = UpCheck::new(Arc::clone(&world.journal), world.sink.clone());
    let mac = local(1).mac;
    assert_eq!(check.target(mac), Target::Gone, "it has not booted");
    world.boots(1);
    assert_eq!(check.target(mac), Target::Address(Ipv4Addr::LOCALHOST));
    assert_eq!(check.target(local(9).mac), Target::Gone, "not in the spec");

    // Only the node that a machine has chosen last gives its system an address, and knows that it runs.
    let left = |chosen| EventKind::LeftToPeer { client: ClientKind::Pxe, address: Ipv4Addr::LOCALHOST, chosen };
    world.journal.apply(&timed(mac, [left(false)]));
    assert_eq!(check.target(mac), Target::Address(Ipv4Addr::LOCALHOST));
    world.journal.apply(&timed(mac, [left(true)]));
    assert_eq!(check.target(mac), Target::Gone, "another node boots it");
    world.boots(1);
    assert_eq!(check.target(mac), Target::Address(Ipv4Addr::LOCALHOST));
}

/// A mistake in the check: here, a time that is beyond all times.
#[tokio::test(start_paused = true)]
async fn check_that_a_panic_ends_begins_again_with_the_machines_that_run() {
    let mut world = World::new(2);
    let other = TcpListener::bind("127.0.0.2:0").unwrap();
    let port = other.local_addr().unwrap().port();
    let mac = local(1).mac;
    let mut boot = timed(mac, uefi_boot());
    boot.iter_mut().for_each(|event| event.at = SystemTime::now());
    world.journal.apply(&boot);
    let begun = Instant::now();
    let task = world.check(Pace { give_up: Duration::MAX, ..QUICK }, port);
    // The first try is refused, and the next one cannot be planned.
    tokio::time::sleep(Duration::from_secs(5)).await;
    let _listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
    assert_eq!(world.up(port).await, mac);
    assert!(begun.elapsed() > Duration::from_secs(5) && !task.is_finished());
    // Machines that the journal names meanwhile and later are tried as before.
    world.boots(2);
    assert_eq!(world.up(port).await, local(2).mac);
    task.abort();
}

#[tokio::test]
async fn check_ends_with_the_journal() {
    let mut world = World::new(1);
    let (running, begun) = mpsc::channel(1);
    world.begun = Some(begun);
    let task = world.check(QUICK, 1);
    drop(running);
    timeout(SOON, task).await.unwrap().unwrap();
}
