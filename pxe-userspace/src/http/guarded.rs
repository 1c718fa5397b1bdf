//! What may hold a machine's secrets is given only at URLs with an unguessable part.

use std::{net::SocketAddrV4, time::SystemTime};

use super::context::Context;
use crate::{
    boot::config,
    guard::{self, Guard, Purpose, Refusal},
    model::{
        inventory::Machine,
        secrets::Secrets,
        token::{Token, Tokens},
    },
};

/// Returns the guard of a machine's secrets; `None` if it has none that are guarded.
fn guard_of<'c>(context: &'c Context, machine: &Machine) -> Option<&'c Guard> {
    context.guard.as_deref().filter(|_| machine.secrets == Secrets::Guarded)
}

/// Returns the reason why a request is refused whose URL at `server` has this token, or none. `noun` is what was requested.
pub(super) fn refusal(
    context: &Context,
    machine: &Machine,
    token: Option<Token>,
    purpose: Purpose,
    server: SocketAddrV4,
    noun: &str,
) -> Option<String> {
    let checked = guard_of(context, machine)?.check(purpose, token, machine.mac, *server.ip(), now());
    let mac = machine.mac;
    Some(match checked.err()? {
        Refusal::Missing => config::unguarded(noun, machine),
        refusal @ (Refusal::Foreign | Refusal::Expired) => {
            format!("{}: let {mac} ask by DHCP again, for a new URL of its {noun}", refusal.text())
        }
    })
}

/// Returns new tokens for the URLs in an answer to a machine, which asked with this one.
pub(super) fn renewed(context: &Context, machine: &Machine, token: Option<Token>, server: SocketAddrV4) -> Tokens {
    match (guard_of(context, machine), token) {
        (Some(guard), Some(token)) => guard.tokens(machine.mac, *server.ip(), now(), token.nonce),
        _ => Tokens::default(),
    }
}

/// Returns the token of the machine configuration that belongs to an image. It depends on the image's URL alone, so that an image has
/// the same bytes each time that it is requested there.
pub(super) fn config_token(
    context: &Context,
    machine: &Machine,
    token: Option<Token>,
    server: SocketAddrV4,
) -> Option<Token> {
    let Token { made, nonce, .. } = token?;
    Some(guard_of(context, machine)?.token(Purpose::Config, machine.mac, *server.ip(), made, nonce))
}

fn now() -> u32 {
    guard::seconds(SystemTime::now())
}
