//! The options about the ways into the admin API.

use std::path::PathBuf;

use serde::Deserialize;

use super::admin_address::AdminAddress;
use crate::admin::AdminConfig;

/// The options about the ways into the admin API, as `pxed run` takes them.
#[derive(Debug, Default, clap::Args, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub(super) struct AdminListenArgs {
    /// Address of API and dashboard: a loopback address, on which every user of this host may read, or another one with --admin-token.
    /// unix:PATH serves the Unix socket alone [default: 127.0.0.1:8001]
    #[arg(long, env = "PXED_ADMIN", value_name = "ADDRESS:PORT")]
    pub(super) admin: Option<AdminAddress>,
    /// Unix socket of the same API, for pxed hold, pxed release and the other commands: whom its permissions (0660) let in may change
    /// something [default: /run/pxed/admin.sock, or else admin.sock in the state directory]
    #[arg(long, env = "PXED_ADMIN_SOCKET", value_name = "PATH")]
    pub(super) admin_socket: Option<PathBuf>,
    /// File with a token (openssl rand -hex 32), whose bearer may change something at --admin; on an address that is not loopback nobody
    /// reads without it
    #[arg(long, env = "PXED_ADMIN_TOKEN", value_name = "FILE")]
    pub(super) admin_token: Option<PathBuf>,
    /// Another address, which has /metrics, /healthz and /readyz and nothing else, for Prometheus on other hosts
    #[arg(long, env = "PXED_METRICS", value_name = "ADDRESS:PORT")]
    pub(super) metrics: Option<AdminAddress>,
}

impl AdminListenArgs {
    /// Returns the configuration, with the options of the `--config` file.
    ///
    /// # Errors
    ///
    /// If an address is none to listen on, or everybody could reach the API.
    pub(super) fn over(self, file: Self) -> anyhow::Result<AdminConfig> {
        let Self { admin, admin_socket, admin_token, metrics } = self;
        let admin = admin.or(file.admin).unwrap_or_default();
        let (admin_socket, token) = (admin_socket.or(file.admin_socket), admin_token.or(file.admin_token));
        let probes = metrics.or(file.metrics).map(|metrics| metrics.to_listen("--metrics")).transpose()?;
        let (socket, tcp) = match (admin.socket(), admin_socket) {
            (Some(path), Some(other)) if path != other => anyhow::bail!(
                "--admin {admin} and --admin-socket {}: both name the socket, so leave one away",
                other.display()
            ),
            (Some(path), _) => (Some(path.to_owned()), None),
            (None, socket) => (socket, Some(admin.to_listen("--admin")?)),
        };
        if let Some(address) = tcp.filter(|address| !address.ip().to_canonical().is_loopback()) {
            anyhow::ensure!(
                token.is_some(),
                "--admin {address}: whoever reaches this address could hold and release machines. Make a token \
                 (openssl rand -hex 32 > FILE; chmod 0640 FILE) and name it with --admin-token FILE, or use --admin 127.0.0.1:{port}; \
                 for Prometheus and probes alone there is --metrics {address}",
                port = address.port()
            );
        }
        Ok(AdminConfig { socket, tcp, probes, token })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(admin: &str, socket: &str, token: &str, metrics: &str) -> AdminListenArgs {
        let address = |text: &str| (!text.is_empty()).then(|| text.parse().unwrap());
        let path = |text: &str| (!text.is_empty()).then(|| text.into());
        AdminListenArgs {
            admin: address(admin),
            admin_socket: path(socket),
            admin_token: path(token),
            metrics: address(metrics),
        }
    }

    fn resolved(args: AdminListenArgs) -> Result<(Option<String>, Option<String>), String> {
        let config = args.over(AdminListenArgs::default()).map_err(|error| error.to_string())?;
        Ok((config.tcp.map(|tcp| tcp.to_string()), config.socket.map(|socket| socket.display().to_string())))
    }

    #[test]
    fn address_that_others_reach_needs_a_token() {
        for local in ["127.0.0.1:8001", "127.9.9.9:1", "[::1]:8001", "[::ffff:127.0.0.1]:8001"] {
            assert_eq!(resolved(args(local, "", "", "")).unwrap().0.as_deref(), Some(local));
        }
        for public in ["0.0.0.0:8001", "[::]:8001", "10.0.0.1:8001", "[fe80::1]:8001", "[::ffff:10.0.0.1]:8001"] {
            let error = resolved(args(public, "", "", "")).unwrap_err();
            for words in [public, "--admin-token FILE", "openssl rand", "--metrics", "--admin 127.0.0.1:8001"] {
                assert!(error.contains(words), "{words}: {error}");
            }
            assert_eq!(resolved(args(public, "", "/t", "")).unwrap().0.as_deref(), Some(public));
            // Health and metrics may be anywhere.
            assert!(resolved(args("", "", "", public)).is_ok());
        }
    }

    #[test]
    fn socket_is_named_once() {
        let usual = Some("127.0.0.1:8001".to_owned());
        let socket = Some("/a".to_owned());
        for (admin, other, expected) in [
            ("", "", Ok((usual.clone(), None))),
            ("", "/a", Ok((usual, socket.clone()))),
            ("unix:/a", "", Ok((None, socket.clone()))),
            ("unix:/a", "/a", Ok((None, socket))),
            ("unix:/a", "/b", Err("leave one away")),
        ] {
            match (resolved(args(admin, other, "", "")), expected) {
                (Err(error), Err(words)) => assert!(error.contains(words), "{error}"),
                (got, expected) => assert_eq!(got, expected.map_err(str::to_owned), "{admin} {other}"),
            }
        }
        assert!(resolved(args("", "", "", "unix:/m")).unwrap_err().contains("--metrics unix:/m"));
    }

    #[test]
    fn command_line_wins_over_the_file() {
        let file = args("127.0.0.1:1", "/file", "/token-of-file", "127.0.0.1:2");
        let config = args("127.0.0.1:3", "", "", "").over(file).unwrap();
        assert_eq!(config.tcp.unwrap().port(), 3);
        assert_eq!((config.socket, config.token), (Some("/file".into()), Some("/token-of-file".into())));
        assert_eq!(config.probes.unwrap().port(), 2);
    }
}
