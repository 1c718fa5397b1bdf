//! The DHCP messages of simulated machines (RFC 2131, RFC 2132), encoded and decoded by the crate dhcproto.
//!
//! The responder has a codec of its own. The two are independent, so that a mistake of one is not repeated by the other.

mod guard;
mod reply;
mod request;

pub(crate) use dhcproto::v4::{CLIENT_PORT, SERVER_PORT};
pub(crate) use guard::{addressee, open};
pub(crate) use reply::{Reading, Reply};
pub(crate) use request::Request;

/// The port of a ProxyDHCP boot server (PXE 2.1 §2.2.4).
pub(crate) const PROXY_PORT: u16 = 4011;
