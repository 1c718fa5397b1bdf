//! The option about traces.

use serde::Deserialize;

use crate::telemetry::Endpoint;

/// The option about traces.
#[derive(Debug, Default, clap::Args, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub(super) struct TelemetryArgs {
    /// Collector of OpenTelemetry (OTLP over HTTP, such as http://127.0.0.1:4318) that gets a trace of each boot, with a span for each stage; without
    /// it there are no traces
    #[arg(long, env = "PXED_OTLP_ENDPOINT", value_name = "URL")]
    otlp_endpoint: Option<Endpoint>,
}

impl TelemetryArgs {
    /// Returns the collector in force, given the options of the `--config` file.
    pub(super) fn over(self, file: Self) -> Option<Endpoint> {
        self.otlp_endpoint.or(file.otlp_endpoint)
    }
}
