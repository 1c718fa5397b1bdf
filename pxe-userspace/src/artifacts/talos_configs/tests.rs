use std::{fs, os::unix::fs::symlink, sync::Arc};

use super::*;
use crate::model::{architecture::Architecture, inventory::Machine, testing::machine};

const PORT: u16 = 8000;

fn of(file: Option<&str>) -> TalosConfig {
    TalosConfig { file: file.map(Arc::from), http_port: PORT }
}

/// Returns a directory with configurations, beside a secret and a directory of artifacts.
fn directory() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    for name in ["configs/..data/deep", "artifacts/below"] {
        fs::create_dir_all(at(name)).unwrap();
    }
    fs::write(at("secret"), "a secret of the host").unwrap();
    fs::write(at("configs/..data/deep/11.yaml"), "machine: 11").unwrap();
    fs::write(at("configs/empty.yaml"), "").unwrap();
    fs::File::create(at("configs/long.yaml")).unwrap().set_len(CONFIG_LIMIT + 1).unwrap();
    fs::File::create(at("configs/longest.yaml")).unwrap().set_len(CONFIG_LIMIT).unwrap();
    // As Kubernetes mounts a Secret.
    symlink("..data/deep/11.yaml", at("configs/11.yaml")).unwrap();
    symlink("../secret", at("configs/outside.yaml")).unwrap();
    symlink(at("secret"), at("configs/absolute.yaml")).unwrap();
    symlink("circle.yaml", at("configs/circle.yaml")).unwrap();
    directory
}

fn in_directory(directory: &tempfile::TempDir) -> TalosConfigs {
    let place = config_place(&directory.path().join("configs"), None, PORT).unwrap();
    assert!(place.is_directory && place.http_port == PORT);
    TalosConfigs::at(&place)
}

#[test]
fn file_below_the_directory_is_read_as_it_is() {
    let directory = directory();
    let configs = in_directory(&directory);
    let read = |name: &str| {
        let config = of(Some(name));
        let file = configs.open(&config).unwrap_or_else(|refusal| panic!("{refusal:?}"));
        configs.read(&config, &file).unwrap()
    };
    assert_eq!(read("11.yaml"), b"machine: 11");
    assert_eq!(read("..data/deep/11.yaml"), b"machine: 11");
    assert_eq!(read("longest.yaml").len() as u64, CONFIG_LIMIT);
    // The next request gets what was put there meanwhile.
    fs::write(directory.path().join("new"), "machine: 12").unwrap();
    fs::rename(directory.path().join("new"), directory.path().join("configs/..data/deep/11.yaml")).unwrap();
    assert_eq!(read("11.yaml"), b"machine: 12");
}

#[test]
fn whatever_is_no_configuration_is_refused_with_its_path() {
    let directory = directory();
    let configs = in_directory(&directory);
    for (name, refusal, told, reason) in [
        ("none.yaml", Some(Refusal::NotFound), "no machine configuration", "no such file"),
        ("..data", Some(Refusal::NotFound), "no machine configuration", "no such file"),
        (
            "outside.yaml",
            Some(Refusal::Outside),
            "no machine configuration",
            "outside.yaml is a symbolic link to ../secret",
        ),
        ("absolute.yaml", Some(Refusal::Outside), "no machine configuration", "is a symbolic link to "),
        (
            "../secret",
            Some(Refusal::Outside),
            "no machine configuration",
            "leads out of the directory of --talos-config",
        ),
        ("circle.yaml", Some(Refusal::Circle), "no machine configuration", "circle"),
        ("empty.yaml", None, "empty machine configuration", "the file is empty"),
        ("long.yaml", None, "machine configuration too long", "the file has 4194305 bytes, and 4194304 are allowed"),
    ] {
        let refused = configs.open(&of(Some(name))).expect_err(name);
        let path = format!("{}: ", directory.path().join("configs").join(name).display());
        assert_eq!((refused.refusal, refused.told), (refusal, told), "{name}");
        assert!(refused.reason.starts_with(&path) && refused.reason.contains(reason), "{name}: {}", refused.reason);
        // Talos logs no more than this of an answer.
        assert!(told.len() <= 32 && !told.contains('/'), "{told}");
    }
}

