//! The form of what `pxed fetch` prints.

use std::{
    io::{self, Write as _},
    process::ExitCode,
};

use clap::ValueEnum;
use serde::Serialize;

/// The form of what is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Output {
    /// For people
    Text,
    /// One JSON document
    Json,
}

impl Output {
    /// Prints a report and returns the exit status.
    pub(super) fn print(self, report: &(impl Serialize + ToText), is_right: bool) -> anyhow::Result<ExitCode> {
        let mut out = io::stdout().lock();
        match self {
            Self::Text => out.write_all(report.to_text().as_bytes())?,
            Self::Json => {
                serde_json::to_writer_pretty(&mut out, report)?;
                writeln!(out)?;
            }
        }
        Ok(if is_right { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

/// A report that people can read.
pub(super) trait ToText {
    fn to_text(&self) -> String;
}
