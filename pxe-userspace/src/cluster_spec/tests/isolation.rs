//! A mistake affects what it is in, and nothing else.

use std::{collections::BTreeMap, path::PathBuf};

use proptest::prelude::*;
use pxe_common::MacAddr;

use super::{super::Loader, Files};
use crate::model::finding::SpecFaults;

/// A spec in a directory, loaded again and again.
struct Spec {
    files: Files,
    loader: Loader,
}

/// The machines in force: the last byte of each MAC address, and its address.
type Served = BTreeMap<u8, String>;

impl Spec {
    fn new(files: &[(&str, &str)]) -> Self {
        Self { files: Files::new(files), loader: Loader::new() }
    }

    fn load_paths(&mut self, paths: &[PathBuf]) -> (Served, SpecFaults) {
        let loaded = self.loader.load(paths);
        let machines = loaded.inventory.machines().iter();
        let served: Served = machines.map(|machine| (machine.mac.0[5], machine.address.to_string())).collect();
        assert_eq!(served.len(), loaded.inventory.machines().len(), "MAC addresses are unique");
        for machine in loaded.inventory.machines() {
            let found = loaded.inventory.by_address(machine.address).map(|found| found.mac);
            assert_eq!(found, Some(machine.mac), "addresses are unique");
        }
        let faults = loaded.faults.clone();
        self.loader.put_in_force(loaded);
        (served, faults)
    }

    fn load(&mut self) -> (Served, SpecFaults) {
        let directory = self.files.directory.path().to_owned();
        self.load_paths(&[directory])
    }

    fn lines(&self, faults: &SpecFaults) -> Vec<String> {
        let directory = format!("{}/", self.files.directory.path().display());
        faults.faults.iter().map(|fault| fault.to_string().replace(&directory, "")).collect()
    }
}

/// Returns a cluster with a control plane and two workers, whose last bytes are the number and the two that follow.
fn cluster(name: &str, number: u8) -> String {
    let machine = |number: u8| {
        format!(
            "      - address: 10.0.0.{number}\n        pxeClientSpec:\n          macAddress: 52:54:00:00:00:{number:02x}\n          \
             cpuArchitecture: amd64\n"
        )
    };
    format!(
        "apiVersion: talos.alperen.cloud/v1alpha1\nkind: TalosCluster\nmetadata:\n  name: {name}\nspec:\n  pxeServerSpec: {{address: \
         10.0.0.{}, interface: eth1}}\n  controlPlane:\n    version: v1.13.0\n    mode: metal\n    metalSpec:\n      machines:\n{}  \
         worker:\n    version: v1.13.1\n    mode: metal\n    metalSpec:\n      machineSpec: {{meta: {{subnet: 24}}}}\n      machines:\n{}{}",
        number + 100,
        machine(number),
        machine(number + 1),
        machine(number + 2)
    )
}

fn served(numbers: impl IntoIterator<Item = u8>) -> Served {
    numbers.into_iter().map(|number| (number, format!("10.0.0.{number}"))).collect()
}

