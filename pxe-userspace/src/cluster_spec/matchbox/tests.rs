use std::{fs, time::Instant};

use proptest::prelude::*;
use serde_json::Value;

use super::{super::finding::Finding, *};

/// A data directory with one profile, `p`.
struct Directory(tempfile::TempDir);

impl Directory {
    fn new(files: &[(&str, &str)]) -> Self {
        let directory = Self(tempfile::tempdir().unwrap());
        for subdirectory in read::SUBDIRECTORIES {
            fs::create_dir(directory.0.path().join(subdirectory)).unwrap();
        }
        directory.write("profiles/p.json", r#"{"id": "p", "boot": {"kernel": "/assets/k"}}"#);
        files.iter().for_each(|(name, text)| directory.write(name, text));
        directory
    }

    fn write(&self, name: &str, text: impl AsRef<[u8]>) {
        fs::write(self.0.path().join(name), text).unwrap();
    }

    fn load(&self) -> (Option<Catalog>, Vec<String>, Vec<String>) {
        let root = format!("{}/", self.0.path().display());
        let relative =
            |findings: Vec<Finding>| findings.iter().map(|finding| finding.to_string().replace(&root, "")).collect();
        match load(self.0.path()) {
            Ok(LoadedCatalog { catalog, warnings, .. }) => (Some(catalog), Vec::new(), relative(warnings)),
            Err(SpecErrors { errors, warnings }) => (None, relative(errors), relative(warnings)),
        }
    }
}

fn labels(query: &str) -> Labels {
    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    Labels::new(&pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect::<Vec<_>>())
}

#[test]
fn machine_gets_the_group_with_the_most_selectors() {
    let directory = Directory::new(&[
        ("groups/default.json", r#"{"profile": "p"}"#),
        ("groups/node1.json", r#"{"profile": "p", "selector": {"mac": "52:54:00:AB:CD:01"}}"#),
        (
            "groups/node1-installed.json",
            r#"{"profile": "p", "selector": {"mac": "5254.00ab.cd01", "os": "installed"}}"#,
        ),
        ("groups/installed.json", r#"{"profile": "p", "selector": {"os": "installed"}}"#),
        ("groups/rack.json", r#"{"profile": "p", "selector": {"rack": "a", "region": "eu"}}"#),
        ("groups/no-serial.json", r#"{"profile": "p", "selector": {"serial": "", "asset": "7", "room": "2"}}"#),
        // Ignored, as by Matchbox.
        ("groups/README", "not a group"),
        ("groups/.hidden.json", "not a group"),
    ]);
    fs::create_dir(directory.0.path().join("groups/more.json")).unwrap();
    let (catalog, errors, warnings) = directory.load();
    let catalog = catalog.unwrap_or_else(|| panic!("{errors:?}"));
    assert_eq!(warnings, [""; 0]);
    for (query, expected) in [
        ("", "default"),
        ("uuid=u&mac=&serial=", "default"),
        ("mac=52-54-00-ab-cd-02", "default"),
        ("mac=52-54-00-ab-cd-01", "node1"),
        ("mac=525400abcd01&hostname=h", "node1"),
        ("mac=nonsense", "default"),
        ("mac=52:54:00:ab:cd:01&os=installed", "node1-installed"),
        ("mac=52:54:00:ab:cd:02&os=installed", "installed"),
        ("OS=installed", "default"),
        ("os=installed&os=other", "installed"),
        ("os=other&os=installed", "default"),
        // Both have two selectors. The later in the alphabet comes first, and `rack` is later than `mac`.
        ("mac=52:54:00:ab:cd:01&os=installed&rack=a&region=eu", "rack"),
        ("asset=7&room=2", "no-serial"),
        ("asset=7&room=2&serial=x", "default"),
    ] {
        assert_eq!(catalog.select(&labels(query)).map(|group| group.id.as_str()), Some(expected), "{query:?}");
    }
}

#[test]
fn machines_outside_all_groups_get_nothing_without_a_default_group() {
    let directory = Directory::new(&[("groups/a.json", r#"{"profile": "p", "selector": {"uuid": "1"}}"#)]);
    let catalog = directory.load().0.unwrap();
    assert!(catalog.select(&labels("uuid=2")).is_none());
    assert!(catalog.select(&labels("uuid=1")).is_some());
}

/// Every mistake of one directory at once, each with its place and its field.
#[test]
fn mistakes_are_all_reported() {
    let directory = Directory::new(&[
        ("groups/1.json", "{\n  \"profile\": \"p\",\n  \"selector\": {\"mac\": \"52:54\"}\n}"),
        ("groups/2.json", "{\"profile\": \"p\"\n"),
        ("groups/3.json", "{\n\t\"id\": \"x\",\n\t\"profile\": \"none\"\n}"),
        ("groups/4.json", "{\"selector\": {\"count\": 3}}"),
        ("groups/5.json", "{\"profile\": \"broken\"}"),
        ("groups/6.json", "[]"),
        ("profiles/broken.json", "{\"boot\": {\"kernel\": 1, \"initrd\": \"x\", \"args\": [\"a\", 2]}}"),
        (
            "profiles/files.json",
            r#"{"id": "files", "ignition_id": "a.yaml", "generic_id": "../x", "cloud_id": "none"}"#,
        ),
        ("profiles/texts.json", r#"{"id": "texts", "ignition_id": "b.ign", "generic_id": "g"}"#),
        ("ignition/a.yaml", "variant: fcos"),
        ("ignition/b.ign", "{\n\"ignition\": }"),
        ("generic/g", "a\n{{range .x}}"),
    ]);
    let (_, errors, _) = directory.load();
    let expected = [
        "generic/g:2:1: {{range .x}} is not supported by pxed",
        "groups/1.json:3:23: selector.mac: \"52:54\" is not a MAC address",
        "groups/2.json:2:1: not JSON: EOF while parsing an object",
        "groups/3.json:3:13: profile: there is no profiles/none.json, only broken, files, p, texts",
        "groups/4.json:1:1: profile: is missing",
        "groups/4.json:1:24: selector.count: is not a string",
        "groups/6.json:1:1: is not an object",
        "ignition/b.ign:2:13: not JSON: expected value",
        "profiles/broken.json:1:1: id: is missing: write \"id\": \"broken\"",
        "profiles/broken.json:1:21: boot.kernel: is not a string",
        "profiles/broken.json:1:34: boot.initrd: is not a list of strings",
        "profiles/broken.json:1:47: boot.args: is not a list of strings",
        "profiles/files.json:1:32: ignition_id: ignition/a.yaml is not *.ign or *.ignition, so it is taken for Butane",
        "profiles/files.json:1:56: generic_id: \"../x\" leads out of generic/",
        "profiles/files.json:1:76: cloud_id: cloud/none: cannot be read",
    ];
    assert_eq!(errors.len(), expected.len(), "{errors:#?}");
    for (error, expected) in errors.iter().zip(expected) {
        assert!(error.starts_with(expected), "wanted {expected}\ngot    {error}");
    }
}

#[test]
fn likely_mistakes_are_warnings() {
    let directory = Directory::new(&[
        ("groups/a.json", r#"{"profile": "p", "selectors": {"mac": "52:54:00:ab:cd:01"}}"#),
        ("groups/b.json", r#"{"profile": "p", "selector": {}}"#),
        ("profiles/q.json", r#"{"ID": "other", "boot": {"kernel": "k", "arg": []}, "ignition_id": null}"#),
        ("profiles/r.json", r#"{"id": "r", "boot": {}, "generic_id": ""}"#),
    ]);
    let (_, errors, warnings) = directory.load();
    assert_eq!(errors, [""; 0]);
    let expected = [
        "profiles/q.json:1:48: boot.arg: is an unknown field",
        "profiles/q.json:1:8: id: \"other\" differs from the name of the file",
        "profiles/r.json:1:21: boot.kernel: is missing",
        "groups/a.json:1:31: selectors: is an unknown field",
        "groups/b.json:1:30: selector: selects every machine as ",
    ];
    assert_eq!(warnings.len(), expected.len(), "{warnings:#?}");
    for expected in expected {
        assert!(warnings.iter().any(|warning| warning.starts_with(expected)), "wanted {expected} in {warnings:#?}");
    }
}

#[test]
fn directory_without_groups_and_profiles_is_an_error() {
    let directory = tempfile::tempdir().unwrap();
    assert!(!is_directory(directory.path()));
    let errors = load(directory.path()).unwrap_err().to_string();
    assert!(errors.contains("groups: cannot be listed") && errors.contains("profiles: cannot be listed"), "{errors}");
}

#[test]
fn example_is_a_data_directory() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/matchbox");
    assert!(is_directory(&directory));
    let LoadedCatalog { catalog, warnings, .. } = load(&directory).unwrap();
    assert_eq!(warnings, []);
    assert_eq!((catalog.groups().len(), catalog.profiles().len()), (3, 3));
    let assets: Vec<_> = catalog.profiles().iter().filter_map(|profile| profile.boot.as_ref()).collect();
    let assets: Vec<_> = assets.iter().flat_map(|boot| boot.assets()).collect();
    assert!(assets.contains(&"flatcar/flatcar_production_pxe_image.cpio.gz"), "{assets:?}");
}

#[test]
fn changes_come_into_force_and_mistakes_do_not() {
    let directory = Directory::new(&[
        ("profiles/g.json", r#"{"id": "g", "generic_id": "config"}"#),
        ("generic/config", "one"),
        ("groups/default.json", r#"{"profile": "g"}"#),
    ]);
    let shared = SharedCatalog::default();
    let first = read(directory.0.path(), &Catalog::default());
    let faults = SharedSpecFaults::default();
    let watched = Watched::new(directory.0.path().to_owned(), first, Arc::clone(&shared), Arc::clone(&faults), false);
    let mut task = watch::Task::new(source(watched));
    let mut now = Instant::now();
    let mut in_force = || {
        // A change is loaded at the second look.
        for _ in 0..3 {
            now += task.look(now).unwrap_or_default();
        }
        let catalog = shared.load();
        let template = catalog.select(&Labels::default()).and_then(|group| group.profile.generic.clone());
        template.map(|template| template.render(&Value::Null).unwrap())
    };
    assert_eq!(in_force().as_deref(), Some("one"));
    // No group or profile changes, only a file that a profile names. Each text has a length of its own, since the file system's
    // clock may not have moved on.
    directory.write("generic/config", "second");
    assert_eq!(in_force().as_deref(), Some("second"));
    directory.write("groups/default.json", "{");
    directory.write("generic/config", "third one");
    assert_eq!(in_force().as_deref(), Some("second"));
    directory.write("groups/other.json", r#"{"profile": "g"}"#);
    fs::remove_file(directory.0.path().join("groups/default.json")).unwrap();
    assert_eq!(in_force().as_deref(), Some("third one"));
}

/// Text that resembles JSON, with the words that have a meaning.
fn json_like() -> impl Strategy<Value = String> {
    const WORDS: &[&str] = &[
        "{",
        "}",
        "[",
        "]",
        ":",
        ",",
        "\n",
        "null",
        "1",
        "\"",
        "\"id\":",
        "\"boot\":",
        "\"kernel\":",
        "\"profile\":",
        "\"selector\":",
        "\"mac\":",
        "\"metadata\":",
        "\"p\"",
        "\\u00",
        "é",
        "\u{feff}",
        "\"generic_id\":",
    ];
    prop_oneof![
        prop::collection::vec(prop::sample::select(WORDS), 0..30).prop_map(|words| words.concat()),
        any::<String>(),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_text_is_a_catalog_or_errors(group in json_like(), profile in json_like(), bytes in any::<Vec<u8>>()) {
        let directory = Directory::new(&[("groups/a.json", &group), ("profiles/b.json", &profile)]);
        directory.write("groups/bytes.json", bytes);
        let (catalog, errors, _) = directory.load();
        prop_assert_eq!(catalog.is_some(), errors.is_empty());
    }
}

#[test]
fn missing_profile_lists_some_of_those_that_exist() {
    for (number, expected) in [(0, ""), (1, ", only x00"), (10, ", x09"), (12, ", x08, x09 and 2 more")] {
        let directory = Directory::new(&[("groups/g.json", r#"{"profile": "none"}"#)]);
        fs::remove_file(directory.0.path().join("profiles/p.json")).unwrap();
        for index in 0..number {
            directory.write(&format!("profiles/x{index:02}.json"), format!(r#"{{"id": "x{index:02}"}}"#));
        }
        let (_, errors, _) = directory.load();
        let is_told = |error: &String| error.ends_with(expected) && !error.ends_with(' ');
        assert!(
            matches!(&errors[..], [error] if error.contains("no profiles/none.json") && is_told(error)),
            "{errors:?}"
        );
    }
}
