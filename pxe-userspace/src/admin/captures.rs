//! The route of captures.

use std::{
    net::Ipv4Addr,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use axum::{
    body::{Body, Bytes},
    extract::{Query, State, rejection::QueryRejection},
    http::{StatusCode, header},
    response::{IntoResponse as _, Response},
};
use http_body_util::channel::{Channel, Sender};
use pxe_common::MacAddr;
use serde::Deserialize;
use tokio::{
    sync::broadcast::{Receiver, error::TryRecvError},
    time::{MissedTickBehavior, interval, timeout},
};

use super::{
    context::{Admin, CaptureSource},
    refusal::refuse,
    setup::kernel,
};
use crate::{
    capture::{Capture, CaptureFile, Note, StartError, Target},
    journal::json::FleetEvent,
    model::{
        event::{EventKind, Transport},
        inventory::{Inventory, Machine},
    },
};

/// The interval at which frames are written.
const WRITE_EVERY: Duration = Duration::from_millis(100);
/// The interval of counts that have changed.
const TELL_EVERY: Duration = Duration::from_secs(1);
/// The interval at which they are written in any case, which shows whether the client is still there.
const KEEP_ALIVE: Duration = Duration::from_secs(5);
/// A client that reads nothing for this time is disconnected.
const STALLED: Duration = Duration::from_secs(30);
/// The words that stand for a token in paths.
const MASK: &str = "***";

/// The query of a capture.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Asked {
    /// A MAC address, also of a stranger; or the host name or the address of a machine of the spec.
    machine: String,
    seconds: Option<u64>,
    packets: Option<u64>,
}

/// `POST /api/v1/captures`.
pub(super) async fn start(
    State(admin): State<Admin>,
    asked: Result<Query<Asked>, QueryRejection>,
) -> Result<Response, Response> {
    let Query(Asked { machine, seconds, packets }) =
        asked.map_err(|error| refuse(StatusCode::BAD_REQUEST, error.body_text()))?;
    let found = find(&admin.context.journal.inventory(), &machine).map_err(|(status, error)| refuse(status, error))?;
    let Found { target, about } = found;
    let (macs, events) = (Arc::clone(&target.macs), admin.context.journal.follow());
    let CaptureSource { tap, http_port } = admin.context.captures.clone();
    // It opens sockets and reads interfaces.
    let started = tokio::task::spawn_blocking(move || Capture::start(&tap, target, http_port)).await;
    let capture = match started {
        Ok(Ok(capture)) => capture,
        Ok(Err(error @ (StartError::TooMany | StartError::TooManyCards(_)))) => {
            return Err(refuse(StatusCode::SERVICE_UNAVAILABLE, error.to_string()));
        }
        Ok(Err(error)) => return Err(refuse(StatusCode::INTERNAL_SERVER_ERROR, error.to_string())),
        Err(error) => return Err(refuse(StatusCode::INTERNAL_SERVER_ERROR, error.to_string())),
    };
    tracing::info!("a capture of {about} begins");
    let system = kernel();
    let comment = format!("frames of {about}, as pxed received and sent them, with its decisions; may hold secrets");
    let interfaces = capture.interfaces();
    let file = CaptureFile::begin(SystemTime::now(), packets.unwrap_or(u64::MAX), (&system, &comment), &interfaces);
    let (sender, body) = Channel::<Bytes>::new(1);
    let end = seconds.and_then(|seconds| Instant::now().checked_add(Duration::from_secs(seconds)));
    let writing = Writing { capture, file, events, macs, end };
    tokio::spawn(async move {
        writing.run(sender).await;
        tracing::info!("the capture of {about} has ended");
    });
    let headers = [(header::CONTENT_TYPE, "application/x-pcapng"), (header::CACHE_CONTROL, "no-store")];
    Ok((headers, Body::new(body)).into_response())
}

/// A capture that is written to its client.
struct Writing {
    capture: Capture,
    file: CaptureFile,
    events: Receiver<Arc<FleetEvent>>,
    macs: Arc<[MacAddr]>,
    end: Option<Instant>,
}

