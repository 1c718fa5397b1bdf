//! The place of the admin listener, as the clients' options name it.

use std::{
    env,
    path::{Path, PathBuf},
};

use super::{
    client::{AdminClient, Bearer},
    find::{Named, find},
};
use crate::{
    admin::{SOCKET, SOCKET_NAME},
    cli::{admin_address::AdminAddress, options::admin_of_server},
};

/// The place of the admin listener.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Place {
    /// Admin listener of pxed: its Unix socket (unix:PATH), its address as in --admin of pxed run, or its URL [default: the socket of the
    /// pxed on this host, or else 127.0.0.1:8001]
    #[arg(long, env = "PXED_ADMIN", value_name = "ADDRESS:PORT|URL|unix:PATH")]
    pub(in crate::cli) admin: Option<AdminAddress>,
    /// File with the token of that pxed, for an address of another host
    #[arg(long, env = "PXED_ADMIN_TOKEN", value_name = "FILE")]
    pub(in crate::cli) admin_token: Option<PathBuf>,
    /// TOML file of pxed run, which may name the admin listener
    #[arg(long, env = "PXED_CONFIG", value_name = "FILE")]
    pub(in crate::cli) config: Option<PathBuf>,
}

impl Place {
    /// Returns a client of the listener.
    pub(in crate::cli) fn client(self) -> anyhow::Result<AdminClient> {
        let Self { admin, admin_token, config } = self;
        let (server, state) = admin_of_server(config.as_deref())?;
        let of_environment = env::var_os("PXED_ADMIN_SOCKET").filter(|path| !path.is_empty()).map(PathBuf::from);
        let named = Named { admin, socket: of_environment };
        let token = admin_token.or(server.admin_token).as_deref().map(Bearer::of);
        let of_file = Named { admin: server.admin, socket: server.admin_socket };
        Ok(AdminClient::new(&find(named, of_file, [&state.join(SOCKET_NAME), Path::new(SOCKET)]), token))
    }
}