/// One mistake in one of two files: the machines of the other one are served, and of the file with the mistake as many as it is not
/// about. If all were served before, all still are.
#[test]
fn mistake_in_one_file_leaves_the_rest_alone() {
    let good = cluster("b", 21);
    let machine_22 = "          macAddress: 52:54:00:00:00:16\n";
    // The change of b.yaml, and its machines that are served if pxed starts with it.
    let cases: &[(&str, &str, &str, &[u8])] = &[
        ("not YAML", "kind:", "kind: [", &[]),
        ("a tab", "  name: b", "\tname: b", &[]),
        ("another document that is not YAML", "apiVersion", "a: [\n---\napiVersion", &[21, 22, 23]),
        ("a document behind it that is not YAML", "spec:", "status: {}\nspec:", &[21, 22, 23]),
        ("no name", "  name: b\n", "  labels: {}\n", &[]),
        ("no apiVersion", "apiVersion: talos.alperen.cloud/v1alpha1\n", "", &[]),
        ("a misspelt kind", "kind: TalosCluster", "kind: TalosClutser", &[]),
        ("a misspelt group", "talos.alperen.cloud/", "talos.alperen.clould/", &[]),
        ("no kind", "kind: TalosCluster", "Kind: TalosCluster", &[]),
        ("metadata is text", "metadata:\n  name: b\n", "metadata: b\n", &[]),
        ("a key twice", "  name: b\n", "  name: b\n  name: c\n", &[]),
        (
            "an annotation that is unknown",
            "  name: b\n",
            "  name: b\n  annotations: {pxed.dev/boot-polcy: hold}\n",
            &[],
        ),
        ("a wrong server address", "10.0.0.121", "10.0.0.1210", &[]),
        ("no interface", ", interface: eth1", "", &[]),
        ("a wrong version of the role", "v1.13.1", "1.13.1", &[21]),
        ("a wrong mode of the role", "v1.13.1\n    mode: metal", "v1.13.1\n    mode: metall", &[21]),
        ("a key twice in the role", "    version: v1.13.1\n", "    version: v1.13.1\n    version: v1.13.2\n", &[21]),
        ("a wrong prefix", "subnet: 24", "subnet: 33", &[21]),
        ("a machine whose MAC address is a pattern", machine_22, "          macAddress: 52:54:00:*\n", &[21, 23]),
        ("a machine without a MAC address", machine_22, "", &[21, 23]),
        ("a machine with a broadcast MAC address", machine_22, "          macAddress: ff:ff:ff:ff:ff:ff\n", &[21, 23]),
        ("a machine with a wrong address", "10.0.0.22", "10.0.0", &[21, 23]),
        (
            "a machine with neither",
            "10.0.0.22\n        pxeClientSpec:\n          mac",
            "10.0.0\n        pxeClientSpec:\n          mag",
            &[21, 23],
        ),
        ("a machine with an IPv6 address", "10.0.0.22", "fd00::22", &[21, 23]),
        ("a machine with a broadcast address", "10.0.0.22", "10.0.0.255", &[21, 23]),
        (
            "a machine with a wrong architecture",
            &format!("{machine_22}          cpuArchitecture: amd64"),
            &format!("{machine_22}          cpuArchitecture: i386"),
            &[21, 23],
        ),
        (
            "a machine that is a bare string",
            "      - address: 10.0.0.22\n        pxeClientSpec:\n          macAddress: 52:54:00:00:00:16\n          cpuArchitecture: amd64\n",
            "      - 10.0.0.22\n",
            &[21, 23],
        ),
        (
            "a machine with a key twice",
            machine_22,
            "          macAddress: 52:54:00:00:00:16\n          macAddress: 52:54:00:00:00:16\n",
            &[21, 23],
        ),
        ("a machine with the MAC address of its neighbour", "00:17", "00:16", &[21, 22]),
        ("a machine with the address of its neighbour", "10.0.0.23", "10.0.0.22", &[21, 22]),
        ("a machine with the MAC address of another file", "00:16", "00:0b", &[21, 23]),
        ("a machine with the address of another file", "10.0.0.22", "10.0.0.11", &[21, 23]),
        ("a machine with the address of a server", "10.0.0.22", "10.0.0.111", &[21, 23]),
    ];
    for (name, from, to, at_start) in cases {
        assert!(good.contains(from), "{name}");
        let mut bad = good.replacen(from, to, 1);
        if name.starts_with("a document behind") {
            bad += "---\n{";
        }
        let mut spec = Spec::new(&[("a.yaml", &cluster("a", 11)), ("b.yaml", &bad)]);
        let (started, faults) = spec.load();
        let text = spec.lines(&faults).join("\n");
        assert_eq!(started, served((11..14).chain(at_start.iter().copied())), "{name}, at start: {text}");
        assert!(
            !faults.faults.is_empty() && faults.faults.iter().all(|f| f.finding.file.ends_with("b.yaml")),
            "{text}"
        );
        let left_out = if name.contains("document") { 0 } else { 3 - at_start.len() };
        let counted: usize = faults.faults.iter().map(|fault| fault.left_out).sum();
        // Nobody knows what was in a document that is not YAML, or has no name.
        assert!(counted == left_out || at_start.is_empty() && counted == 0, "{name}: {counted} left out\n{text}");

        // The same while running, and good again.
        let mut spec = Spec::new(&[("a.yaml", &cluster("a", 11)), ("b.yaml", &good)]);
        let all = served((11..14).chain(21..24));
        assert_eq!(spec.load(), (all.clone(), SpecFaults::default()), "{name}");
        for round in 0..2 {
            spec.files.write("b.yaml", &bad);
            let (running, faults) = spec.load();
            let text = spec.lines(&faults).join("\n");
            assert_eq!(running, all, "{name}, running, round {round}: {text}");
            let kept: usize = faults.faults.iter().map(|fault| fault.kept).sum();
            assert_eq!(kept, left_out, "{name}: {text}");
            assert!(faults.faults.iter().all(|fault| fault.left_out == 0), "{name}: {text}");
        }
        // Other changes come into force.
        spec.files.write("a.yaml", cluster("a", 11).replace("10.0.0.12", "10.0.0.99"));
        let (running, _) = spec.load();
        let mut changed = all.clone();
        changed.insert(12, "10.0.0.99".to_owned());
        assert_eq!(running, changed, "{name}: another file");
        spec.files.write("b.yaml", &good);
        assert_eq!(spec.load(), (changed, SpecFaults::default()), "{name}: good again");
    }
}

