//! SECURITY.md names the test that holds each of its claims. These tests exist.

#![expect(clippy::unwrap_used, reason = "helpers of tests may fail by panicking")]

use std::{
    fs,
    path::{Path, PathBuf},
};

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// Returns the names in the column "held by" of all tables, with what braces stand for.
fn named() -> Vec<String> {
    let text = fs::read_to_string(workspace().join("SECURITY.md")).unwrap();
    let mut names = Vec::new();
    let mut is_named = false;
    for line in text.lines() {
        let Some(row) = line.strip_prefix('|').and_then(|line| line.strip_suffix('|')) else {
            is_named = false;
            continue;
        };
        let last = row.rsplit('|').next().unwrap_or_default();
        is_named |= last.trim() == "held by";
        if is_named {
            last.split('`').skip(1).step_by(2).for_each(|name| expand(name, &mut names));
        }
    }
    names
}

/// Adds the names that a name with one pair of braces stands for.
fn expand(name: &str, names: &mut Vec<String>) {
    match name.split_once('{').and_then(|(before, rest)| Some((before, rest.split_once('}')?.0))) {
        Some((before, inner)) => names.extend(inner.split(',').map(|inner| format!("{before}{}", inner.trim()))),
        None => names.push(name.to_owned()),
    }
}

/// Adds the sources below a directory.
fn read(directory: &Path, sources: &mut Vec<(PathBuf, String)>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            read(&path, sources);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).unwrap();
            sources.push((path, text));
        }
    }
}

/// Returns `true` if there is a test, or a module with tests, of this name. A test of the lab is named by a string, which its program may complete.
fn is_there(name: &str, sources: &[(PathBuf, String)]) -> bool {
    let path: Vec<_> =
        name.trim_end_matches(['*', '…', '_']).split([':', ' ']).filter(|part| !part.is_empty()).collect();
    let Some(last) = path.last() else { return false };
    let signs = [format!("fn {last}"), format!("\"{last}")];
    let is_test = |text: &str| *last != "tests" && signs.iter().any(|sign| text.contains(sign));
    let modules = path.strip_suffix(&["tests"]).unwrap_or(&path).join("/");
    let is_module = |path: &Path| path.with_extension("").ancestors().any(|path| path.ends_with(&modules));
    // Those of the lab are programs without the attribute.
    let has_tests = |path: &Path, text: &str| {
        ["test]", "::test("].iter().any(|sign| text.contains(sign)) || path.starts_with(workspace().join("tests/tests"))
    };
    sources.iter().any(|(path, text)| has_tests(path, text) && is_module(path) || is_test(text))
}

#[test]
fn tests_that_the_security_document_names_exist() {
    let mut sources = Vec::new();
    for directory in ["pxe-common/src", "pxe-userspace/src", "pxe-userspace/tests", "tests/tests"] {
        read(&workspace().join(directory), &mut sources);
    }
    // Its own names prove nothing.
    sources.retain(|(path, _)| !path.ends_with("tests/tests/security.rs"));
    let names = named();
    assert!(names.len() > 60, "{names:?}");
    let missing: Vec<_> = names.iter().filter(|name| !is_there(name, &sources)).collect();
    assert!(missing.is_empty(), "SECURITY.md names tests that do not exist: {missing:?}");
    for wrong in ["no_such_test", "tftp::no_such_module::tests", ""] {
        assert!(!is_there(wrong, &sources), "{wrong}");
    }
}
