//! A mistake in one file affects the group or the route that needs it, and nothing else.

use std::fs;

use super::{super::finding::Finding, *};

const FILES: [(&str, &str); 8] = [
    ("groups/default.json", r#"{"profile": "p"}"#),
    ("groups/a.json", r#"{"profile": "q", "selector": {"mac": "52:54:00:00:00:0a"}}"#),
    ("profiles/p.json", r#"{"id": "p", "boot": {"kernel": "/assets/k"}}"#),
    ("profiles/q.json", r#"{"id": "q", "boot": {"kernel": "/assets/k"}, "ignition_id": "q.ign", "generic_id": "q"}"#),
    ("profiles/unused.json", r#"{"id": "unused", "boot": {"kernel": "/assets/k"}, "ignition_id": "unused.ign"}"#),
    ("ignition/q.ign", "{}"),
    ("ignition/unused.ign", "{}"),
    ("generic/q", "generic"),
];

struct Directory(tempfile::TempDir);

impl Directory {
    fn new() -> Self {
        let new = Self(tempfile::tempdir().unwrap());
        for subdirectory in read::SUBDIRECTORIES {
            fs::create_dir(new.0.path().join(subdirectory)).unwrap();
        }
        FILES.iter().for_each(|(name, text)| new.put(name, Some(text)));
        new
    }

    /// Writes a file, or deletes it.
    fn put(&self, name: &str, text: Option<&str>) {
        let path = self.0.path().join(name);
        match text {
            Some(text) => fs::write(path, text).unwrap(),
            None => fs::remove_file(path).unwrap(),
        }
    }

    fn read(&self, in_force: &Catalog) -> LoadedCatalog {
        read(self.0.path(), in_force)
    }
}

/// Returns the group of a machine, and what it gets.
fn answers(catalog: &Catalog, mac: &str) -> String {
    let labels = Labels::new(&[("mac".to_owned(), mac.to_owned())]);
    let Some(group) = catalog.select(&labels) else { return "nothing".to_owned() };
    let Profile { boot, ignition, generic, .. } = &*group.profile;
    let parts = [("boot", boot.is_some()), ("ignition", ignition.is_some()), ("generic", generic.is_some())];
    let parts = parts.into_iter().filter(|(_, is_there)| *is_there).map(|(name, _)| name);
    std::iter::once(group.id.as_str()).chain(parts).collect::<Vec<_>>().join(" ")
}

const A: &str = "52:54:00:00:00:0a";
const B: &str = "52:54:00:00:00:0b";
const ALL: &str = "a boot ignition generic";

#[test]
fn mistake_in_one_file_leaves_the_rest_alone() {
    // The file, its text, what the machine of the group gets if pxed starts with it, and the groups that it affects.
    let cases: &[(&str, Option<&str>, &str, usize)] = &[
        ("groups/a.json", Some(r#"{"profile": "q",}"#), "default boot", 1),
        ("groups/a.json", Some(""), "default boot", 1),
        ("groups/a.json", Some("[]"), "default boot", 1),
        ("groups/a.json", Some("null"), "default boot", 1),
        ("groups/a.json", Some(r#"{"profile": "q", "selector": {"mac": "52:54:00:*"}}"#), "default boot", 1),
        ("groups/a.json", Some(r#"{"profile": "q", "selector": {"mac": 5}}"#), "default boot", 1),
        ("groups/a.json", Some(r#"{"profile": "q", "selector": []}"#), "default boot", 1),
        ("groups/a.json", Some(r#"{"profile": "q", "metadata": 3}"#), "default boot", 1),
        ("groups/a.json", Some(r#"{"profile": 3, "selector": {"mac": "52:54:00:00:00:0a"}}"#), "default boot", 1),
        ("groups/a.json", Some(r#"{"selector": {"mac": "52:54:00:00:00:0a"}}"#), "default boot", 1),
        ("groups/a.json", Some(r#"{"profile": "x", "selector": {"mac": "52:54:00:00:00:0a"}}"#), "a", 1),
        ("profiles/q.json", None, "a", 1),
        ("profiles/q.json", Some(""), "a", 1),
        ("profiles/q.json", Some(r#"{"id": "q", "boot": {"kernel": "/assets/k"},}"#), "a", 1),
        ("profiles/q.json", Some(r#"{"boot": {"kernel": "/assets/k"}}"#), "a", 1),
        ("profiles/q.json", Some(r#"{"id": "q", "boot": {"kernel": 1}}"#), "a", 1),
        ("ignition/q.ign", None, "a boot generic", 1),
        ("ignition/q.ign", Some("{"), "a boot generic", 1),
        ("ignition/q.ign", Some(""), "a boot generic", 1),
        (
            "profiles/q.json",
            Some(r#"{"id": "q", "boot": {"kernel": "k"}, "ignition_id": "q.yaml", "generic_id": "q"}"#),
            "a boot generic",
            1,
        ),
        (
            "profiles/q.json",
            Some(r#"{"id": "q", "boot": {"kernel": "k"}, "ignition_id": "../q.ign", "generic_id": "q"}"#),
            "a boot generic",
            1,
        ),
        ("generic/q", None, "a boot ignition", 1),
        ("generic/q", Some("{{if .x}}"), "a boot ignition", 1),
        ("generic/q", Some("{{.x"), "a boot ignition", 1),
        ("ignition/unused.ign", None, ALL, 0),
        ("ignition/unused.ign", Some("variant: fcos"), ALL, 0),
        ("profiles/unused.json", Some("{"), ALL, 0),
    ];
    for (name, text, at_start, affected) in cases {
        let directory = Directory::new();
        directory.put("groups/a.json", Some(FILES[1].1));
        directory.put(name, *text);
        let LoadedCatalog { catalog, faults, .. } = directory.read(&Catalog::default());
        let lines: Vec<_> = faults.faults.iter().map(ToString::to_string).collect();
        assert_eq!(answers(&catalog, A), *at_start, "{name} {text:?}: {lines:?}");
        assert_eq!(answers(&catalog, B), "default boot", "{name} {text:?}: {lines:?}");
        assert!(!lines.is_empty(), "{name} {text:?}");
        let left_out: usize = faults.faults.iter().map(|fault| fault.left_out).sum();
        assert_eq!(left_out, *affected, "{name} {text:?}: {lines:?}");

        // The same while running: everything stays, and changes elsewhere come into force.
        let directory = Directory::new();
        let LoadedCatalog { catalog: mut running, faults, fingerprint, .. } = directory.read(&Catalog::default());
        assert_eq!((answers(&running, A).as_str(), faults.faults.len()), (ALL, 0));
        directory.put(name, *text);
        for round in 0..2 {
            let LoadedCatalog { catalog, faults, .. } = directory.read(&running);
            running = catalog;
            let lines: Vec<_> = faults.faults.iter().map(ToString::to_string).collect();
            assert_eq!(answers(&running, A), ALL, "{name} {text:?}, round {round}: {lines:?}");
            let kept: usize = faults.faults.iter().map(|fault| fault.kept).sum();
            assert_eq!(kept, *affected, "{name} {text:?}, round {round}: {lines:?}");
        }
        directory.put("groups/b.json", Some(r#"{"profile": "p", "selector": {"mac": "52:54:00:00:00:0b"}}"#));
        running = directory.read(&running).catalog;
        assert_eq!(answers(&running, B), "b boot", "{name} {text:?}: another file");
        fs::remove_file(directory.0.path().join("groups/b.json")).unwrap();
        FILES.iter().for_each(|(name, text)| directory.put(name, Some(text)));
        let again = directory.read(&running);
        assert_eq!((again.faults.faults.len(), answers(&again.catalog, A).as_str()), (0, ALL), "{name}: good again");
        assert_eq!(again.fingerprint, fingerprint, "{name}: the same content");
    }
}

#[test]
fn directory_that_is_gone_keeps_its_groups_and_a_deleted_group_does_not() {
    let directory = Directory::new();
    let running = directory.read(&Catalog::default()).catalog;
    for name in ["groups", "profiles"] {
        let [from, to] = [name, "elsewhere"].map(|name| directory.0.path().join(name));
        fs::rename(&from, &to).unwrap();
        let LoadedCatalog { catalog, faults, .. } = directory.read(&running);
        assert_eq!([A, B].map(|mac| answers(&catalog, mac)), [ALL, "default boot"], "{name}");
        let lines: Vec<_> = faults.faults.iter().map(|fault| fault.finding.message.as_str()).collect();
        assert!(lines.len() == 1 && lines[0].starts_with("cannot be listed"), "{lines:?}");
        assert_eq!(faults.faults[0].kept, 2);
        fs::rename(&to, &from).unwrap();
    }
    directory.put("groups/a.json", None);
    let LoadedCatalog { catalog, faults, .. } = directory.read(&running);
    assert_eq!((answers(&catalog, A).as_str(), faults.faults.len()), ("default boot", 0));
}

#[test]
fn group_that_is_kept_is_found_by_its_mac() {
    let directory = Directory::new();
    let running = directory.read(&Catalog::default()).catalog;
    directory.put("groups/a.json", Some("{"));
    let faults = directory.read(&running).faults;
    let (fault, is_kept) = faults.of(A.parse().unwrap()).unwrap();
    let Finding { file, .. } = &fault.finding;
    assert!(is_kept && file.ends_with("groups/a.json"), "{fault}");
}
