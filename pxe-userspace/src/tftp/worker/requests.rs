//! What a request begins, and what it is refused with.

use std::{
    net::SocketAddrV4,
    sync::Arc,
    time::{Instant, SystemTime},
};

use super::{Route, Running, Worker};
use crate::{
    artifacts::Refusal,
    model::{
        artifact_names::{is_optional, kind_of},
        event::{EventKind, Transport, short_path},
        failure::{NO_SUCH_FILE, OUTSIDE, UNREADABLE},
    },
    tftp::{
        chunks::Cursor,
        metrics::{RefusedReason, TransferResult},
        options::Terms,
        packet::{ErrorCode, Mode, Packet, Request, error_packet},
        socket::path_mtu,
        timers::Due,
        transfer::{Repeated, Transfer},
    },
};

/// Ethernet's, where the kernel does not tell.
const USUAL_MTU: u16 = 1500;

impl Worker {
    pub(super) fn on_request(&mut self, client: SocketAddrV4, datagram: &[u8]) {
        let now = Instant::now();
        if let Some(running) = self.transfers.get_mut(&client) {
            let repeated =
                if *running.request == *datagram { running.transfer.on_repeated_request(now) } else { Repeated::Anew };
            match repeated {
                Repeated::Again(action) => return self.perform(client, action),
                Repeated::Anew => self.end(client, TransferResult::restarted, Some("the client began anew")),
            }
        }
        match Packet::parse(datagram) {
            Ok(Packet::Read(request)) => self.on_read(now, client, &request, datagram),
            Ok(Packet::Write { path }) => {
                tracing::debug!(%client, path = %path.escape_ascii(), "TFTP write refused: the server is read-only");
                self.refuse(client, RefusedReason::write, ErrorCode::AccessViolation, "this server is read-only");
            }
            // Never answered: an error about an error could go on for ever.
            Ok(Packet::Ack(_) | Packet::Error { .. }) | Err(_) => self.context.metrics.refuse(RefusedReason::malformed),
        }
    }

    fn on_read(&mut self, now: Instant, client: SocketAddrV4, request: &Request<'_>, datagram: &[u8]) {
        let machine = self.context.inventory.load().by_address(*client.ip()).map(|machine| machine.mac);
        if machine.is_none() {
            self.context.metrics.unknown_clients.inc();
        }
        let path = short_path(request.path);
        let kind = kind_of(request.path);
        let opened = if request.mode == Mode::Other { None } else { Some(self.context.store.open(request.path)) };
        let refusal = match opened {
            Some(Ok(_)) if !self.admission.take(*client.ip(), machine.is_some()) => {
                // Silence makes the client ask again, when there may be room.
                return self.context.metrics.refuse(RefusedReason::busy);
            }
            Some(Ok(file)) => {
                let terms = Terms::negotiate(request.options, file.length, self.mtu(client));
                let (transfer, action) = Transfer::new(now, terms);
                self.serial += 1;
                let serial = self.serial;
                let mut due = Due::default();
                self.timers.set(&mut due, transfer.deadline(), client, serial);
                // Of windows, each a send of many datagrams, the stack's share is small.
                let route = if terms.window == 1 { Route::Unknown } else { Route::Stack };
                let cursor = Cursor::new(&file, &terms, SystemTime::now());
                let (request, file) = (datagram.into(), self.files.share(file));
                let path = Arc::clone(&path);
                self.event(
                    machine,
                    EventKind::Requested { artifact: kind, transport: Transport::Tftp, path: Arc::clone(&path) },
                );
                let running = Running {
                    transfer,
                    file,
                    cursor,
                    route,
                    request,
                    path,
                    kind,
                    machine,
                    started: now,
                    serial,
                    due,
                    cold: None,
                };
                self.transfers.insert(client, running);
                self.context.metrics.active.inc();
                return self.perform(client, action);
            }
            None => Refused {
                reason: RefusedReason::mode,
                code: ErrorCode::IllegalOperation,
                text: "only mode octet is served",
            },
            Some(Err(refusal)) => refusal.into(),
        };
        let Refused { reason, code, text } = refusal;
        // Nobody expects these to be there: no reason to worry about the machine, nor a line that holds back another.
        if !(reason == RefusedReason::not_found && is_optional(request.path)) {
            self.context.refusals.log(client, machine, &path, text);
            let requested =
                EventKind::Requested { artifact: kind, transport: Transport::Tftp, path: Arc::clone(&path) };
            self.event(machine, requested);
            let (transport, reason) = (Transport::Tftp, text.into());
            self.event(machine, EventKind::Failed { artifact: kind, transport, path, bytes: 0, reason });
        }
        self.refuse(client, reason, code, text);
    }

    fn mtu(&self, client: SocketAddrV4) -> u16 {
        path_mtu(&self.probe, client).unwrap_or(USUAL_MTU)
    }

    fn refuse(&mut self, client: SocketAddrV4, reason: RefusedReason, code: ErrorCode, text: &str) {
        self.context.metrics.refuse(reason);
        self.send(client, &error_packet(code, text));
    }
}

/// How a refusal is told.
struct Refused {
    reason: RefusedReason,
    code: ErrorCode,
    text: &'static str,
}

impl From<Refusal> for Refused {
    fn from(refusal: Refusal) -> Self {
        let (reason, code, text) = match refusal {
            Refusal::NotFound => (RefusedReason::not_found, ErrorCode::NotFound, NO_SUCH_FILE),
            Refusal::Outside => (RefusedReason::outside, ErrorCode::AccessViolation, OUTSIDE),
            Refusal::Unreadable => (RefusedReason::unreadable, ErrorCode::AccessViolation, UNREADABLE),
        };
        Self { reason, code, text }
    }
}
