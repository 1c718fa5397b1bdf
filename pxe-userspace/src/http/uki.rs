//! A machine's unified kernel image as an answer: its kernel, its initramfs and its arguments in one file, which is made while it is sent.
//!
//! Kernel and initramfs go from the store to the socket like any other file. Only the end of the image belongs to the machine: its arguments,
//! and the signature if images are signed. While the machine's files are on their way, it gets iPXE instead, which waits for them.

use std::{io, net::Ipv4Addr, sync::Arc, time::SystemTime};

use http::StatusCode;

use super::{
    body::{self, Late, Piece},
    coverage::{FileState, Identity},
    delivery::Delivery,
    exchange::Exchange,
    file::{self, Asset},
    guarded,
    metrics::{Refused, Route},
    plan::Plan,
    range::Validators,
    stream::{Broken, Stream},
    uki_images::{Signer, sources},
    uki_sources::{Shared, Sources, Unmade},
};
use crate::{
    artifacts::Refusal,
    boot::{config, ipxe, talos},
    guard::Purpose,
    model::{
        artifact_names,
        boot_method::BootMethod,
        event::{ArtifactKind, EventKind},
        failure::NO_IMAGE,
        images::BootFiles,
        inventory::Machine,
        loader::{Loader, LoaderFile},
        origin::Origin,
        policy::Disposition,
        token::Token,
    },
    uki::{command_line, command_line::SECTION_LENGTH},
};

/// The media type of EFI applications. Some firmware requires a type that it knows (UEFI 2.10 §24.7.2).
const EFI_APPLICATION: &str = "application/efi";

/// Answers a request for the machine's unified kernel image.
///
/// Firmware asks by HEAD first, and does not go on after a refusal. So a refusal is an event of either method.
pub(super) async fn answer(
    stream: &mut Stream,
    exchange: Exchange<'_>,
    machine: &Arc<Machine>,
    token: Option<Token>,
) -> Result<(), Broken> {
    let context = exchange.context;
    if let Some(reason) = config::refusal_of("unified kernel image", machine, exchange.peer, context.check_source) {
        context.asked_by_another(machine.mac, exchange.peer, exchange.head.target());
        return exchange.answer_line(stream, Route::Uki, StatusCode::FORBIDDEN, &reason).await;
    }
    if context.disposition(machine) == Disposition::Disk {
        context.events.send(machine.mac, SystemTime::now(), Origin::Machine, EventKind::SentToDisk);
        let text = format!("this machine boots from its disk; {}", ipxe::way_back(machine));
        return exchange.answer_line(stream, Route::Uki, StatusCode::NOT_FOUND, &text).await;
    }
    let (noun, purpose) = ("unified kernel image", Purpose::Boot);
    if let Some(reason) = guarded::refusal(context, machine, token, purpose, exchange.server, noun) {
        context.metrics.refused(Refused::Token);
        return refuse(stream, exchange, machine, StatusCode::FORBIDDEN, &reason, None).await;
    }
    let config_token = guarded::config_token(context, machine, token, exchange.server);
    let images = context.images.load_full();
    let machine = images.as_bootable(machine);
    if machine.boot == BootMethod::Ipxe || images.awaited(machine).is_some() {
        return answer_with_ipxe(stream, exchange, machine).await;
    }
    let files = BootFiles::of(machine, images.stubs());
    if let BootFiles::SecureBootUki(path) = &files {
        return answer_with_file(stream, exchange, machine, path, ArtifactKind::Uki).await;
    }
    let open = || sources(machine, files.clone(), |path| context.store.open(path.as_bytes()));
    let sources = match file::patiently(open, |(_, refusal)| *refusal == Refusal::Exhausted).await {
        Ok(Some(sources)) => sources,
        // It is being read to verify it, or has just been replaced.
        Err((_, Refusal::Unverified)) | Ok(None) => return answer_with_ipxe(stream, exchange, machine).await,
        Err((path, refusal)) => return refuse_file(stream, exchange, machine, &path, refusal).await,
    };
    let signer = context.ukis.signer();
    let image = match context.ukis.shared(&sources, machine.architecture, signer.as_deref()).await {
        Ok(shared) => Image::new(sources, shared, signer, machine, (*exchange.server.ip(), config_token)),
        Err(unmade) => Err(unmade),
    };
    match image {
        Ok(image) => image.send(stream, exchange, machine).await,
        Err(Unmade { reason, .. }) => {
            let status = StatusCode::SERVICE_UNAVAILABLE;
            refuse(stream, exchange, machine, status, &reason, Some(NO_IMAGE)).await
        }
    }
}

/// The image of one machine.
struct Image {
    sources: Arc<Sources>,
    shared: Arc<Shared>,
    signer: Option<Arc<Signer>>,
    command_line: [u8; SECTION_LENGTH],
    /// The hash that is signed.
    digest: [u8; 32],
}

impl Image {
    fn new(
        sources: Sources,
        shared: Arc<Shared>,
        signer: Option<Arc<Signer>>,
        machine: &Machine,
        (server, config_token): (Ipv4Addr, Option<Token>),
    ) -> Result<Self, Unmade> {
        let command_line = command_line::encode(&talos::arguments(machine, server, config_token)).map_err(|error| {
            let place = format!("{} line {}", machine.source.file.display(), machine.source.line);
            Unmade { reason: format!("{error} ({place})").into(), may_pass: false }
        })?;
        let digest = shared.midstate.digest(&command_line);
        Ok(Self { sources: shared.open(sources), shared, signer, command_line, digest })
    }

    fn length(&self) -> u64 {
        self.shared.length + SECTION_LENGTH as u64 + u64::from(self.shared.certificate_length)
    }

