//! The forms in which lists are printed.

use clap::ValueEnum;

/// The form of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// Tables
    Text,
    /// Tables, with more columns
    Wide,
    /// The API's JSON
    Json,
    /// The same as YAML
    Yaml,
    /// A MAC address a line
    Name,
}
