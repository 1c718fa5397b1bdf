//! The option about the Talos API of machines.

use serde::Deserialize;

/// The option about the Talos API of machines.
#[derive(Debug, Default, clap::Args, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub(super) struct UpArgs {
    /// Connect to the Talos API (TCP port 50000) of machines that have booted, to find out whether they are up. In proxy mode, where another server
    /// gives the addresses, that is never done [default: true]
    #[arg(
        long,
        env = "PXED_VERIFY_UP",
        value_name = "BOOL",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
        value_parser = clap::builder::BoolishValueParser::new(),
        hide_possible_values = true
    )]
    verify_up: Option<bool>,
}

impl UpArgs {
    /// Returns `true` if machines are tried, given the options of the `--config` file.
    pub(super) fn over(&self, file: &Self) -> bool {
        self.verify_up.or(file.verify_up).unwrap_or(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn machines_are_tried_unless_somebody_says_otherwise() {
        let args = |verify_up| UpArgs { verify_up };
        assert!(args(None).over(&args(None)));
        assert!(!args(None).over(&args(Some(false))));
        assert!(!args(Some(false)).over(&args(Some(true))));
        assert!(args(Some(true)).over(&args(Some(false))));
    }
}
