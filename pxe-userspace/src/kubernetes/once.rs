//! Reads everything once, for commands that do not watch.

use std::sync::Arc;

use super::{
    client::{ApiServer, Settings},
    fault::{Fault, FaultReason},
    request::{Limits, Listing, Source},
    room::Room,
};
use crate::model::api_object::{ApiKind, ApiObject};

/// Reads the objects of every kind. It must be called within a tokio runtime.
///
/// # Errors
///
/// The first reason why they cannot be read.
pub async fn read_all(settings: Settings) -> anyhow::Result<Vec<ApiObject>> {
    let server = Arc::new(ApiServer::connect(settings).await?);
    let namespaces = server.watched_namespaces();
    let namespaces: Vec<Option<String>> =
        if namespaces.is_empty() { vec![None] } else { namespaces.iter().cloned().map(Some).collect() };
    let (mut objects, room) = (Vec::new(), Arc::new(Room::default()));
    let mut kept = Vec::new();
    for kind in ApiKind::ALL {
        for namespace in &namespaces {
            let source = Source {
                server: Arc::clone(&server),
                kind,
                namespace: namespace.clone(),
                limits: Limits::default(),
                room: Arc::clone(&room),
            };
            let listed = source.list().await;
            let failed = |fault: Fault| anyhow::Error::msg(fault.words(&server.url(), kind, namespace.as_deref()));
            let Listing { observed, shapeless, version: _, taken } = listed.map_err(failed)?;
            if shapeless > 0 {
                let detail = format!("{shapeless} objects without a usable name");
                return Err(failed(Fault::new(FaultReason::Garbled, detail)));
            }
            kept.push(taken);
            objects.extend(observed.into_iter().map(|observed| observed.object));
        }
    }
    Ok(objects)
}
