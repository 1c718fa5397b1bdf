//! Whole specs, valid and invalid.

mod boot;
mod errors;
mod isolation;
mod machines;
mod misspellings;
mod robustness;
mod scale;
mod settings;
mod vlans;
mod watching;

use std::{fs, path::PathBuf};

use super::{Loaded, SpecErrors};

/// Files in a temporary directory.
struct Files {
    directory: tempfile::TempDir,
}

impl Files {
    fn new(files: &[(&str, &str)]) -> Self {
        let new = Self { directory: tempfile::tempdir().unwrap() };
        for (name, text) in files {
            new.write(name, text);
        }
        new
    }

    fn write(&self, name: &str, text: impl AsRef<[u8]>) {
        fs::write(self.path(name), text).unwrap();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn load(&self) -> Result<Loaded, SpecErrors> {
        super::load(&[self.directory.path().to_owned()])
    }

    /// Formats findings without the temporary directory.
    fn relative(&self, findings: &[super::Finding]) -> Vec<String> {
        let directory = format!("{}/", self.directory.path().display());
        findings.iter().map(|finding| finding.to_string().replace(&directory, "")).collect()
    }
}

/// Returns a cluster with these control plane machines.
fn cluster(machine: &str) -> String {
    format!(
        "apiVersion: talos.alperen.cloud/v1alpha1
kind: TalosCluster
metadata: {{name: lab}}
spec:
  pxeServerSpec: {{address: 10.0.0.1, interface: eth1}}
  controlPlane:
    version: v1.13.0
    mode: metal
    metalSpec:
      machines:
{machine}"
    )
}

#[test]
fn examples_are_valid_and_without_warnings() {
    let examples = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples");
    let mut seen = 0;
    for entry in fs::read_dir(examples).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "yaml") {
            let loaded = super::load(std::slice::from_ref(&path)).unwrap_or_else(|errors| panic!("{errors}"));
            assert_eq!(loaded.warnings, [], "{}", path.display());
            assert!(!loaded.inventory.machines().is_empty(), "{}", path.display());
            seen += 1;
        }
    }
    assert!(seen > 2);
}