#[test]
fn file_that_cannot_be_read_keeps_its_machines_and_one_that_is_deleted_does_not() {
    let all = served((11..14).chain(21..24));
    let start = || {
        let mut spec = Spec::new(&[("a.yaml", &cluster("a", 11)), ("b.yaml", &cluster("b", 21))]);
        assert_eq!(spec.load().0, all);
        spec
    };
    type Change = fn(&Files);
    let cases: &[(&str, Change, Option<&str>)] = &[
        ("deleted", |files| std::fs::remove_file(files.path("b.yaml")).unwrap(), None),
        ("only a comment", |files| files.write("b.yaml", "# none\n"), None),
        ("renamed away", |files| std::fs::rename(files.path("b.yaml"), files.path("b.bak")).unwrap(), None),
        ("empty", |files| files.write("b.yaml", ""), Some("b.yaml: is empty: its machines stay")),
        ("not UTF-8", |files| files.write("b.yaml", b"a: \xff"), Some("b.yaml:1:4: is not UTF-8")),
        (
            "a link that leads nowhere",
            |files| {
                std::fs::remove_file(files.path("b.yaml")).unwrap();
                std::os::unix::fs::symlink("nowhere", files.path("b.yaml")).unwrap();
            },
            Some("b.yaml: cannot be read: No such file"),
        ),
        (
            "a link to itself",
            |files| {
                std::fs::remove_file(files.path("b.yaml")).unwrap();
                std::os::unix::fs::symlink("b.yaml", files.path("b.yaml")).unwrap();
            },
            Some("b.yaml: cannot be read: Too many levels"),
        ),
        (
            "a pipe",
            |files| {
                std::fs::remove_file(files.path("b.yaml")).unwrap();
                nix::unistd::mkfifo(&files.path("b.yaml"), nix::sys::stat::Mode::S_IRWXU).unwrap();
            },
            Some("b.yaml: is not a regular file"),
        ),
        (
            "a directory",
            |files| {
                std::fs::remove_file(files.path("b.yaml")).unwrap();
                std::fs::create_dir(files.path("b.yaml")).unwrap();
            },
            None,
        ),
    ];
    for (name, change, expected) in cases {
        let mut spec = start();
        change(&spec.files);
        let (running, faults) = spec.load();
        let lines = spec.lines(&faults);
        match expected {
            None => assert_eq!((running, lines), (served(11..14), vec![]), "{name}"),
            Some(expected) => {
                assert_eq!(running, all, "{name}");
                assert!(lines.len() == 1 && lines[0].starts_with(expected), "{name}: {lines:?}");
                assert!(lines[0].ends_with("kept 3 machines as before"), "{name}: {lines:?}");
            }
        }
        let mut spec = Spec::new(&[("a.yaml", &cluster("a", 11)), ("b.yaml", "x")]);
        change(&spec.files);
        assert_eq!(spec.load().0, served(11..14), "{name}, at start");
    }
}

