//! Finds out what is known of a machine or a client.

use jiff::Timestamp;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use pxe_common::MacAddr;

use super::{
    client::{AdminClient, Refused},
    machine,
    machines::{self, Machine},
    target, visitor,
    wrap::Width,
};
use crate::cli::exit::{Ended, Exit, status_of};

/// The words of the API about a stranger that was heard.
const ASKED_BY_DHCP: &str = "; it asked by DHCP on ";

/// The form of an explanation.
#[derive(Clone, Copy, Debug)]
pub(super) struct Form {
    /// Set for the API's JSON.
    pub(super) json: bool,
    /// The width of text.
    pub(super) width: Width,
}

/// Returns what is known of a machine of the spec, of one of a Matchbox directory, or of a stranger. The name is a hardware address, an IP
/// address, a host name, or the UUID of a stranger.
pub(super) fn explanation(client: &AdminClient, name: &str, form: Form, now: Timestamp) -> anyhow::Result<String> {
    let unknown = match of_spec(client, name, form, now) {
        Err(error) if is_unknown(&error) => error,
        result => return result,
    };
    let path = match name.parse::<MacAddr>() {
        Ok(mac) => mac.to_string(),
        Err(_) => utf8_percent_encode(name, NON_ALPHANUMERIC).to_string(),
    };
    match client.get(&format!("/api/v1/visitors/{path}"), &[]) {
        Ok(text) if form.json => Ok(text),
        Ok(text) => {
            let explained = visitor::explained(&text, now)?;
            // The reason why it is no machine of the spec, if there is one.
            let is_left_out = unknown.to_string().contains("is left out");
            Ok(if is_left_out { format!("{unknown}\n\n{explained}") } else { explained })
        }
        // One that asks by DHCP is explained by that.
        Err(error)
            if is_unknown(&error)
                && name.parse::<MacAddr>().is_ok()
                && !unknown.to_string().contains(ASKED_BY_DHCP) =>
        {
            Err(Ended::new(Exit::NotFound, format!("{unknown}, and {error}")).into())
        }
        Err(error) if is_unknown(&error) || error.downcast_ref::<Refused>().is_some() => Err(unknown),
        Err(error) => Err(error),
    }
}

/// Returns what is known of a machine of the spec.
fn of_spec(client: &AdminClient, name: &str, form: Form, now: Timestamp) -> anyhow::Result<String> {
    let explain = |mac: &str| {
        let text = client.get(&format!("/api/v1/machines/{mac}"), &[])?;
        if form.json { Ok(text) } else { machine::explained(&text, form.width, now) }
    };
    let of_mac = match name.parse::<MacAddr>() {
        Ok(mac) => match explain(&mac.to_string()) {
            Err(error) if is_unknown(&error) => Some(error),
            result => return result,
        },
        Err(_) => None,
    };
    let text = client.get("/api/v1/machines", &[("events", "0".to_owned())])?;
    let listed = machines::read(&text)?;
    let all: Vec<&Machine> = listed.iter().map(|listed| &listed.machine).collect();
    match (target::find(&all, name), of_mac) {
        (Ok(machine), _) => explain(&machine.mac),
        // It knows why a machine is left out, or who the stranger is.
        (Err(_), Some(error))
            if ["is left out", "is not a machine of the spec; "]
                .iter()
                .any(|known| error.to_string().contains(known)) =>
        {
            Err(error)
        }
        (Err(error), _) => Err(error.into()),
    }
}

fn is_unknown(error: &anyhow::Error) -> bool {
    status_of(error) == Exit::NotFound
}
