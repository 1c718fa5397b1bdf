//! The machine configuration of Talos as an answer.

use std::sync::Arc;

use http::StatusCode;

use super::{
    delivery::Delivery,
    disk_turns::TURNS,
    exchange::Exchange,
    guarded,
    metrics::{Refused, Route},
    places::Client,
    stream::{Broken, Stream},
    text::{self, Payload},
};
use crate::{
    artifacts::{ConfigRefusal, OpenArtifact, Refusal, TalosConfigs},
    boot::config,
    guard::Purpose,
    model::{event::ArtifactKind, inventory::Machine, talos_config::TalosConfig, token::Token},
};

/// The reason why a machine gets no configuration.
const NO_CONFIG: &str = "pxed has no machine configuration for it: name one with --talos-config, and with the annotation \
                         pxed.dev/talos-config if that is a directory";

/// Answers a request for the machine configuration. Its content is never logged.
///
/// It goes to the machine's own address alone, also where another server assigns the addresses: it has the secrets of the cluster, and
/// whoever is on the network knows MAC addresses.
pub(super) async fn answer(
    stream: &mut Stream,
    exchange: Exchange<'_>,
    machine: &Machine,
    token: Option<Token>,
) -> Result<(), Broken> {
    let context = exchange.context;
    let delivery = Delivery::new(machine.mac, ArtifactKind::Config, &exchange.head.path);
    let announced = |delivery: &Delivery, reason: &str| {
        if !exchange.is_head() {
            delivery.requested(&context.events);
            delivery.refused(&context.events, reason);
        }
    };
    let announce = |reason: &str| announced(&delivery, reason);
    if let Some(reason) = config::config_refusal(machine, exchange.peer) {
        context.asked_by_another(machine.mac, exchange.peer, exchange.head.target());
        return exchange.answer_line(stream, Route::Config, StatusCode::FORBIDDEN, &reason).await;
    }
    let (noun, purpose) = ("machine configuration", Purpose::Config);
    if let Some(reason) = guarded::refusal(context, machine, token, purpose, exchange.server, noun) {
        context.metrics.refused(Refused::Token);
        announced(&delivery.clone().unproven(), &reason);
        return exchange.answer_line(stream, Route::Config, StatusCode::FORBIDDEN, &reason).await;
    }
    let (Some(configs), Some(config)) = (&context.talos_configs, &machine.talos_config) else {
        announce(NO_CONFIG);
        return exchange.answer_line(stream, Route::Config, StatusCode::NOT_FOUND, "no machine configuration").await;
    };
    match read(configs, config, stream.client()).await {
        Ok(bytes) => {
            let content_type = content_type(&bytes);
            let delivery = (!exchange.is_head()).then(|| {
                delivery.requested(&context.events);
                delivery
            });
            let payload = Payload { route: Route::Config, content_type, bytes: bytes.into(), delivery };
            text::answer_payload(stream, exchange, payload).await
        }
        Err(ConfigRefusal { refusal, told, reason }) => {
            announce(&reason);
            exchange.answer_line(stream, Route::Config, status(refusal), told).await
        }
    }
}

/// Reads a configuration. Other connections do not wait for the disk.
async fn read(configs: &Arc<TalosConfigs>, config: &TalosConfig, client: Client) -> Result<Vec<u8>, ConfigRefusal> {
    let file = configs.open(config)?;
    if file.is_cached(0..file.length) {
        return configs.read(config, &file);
    }
    let turn = TURNS.take(client).await;
    let (reader, of) = (Arc::clone(configs), config.clone());
    let read = |file: OpenArtifact| {
        move || {
            let read = reader.read(&of, &file);
            drop(turn);
            read
        }
    };
    tokio::task::spawn_blocking(read(file)).await.unwrap_or_else(|_| {
        let reason = format!("{}: the read did not end", configs.path(config).display());
        Err(ConfigRefusal { refusal: Some(Refusal::Exhausted), told: "try again", reason })
    })
}

const fn status(refusal: Option<Refusal>) -> StatusCode {
    match refusal {
        Some(Refusal::NotFound | Refusal::Outside | Refusal::Circle) => StatusCode::NOT_FOUND,
        Some(Refusal::Exhausted) => StatusCode::SERVICE_UNAVAILABLE,
        Some(_) | None => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// Returns the media type of a configuration. Talos looks at the content alone, and unpacks one that gzip packed.
fn content_type(bytes: &[u8]) -> &'static str {
    if bytes.starts_with(&[0x1f, 0x8b]) { "application/gzip" } else { "application/yaml" }
}
