//! The tests named in README's table of clients exist.

use std::{fs, path::Path};

/// Returns the test program in `binary::{one, other}_*`, and the names of its tests or their beginnings.
fn named(code: &str) -> Option<(&str, Vec<String>)> {
    let (program, names) = code.split_once("::")?;
    let names = names.trim_end_matches('*');
    let Some((list, rest)) = names.strip_prefix('{').and_then(|names| names.split_once('}')) else {
        return Some((program, vec![names.to_owned()]));
    };
    Some((program, list.split(',').map(|name| format!("{}{rest}", name.trim())).collect()))
}

#[test]
fn tests_in_the_table_of_clients_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let readme = fs::read_to_string(root.join("README.md")).unwrap();
    let table = readme.split("| tested by |").nth(1).and_then(|rest| rest.split("\n\n").next()).unwrap();
    let mut count = 0;
    // The tests are in the last cell of each row; every second piece between backticks is code.
    for code in
        table.lines().filter_map(|row| row.rsplit('|').nth(1)).flat_map(|cell| cell.split('`').skip(1).step_by(2))
    {
        if let Some((program, names)) = named(code) {
            let files =
                [format!("{program}.rs"), format!("{program}/main.rs")].map(|file| root.join("tests/tests").join(file));
            let source = files.iter().find_map(|file| fs::read_to_string(file).ok());
            let source =
                source.unwrap_or_else(|| panic!("README names {code}, and there is no test program {program}"));
            for name in names {
                // A test's name is its first argument. Tests on every datapath get the datapath's name appended.
                let is_there = source.contains(&format!("\"{}", name.trim_end_matches('_')));
                assert!(is_there, "README names {code}, and {program} has no test {name}");
                count += 1;
            }
        } else if code.contains('/') {
            assert!(root.join(code).exists(), "README names {code}, which does not exist");
            count += 1;
        }
    }
    assert!(count > 15, "only {count} tests were found in README's table");
}