impl Writing {
    async fn run(mut self, mut sender: Sender<Bytes>) {
        let mut tick = interval(WRITE_EVERY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut told_at = Instant::now();
        loop {
            tick.tick().await;
            let is_last = self.end.is_some_and(|end| Instant::now() >= end);
            self.gather();
            let now = SystemTime::now();
            if is_last {
                self.file.write_all();
            } else {
                self.file.write_until(now);
            }
            let is_last = is_last || self.file.is_full();
            if is_last || told_at.elapsed() >= TELL_EVERY {
                let again = is_last || told_at.elapsed() >= KEEP_ALIVE;
                self.file.tell(now, self.capture.counts(), again);
            }
            let bytes = self.file.take_bytes();
            if !bytes.is_empty() {
                told_at = Instant::now();
                match timeout(STALLED, sender.send_data(bytes.into())).await {
                    Ok(Ok(())) => {}
                    // The client has stalled or left.
                    Err(_) | Ok(Err(_)) => return,
                }
            }
            if is_last {
                return;
            }
        }
    }

    /// Takes the frames and the events that have come.
    fn gather(&mut self) {
        while let Some(record) = self.capture.take() {
            self.file.add(record);
        }
        loop {
            match self.events.try_recv() {
                Ok(event) if self.macs.contains(&event.event.mac) => {
                    note_of(&event).into_iter().for_each(|note| self.file.note(note));
                }
                Ok(_) | Err(TryRecvError::Lagged(_)) => {}
                Err(TryRecvError::Empty | TryRecvError::Closed) => return,
            }
        }
    }
}

/// Returns the words about a frame of TFTP or HTTP. Decisions about DHCP come with their frames.
fn note_of(event: &FleetEvent) -> Option<Note> {
    let event = &event.event;
    let (transport, path, is_request) = match &event.kind {
        EventKind::Requested { transport, path, .. } => (*transport, Some(path), true),
        EventKind::Done { transport, .. }
        | EventKind::Unconfirmed { transport, .. }
        | EventKind::Failed { transport, .. } => (*transport, None, false),
        _ => return None,
    };
    // A part of the path that is masked, or that was not UTF-8, is not in the frame.
    let content = path.filter(|_| is_request).map(|path| path.split(MASK).next().unwrap_or_default());
    let content = content.map(|path| path.split("\\x").next().unwrap_or_default()).unwrap_or_default();
    let (by_tcp, text) = (transport == Transport::Http, event.kind.to_string());
    Some(Note { at: event.at, by_tcp, content: content.as_bytes().into(), text })
}

/// A machine that is captured, and its name in words.
#[derive(Debug, PartialEq, Eq)]
struct Found {
    target: Target,
    about: String,
}

/// Finds a machine by MAC address, host name or address.
fn find(inventory: &Inventory, text: &str) -> Result<Found, (StatusCode, String)> {
    let text = text.trim();
    if let Ok(mac) = text.parse::<MacAddr>() {
        if mac.is_group() || mac.is_zero() {
            return Err((StatusCode::BAD_REQUEST, format!("{mac} cannot be the address of one machine")));
        }
        return Ok(match inventory.by_mac(mac) {
            Some(machine) => found(machine),
            None => Found {
                target: Target { macs: [mac].into(), address: None },
                about: format!("{mac}, which is not a machine of the spec"),
            },
        });
    }
    if let Ok(address) = text.parse::<Ipv4Addr>() {
        let machine = inventory.by_address(address);
        return machine.map(|machine| found(machine)).ok_or_else(|| {
            (
                StatusCode::NOT_FOUND,
                format!("no machine of the spec has the address {address}; a stranger is captured by its MAC address"),
            )
        });
    }
    let has_name = |machine: &&Arc<Machine>| {
        machine.hostname.as_deref().is_some_and(|hostname| hostname.eq_ignore_ascii_case(text))
    };
    let named: Vec<_> = inventory.machines().iter().filter(has_name).collect();
    match named[..] {
        [machine] => Ok(found(machine)),
        [] => Err((
            StatusCode::NOT_FOUND,
            format!("{text} is neither a MAC address nor the host name or address of a machine of the spec"),
        )),
        _ => {
            let macs: Vec<_> = named.iter().map(|machine| machine.mac.to_string()).collect();
            Err((
                StatusCode::CONFLICT,
                format!("several machines have the host name {text}: name one of {}", macs.join(", ")),
            ))
        }
    }
}

fn found(machine: &Machine) -> Found {
    let Machine { mac, address, hostname, cluster, .. } = machine;
    let name = hostname.as_deref().map_or_else(String::new, |name| format!("{name}, "));
    Found {
        target: Target { macs: machine.macs().collect(), address: Some(*address) },
        about: format!("{mac} ({name}{address}, cluster {cluster})"),
    }
}

#[cfg(test)]
mod tests;
