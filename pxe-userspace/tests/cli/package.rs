//! The configuration file of the Debian package.

use std::fs;

use super::{pxed, write};

#[test]
fn configuration_of_the_package_is_understood_with_every_example_in_it() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/systemd/pxed.toml");
    let shipped = fs::read_to_string(path).unwrap();
    // An example has its key right behind the mark; a sentence has a space.
    let is_example =
        |line: &&str| line.strip_prefix('#').is_some_and(|rest| rest.starts_with(|c: char| c.is_lowercase()));
    let examples = shipped.lines().filter(is_example).count();
    let uncommented: String = shipped
        .lines()
        .map(|line| if is_example(&line) { format!("{}\n", &line[1..]) } else { format!("{line}\n") })
        .collect();
    assert!(examples > 10, "{examples} examples");
    let directory = tempfile::tempdir().unwrap();
    for text in [shipped, uncommented] {
        let file = write(&directory.path().join("pxed.toml"), &text);
        let (success, said) = pxed(&["validate", "--config", &file], &[]);
        assert!(!success && said.contains("/etc/pxed/"), "{said}");
        assert!(!said.contains("unknown field") && !said.contains("TOML") && !said.contains("invalid"), "{said}");
    }
}
