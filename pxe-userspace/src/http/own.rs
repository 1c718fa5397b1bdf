//! The files of one machine below `/boot/<mac>/`, which only this machine may have.

use std::sync::Arc;

use http::StatusCode;
use pxe_common::MacAddr;

use super::{
    answer::Text,
    exchange::Exchange,
    metrics::Route,
    stream::{Broken, Stream},
    talos_config, text, uki,
};
use crate::model::machine_path::{CONFIG_FILE, UKI_FILE};

/// Answers a request for a file of the machine with this MAC address.
pub(super) async fn answer(
    stream: &mut Stream,
    exchange: Exchange<'_>,
    mac: MacAddr,
    file: &[u8],
) -> Result<(), Broken> {
    if !exchange.is_read() {
        let (status, text) = (StatusCode::METHOD_NOT_ALLOWED, "files are read-only");
        return exchange.answer_line(stream, Route::Script, status, text).await;
    }
    let machine = exchange.context.inventory.load().by_mac(mac).map(Arc::clone);
    match machine {
        Some(machine) if file == CONFIG_FILE.as_bytes() => talos_config::answer(stream, exchange, &machine).await,
        Some(machine) if file == UKI_FILE.as_bytes() => uki::answer(stream, exchange, &machine).await,
        _ => text::answer_text(stream, exchange, Text::not_found()).await,
    }
}
