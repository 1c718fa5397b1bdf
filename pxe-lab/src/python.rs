//! The Python packages that tests use, in a virtual environment below the target directory. `cargo xtask install` makes it.

use std::{fs, path::PathBuf};

use crate::{build, requires::Skip};

/// The packages in exact versions, with everything that they need. There is no other list.
pub const REQUIREMENTS: &str = "\
anyio==4.16.0
attrs==26.1.0
axe-playwright-python==0.1.8
certifi==2026.10.19.post1
charset-normalizer==3.5.3
click==8.5.1
graphql-core==3.3.2
harfile==0.6.0
helm-python-sdk==0.2.2
hypothesis-graphql==0.13.5
hypothesis==6.170.17
idna==3.20
importlib_resources==7.1.0
iniconfig==2.3.1
jsonschema_rs==0.60.3
jsonschema-specifications==2025.9.1
jsonschema==4.26.0
kubernetes-validate==1.37.0
markdown-it-py==4.3.0
MarkupSafe==3.0.4
mdurl==0.1.2
packaging==26.4
pluggy==1.7.0
Pygments==2.21.0
pyrate-limiter==4.5.1
pytest==9.2.0
PyYAML==6.0.4
referencing==0.37.0
requests==2.34.2
rich==15.0.0
rpds-py==2026.9.1
schemathesis==4.32.5
sortedcontainers==2.4.0
typing_extensions==4.16.0
urllib3==2.8.0
Werkzeug==3.1.9
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

/// Returns the script of axe-core, which a Python package brings along. Playwright, by which others use it, is not installed.
///
/// # Errors
///
/// Fails with [`Skip`] if the packages are not installed.
pub fn axe_core() -> anyhow::Result<String> {
    interpreter()?;
    for version in fs::read_dir(environment().join("lib"))? {
        let script = version?.path().join("site-packages/axe_playwright_python/axe.min.js");
        if script.is_file() {
            return Ok(fs::read_to_string(script)?);
        }
    }
    anyhow::bail!("axe-playwright-python has no axe.min.js")
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
