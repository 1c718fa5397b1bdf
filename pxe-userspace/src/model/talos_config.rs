//! Machine configurations of Talos that pxed serves.

use std::{path::Path, sync::Arc};

/// The machine configuration that Talos gets from pxed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TalosConfig {
    /// The name of its file below the directory of `--talos-config`, from `pxed.dev/talos-config`. `None` for the one file of all machines.
    pub file: Option<Arc<str>>,
    /// The port of boot HTTP, which the kernel arguments name.
    pub http_port: u16,
}

/// The place of machine configurations, from `--talos-config`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigPlace {
    /// The path.
    pub path: Arc<Path>,
    /// It is a directory, in which the spec names files. Otherwise it is a file that every machine gets.
    pub is_directory: bool,
    /// The port of boot HTTP.
    pub http_port: u16,
}
