//! Changes of files come into force; mistakes do not.

use std::{
    os::unix::fs::symlink,
    path::PathBuf,
    sync::{Arc, mpsc},
    time::Duration,
};

use arc_swap::ArcSwap;

use super::{
    super::{Loader, Watcher, watch},
    Files, cluster,
};
use crate::model::{
    finding::SharedSpecFaults,
    inventory::{Inventory, SharedInventory},
};

fn spec(version: &str) -> String {
    cluster(
        "      - address: 10.0.0.11
        pxeClientSpec: {macAddress: 52:54:00:00:00:11, cpuArchitecture: amd64}
",
    )
    .replace("v1.13.0", version)
}

/// A watched spec, and the versions that its machine has had, in order.
struct Watched {
    watcher: Watcher,
    shared: SharedInventory,
    versions: mpsc::Receiver<String>,
}

fn version(inventory: &Inventory) -> String {
    inventory.machines().first().map_or_else(String::new, |machine| machine.version.to_string())
}

impl Watched {
    fn new(path: PathBuf) -> Self {
        let mut loader = Loader::new();
        let paths = vec![path];
        let first = loader.load(&paths);
        let shared = Arc::new(ArcSwap::new(Arc::clone(&first.inventory)));
        loader.put_in_force(first);
        let (sender, versions) = mpsc::channel();
        let inventory = Arc::clone(&shared);
        let (faults, warnings, is_strict) = (SharedSpecFaults::default(), Vec::new(), false);
        let watched = super::super::Watched { loader, paths, inventory, faults, warnings, is_strict };
        let watcher = watch(watched, move |_, new| {
            let _ = sender.send(version(new));
        });
        Self { watcher: watcher.unwrap(), shared, versions }
    }

    fn wait_for(&self, wanted: &str) {
        while self.versions.recv_timeout(Duration::from_secs(20)).expect("no reload") != wanted {}
        assert_eq!(version(&self.shared.load()), wanted);
    }
}

#[test]
fn file_is_rewritten_replaced_broken_and_repaired() {
    let files = Files::new(&[("c.yaml", &spec("v1.13.0"))]);
    let watched = Watched::new(files.path("c.yaml"));
    files.write("c.yaml", spec("v1.13.1"));
    watched.wait_for("v1.13.1");
    // As most editors save.
    files.write("c.yaml~", spec("v1.13.2"));
    std::fs::rename(files.path("c.yaml~"), files.path("c.yaml")).unwrap();
    watched.wait_for("v1.13.2");
    files.write("c.yaml", "kind: [");
    watched.watcher.reload_now(Box::new(()));
    std::fs::remove_file(files.path("c.yaml")).unwrap();
    watched.watcher.reload_now(Box::new(()));
    files.write("c.yaml", spec("v1.13.3"));
    watched.wait_for("v1.13.3");
}

#[test]
fn config_map_volume_is_swapped() {
    // As the kubelet lays it out: c.yaml -> ..data/c.yaml, ..data -> ..1
    let files = Files::new(&[]);
    for (directory, version) in [("..1", "v1.13.0"), ("..2", "v1.13.1"), ("..3", "v1.13.2")] {
        std::fs::create_dir(files.path(directory)).unwrap();
        files.write(&format!("{directory}/c.yaml"), spec(version));
    }
    symlink("..1", files.path("..data")).unwrap();
    symlink("..data/c.yaml", files.path("c.yaml")).unwrap();
    // A link into the volume from elsewhere is followed as well.
    let outside = Files::new(&[]);
    symlink(files.path("c.yaml"), outside.path("mine.yaml")).unwrap();
    let watched = [files.directory.path().to_owned(), outside.path("mine.yaml")].map(Watched::new);
    for (directory, version) in [("..2", "v1.13.1"), ("..3", "v1.13.2")] {
        symlink(directory, files.path("..data_tmp")).unwrap();
        std::fs::rename(files.path("..data_tmp"), files.path("..data")).unwrap();
        watched.iter().for_each(|watched| watched.wait_for(version));
    }
}

#[test]
fn directory_is_deleted_and_made_again() {
    let files = Files::new(&[]);
    let spec_directory = files.path("spec");
    std::fs::create_dir(&spec_directory).unwrap();
    files.write("spec/c.yaml", spec("v1.13.0"));
    let watched = Watched::new(spec_directory.clone());
    std::fs::remove_dir_all(&spec_directory).unwrap();
    std::fs::create_dir(&spec_directory).unwrap();
    files.write("spec/c.yaml", spec("v1.13.1"));
    watched.wait_for("v1.13.1");
}
