//! The Python packages that tests use, in a virtual environment below the target directory. `cargo xtask install` makes it.

use std::{fs, path::PathBuf};

use crate::{build, requires::Skip};

/// The packages in exact versions, with everything that they need. There is no other list.
pub const REQUIREMENTS: &str = "\
attrs==26.1.0
helm-python-sdk==0.2.2
importlib_resources==7.1.0
jsonschema==4.26.0
jsonschema-specifications==2025.9.1
kubernetes-validate==1.37.0
packaging==26.4
PyYAML==6.0.4
referencing==0.37.0
rpds-py==2026.9.1
typing_extensions==4.16.0
";

/// Returns the directory of the virtual environment.
#[must_use]
pub fn environment() -> PathBuf {
    build::target().join("python")
}

/// Returns the file that holds the list of what is installed. It is written last.
#[must_use]
pub fn installed() -> PathBuf {
    environment().join("installed.txt")
}

/// Returns the path of the Python interpreter with these packages.
///
/// # Errors
///
/// Fails with [`Skip`] if the packages, in these versions, are not installed.
pub fn interpreter() -> Result<PathBuf, Skip> {
    let python = environment().join("bin/python");
    if fs::read_to_string(installed()).is_ok_and(|list| list == REQUIREMENTS) && python.is_file() {
        Ok(python)
    } else {
        Err(Skip("the Python packages of the tests are not installed: cargo xtask install".to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_exact() {
        for line in REQUIREMENTS.lines() {
            let (name, version) = line.split_once("==").unwrap();
            assert!(!name.is_empty() && version.starts_with(|first: char| first.is_ascii_digit()), "{line}");
        }
    }
}