#[test]
fn path_that_is_gone_or_emptied_keeps_its_machines() {
    let files = Files::new(&[]);
    for name in ["one", "two"] {
        std::fs::create_dir(files.path(name)).unwrap();
    }
    files.write("one/a.yaml", cluster("a", 11));
    files.write("two/b.yaml", cluster("b", 21));
    let paths = [files.path("one"), files.path("two")];
    let mut spec = Spec { files, loader: Loader::new() };
    let all = served((11..14).chain(21..24));
    assert_eq!(spec.load_paths(&paths).0, all);
    std::fs::rename(spec.files.path("two/b.yaml"), spec.files.path("b.yaml")).unwrap();
    let (running, faults) = spec.load_paths(&paths);
    assert_eq!((running, faults.faults.len()), (all.clone(), 1));
    assert!(spec.lines(&faults)[0].contains("perhaps because a volume is not mounted"), "{faults:?}");
    std::fs::remove_dir(spec.files.path("two")).unwrap();
    let (running, faults) = spec.load_paths(&paths);
    assert_eq!(
        (running, spec.lines(&faults)),
        (
            all,
            vec!["two: cannot be read: No such file or directory (os error 2); kept 3 machines as before".to_owned()]
        )
    );
    // Back with one machine less.
    std::fs::create_dir(spec.files.path("two")).unwrap();
    let fewer = cluster("b", 21);
    let fewer = &fewer[..fewer.find("      - address: 10.0.0.23").unwrap()];
    spec.files.write("two/b.yaml", fewer);
    assert_eq!(spec.load_paths(&paths), (served((11..14).chain(21..23)), SpecFaults::default()));
    // Both at once.
    std::fs::remove_dir_all(spec.files.path("one")).unwrap();
    std::fs::remove_dir_all(spec.files.path("two")).unwrap();
    assert_eq!(spec.load_paths(&paths).0, served((11..14).chain(21..23)));
}

#[test]
fn spec_that_is_emptied_stays_and_one_that_is_not_there_yet_is_awaited() {
    let mut spec = Spec::new(&[]);
    let (running, faults) = spec.load();
    assert!(running.is_empty() && faults.is_awaited && faults.faults.len() == 1, "{faults:?}");
    spec.files.write("a.yaml", cluster("a", 11));
    assert_eq!(spec.load(), (served(11..14), SpecFaults::default()));
    spec.files.write("a.yaml", "kind: ConfigMap\n");
    let (running, faults) = spec.load();
    assert_eq!((running, faults.is_awaited), (served(11..14), false));
    assert_eq!(faults.faults[0].kept, 3);
    std::fs::remove_file(spec.files.path("a.yaml")).unwrap();
    assert_eq!(spec.load().0, served(11..14));
    // A file that was named is no directory that will be filled.
    let loaded = Loader::new().load(&[spec.files.path("a.yaml")]);
    assert!(!loaded.faults.is_awaited && loaded.faults.faults.len() == 1);
}

