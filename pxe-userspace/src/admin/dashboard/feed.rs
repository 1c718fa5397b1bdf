//! The stream that the dashboard lives by, as server-sent events: the fleet once, then what has changed of it.
//!
//! A storm has tens of thousands of events a second, of which a person sees the last of each machine. So the page does not follow
//! the events: at most every [`EVERY`] it is told the state of each machine that has another one by then. An event that changes nothing
//! that the page shows costs no byte, and what the stream costs is bounded by the fleet, whatever the machines do.
//!
//! | event | data |
//! |---|---|
//! | `begin` | `{"version", "now", "machines", "changes", "stages"}`, before anything else and when the spec has changed |
//! | `machines` | `[[machine, state], …]`, the next of the fleet in the order of the spec |
//! | `changed` | `{"now", "rows": [[index, state], …]}`; without rows once a second, which shows that pxed is there |

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::{Duration, SystemTime},
};

use axum::{
    Extension,
    body::{Body, Bytes},
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse as _, Response},
};
use http_body_util::channel::{Channel, Sender};
use pxe_common::MacAddr;
use tokio::{
    sync::broadcast::{
        Receiver,
        error::{RecvError, TryRecvError},
    },
    time::{Instant, sleep, timeout, timeout_at},
};

use super::machine_row::{millis, stages, write_machine, write_state};
use crate::{
    admin::{
        access::Changes,
        context::{Admin, MAX_FOLLOWERS},
        refusal::refuse,
    },
    journal::{Journal, json::FleetEvent},
    model::inventory::Inventory,
};

/// The interval at which changes are told while there are many.
const EVERY: Duration = Duration::from_millis(100);
/// The interval at which events are taken meanwhile, so that few are lost in a storm.
const TAKE_EVERY: Duration = Duration::from_millis(25);
/// The interval at which the page hears of pxed, although nothing has changed.
const BEAT: Duration = Duration::from_secs(1);
/// The interval at which all machines are compared: a person's decision is no event.
const COMPARE_EVERY: Duration = Duration::from_secs(5);
/// A page that reads nothing for this time is disconnected.
const STALLED: Duration = Duration::from_secs(30);
/// The number of machines that are read at once. The journal waits meanwhile.
const CHUNK: usize = 128;

/// `GET /dashboard/fleet`.
pub(super) async fn follow(State(admin): State<Admin>, Extension(changes): Extension<Changes>) -> Response {
    let Ok(permit) = Arc::clone(&admin.followers).try_acquire_owned() else {
        let error = format!("{MAX_FOLLOWERS} clients follow the fleet already; close one");
        return refuse(StatusCode::SERVICE_UNAVAILABLE, error);
    };
    let (sender, body) = Channel::<Bytes>::new(1);
    let journal = Arc::clone(&admin.context.journal);
    tokio::spawn(async move {
        // An error means that the page has left, or has stalled.
        let _ = Feed { journal, sender, changes }.write().await;
        drop(permit);
    });
    let headers = [(header::CONTENT_TYPE, "text/event-stream"), (header::CACHE_CONTROL, "no-store")];
    (headers, Body::new(body)).into_response()
}

/// The page has left, or reads nothing.
struct Left;

struct Feed {
    journal: Arc<Journal>,
    sender: Sender<Bytes>,
    changes: Changes,
}

/// The fleet as the page knows it.
struct Told {
    inventory: Arc<Inventory>,
    /// The index of each machine.
    indices: HashMap<MacAddr, usize>,
    /// The hash of each machine's state.
    states: Vec<u64>,
}

impl Feed {
    async fn write(&mut self) -> Result<(), Left> {
        // Changes during the writing of the fleet are told afterwards.
        let mut events = self.journal.follow();
        loop {
            let mut told = self.write_fleet().await?;
            self.write_changes(&mut told, &mut events).await?;
        }
    }

