//! The options of `pxed run` in the chart.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, ensure};
use pxe_userspace::cli;
use serde_json::{Value, json};

use super::{cases, helm};

/// Returns the options of `pxed run` with their possible values, where they are a list.
pub(crate) fn of_pxed() -> anyhow::Result<BTreeMap<String, Vec<String>>> {
    let command = cli::command();
    let run = command.find_subcommand("run").context("no `run`")?;
    let options = run.get_arguments().filter_map(|argument| {
        let choices = argument.get_possible_values().iter().map(|value| value.get_name().to_owned()).collect();
        Some((argument.get_long()?.to_owned(), choices))
    });
    Ok(options.filter(|(name, _)| name != "help").collect())
}

pub(crate) fn of_schema() -> anyhow::Result<Value> {
    Ok(helm::file("values.schema.json")?["properties"]["options"]["properties"].clone())
}

pub(crate) fn choices_are_those_of_the_command_line() -> anyhow::Result<()> {
    let schema = of_schema()?;
    let mut compared = 0;
    for (name, choices) in of_pxed()? {
        if let Some(choice) = schema[&name].get("enum") {
            ensure!(helm::strings(choice) == choices, "{name}: {choice}, and pxed: {choices:?}");
            compared += 1;
        }
    }
    ensure!(compared == 4, "{compared}");
    Ok(())
}

pub(crate) fn each_reaches_the_command_line() -> anyhow::Result<()> {
    let options = cases::every_option();
    let given = options.as_object().context("no options")?;
    let schema = of_schema()?;
    let schema: BTreeSet<_> = schema.as_object().context("no options")?.keys().cloned().collect();
    ensure!(given.keys().cloned().collect::<BTreeSet<_>>() == schema, "every_option lacks one: {schema:?}");
    let args =
        helm::with(json!({"options": options, "namespaces": ["b", "a", "b"], "extraArgs": ["--last"]}))?.args()?;
    for (name, value) in given {
        let values = value.as_array().cloned().unwrap_or_else(|| vec![value.clone()]);
        for value in values {
            let word = format!("--{name}={}", value.as_str().map_or_else(|| value.to_string(), str::to_owned));
            ensure!(args.iter().filter(|arg| **arg == word).count() == 1, "{word} is not in {args:?}");
        }
    }
    ensure!(args[..4] == ["run", "--kubernetes", "--namespace=a", "--namespace=b"], "{args:?}");
    ensure!(args.last().is_some_and(|last| last == "--last"), "{args:?}");
    // As large numbers are written, which Helm has as floating-point numbers.
    let args =
        helm::with(json!({"options": {"lease-seconds": 4_294_967_295_u32, "machine-rate": 1_000_000}}))?.args()?;
    for word in ["--lease-seconds=4294967295", "--machine-rate=1000000", "--log-format=json"] {
        ensure!(args.iter().any(|arg| arg == word), "{word} is not in {args:?}");
    }
    Ok(())
}