/// The machine that had an address keeps it, wherever the intruder is. If none had it, the first gets it.
#[test]
fn intruder_takes_nothing_away() {
    let intruder = |from: &str, to: &str| cluster("z", 31).replacen(from, to, 1);
    let cases: &[(&str, String, &[u8], &str)] = &[
        ("a MAC address", intruder("00:1f", "00:0b"), &[32, 33], "52:54:00:00:00:0b is already used by the machine in"),
        ("an address", intruder("10.0.0.31", "10.0.0.11"), &[32, 33], "10.0.0.11 is already used by the machine in"),
        (
            "an address for a server",
            intruder("10.0.0.131", "10.0.0.11"),
            &[],
            "10.0.0.11 is the address of the machine in",
        ),
        ("the cluster", cluster("a", 31), &[], "TalosCluster \"a\" of namespace \"default\" is given twice"),
    ];
    for (name, text, others, message) in cases {
        for file in ["0.yaml", "z.yaml"] {
            let mut spec = Spec::new(&[("a.yaml", &cluster("a", 11))]);
            spec.load();
            spec.files.write(file, text);
            let (running, faults) = spec.load();
            let lines = spec.lines(&faults).join("\n");
            assert_eq!(running, served((11..14).chain(others.iter().copied())), "{name} in {file}: {lines}");
            assert!(lines.contains(message) && lines.starts_with(file), "{name} in {file}: {lines}");
            assert_eq!(faults.faults.iter().map(|fault| fault.left_out).sum::<usize>(), 3 - others.len(), "{lines}");
        }
    }
    // With nothing known, the order of files decides.
    let taken = intruder("10.0.0.31", "10.0.0.11");
    for (file, first) in [("0.yaml", vec![12, 13, 31, 32, 33]), ("z.yaml", vec![11, 12, 13, 32, 33])] {
        let mut spec = Spec::new(&[("a.yaml", &cluster("a", 11)), (file, &taken)]);
        let (started, _) = spec.load();
        assert_eq!(started.keys().copied().collect::<Vec<_>>(), first, "{file}");
    }
}

/// A machine that stays as it was keeps its address from one that is to get it.
#[test]
fn kept_machine_keeps_its_address_until_its_error_is_corrected() {
    let mut spec = Spec::new(&[("a.yaml", &cluster("a", 11))]);
    spec.load();
    // 12 moves to an address that is wrong, and 13 to the one that 12 has.
    let moved = |to: &str| cluster("a", 11).replace("10.0.0.12", to).replace("10.0.0.13", "10.0.0.12");
    spec.files.write("a.yaml", moved("10.0.0.256"));
    let (running, faults) = spec.load();
    let lines = spec.lines(&faults);
    assert_eq!(running, served(11..14), "{lines:?}");
    assert!(lines.len() == 2 && lines[1].contains("10.0.0.12 stays with 52:54:00:00:00:0c in "), "{lines:?}");
    spec.files.write("a.yaml", moved("10.0.0.99"));
    let expected =
        Served::from([(11, "10.0.0.11".to_owned()), (12, "10.0.0.99".to_owned()), (13, "10.0.0.12".to_owned())]);
    assert_eq!(spec.load(), (expected, SpecFaults::default()));
}