#[test]
fn file_for_all_machines_may_be_a_link() {
    let directory = directory();
    let (link, target) = (directory.path().join("all.yaml"), directory.path().join("configs/..data/deep/11.yaml"));
    symlink(&target, &link).unwrap();
    let place = config_place(&link, Some(&directory.path().join("artifacts")), PORT).unwrap();
    assert!(!place.is_directory);
    let (configs, config) = (TalosConfigs::at(&place), of(None));
    assert_eq!(configs.read(&config, &configs.open(&config).unwrap()).unwrap(), b"machine: 11");
    fs::remove_file(&target).unwrap();
    let refused = configs.open(&config).unwrap_err();
    assert_eq!(refused.reason, format!("{}: no such file", link.display()));
}

#[test]
fn file_that_is_written_in_place_while_it_is_read_is_refused() {
    let directory = directory();
    let (configs, config) = (in_directory(&directory), of(Some("11.yaml")));
    let file = configs.open(&config).unwrap();
    fs::write(directory.path().join("configs/11.yaml"), "x").unwrap();
    let refused = configs.read(&config, &file).unwrap_err();
    assert!(refused.reason.contains("11.yaml: the file changed while it was sent"), "{}", refused.reason);
}

#[test]
fn place_is_a_file_or_directory_outside_of_the_artifacts() {
    let directory = directory();
    let at = |name: &str| directory.path().join(name);
    fs::write(at("artifacts/below/all.yaml"), "x").unwrap();
    symlink(at("artifacts/below"), at("link")).unwrap();
    let artifacts = at("artifacts");
    for (name, expected) in [
        ("none", "none: No such file or directory"),
        ("artifacts", "is in the artifacts directory"),
        ("artifacts/below", "is in the artifacts directory"),
        ("artifacts/below/all.yaml", "is in the artifacts directory"),
        ("configs/../artifacts/below", "is in the artifacts directory"),
        ("link", "is in the artifacts directory"),
        ("link/all.yaml", "is in the artifacts directory"),
    ] {
        let error = config_place(&at(name), Some(&artifacts), PORT).expect_err(name);
        assert!(error.starts_with("--talos-config ") && error.contains(expected), "{error}");
    }
    assert!(config_place(Path::new("/dev/null"), None, PORT).unwrap_err().contains("neither a file nor a directory"));
    // A directory whose name begins alike is another one, and so is the one around it.
    fs::create_dir(at("artifacts-of-others")).unwrap();
    for name in ["artifacts-of-others", "configs", "secret", "."] {
        assert!(config_place(&at(name), Some(&artifacts), PORT).is_ok(), "{name}");
    }
    assert!(config_place(&at("configs"), Some(&at("not-yet")), PORT).is_ok());
}

#[test]
fn missing_file_is_one_message_for_all_its_machines() {
    let directory = directory();
    let configs = in_directory(&directory);
    let with = |number, file: Option<&str>| {
        let plain = machine(number, Architecture::Amd64, "v1.13.0", None);
        let talos_config = file.map(|file| of(Some(file)));
        Arc::new(Machine { talos_config, ..Machine::clone(&plain) })
    };
    let inventory = Inventory::new(vec![
        with(1, Some("none.yaml")),
        with(2, Some("11.yaml")),
        with(3, Some("none.yaml")),
        with(4, None),
        with(5, Some("empty.yaml")),
    ]);
    let missing = configs.missing(&inventory);
    let [empty, none] = &missing[..] else { panic!("{missing:#?}") };
    assert!(
        empty.contains("empty.yaml: the file is empty (the machine configuration of 02:00:00:00:00:05):"),
        "{empty}"
    );
    let expected = "none.yaml: no such file (the machine configuration of 02:00:00:00:00:01 and 1 more):";
    assert!(none.contains(expected), "{none}");
}
