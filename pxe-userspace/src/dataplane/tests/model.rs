//! Random sequences of events, each followed by a look. [`Bench::reconcile`] compares the result of every look with what
//! should be served. At the end nothing fails any more, and one more look must reach that.

use std::{net::Ipv4Addr, time::Duration};

use proptest::prelude::*;
use pxe_common::MacAddr;

use super::{
    super::{
        datapath::{Datapath, Path},
        kernel::{Entry, Source},
        xdp::AttachMode,
    },
    bench::{Bench, SITES, mac},
    fake::{Attached, Operation},
};

/// The number of machines that the spec may name.
const MACHINES: u8 = 12;

/// An event on one of the two interfaces.
#[derive(Clone, Debug)]
enum Event {
    /// The spec names the machine at the interface's first or second address.
    Put(u8, usize),
    /// The spec no longer names the machine.
    Remove(u8),
    Unplug,
    PlugIn {
        queues: u32,
    },
    Up(bool),
    Mac(u8),
    Mtu(u16),
    Queues(u32),
    /// The interface gets its first or second address with this prefix length, or loses it.
    Address(usize, Option<u8>),
    /// Another program is attached, unless there is one already.
    AttachForeign,
    /// The attached program, if any, is detached.
    Detach,
    EndWorker(u32),
    Refuse(Operation),
    AllowAll,
    Pass(Duration),
}

fn operation() -> impl Strategy<Value = Operation> {
    let machine = (0..MACHINES).prop_map(mac);
    let address = (0..SITES.len(), 0..3_usize).prop_map(|(site, which)| match which {
        2 => Ipv4Addr::from(SITES[site].1[0].to_bits() | 0xff),
        which => SITES[site].1[which],
    });
    let entry = |machine: BoxedStrategy<MacAddr>| {
        prop_oneof![
            machine.clone().prop_map(Entry::AddMachine),
            machine.prop_map(Entry::RemoveMachine),
            address.clone().prop_map(Entry::AddAddress),
            address.clone().prop_map(Entry::RemoveAddress),
        ]
    };
    let source =
        prop_oneof![Just(Source::Packets), (0..4_u32, 1..=4_u32).prop_map(|(index, of)| Source::Queue { index, of })];
    prop_oneof![
        2 => Just(Operation::Look),
        1 => Just(Operation::LookForProgram),
        1 => Just(Operation::Load),
        2 => entry(machine.boxed()).prop_map(Operation::Write),
        1 => Just(Operation::Attach(AttachMode::Driver)),
        1 => Just(Operation::Attach(AttachMode::Generic)),
        1 => Just(Operation::Replace),
        1 => Just(Operation::ReplaceOrDetach),
        2 => source.prop_map(Operation::Start),
        1 => (0..4_u32).prop_map(Operation::Register),
    ]
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        8 => (0..MACHINES, 0..2_usize).prop_map(|(number, which)| Event::Put(number, which)),
        3 => (0..MACHINES).prop_map(Event::Remove),
        1 => Just(Event::Unplug),
        2 => (1..=4_u32).prop_map(|queues| Event::PlugIn { queues }),
        1 => Just(Event::Up(false)),
        2 => Just(Event::Up(true)),
        1 => any::<u8>().prop_map(Event::Mac),
        1 => prop_oneof![Just(1500), Just(9000)].prop_map(Event::Mtu),
        1 => (1..=4_u32).prop_map(Event::Queues),
        2 => (0..2_usize, proptest::option::weighted(0.7, prop_oneof![16..=24_u8, 30..=32_u8])).prop_map(|(which, prefix)| Event::Address(which, prefix)),
        1 => Just(Event::AttachForeign),
        2 => Just(Event::Detach),
        2 => (0..4_u32).prop_map(Event::EndWorker),
        6 => operation().prop_map(Event::Refuse),
        2 => Just(Event::AllowAll),
        1 => (1..2_000_u64).prop_map(|seconds| Event::Pass(Duration::from_secs(seconds))),
    ]
}

/// Applies an event to an interface.
fn happen(bench: &mut Bench, site: usize, event: Event) {
    let (name, addresses) = SITES[site];
    match event {
        Event::Put(number, which) => bench.put_at(number, name, addresses[which]),
        Event::Remove(number) => drop(bench.machines.remove(&mac(number))),
        Event::Pass(time) => bench.now += time,
        Event::Refuse(operation) => bench.refuse(name, operation),
        Event::AllowAll => bench.allow_all(),
        Event::EndWorker(place) => bench.kernel.world().end_workers(name, |of| of == place),
        Event::PlugIn { queues } => bench.kernel.world().plug_in(name, queues, &[(addresses[0], 24)]),
        Event::Unplug => drop(bench.kernel.world().devices.remove(name)),
        event => {
            let mut world = bench.kernel.world();
            let Some(device) = world.devices.get_mut(name) else { return };
            let interface = &mut device.interface;
            match event {
                Event::Up(up) => interface.up = up,
                Event::Mac(number) => interface.mac = mac(number),
                Event::Mtu(mtu) => interface.mtu = mtu,
                Event::Queues(queues) => interface.queues = queues,
                Event::Address(which, prefix_length) => {
                    interface.addresses.retain(|(address, _)| *address != addresses[which]);
                    interface.addresses.extend(prefix_length.map(|length| (addresses[which], length)));
                }
                Event::AttachForeign => drop(device.attached.get_or_insert(Attached::Foreign)),
                Event::Detach => device.attached = None,
                _ => {}
            }
        }
    }
}

/// Restores a state in which everything can be served.
fn heal(bench: &mut Bench) {
    bench.allow_all();
    for (name, addresses) in SITES {
        let mut world = bench.kernel.world();
        if !world.devices.contains_key(name) {
            world.plug_in(name, 2, &[]);
        }
        let device = world.device(name);
        device.interface.up = true;
        device.interface.addresses = addresses.map(|address| (address, 24)).to_vec();
        if device.attached == Some(Attached::Foreign) {
            device.attached = None;
        }
    }
    bench.wait();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn looks_serve_all_that_can_be_served_and_the_last_one_everything(
        datapath in prop_oneof![
            3 => Just(Datapath::Auto),
            1 => Just(Datapath::Xdp),
            1 => Just(Datapath::Generic),
            1 => Just(Datapath::Socket),
        ],
        events in prop::collection::vec((0..SITES.len(), event()), 1..40),
    ) {
        let mut bench = Bench::serving(datapath);
        for (site, event) in events {
            happen(&mut bench, site, event);
            bench.reconcile();
        }
        heal(&mut bench);
        bench.reconcile_well();
        for port in bench.dataplane.ports() {
            let is_fallback = datapath != Datapath::Socket && port.path() == Path::Socket;
            prop_assert!(!is_fallback, "still on the packet socket");
        }
        prop_assert_eq!(bench.reconcile_well(), [], "an operation was executed although nothing had changed");
    }
}
