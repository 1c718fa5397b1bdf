//! The line of status that `systemctl status` shows.

use std::{collections::BTreeSet, fmt};

use crate::model::inventory::Inventory;

/// The longest line in bytes. The service manager ignores very long ones.
const LONGEST: usize = 400;

/// The services of pxed, and its problems.
#[derive(Clone, Copy, Debug)]
pub(in crate::daemon) struct StatusLine<'a> {
    /// The spec in force.
    pub(in crate::daemon) inventory: &'a Inventory,
    /// The interfaces that are served.
    pub(in crate::daemon) interfaces: &'a BTreeSet<String>,
    /// Set if machines of a Matchbox directory alone are served, by HTTP.
    pub(in crate::daemon) is_matchbox_alone: bool,
    /// The number of mistakes in the spec.
    pub(in crate::daemon) mistakes: usize,
    /// The missing services, with the reasons.
    pub(in crate::daemon) problems: &'a [String],
}

impl fmt::Display for StatusLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { inventory, interfaces, is_matchbox_alone, mistakes, problems } = *self;
        let all = inventory.machines().len();
        let served =
            inventory.machines().iter().filter(|machine| interfaces.contains(&*machine.site.interface)).count();
        let mut line = match (served, all) {
            (_, 0) if is_matchbox_alone => "Serving the machines of the Matchbox directory by HTTP".to_owned(),
            (0, 0) => "Serving no machine yet".to_owned(),
            (0, all) => format!("Serving none of {}", machines(all)),
            (served, all) => {
                let of_all = if served == all { String::new() } else { format!("{served} of ") };
                let interfaces: Vec<_> = interfaces.iter().map(String::as_str).collect();
                format!("Serving {of_all}{} on {}", machines(all), interfaces.join(", "))
            }
        };
        match mistakes {
            0 => {}
            1 => line += "; 1 mistake in the spec",
            mistakes => line += &format!("; {mistakes} mistakes in the spec"),
        }
        if let [first, others @ ..] = problems {
            line += &format!("; {first}");
            match others.len() {
                0 => {}
                others => line = format!("{} (and {others} more, see pxed status)", shortened(&line, LONGEST - 40)),
            }
        }
        f.write_str(&one_line(&line))
    }
}

fn machines(count: usize) -> String {
    if count == 1 { "1 machine".to_owned() } else { format!("{count} machines") }
}

/// Returns the text on one line, without control characters, and not too long.
pub(super) fn one_line(text: &str) -> String {
    let words: Vec<_> =
        text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|word| !word.is_empty()).collect();
    shortened(&words.join(" "), LONGEST)
}

fn shortened(text: &str, longest: usize) -> String {
    const MORE: &str = "…";
    match text.len() {
        length if length <= longest => text.to_owned(),
        _ => format!("{}{MORE}", &text[..text.floor_char_boundary(longest - MORE.len())]),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::model::{
        architecture::Architecture,
        inventory::{Machine, Site},
        testing,
    };

    /// Returns an inventory with this many machines on each interface.
    fn inventory(machines: &[(&str, u8)]) -> Inventory {
        let mut all = Vec::new();
        for &(interface, count) in machines {
            for _ in 0..count {
                let number = u8::try_from(all.len()).unwrap() + 1;
                let template = testing::machine(number, Architecture::Amd64, "v1.13.0", None);
                let site = Arc::new(Site { interface: interface.into(), ..Site::clone(&template.site) });
                all.push(Arc::new(Machine { site, ..Machine::clone(&template) }));
            }
        }
        Inventory::new(all)
    }

    fn line(machines: &[(&str, u8)], interfaces: &[&str], mistakes: usize, problems: &[&str]) -> String {
        let interfaces = interfaces.iter().map(ToString::to_string).collect();
        let problems: Vec<_> = problems.iter().map(ToString::to_string).collect();
        let inventory = &inventory(machines);
        let line =
            StatusLine { inventory, interfaces: &interfaces, is_matchbox_alone: false, mistakes, problems: &problems };
        line.to_string()
    }

    #[test]
    fn line_says_what_is_served_and_what_is_wrong() {
        for (expected, line) in [
            ("Serving 1 machine on eth1", line(&[("eth1", 1)], &["eth1"], 0, &[])),
            ("Serving 5 machines on eth1, eth2", line(&[("eth1", 2), ("eth2", 3)], &["eth2", "eth1"], 0, &[])),
            (
                "Serving 2 of 5 machines on eth1; 1 mistake in the spec; interface eth2 is down",
                line(&[("eth1", 2), ("eth2", 3)], &["eth1"], 1, &["interface eth2 is down"]),
            ),
            (
                "Serving none of 2 machines; no eth1 (and 2 more, see pxed status)",
                line(&[("eth1", 2)], &[], 0, &["no eth1", "b", "c"]),
            ),
            (
                "Serving no machine yet; 3 mistakes in the spec; there is no spec",
                line(&[], &[], 3, &["there is no spec"]),
            ),
        ] {
            assert_eq!(line, expected);
        }
        let nothing = Inventory::default();
        let alone = StatusLine {
            inventory: &nothing,
            interfaces: &BTreeSet::new(),
            is_matchbox_alone: true,
            mistakes: 0,
            problems: &[],
        };
        assert_eq!(alone.to_string(), "Serving the machines of the Matchbox directory by HTTP");
    }

    #[test]
    fn line_is_one_line_and_short_whatever_the_problem_contains() {
        let problem = format!("a\nREADY=1\r\n\u{1b}[31m\0{}", "ü".repeat(10_000));
        for problems in [&[&*problem][..], &[&problem, "another"]] {
            let line = line(&[("eth1", 1)], &["eth1"], 0, problems);
            assert!(line.len() <= LONGEST && !line.contains(char::is_control), "{line:?}");
            assert!(line.starts_with("Serving 1 machine on eth1; a READY=1 [31m ü"), "{line}");
            assert_eq!(line.ends_with("(and 1 more, see pxed status)"), problems.len() > 1, "{line}");
        }
    }
}
