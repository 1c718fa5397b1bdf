//! Whole specs, good and bad.

use std::path::{Path, PathBuf};

#[test]
fn every_example_is_valid_and_without_warnings() {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples");
    let mut seen = 0;
    for entry in std::fs::read_dir(examples).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "yaml") {
            let loaded = super::load(&[PathBuf::from(&path)]).unwrap_or_else(|errors| panic!("{errors}"));
            assert_eq!(loaded.warnings, [], "{}", path.display());
            assert!(!loaded.inventory.machines().is_empty(), "{}", path.display());
            seen += 1;
        }
    }
    assert!(seen > 2);
}
