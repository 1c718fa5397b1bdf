//! The parts of a line of a script: operators, commands, options, arguments.

use std::collections::VecDeque;

/// The operator before a command, which says when it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operator {
    /// The first command of a line, or `;`.
    Always,
    /// `&&`: if the last command succeeded.
    And,
    /// `||`: if the last command failed.
    Or,
}

/// Splits a line at its operators. Labels and comments have no commands.
pub(super) fn split(line: &str) -> VecDeque<(Operator, Vec<String>)> {
    let mut commands = VecDeque::new();
    if line.trim_start().starts_with([':', '#']) {
        return commands;
    }
    let (mut operator, mut words) = (Operator::Always, Vec::new());
    for word in line.split_whitespace() {
        let next = match word {
            "||" => Operator::Or,
            "&&" => Operator::And,
            ";" => Operator::Always,
            _ => {
                words.push(word.to_owned());
                continue;
            }
        };
        commands.push_back((operator, std::mem::take(&mut words)));
        operator = next;
    }
    commands.push_back((operator, words));
    commands
}

/// Returns the arguments that are not options. The options of iPXE that take a value are listed.
pub(super) fn positional(arguments: &[String]) -> Vec<String> {
    let mut kept = Vec::new();
    let mut words = arguments.iter();
    while let Some(word) = words.next() {
        match word.as_str() {
            "--name" | "-n" | "--timeout" | "-t" | "--gap" | "--key" | "-k" if kept.is_empty() => {
                words.next();
            }
            option if option.starts_with('-') && kept.is_empty() => {}
            _ => kept.push(word.clone()),
        }
    }
    kept
}
