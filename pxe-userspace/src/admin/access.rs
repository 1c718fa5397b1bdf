//! The doors of the admin API, and what each of them lets through.
//!
//! | door | without the token | with it |
//! |---|---|---|
//! | Unix socket | everything: the permissions of the socket have decided | |
//! | TCP, loopback address | health, metrics, and every read | everything |
//! | TCP, other addresses | health and metrics | everything |
//! | `--metrics` | health and metrics | health and metrics |

use std::{path::PathBuf, sync::Arc};

use axum::{
    extract::{Request, State},
    http::{HeaderMap, HeaderValue, Method, StatusCode, header},
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use serde::Serialize;

use super::{origin, refusal, token::Token};

/// One way to the admin API.
#[derive(Clone, Debug)]
pub(super) enum Door {
    /// The Unix socket.
    Socket,
    /// TCP on a loopback address, which every user of the host reaches.
    Loopback {
        /// The token that lets more through, if there is one.
        token: Option<Token>,
        /// The socket, for those who want to change something.
        socket: Option<Arc<PathBuf>>,
    },
    /// TCP on another address.
    Public {
        /// The token, without which nothing but health and metrics is there.
        token: Token,
    },
    /// Health and metrics alone.
    Probes,
}

/// The reason why a door is closed to a request.
#[derive(Debug, PartialEq, Eq)]
enum Closed {
    /// A foreign web page may have sent it.
    Foreign(&'static str),
    /// It changes something, and this door is for reads.
    ReadsOnly,
    /// It bears no token, or another one.
    NoToken,
    /// Only health and metrics are here.
    ProbesOnly,
}

/// The condition under which a door lets changes through.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Changes {
    /// Everybody who reaches the door may change something.
    Free,
    /// With the token.
    WithToken,
    /// Never: it is for reads.
    Never,
}

impl Changes {
    const fn of(door: &Door) -> Self {
        match door {
            Door::Socket => Self::Free,
            Door::Loopback { token: Some(_), .. } | Door::Public { .. } => Self::WithToken,
            Door::Loopback { token: None, .. } | Door::Probes => Self::Never,
        }
    }
}

/// Lets a request through, or says why not.
pub(super) async fn guard(State(door): State<Door>, mut request: Request, next: Next) -> Response {
    request.extensions_mut().insert(Changes::of(&door));
    match check(&door, request.method(), request.headers()) {
        Ok(()) => next.run(request).await,
        Err(closed) => refuse(&door, &closed),
    }
}

fn check(door: &Door, method: &Method, headers: &HeaderMap) -> Result<(), Closed> {
    let (token, is_public) = match door {
        Door::Socket => return Ok(()),
        Door::Probes => return Err(Closed::ProbesOnly),
        Door::Loopback { token, .. } => (token.as_ref(), false),
        Door::Public { token } => (Some(token), true),
    };
    match (headers.get(header::AUTHORIZATION), token) {
        // A web page cannot add a token that it does not know, and a browser does not add it by itself.
        (Some(authorization), Some(token)) if token.is_borne_by(authorization) => return Ok(()),
        (Some(_), Some(_)) => return Err(Closed::NoToken),
        (None, Some(_)) if is_public => return Err(Closed::NoToken),
        _ => {}
    }
    origin::check(method, headers).map_err(Closed::Foreign)?;
    match *method {
        Method::GET | Method::HEAD => Ok(()),
        _ => Err(Closed::ReadsOnly),
    }
}

fn refuse(door: &Door, closed: &Closed) -> Response {
    match closed {
        Closed::Foreign(error) => refusal::refuse(StatusCode::FORBIDDEN, *error),
        Closed::ReadsOnly => {
            let socket = match door {
                Door::Loopback { socket, .. } => socket.as_deref(),
                _ => None,
            };
            refusal::reads_only(socket.map(PathBuf::as_path))
        }
        Closed::NoToken => {
            let error = "this address of the admin API wants its token: name the file of --admin-token, or use the Unix socket on \
                         pxed's own host";
            let challenge = [(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"pxed\""))];
            (challenge, refusal::refuse(StatusCode::UNAUTHORIZED, error)).into_response()
        }
        Closed::ProbesOnly => refusal::refuse(
            StatusCode::NOT_FOUND,
            "only /metrics, /healthz and /readyz are here; the API is at --admin and at the Unix socket",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &str = "0123456789abcdef";

    fn doors() -> [(&'static str, Door); 5] {
        let token = || Token::new(TOKEN);
        [
            ("socket", Door::Socket),
            ("loopback", Door::Loopback { token: None, socket: None }),
            ("loopback with a token", Door::Loopback { token: Some(token()), socket: None }),
            ("public", Door::Public { token: token() }),
            ("probes", Door::Probes),
        ]
    }

    /// Every door with every kind of request.
    #[test]
    fn door_opens_by_method_token_and_origin() {
        use Closed::{Foreign, NoToken, ProbesOnly, ReadsOnly};
        let (own, foreign) = ("127.0.0.1:8001", "evil.example:8001");
        let (good, bad) = (Some("Bearer 0123456789abcdef"), Some("Bearer 0123456789abcdee"));
        let denied = |closed| Err(closed);
        let rebound = || Foreign(origin::check(&Method::GET, &headers(foreign, None)).unwrap_err());
        for (method, host, authorization, expected) in [
            // In the order of the doors.
            (Method::GET, own, None, [Ok(()), Ok(()), Ok(()), denied(NoToken), denied(ProbesOnly)]),
            (Method::GET, own, good, [Ok(()), Ok(()), Ok(()), Ok(()), denied(ProbesOnly)]),
            (Method::GET, own, bad, [Ok(()), Ok(()), denied(NoToken), denied(NoToken), denied(ProbesOnly)]),
            (
                Method::GET,
                foreign,
                None,
                [Ok(()), denied(rebound()), denied(rebound()), denied(NoToken), denied(ProbesOnly)],
            ),
            (Method::GET, foreign, good, [Ok(()), denied(rebound()), Ok(()), Ok(()), denied(ProbesOnly)]),
            (
                Method::POST,
                own,
                None,
                [Ok(()), denied(ReadsOnly), denied(ReadsOnly), denied(NoToken), denied(ProbesOnly)],
            ),
            (Method::POST, own, good, [Ok(()), denied(ReadsOnly), Ok(()), Ok(()), denied(ProbesOnly)]),
            (
                Method::DELETE,
                own,
                bad,
                [Ok(()), denied(ReadsOnly), denied(NoToken), denied(NoToken), denied(ProbesOnly)],
            ),
        ] {
            for ((name, door), expected) in doors().iter().zip(expected) {
                let got = check(door, &method, &headers(host, authorization));
                assert_eq!(got, expected, "{name}: {method} {host} {authorization:?}");
            }
        }
    }

    fn headers(host: &'static str, authorization: Option<&'static str>) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, HeaderValue::from_static(host));
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Some(authorization) = authorization {
            headers.insert(header::AUTHORIZATION, HeaderValue::from_static(authorization));
        }
        headers
    }
}