    async fn write_fleet(&mut self) -> Result<Told, Left> {
        let inventory = self.journal.inventory();
        let machines = inventory.machines();
        let begin = serde_json::json!({
            "version": env!("CARGO_PKG_VERSION"),
            "now": millis(SystemTime::now()) as u64,
            "machines": machines.len(),
            "changes": self.changes,
            "stages": stages(),
        });
        self.send(format!("event: begin\ndata: {begin}\n\n").into()).await?;
        let mut indices = HashMap::with_capacity(machines.len());
        let mut states = Vec::with_capacity(machines.len());
        for chunk in machines.chunks(CHUNK) {
            let mut text = b"event: machines\ndata: ".to_vec();
            let mut separator = b'[';
            for record in self.journal.machines(chunk, 0, None) {
                indices.insert(record.machine.mac, states.len());
                text.extend([separator, b'[']);
                separator = b',';
                write_machine(&mut text, &record);
                text.push(b',');
                states.push(write_state(&mut text, &record, SystemTime::now()));
                text.push(b']');
            }
            text.extend_from_slice(b"]\n\n");
            self.send(text).await?;
            tokio::task::yield_now().await;
        }
        Ok(Told { inventory, indices, states })
    }

    /// Writes changes until the spec has changed.
    async fn write_changes(&mut self, told: &mut Told, events: &mut Receiver<Arc<FleetEvent>>) -> Result<(), Left> {
        let (mut compared, mut sent) = (Instant::now(), Instant::now());
        let mut touched = BTreeSet::new();
        // Whatever happened while the fleet was written.
        let mut missed = take(events, told, &mut touched);
        loop {
            let beat = Instant::now() + BEAT;
            if touched.is_empty() && !missed {
                match timeout_at(beat, events.recv()).await {
                    Ok(Ok(event)) => told.touch(&event, &mut touched),
                    Ok(Err(RecvError::Lagged(_))) => missed = true,
                    // The journal has ended, and pxed with it.
                    Ok(Err(RecvError::Closed)) => return Err(Left),
                    Err(_) => {}
                }
            }
            if !touched.is_empty() || missed {
                // After a pause, the first change is told almost at once.
                let until = (sent + EVERY).max(Instant::now() + TAKE_EVERY);
                while Instant::now() < until {
                    sleep(TAKE_EVERY).await;
                    missed |= take(events, told, &mut touched);
                }
            }
            if !Arc::ptr_eq(&told.inventory, &self.journal.inventory()) {
                return Ok(());
            }
            if missed || compared.elapsed() >= COMPARE_EVERY {
                compared = Instant::now();
                touched.extend(0..told.states.len());
            }
            let text = told.changes(&self.journal, &std::mem::take(&mut touched)).await;
            missed = false;
            sent = Instant::now();
            self.send(text).await?;
        }
    }

    async fn send(&mut self, text: Vec<u8>) -> Result<(), Left> {
        match timeout(STALLED, self.sender.send_data(text.into())).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(Left),
        }
    }
}

/// Takes the events that are there. Returns `true` if some are lost.
fn take(events: &mut Receiver<Arc<FleetEvent>>, told: &Told, touched: &mut BTreeSet<usize>) -> bool {
    let mut missed = false;
    loop {
        match events.try_recv() {
            Ok(event) => told.touch(&event, touched),
            Err(TryRecvError::Lagged(_)) => missed = true,
            Err(TryRecvError::Empty | TryRecvError::Closed) => return missed,
        }
    }
}

impl Told {
    fn touch(&self, event: &FleetEvent, touched: &mut BTreeSet<usize>) {
        touched.extend(self.indices.get(&event.machine.mac));
    }

    /// Returns the message with those of the machines of which the page does not know the state.
    async fn changes(&mut self, journal: &Journal, touched: &BTreeSet<usize>) -> Vec<u8> {
        let mut text = format!("event: changed\ndata: {{\"now\":{},\"rows\":[", millis(SystemTime::now())).into_bytes();
        let mut is_first = true;
        let indices: Vec<usize> = touched.iter().copied().collect();
        for chunk in indices.chunks(CHUNK) {
            let machines: Vec<_> = chunk.iter().map(|&index| Arc::clone(&self.inventory.machines()[index])).collect();
            for (&index, record) in chunk.iter().zip(journal.machines(&machines, 0, None)) {
                let before = text.len();
                text.extend_from_slice(format!("{}[{index},", if is_first { "" } else { "," }).as_bytes());
                let state = write_state(&mut text, &record, SystemTime::now());
                text.push(b']');
                if std::mem::replace(&mut self.states[index], state) == state {
                    text.truncate(before);
                } else {
                    is_first = false;
                }
            }
            tokio::task::yield_now().await;
        }
        text.extend_from_slice(b"]}\n\n");
        text
    }
}