/// References lead to the last good version of what they name, and a name that is wrong takes nothing away.
#[test]
fn mistakes_of_referenced_resources_stay_with_them() {
    let boss = "apiVersion: talos.alperen.cloud/v1alpha1\nkind: TalosCluster\nmetadata: {name: a}\nspec:\n  pxeServerSpec: {address: \
                10.0.0.1, interface: eth1}\n  workerRef: {name: w}\n  controlPlaneRef: {name: c}\n";
    let role = |kind: &str, name: &str, number: u8| {
        format!(
            "apiVersion: talos.alperen.cloud/v1alpha1\nkind: {kind}\nmetadata: {{name: {name}}}\nspec:\n  version: v1.13.0\n  mode: \
             metal\n  metalSpec:\n    machines:\n    - {{address: 10.0.0.{number}, pxeClientSpec: {{macAddress: \
             '52:54:00:00:00:{number:02x}', cpuArchitecture: amd64}}}}\n"
        )
    };
    let lone = "apiVersion: talos.alperen.cloud/v1alpha1\nkind: TalosMachine\nmetadata: {name: m}\nspec: {endpoint: 10.0.0.23, version: \
                v1.13.0, workerRef: {name: w}, pxeClientSpec: {macAddress: '52:54:00:00:00:17', cpuArchitecture: amd64}}\n";
    let files = [
        ("boss.yaml", boss.to_owned()),
        ("c.yaml", role("TalosControlPlane", "c", 21)),
        ("m.yaml", lone.to_owned()),
        ("w.yaml", role("TalosWorker", "w", 22)),
    ];
    let start = || {
        let files: Vec<_> = files.iter().map(|(name, text)| (*name, text.as_str())).collect();
        let mut spec = Spec::new(&files);
        assert_eq!(spec.load(), (served(21..24), SpecFaults::default()));
        spec
    };
    // The file, its text, and the number of errors. Every machine stays.
    for (file, text, errors) in [
        ("boss.yaml", "kind: [".to_owned(), 1),
        ("boss.yaml", boss.replace("10.0.0.1,", "10.0.0,"), 1),
        ("boss.yaml", boss.replace("{name: w}", "{name: v}"), 1),
        ("boss.yaml", boss.replace("{name: w}", "{nam: w}"), 1),
        ("boss.yaml", boss.replace("  workerRef: {name: w}", "  worker: {}\n  workerRef: {name: w}"), 1),
        ("c.yaml", "kind: [".to_owned(), 1),
        ("c.yaml", files[1].1.replace("v1.13.0", "1"), 1),
        ("c.yaml", files[1].1.replace("10.0.0.21", "10"), 1),
        ("c.yaml", files[1].1.split("spec:").next().unwrap().to_owned(), 1),
        ("w.yaml", "a: b: c".to_owned(), 1),
        ("w.yaml", files[3].1.replace("{name: w}", "{name: w, annotations: {pxed.dev/x: y}}"), 1),
        ("m.yaml", "}".to_owned(), 1),
        ("m.yaml", lone.replace("10.0.0.23", "x"), 1),
        ("m.yaml", lone.replace("workerRef: {name: w}, ", ""), 1),
        ("m.yaml", lone.replace("52:54:00:00:00:17", "52"), 1),
        ("m.yaml", lone.replace("{name: w}", "{name: v}"), 1),
    ] {
        let mut spec = start();
        spec.files.write(file, &text);
        let (running, faults) = spec.load();
        let lines = spec.lines(&faults);
        assert_eq!((running, lines.len()), (served(21..24), errors), "{file}: {text}\n{lines:?}");
        assert!(lines.iter().all(|line| line.starts_with(file)), "{lines:?}");
        let again = spec.load();
        assert_eq!((again.0, spec.lines(&again.1)), (served(21..24), lines), "{file}: {text}");
    }
    // A deleted machine is gone, though the cluster still refers to it.
    let mut spec = start();
    std::fs::remove_file(spec.files.path("w.yaml")).unwrap();
    let (running, faults) = spec.load();
    assert_eq!(running, served([21, 23]), "the TalosMachine is there still: {:?}", spec.lines(&faults));
}

#[test]
fn machine_that_is_left_out_is_found_by_its_mac() {
    let bad = cluster("a", 11).replace("10.0.0.12", "10.0.0").replace("00:0d", "00:0b");
    let mut spec = Spec::new(&[("a.yaml", &bad)]);
    let (started, faults) = spec.load();
    assert_eq!(started, served([11]));
    let (fault, is_kept) = faults.of(MacAddr([0x52, 0x54, 0, 0, 0, 12])).unwrap();
    assert!(fault.to_string().contains("is not an IPv4 address") && !is_kept, "{fault}");
    assert!(faults.of(MacAddr([0x52, 0x54, 0, 0, 0, 99])).is_none());
}

