//! The stream of boot events, as server-sent events.
//!
//! A follower that does not keep up loses events and is told how many. A follower that reads nothing for half a minute is
//! disconnected. Only the follower's own task ever waits for it.

use std::{sync::Arc, time::Duration};

use axum::{
    body::{Body, Bytes},
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use http_body_util::channel::{Channel, Sender};
use tokio::{
    sync::broadcast::{
        Receiver,
        error::{RecvError, TryRecvError},
    },
    time::timeout,
};

use super::{
    context::{Admin, MAX_FOLLOWERS},
    refusal::refuse,
};
use crate::journal::json::FleetEvent;

/// The interval of comment lines, which show both ends that the other is still there.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// A follower that reads nothing for this time is disconnected.
const STALLED: Duration = Duration::from_secs(30);
/// The size at which a batch of events is written.
const BATCH_BYTES: usize = 64 << 10;

/// `GET /api/v1/events`.
pub(super) async fn follow(State(admin): State<Admin>) -> Response {
    let Ok(permit) = Arc::clone(&admin.followers).try_acquire_owned() else {
        let error = format!("{MAX_FOLLOWERS} clients follow the events already; close one");
        return refuse(StatusCode::SERVICE_UNAVAILABLE, error);
    };
    let (sender, body) = Channel::<Bytes>::new(1);
    let events = admin.context.journal.follow();
    tokio::spawn(async move {
        write_events(events, sender).await;
        drop(permit);
    });
    let headers = [(header::CONTENT_TYPE, "text/event-stream"), (header::CACHE_CONTROL, "no-store")];
    (headers, Body::new(body)).into_response()
}

async fn write_events(mut events: Receiver<Arc<FleetEvent>>, mut sender: Sender<Bytes>) {
    let mut text = b": boot events from now on\nretry: 2000\n\n".to_vec();
    loop {
        match timeout(STALLED, sender.send_data(std::mem::take(&mut text).into())).await {
            Ok(Ok(())) => {}
            // The follower has stalled or left.
            Err(_) | Ok(Err(_)) => return,
        }
        match timeout(KEEP_ALIVE, events.recv()).await {
            Err(_) => text.extend_from_slice(b": still here\n\n"),
            Ok(Ok(event)) => write_event(&mut text, &event),
            Ok(Err(RecvError::Lagged(missed))) => write_lag(&mut text, missed),
            Ok(Err(RecvError::Closed)) => return,
        }
        while text.len() < BATCH_BYTES {
            match events.try_recv() {
                Ok(event) => write_event(&mut text, &event),
                Err(TryRecvError::Lagged(missed)) => write_lag(&mut text, missed),
                Err(TryRecvError::Empty | TryRecvError::Closed) => break,
            }
        }
    }
}

/// Writes an event. JSON contains no line breaks, so one `data:` line is enough.
fn write_event(text: &mut Vec<u8>, event: &FleetEvent) {
    text.extend_from_slice(b"event: boot\ndata: ");
    if let Err(error) = serde_json::to_writer(&mut *text, event) {
        tracing::error!(mac = %event.machine.mac, "an event could not be written as JSON: {error}");
    }
    text.extend_from_slice(b"\n\n");
}

/// Writes how many events the follower has lost.
fn write_lag(text: &mut Vec<u8>, missed: u64) {
    text.extend_from_slice(format!("event: lagged\ndata: {{\"missed\":{missed}}}\n\n").as_bytes());
}