    /// Returns a hash that no other image has. It does not depend on where and when the image is made, so a download can be continued after
    /// a restart, and from another node.
    fn identity(&self) -> [u8; 16] {
        let mut context = ring::digest::Context::new(&ring::digest::SHA256);
        context.update(&self.digest);
        if let Some(signer) = &self.signer {
            context.update(&signer.fingerprint);
        }
        let mut identity = [0; 16];
        identity.copy_from_slice(&context.finish().as_ref()[..16]);
        identity
    }

    /// Returns its pieces. The signature is made only if somebody gets it.
    fn pieces(&self) -> Vec<Piece> {
        let mut pieces = self.shared.pieces(&self.sources);
        pieces.push(Piece::Bytes(self.command_line.to_vec().into()));
        if let Some(signer) = &self.signer {
            let (signer, digest) = (Arc::clone(signer), self.digest);
            let sign = move || signer.sign(&digest).map(|signature| signature.to_vec()).map_err(io::Error::other);
            pieces.push(Piece::Late(Late::new(self.shared.certificate_length.into(), sign)));
        }
        pieces
    }

    async fn send(self, stream: &mut Stream, mut exchange: Exchange<'_>, machine: &Machine) -> Result<(), Broken> {
        let (context, request) = (exchange.context, exchange.head);
        let identity = self.identity();
        let validators = Validators::of_content(&identity);
        let plan = Plan::new(&exchange, self.length(), &validators);
        context.metrics.answered(Route::Uki, plan.status.as_u16());
        let head = plan.head(EFI_APPLICATION, &validators).end(Some(request), exchange.stay);
        let state = FileState { identity: Identity::Made(identity), length: self.length() };
        if !exchange.is_head() {
            let delivery = Delivery::new(machine.mac, ArtifactKind::Uki, &request.path);
            plan.record(delivery, state, &mut exchange, stream.position() + head.len() as u64);
        }
        if plan.has_no_body(&exchange) {
            return stream.write(&head).await;
        }
        let pieces = body::cut(&self.pieces(), plan.first..plan.end);
        let sending = exchange.deliveries.sending(state, pieces.iter().filter_map(Piece::artifact));
        let sent = stream.write_body(&head, &pieces, sending, &context.metrics).await;
        if matches!(sent, Err(Broken::Changed)) {
            for source in self.sources.all().filter(|source| !source.artifact.is_unchanged()) {
                file::log_change(context, source.path.as_bytes(), &source.artifact);
            }
        }
        sent
    }
}

/// Answers with iPXE, whose script waits for the machine's files and then loads what the machine boots.
async fn answer_with_ipxe(stream: &mut Stream, exchange: Exchange<'_>, machine: &Machine) -> Result<(), Broken> {
    let class = LoaderFile::efi_for(machine.architecture);
    let path = match machine.loader(Some(class)) {
        Some(Loader::Own(name)) if **name == *class.firmware_driver_build() => name,
        _ => class.name(),
    };
    answer_with_file(stream, exchange, machine, path, ArtifactKind::Loader).await
}

/// Answers with a file of the store.
async fn answer_with_file(
    stream: &mut Stream,
    exchange: Exchange<'_>,
    machine: &Machine,
    path: &str,
    kind: ArtifactKind,
) -> Result<(), Broken> {
    match file::open(&exchange.context.store, path.as_bytes()).await {
        Ok(artifact) => {
            let asset = Asset { path: path.as_bytes(), kind, route: Route::Uki };
            file::send(stream, exchange, asset, Some(machine), artifact).await
        }
        Err(Refusal::Unverified) if kind == ArtifactKind::Uki => {
            Box::pin(answer_with_ipxe(stream, exchange, machine)).await
        }
        Err(refusal) => refuse_file(stream, exchange, machine, path, refusal).await,
    }
}

/// Answers that a file of the store is missing or cannot be read.
async fn refuse_file(
    stream: &mut Stream,
    exchange: Exchange<'_>,
    machine: &Machine,
    path: &str,
    refusal: Refusal,
) -> Result<(), Broken> {
    let store = &exchange.context.store;
    let reason = store.reason(path.as_bytes(), refusal);
    let (status, remedy) = match refusal {
        Refusal::NotFound => (StatusCode::NOT_FOUND, "put it into the artifacts directory"),
        Refusal::Exhausted | Refusal::Unverified => (StatusCode::SERVICE_UNAVAILABLE, "this passes"),
        Refusal::Outside | Refusal::Circle | Refusal::Unreadable | Refusal::Altered => (
            StatusCode::SERVICE_UNAVAILABLE,
            "put the file itself into the artifacts directory, so that pxed can read it",
        ),
    };
    let remedy = if artifact_names::stub_name(machine.architecture) == path {
        "install Debian's package systemd-boot-efi, or put its EFI stub into the artifacts directory"
    } else {
        remedy
    };
    refuse(stream, exchange, machine, status, &format!("{path}: {reason}: {remedy}"), Some(NO_IMAGE)).await
}

/// Answers that the machine gets no image, and announces that as a failure. The event's reason has `prefix` before it.
async fn refuse(
    stream: &mut Stream,
    exchange: Exchange<'_>,
    machine: &Machine,
    status: StatusCode,
    reason: &str,
    prefix: Option<&str>,
) -> Result<(), Broken> {
    let events = &exchange.context.events;
    let delivery = Delivery::new(machine.mac, ArtifactKind::Uki, &exchange.head.path);
    let delivery = if status == StatusCode::FORBIDDEN { delivery.unproven() } else { delivery };
    if !exchange.is_head() {
        delivery.requested(events);
    }
    match prefix {
        Some(prefix) => delivery.refused(events, &format!("{prefix}: {reason}")),
        None => delivery.refused(events, reason),
    }
    exchange.answer_line(stream, Route::Uki, status, reason).await
}

#[cfg(test)]
mod tests;