/// Ten thousand files, one of which is broken: the others are served, and a reload reads one.
#[test]
fn directory_of_ten_thousand_files_is_loaded() {
    const FILES: u32 = 10_000;
    let one = |number: u32| {
        let [_, _, high, low] = number.to_be_bytes();
        format!(
            "apiVersion: talos.alperen.cloud/v1alpha1\nkind: TalosCluster\nmetadata: {{name: c{number}}}\nspec: {{pxeServerSpec: {{address: \
             10.0.0.1, interface: eth1}}, worker: {{version: v1.13.0, mode: metal, metalSpec: {{machines: [{{address: \
             10.1.{high}.{low}, pxeClientSpec: {{macAddress: '52:54:00:01:{high:02x}:{low:02x}', cpuArchitecture: amd64}}}}]}}}}}}\n"
        )
    };
    let files = Files::new(&[]);
    for number in 1..=FILES {
        files.write(&format!("{number:05}.yaml"), if number == 77 { "{".to_owned() } else { one(number) });
    }
    let paths = [files.directory.path().to_owned()];
    let mut loader = Loader::new();
    let loaded = loader.load(&paths);
    assert_eq!((loaded.inventory.machines().len(), loaded.faults.faults.len()), (FILES as usize - 1, 1));
    loader.put_in_force(loaded);
    assert!(loader.load_changed(&paths, std::time::Duration::ZERO).is_none());
    files.write("00077.yaml", one(77));
    files.write("00078.yaml", "{");
    let loaded = loader.load_changed(&paths, std::time::Duration::ZERO).unwrap();
    assert_eq!((loaded.inventory.machines().len(), loaded.faults.faults.len()), (FILES as usize, 1));
}

/// A version of a file: its number, and what is wrong with it.
fn version() -> impl Strategy<Value = (u8, u8)> {
    (0..3_u8, 0..9_u8)
}

fn text(file: u8, (number, mistake): (u8, u8)) -> Option<String> {
    let first = 11 + 10 * file;
    let name = ["a", "b", "c"][usize::from(file)];
    // Each version has other addresses, some of which another file has.
    let good = cluster(name, first).replace(&format!("10.0.0.{first}"), &format!("10.0.0.{}", first + 3 + 4 * number));
    Some(match mistake {
        0 => return None,
        1 => String::new(),
        2 => "kind: [".to_owned(),
        3 => good.replace("v1.13.1", "1"),
        4 => good.replacen("macAddress: 52", "macAddress: x", 1),
        5 => good.replace(&format!("00:{:02x}", first + 1), "00:0b"),
        6 => good.replace("pxeServerSpec: {address: 10.0.0.", "pxeServerSpec: {address: 10.0."),
        _ => good,
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    /// Addresses stay unique (which `load` checks), every machine that was served and is still written stays, and what is good again
    /// has no trace of what was wrong.
    #[test]
    fn any_course_of_mistakes_ends_well(course in prop::collection::vec((0..3_u8, version()), 1..12)) {
        let mut spec = Spec::new(&[]);
        let mut before = Served::new();
        // Machines that the files do not name any more: they may go.
        let mut gone = std::collections::BTreeSet::from([11]);
        for (file, version) in course {
            let path = spec.files.path(&format!("{file}.yaml"));
            let first = 11 + 10 * file;
            match text(file, version) {
                Some(text) => {
                    std::fs::write(&path, text).unwrap();
                    if version.1 == 5 {
                        gone.insert(first + 1);
                    }
                }
                None => {
                    let _ = std::fs::remove_file(&path);
                    gone.extend(first..first + 3);
                }
            }
            let (now, _) = spec.load();
            for mac in before.keys() {
                prop_assert!(now.contains_key(mac) || gone.contains(mac), "{mac} is gone");
            }
            before = now;
        }
        for file in 0..3 {
            spec.files.write(&format!("{file}.yaml"), cluster(["a", "b", "c"][usize::from(file)], 11 + 10 * file));
        }
        prop_assert_eq!(spec.load(), (served((11..14).chain(21..24).chain(31..34)), SpecFaults::default()));
    }
}
