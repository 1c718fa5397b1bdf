//! The thread of a capture that observes the interfaces by packet sockets.

use std::{
    net::Ipv4Addr,
    os::fd::AsFd as _,
    sync::Arc,
    thread,
    time::{Duration, Instant, SystemTime},
};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::{
    kernel_filter,
    record::{Record, Way},
    segments,
    selection::Selection,
    session::{Session, StartError},
    tap::{Served, Tap},
};
use crate::net::{
    interface::Interface,
    packet_observer::{PacketObserver, Seen},
};

/// The longest wait for a frame, after which the end of the capture is seen.
const WAIT_MS: u16 = 100;
/// The interval at which interfaces and addresses are read again.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// The most frames of an interface between two such looks.
const FRAMES_A_TURN: usize = 256;

/// An observed interface.
struct Observed {
    served: Served,
    socket: PacketObserver,
    own: Vec<Ipv4Addr>,
}

/// Opens the sockets and starts the thread.
pub(super) fn start(session: Arc<Session>, tap: Tap, http_port: u16) -> Result<(), StartError> {
    let mut observed = Vec::new();
    look(&session, &tap, &mut observed)?;
    let run = move || run(&session, &tap, http_port, observed);
    thread::Builder::new().name("pxed-capture".to_owned()).spawn(run).map(drop).map_err(StartError::Thread)
}

fn run(session: &Session, tap: &Tap, http_port: u16, mut observed: Vec<Observed>) {
    let mut looked_at = Instant::now();
    let mut buffer = vec![0; PacketObserver::CAPACITY];
    while !session.has_ended() {
        if looked_at.elapsed() >= LOOK_EVERY {
            looked_at = Instant::now();
            // An interface that cannot be observed now may be later.
            if let Err(error) = look(session, tap, &mut observed) {
                tracing::debug!("a capture: {error}");
            }
            observed.iter().for_each(|observed| session.lost(observed.socket.dropped()));
        }
        let mut ready: Vec<_> =
            observed.iter().map(|observed| PollFd::new(observed.socket.as_fd(), PollFlags::POLLIN)).collect();
        // An error is a signal, or too little memory: the sockets are tried all the same.
        let _ = poll(&mut ready, PollTimeout::from(WAIT_MS));
        for Observed { served, socket, own } in &observed {
            for _ in 0..FRAMES_A_TURN {
                let Some(seen) = socket.receive(&mut buffer) else { break };
                let target = &session.target;
                let selection = Selection {
                    macs: &target.macs,
                    address: target.address,
                    own,
                    http_port,
                    dhcp_is_tapped: served.by_socket,
                };
                take(session, &selection, &served.name, &seen);
            }
        }
    }
}

/// Hands over a frame, if it belongs to the capture.
fn take(session: &Session, selection: &Selection<'_>, interface: &Arc<str>, seen: &Seen<'_>) {
    let Seen { frame, length, is_outgoing, at } = *seen;
    let way = if is_outgoing { Way::Out } else { Way::In };
    let Some(kept) = selection.kept(frame, way) else { return };
    let offer = |bytes: &[u8], length| {
        let (interface, at) = (Arc::clone(interface), at.unwrap_or_else(SystemTime::now));
        session.offer(Record {
            at,
            interface,
            way,
            length,
            bytes: bytes.into(),
            comment: String::new(),
            by_program: None,
        });
    };
    match if is_outgoing && kept == frame.len() { segments::of_window(frame) } else { None } {
        Some(datagrams) => datagrams.iter().for_each(|datagram| offer(datagram, datagram.len())),
        None => offer(frame.get(..kept).unwrap_or(frame), length),
    }
}

/// Observes the interfaces that are served now, with their addresses of now.
fn look(session: &Session, tap: &Tap, observed: &mut Vec<Observed>) -> Result<(), StartError> {
    let served = tap.served();
    observed.retain(|known| served.iter().any(|served| served.index == known.served.index));
    for served in served {
        let own = Interface::read(&served.name).map(|interface| interface.addresses).unwrap_or_default();
        let own: Vec<_> = own.into_iter().map(|(address, _)| address).collect();
        match observed.iter_mut().find(|known| known.served.index == served.index) {
            Some(known) if own.is_empty() => known.served = served,
            Some(known) => (known.served, known.own) = (served, own),
            None => {
                let filter = kernel_filter::filter(&session.target.macs, session.target.address);
                let socket = PacketObserver::open(served.index, &filter)
                    .map_err(|error| StartError::Observer { interface: served.name.to_string(), error })?;
                observed.push(Observed { served, socket, own });
            }
        }
    }
    Ok(())
}
