//! Reads a question from a frame. Pure.

use std::{sync::Arc, time::SystemTime};

use pxe_common::{bootp::field, classify::BootClient, frame::Headers};

use crate::{
    dhcp::{client, decode},
    model::strangers::Question,
};

/// A question, and the number that tells it from others of the same client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Asked {
    pub(super) question: Question,
    pub(super) transaction: u32,
}

/// Reads a frame that came at this time. The interface is not known yet. Returns `None` if it is no question of one client.
pub(super) fn read(frame: &[u8], at: SystemTime) -> Option<Asked> {
    let headers = Headers::parse(frame).ok()?;
    let BootClient { mac, giaddr } = BootClient::read(frame, &headers).ok()?;
    if mac.is_zero() || mac.is_group() {
        return None;
    }
    let payload = frame.get(headers.payload.clone())?;
    let transaction = payload.get(field::XID)?.first_chunk()?;
    let (client, architecture, problem) = match decode::decode(payload) {
        Ok(query) => {
            let client = client::classify(&query);
            (Some(client.kind), client.architecture, None)
        }
        Err(reason) => (None, None, Some(reason.text())),
    };
    let vlan = headers.tags.as_slice().iter().map(|tag| tag.vlan()).find(|&vlan| vlan != 0);
    let question = Question {
        at,
        mac,
        interface: Arc::default(),
        vlan,
        relay: (!giaddr.is_unspecified()).then_some(giaddr),
        client,
        architecture,
        problem,
    };
    Some(Asked { question, transaction: u32::from_be_bytes(*transaction) })
}
