//! The options about downloads, as `pxed fetch` takes them.

use std::{path::PathBuf, sync::Arc};

use serde::Deserialize;

use super::fetch_values::{BaseUrl, Rate};

/// The option that names other nodes to get files from.
#[derive(Debug, Default, clap::Args, Deserialize)]
#[serde(default)]
pub(super) struct MirrorArgs {
    /// Boot HTTP of other nodes (http://10.0.0.2:8000), asked first for each file whose hash is known: from its published checksum, or
    /// because this host had the file before
    #[arg(long, env = "PXED_MIRROR", value_name = "URL", num_args = 1.., value_delimiter = ',')]
    pub(super) mirror: Vec<BaseUrl>,
}

impl MirrorArgs {
    /// Returns the URLs, given those of the `--config` file.
    pub(super) fn over(self, file: Self) -> Vec<Arc<str>> {
        let chosen = if self.mirror.is_empty() { file.mirror } else { self.mirror };
        chosen.into_iter().map(|BaseUrl(url)| url).collect()
    }
}

/// The options about downloads. `pxed run` has the same ones.
#[derive(Debug, Default, clap::Args)]
pub(super) struct DownloadArgs {
    #[command(flatten)]
    pub(super) mirror: MirrorArgs,
    /// Never touch the network: a bundle is made of what is there, and nothing is downloaded [default: false]
    #[arg(
        long,
        env = "PXED_OFFLINE",
        value_name = "BOOL",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
        value_parser = clap::builder::BoolishValueParser::new(),
        hide_possible_values = true
    )]
    pub(super) offline: Option<bool>,
    /// Talos releases, or a mirror with the same paths [default: https://github.com/siderolabs/talos/releases/download]
    #[arg(long, env = "PXED_TALOS_URL", value_name = "URL")]
    pub(super) talos_url: Option<BaseUrl>,
    /// The Image Factory, or a mirror with the same paths [default: https://factory.talos.dev]
    #[arg(long, env = "PXED_FACTORY_URL", value_name = "URL")]
    pub(super) factory_url: Option<BaseUrl>,
    /// Builds of iPXE, or a mirror with the same paths [default: https://boot.ipxe.org]
    #[arg(long, env = "PXED_IPXE_URL", value_name = "URL")]
    pub(super) ipxe_url: Option<BaseUrl>,
    /// Signed releases of iPXE and its shim, or a mirror with the same paths [default: https://github.com/ipxe]
    #[arg(long, env = "PXED_IPXE_RELEASES_URL", value_name = "URL")]
    pub(super) ipxe_releases_url: Option<BaseUrl>,
    /// Certificates in PEM of authorities to trust for these addresses, besides the host's own
    #[arg(long, env = "PXED_CA_CERTIFICATES", value_name = "FILE")]
    pub(super) ca_certificates: Option<PathBuf>,
    /// Bytes per second that all downloads together may use, as in 500k, 20M or 1.5G; without it there is no limit
    #[arg(long, env = "PXED_BANDWIDTH_LIMIT", value_name = "RATE")]
    pub(super) bandwidth_limit: Option<Rate>,
}
