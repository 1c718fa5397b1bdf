//! Environment variables of the options.

use std::ffi::{OsStr, OsString};

use clap::{Command, builder::Resettable};

/// Returns the command without the variables that `value` says are empty, here and in its subcommands: a variable that is set to
/// nothing counts as not set. Unit files and manifests write `PXED_ADMIN=` for "no value".
pub(super) fn without_empty_variables(command: Command, value: fn(&OsStr) -> Option<OsString>) -> Command {
    let command = command.mut_args(|argument| {
        let is_empty = argument.get_env().and_then(value).is_some_and(|value| value.is_empty());
        if is_empty { argument.env(Resettable::Reset) } else { argument }
    });
    command.mut_subcommands(|subcommand| without_empty_variables(subcommand, value))
}

#[cfg(test)]
mod tests {
    use clap::{Arg, CommandFactory as _};

    use super::*;
    use crate::cli::Cli;

    fn variables(command: &Command) -> Vec<&OsStr> {
        let of_subcommands = command.get_subcommands().flat_map(variables);
        command.get_arguments().filter_map(Arg::get_env).chain(of_subcommands).collect()
    }

    #[test]
    fn empty_variable_counts_as_not_set() {
        let command = Cli::command();
        let all = variables(&command).len();
        // The server and its clients.
        let named = variables(&command).iter().filter(|name| **name == "PXED_ADMIN").count();
        assert!(named > 1);
        let others = without_empty_variables(Cli::command(), |name| {
            Some(if name == "PXED_ADMIN" { OsString::new() } else { "set".into() })
        });
        assert_eq!(variables(&others).len(), all - named);
        let none = without_empty_variables(Cli::command(), |_| Some(OsString::new()));
        assert!(variables(&none).is_empty());
        let kept = without_empty_variables(Cli::command(), |_| None);
        assert_eq!(variables(&kept).len(), all);
    }

    /// A variable that two subcommands read under one name must not mean two things.
    #[test]
    fn variable_is_named_like_its_option() {
        for subcommand in Cli::command().get_subcommands() {
            for argument in subcommand.get_arguments() {
                let Some(variable) = argument.get_env().and_then(OsStr::to_str) else { continue };
                // The paths to check are what the server takes as --cluster.
                let name = argument.get_long().unwrap_or("cluster");
                assert_eq!(variable, format!("PXED_{}", name.replace('-', "_").to_uppercase()));
            }
        }
    }
}
