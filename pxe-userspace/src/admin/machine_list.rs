//! `GET /api/v1/machines`: the list of machines, which is written while the client reads it, so that the JSON of a whole fleet is never in
//! memory.

use std::{sync::Arc, time::SystemTime};

use axum::{
    body::{Body, Bytes},
    extract::{Query, State, rejection::QueryRejection},
    http::{HeaderMap, HeaderValue, StatusCode, Uri, header},
    response::Response,
};
use http_body_util::channel::{Channel, Sender};

use super::{
    context::Admin,
    etag::{Hasher, Tag},
    paging,
    refusal::{Refusal, refuse},
    selection::{Filter, Page, Selection},
};
use crate::{
    journal::{Journal, MachineRecord, json::MachineJson},
    model::inventory::Inventory,
};

/// The number of machines that are read at once. The journal waits meanwhile, for well below a millisecond.
const CHUNK: usize = 128;
/// The number of machines of which only the state is read at once.
const SUMMARIES: usize = 1_024;
/// A list up to this size is kept between being hashed and being sent. A longer one is written a second time.
const KEPT_BYTES: usize = 1 << 20;

/// `GET /api/v1/machines`: an array, in the order of the spec unless the query names another.
#[utoipa::path(get, path = "/api/v1/machines", operation_id = "list_machines", tag = "pxed", params(Filter), responses(
    (status = 200, description = "The machines", body = Vec<MachineJson>, headers(
        ("X-Total-Count" = u64, description = "The number of machines on all pages"),
    )),
    (status = 400, description = "A mistake of the query", body = Refusal),
))]
pub(super) async fn list(
    State(admin): State<Admin>,
    uri: Uri,
    request: HeaderMap,
    filter: Result<Query<Filter>, QueryRejection>,
) -> Result<Response, Response> {
    let Query(filter) = filter.map_err(|error| refuse(StatusCode::BAD_REQUEST, error.body_text()))?;
    let selection = Selection::try_from(filter).map_err(|error| refuse(StatusCode::BAD_REQUEST, error))?;
    let list = List::new(Arc::clone(&admin.context.journal), selection).await;
    Ok(list.answer(&uri, &request).await)
}

/// The machines of an answer.
struct List {
    journal: Arc<Journal>,
    inventory: Arc<Inventory>,
    selection: Selection,
    page: Page,
}

impl List {
    /// Selects the machines.
    async fn new(journal: Arc<Journal>, selection: Selection) -> Self {
        let inventory = journal.inventory();
        let mut rows = Vec::new();
        for (begin, chunk) in (0..).step_by(SUMMARIES).zip(inventory.machines().chunks(SUMMARIES)) {
            let summaries = journal.summaries(chunk);
            let machines = (begin..).zip(chunk.iter().zip(&summaries));
            let wanted = machines.filter(|(_, (machine, summary))| selection.wants(machine, summary));
            rows.extend(wanted.map(|(index, (machine, summary))| selection.row(index, machine, summary)));
            tokio::task::yield_now().await;
        }
        let page = selection.page(rows, &inventory);
        Self { journal, inventory, selection, page }
    }

    async fn answer(self, uri: &Uri, request: &HeaderMap) -> Response {
        let headers = paging::headers(uri, self.page.total, self.page.next.as_deref());
        let (tag, kept) = self.hash(&headers).await;
        if tag.is_known(request) {
            let mut answer = tag.not_modified();
            answer.headers_mut().extend(headers);
            return answer;
        }
        let body = match kept {
            Some(text) => Body::from(text),
            None => {
                let (sender, body) = Channel::<Bytes>::new(2);
                tokio::spawn(self.send(sender));
                Body::new(body)
            }
        };
        let mut answer = Response::new(body);
        *answer.headers_mut() = headers;
        answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        tag.on(answer)
    }

    /// Returns the tag of the answer, and its text unless it is long.
    async fn hash(&self, headers: &HeaderMap) -> (Tag, Option<Vec<u8>>) {
        let mut hasher = Hasher::new();
        for name in paging::PAGE_HEADERS {
            hasher.add(headers.get(name).map_or(&[][..], HeaderValue::as_bytes));
            hasher.add(b"\n");
        }
        let mut kept = Some(Vec::new());
        for part in Text::new(self) {
            hasher.add(&part);
            kept = kept.filter(|kept| kept.len() + part.len() <= KEPT_BYTES);
            if let Some(kept) = &mut kept {
                kept.extend_from_slice(&part);
            }
            tokio::task::yield_now().await;
        }
        (hasher.tag(), kept)
    }

    async fn send(self, mut sender: Sender<Bytes>) {
        for part in Text::new(&self) {
            // An error means that the client has left.
            if sender.send_data(part.into()).await.is_err() {
                return;
            }
            tokio::task::yield_now().await;
        }
    }
}

/// The text of a list, in parts.
struct Text<'l> {
    list: &'l List,
    done: usize,
    /// The byte in front of the next machine; `None` after the end.
    separator: Option<u8>,
}

impl<'l> Text<'l> {
    fn new(list: &'l List) -> Self {
        Self { list, done: 0, separator: Some(b'[') }
    }
}

impl Iterator for Text<'_> {
    type Item = Vec<u8>;

    fn next(&mut self) -> Option<Vec<u8>> {
        let mut separator = self.separator?;
        let List { journal, inventory, selection, page } = self.list;
        let rest = page.machines.get(self.done..).unwrap_or_default();
        let part = rest.get(..CHUNK).unwrap_or(rest);
        self.done += part.len();
        let machines: Vec<_> = part.iter().filter_map(|&index| inventory.machines().get(index).cloned()).collect();
        let records = journal.machines(&machines, selection.events, None);
        let mut text = Vec::with_capacity(records.len() * 512 + 4);
        let now = SystemTime::now();
        // A machine that has moved on since it was selected is left out.
        let is_wanted = |record: &&MachineRecord| selection.wants_state(record.stage, || record.is_stuck(now));
        for record in records.iter().filter(is_wanted) {
            let begin = text.len();
            text.extend([separator, b'\n']);
            if let Err(error) = serde_json::to_writer(&mut text, &MachineJson::of(record, now)) {
                tracing::error!(mac = %record.machine.mac, "a machine could not be written as JSON: {error}");
                text.truncate(begin);
                continue;
            }
            separator = b',';
        }
        self.separator = Some(separator);
        if part.len() == rest.len() {
            text.extend_from_slice(if separator == b'[' { b"[]\n" } else { b"\n]\n" });
            self.separator = None;
        }
        Some(text)
    }
}

#[cfg(test)]
mod tests;
