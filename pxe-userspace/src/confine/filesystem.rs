//! The files that this process can reach from now on, by Landlock.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use landlock::{
    ABI, Access as _, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible as _, LandlockStatus, NetPort,
    PathBeneath, PathFd, RestrictionStatus, Ruleset, RulesetAttr as _, RulesetCreatedAttr as _, RulesetError,
    RulesetStatus, Scope,
};
use rustix::process::geteuid;

use super::plan::Plan;
use crate::model::confinement::Measure;

/// The newest version of Landlock whose rights are known here.
const KNOWN: ABI = ABI::V5;

/// What the C library and TLS read of a host: programs, libraries, names, certificates, time zones; and the kernel's files.
const OF_HOST: [&str; 14] = [
    "/etc",
    "/usr",
    "/lib",
    "/lib64",
    "/nix/store",
    "/gnu/store",
    // resolv.conf is often a link to one of these.
    "/run/systemd/resolve",
    "/run/resolvconf",
    "/run/NetworkManager",
    "/run/nscd",
    "/proc",
    "/sys",
    "/dev/urandom",
    "/dev/random",
];

/// The files of the kernel that pxed writes: a sink, and the limits of the table of neighbours.
const WRITTEN: [&str; 2] = ["/dev/null", "/proc/sys/net/ipv4/neigh/default"];

/// The variables that name certificates.
const CERTIFICATES: [&str; 2] = ["SSL_CERT_FILE", "SSL_CERT_DIR"];

/// The most files of one directory whose links are followed.
const ENTRIES: usize = 10_000;
/// The depth of directories whose links are followed.
const DEPTH: u32 = 3;

/// The places that this process may still use.
#[derive(Debug, Default, PartialEq, Eq)]
struct Places {
    /// It reads what is below.
    read: BTreeSet<PathBuf>,
    /// It reads, makes, replaces and deletes files and directories below.
    keep: BTreeSet<PathBuf>,
}

/// Restricts this thread, and those that it starts, to the places of the plan.
pub(super) fn restrict(plan: &Plan) -> Measure {
    const NAME: &str = "landlock";
    if plan.runs_programs {
        return Measure::lacking(
            NAME,
            "a kubeconfig names a program that prints credentials, and nobody knows which files it needs. Use a token or a certificate \
             instead, or the service account of a pod",
        );
    }
    match restrict_to(&Places::of(plan), &plan.tcp_ports) {
        Ok(RestrictionStatus { ruleset, landlock, .. }) => measure(NAME, &ruleset, &landlock),
        Err(error) => Measure::lacking(NAME, format!("the kernel refuses Landlock: {error}")),
    }
}

fn measure(name: &'static str, ruleset: &RulesetStatus, landlock: &LandlockStatus) -> Measure {
    match (ruleset, landlock) {
        (RulesetStatus::NotEnforced, LandlockStatus::NotEnabled) => Measure::lacking(
            name,
            "the kernel has Landlock, but it was started without: add landlock to its parameter lsm=",
        ),
        (RulesetStatus::NotEnforced, LandlockStatus::NotImplemented) => Measure::lacking(
            name,
            "the kernel has no Landlock, or a filter of system calls forbids it; Linux 5.19 or newer has it",
        ),
        (RulesetStatus::NotEnforced, LandlockStatus::Available { .. }) => Measure::lacking(
            name,
            "the Landlock of this kernel cannot allow renames between directories; Linux 5.19 or newer can",
        ),
        (RulesetStatus::PartiallyEnforced, LandlockStatus::Available { effective_abi, .. }) => {
            Measure::taken(name, format!("files by Landlock (version {}, not all of it)", *effective_abi as i32))
        }
        _ => Measure::taken(name, "files and TCP ports by Landlock"),
    }
}

fn restrict_to(places: &Places, tcp_ports: &[u16]) -> Result<RestrictionStatus, RulesetError> {
    let everything = AccessFs::from_all(KNOWN);
    let mut ruleset = Ruleset::default()
        // Without this right every rename from one directory to another fails.
        .set_compatibility(CompatLevel::SoftRequirement)
        .handle_access(AccessFs::Refer)?
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(everything)?
        .handle_access(AccessNet::BindTcp)?
        .scope(Scope::Signal)?
        .create()?;
    let read = AccessFs::ReadFile | AccessFs::ReadDir;
    // Whatever stands where a file of pxed's own is expected is renamed, be it a FIFO, so all kinds may be made. Devices take a capability.
    let keep = everything & !(AccessFs::IoctlDev | AccessFs::Execute);
    for (paths, access) in [(&places.read, read), (&places.keep, keep)] {
        for path in paths {
            ruleset = add(ruleset, path, access)?;
        }
    }
    for path in WRITTEN {
        ruleset = add(ruleset, Path::new(path), read | AccessFs::WriteFile | AccessFs::Truncate)?;
    }
    for port in tcp_ports {
        ruleset = ruleset.add_rule(NetPort::new(*port, AccessNet::BindTcp))?;
    }
    ruleset.restrict_self()
}

fn add(
    ruleset: landlock::RulesetCreated,
    path: &Path,
    access: BitFlags<AccessFs>,
) -> Result<landlock::RulesetCreated, RulesetError> {
    // A host has some of these places, not all.
    let Ok(opened) = PathFd::new(path) else { return Ok(ruleset) };
    let access = if path.is_dir() { access } else { access & AccessFs::from_file(KNOWN) };
    ruleset.add_rule(PathBeneath::new(opened, access))
}

impl Places {
    fn of(plan: &Plan) -> Self {
        let mut places = Self::default();
        places.read.extend(OF_HOST.map(PathBuf::from));
        // A panic names functions by the symbols of the program.
        places.read.extend(std::env::current_exe());
        let of_environment = CERTIFICATES.iter().filter_map(std::env::var_os).map(PathBuf::from);
        let of_host = ["/etc/resolv.conf", "/etc/ssl/certs"].map(PathBuf::from);
        for path in plan.read.iter().cloned().chain(of_environment).chain(of_host) {
            places.add_named(&path);
        }
        places.add_named(&plan.artifacts);
        places.keep.extend([own_tree(&plan.state), own_tree(&plan.artifacts)].into_iter().flatten());
        places.keep.extend(plan.sockets.iter().filter_map(|directory| own_tree(directory)));
        places
    }

    /// Adds a path that a person has named. It may come to name another file or directory later, so everything in the directory around it
    /// may be read; so may the places that links lead to now.
    fn add_named(&mut self, path: &Path) {
        self.read.extend(around(path));
        self.add_ends(path, DEPTH);
    }

    fn add_ends(&mut self, path: &Path, depth: u32) {
        let is_link = path.is_symlink();
        if is_link && let Ok(end) = fs::canonicalize(path) {
            self.read.extend(around(&end));
            if end.is_dir() {
                self.read.insert(end);
            }
        }
        let Ok(entries) = fs::read_dir(path) else { return };
        for entry in entries.flatten().take(ENTRIES) {
            let is_to_follow = entry.file_type().is_ok_and(|kind| kind.is_symlink() || kind.is_dir());
            if depth > 0 && is_to_follow {
                self.add_ends(&entry.path(), depth - 1);
            }
        }
    }
}

/// Returns the directory around a path, or the nearest one that is there. Around what is in the root directory there is too much, so
/// that path stands for itself.
fn around(path: &Path) -> Option<PathBuf> {
    let absolute = std::path::absolute(path).ok()?;
    let is_root = |path: &Path| path.parent().is_none();
    let around = absolute.ancestors().skip(1).find(|ancestor| ancestor.exists())?.to_owned();
    if is_root(&around) { absolute.exists().then_some(absolute) } else { Some(around) }
}

/// Returns the directory that has to be writable so that pxed can keep files in this one, and make it again: the one around it, if it is
/// this user's own.
fn own_tree(directory: &Path) -> Option<PathBuf> {
    let absolute = fs::canonicalize(directory).or_else(|_| std::path::absolute(directory)).ok()?;
    let me = geteuid();
    let is_mine = |path: &Path| !me.is_root() && fs::metadata(path).is_ok_and(|metadata| metadata.uid() == me.as_raw());
    let around = absolute.parent().filter(|parent| parent.parent().is_some() && is_mine(parent)).map(Path::to_owned);
    around.or_else(|| absolute.exists().then_some(absolute))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn directory_around_a_path_is_the_nearest_that_exists() {
        let directory = tempfile::tempdir().unwrap();
        let here = directory.path().to_owned();
        assert_eq!(around(&here.join("cluster.yaml")), Some(here.clone()));
        assert_eq!(around(&here.join("not/there/yet")), Some(here));
        assert_eq!(around(Path::new("/etc")), Some("/etc".into()));
        assert_eq!(around(Path::new("/not-there")), None);
        assert_eq!(around(Path::new("/")), None);
    }

    #[test]
    fn ends_of_links_may_be_read() {
        let (directory, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let spec = directory.path().join("spec");
        fs::create_dir_all(spec.join("..data")).unwrap();
        fs::write(elsewhere.path().join("a.yaml"), "").unwrap();
        symlink(elsewhere.path().join("a.yaml"), spec.join("..data/a.yaml")).unwrap();
        let mut places = Places::default();
        places.add_named(&spec);
        let elsewhere = fs::canonicalize(elsewhere.path()).unwrap();
        assert!(places.read.contains(&elsewhere), "{places:?}");
        assert!(places.read.contains(directory.path()), "{places:?}");
        assert!(places.keep.is_empty());
    }

    /// Restricts a thread to a plan, and returns what `work` does in it.
    fn restricted<T: Send + 'static>(plan: Plan, work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
        let thread = std::thread::spawn(move || {
            let measure = restrict(&plan);
            // A kernel without Landlock has nothing to test.
            measure.in_force.then(work)
        });
        thread.join().unwrap()
    }

    fn plan(directory: &Path) -> Plan {
        Plan {
            user: None,
            capabilities: crate::capabilities::Capabilities::NONE,
            state: directory.join("own/state"),
            artifacts: directory.join("own/artifacts"),
            fetches: true,
            read: vec![directory.join("spec")],
            sockets: vec![directory.join("own/run")],
            tcp_ports: vec![18_765],
            runs_programs: false,
        }
    }

    #[test]
    fn thread_uses_the_places_of_its_plan_and_no_other() {
        let directory = tempfile::tempdir().unwrap();
        let here = directory.path().join("around");
        for name in ["own/state", "own/artifacts/.pxed", "own/run", "spec", "other"] {
            fs::create_dir_all(here.join(name)).unwrap();
        }
        fs::write(directory.path().join("secret"), "x").unwrap();
        fs::write(here.join("spec/cluster.yaml"), "x").unwrap();
        let (at, secret) = (here.clone(), directory.path().join("secret"));
        let plan = plan(&here);
        restricted(plan, move || {
            use std::{io::ErrorKind, net::TcpListener, os::unix::net::UnixListener};
            let denied =
                |result: std::io::Result<()>| assert_eq!(result.unwrap_err().kind(), ErrorKind::PermissionDenied);
            let replace = |name: &str| {
                fs::write(at.join("own/state/next"), "2")?;
                fs::rename(at.join("own/state/next"), at.join("own/state").join(name))
            };
            replace("machines.json").unwrap();
            replace("machines.json").unwrap();
            // A download moves from one directory to another.
            fs::write(at.join("own/artifacts/.pxed/part"), "").unwrap();
            fs::rename(at.join("own/artifacts/.pxed/part"), at.join("own/artifacts/vmlinuz")).unwrap();
            fs::create_dir(at.join("own/artifacts/directory")).unwrap();
            fs::remove_file(at.join("own/artifacts/vmlinuz")).unwrap();
            UnixListener::bind(at.join("own/run/admin.sock")).unwrap();
            // What is no file is set aside.
            nix::unistd::mkfifo(&at.join("own/state/pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
            fs::rename(at.join("own/state/pipe"), at.join("own/state/pipe.bad")).unwrap();
            assert_eq!(fs::read_to_string(at.join("spec/cluster.yaml")).unwrap(), "x");
            denied(fs::write(at.join("spec/cluster.yaml"), ""));
            denied(fs::write(at.join("spec/new"), ""));
            denied(fs::remove_file(at.join("spec/cluster.yaml")));
            denied(fs::read(&secret).map(drop));
            denied(fs::read_dir("/").map(drop));
            denied(fs::write("/etc/pxed-was-here", ""));
            for path in ["/proc/self/mountinfo", "/proc/sys/net/core/somaxconn", "/etc/hosts"] {
                fs::read(path).unwrap();
            }
            fs::write("/dev/null", "x").unwrap();
            fs::metadata("/sys/class/net/lo/mtu").unwrap();
            denied(TcpListener::bind("127.0.0.1:18766").map(drop));
            TcpListener::bind("127.0.0.1:18765").unwrap();
        });
    }

    #[test]
    fn path_that_comes_to_name_another_file_is_still_read() {
        let directory = tempfile::tempdir().unwrap();
        let here = directory.path().to_owned();
        fs::create_dir_all(here.join("own/state")).unwrap();
        fs::create_dir(here.join("spec")).unwrap();
        let at = here.clone();
        let (ready, wait) = std::sync::mpsc::channel();
        let changed = std::thread::spawn(move || {
            wait.recv().unwrap();
            fs::remove_dir(at.join("spec")).unwrap();
            fs::create_dir(at.join("spec")).unwrap();
            fs::write(at.join("spec/cluster.yaml"), "2").unwrap();
        });
        let read = move || {
            ready.send(()).unwrap();
            changed.join().unwrap();
            fs::read_to_string(here.join("spec/cluster.yaml"))
        };
        if let Some(read) = restricted(plan(directory.path()), read) {
            assert_eq!(read.unwrap(), "2");
        }
    }

    /// A rule is about a directory, not about its name.
    #[test]
    fn place_that_was_replaced_is_refused_with_the_remedy() {
        use crate::shut_out::{Wanted, explained};
        let directory = tempfile::tempdir().unwrap();
        let here = directory.path().to_owned();
        for name in ["own/state", "spec", "elsewhere"] {
            fs::create_dir_all(here.join(name)).unwrap();
        }
        fs::write(here.join("elsewhere/file"), "x").unwrap();
        let at = here.clone();
        let (ready, wait) = std::sync::mpsc::channel();
        let changed = std::thread::spawn(move || {
            wait.recv().unwrap();
            fs::remove_dir(at.join("own/state")).unwrap();
            fs::create_dir(at.join("own/state")).unwrap();
        });
        let plan = Plan { read: vec![here.join("spec/cluster.yaml")], ..plan(&here) };
        let refused = move || {
            ready.send(()).unwrap();
            changed.join().unwrap();
            let write = fs::write(here.join("own/state/file"), "").unwrap_err();
            let read = fs::read(here.join("elsewhere/file")).unwrap_err();
            let told = |path: &str, wanted, error| explained(&here.join(path), wanted, error).to_string();
            let absent = fs::read(here.join("own/state/file")).unwrap_err();
            [
                told("own/state", Wanted::Write, write),
                told("elsewhere/file", Wanted::Read, read),
                told("own/state/file", Wanted::Read, absent),
            ]
        };
        let Some([write, read, absent]) = restricted(plan, refused) else { return };
        assert!(write.ends_with("Restart pxed") && read.ends_with("Restart pxed"), "{write}\n{read}");
        assert!(!absent.contains("Restart"), "{absent}");
    }

    #[test]
    fn program_for_credentials_is_not_locked_out() {
        let directory = tempfile::tempdir().unwrap();
        let measure = restrict(&Plan { runs_programs: true, ..plan(directory.path()) });
        assert!(!measure.in_force && measure.detail.contains("kubeconfig"), "{measure:?}");
        assert!(fs::read_dir("/").is_ok());
    }

    #[test]
    fn measure_says_what_the_kernel_lacks() {
        let available = LandlockStatus::Available { effective_abi: ABI::V1, kernel_abi: None };
        for (landlock, part) in [
            (LandlockStatus::NotEnabled, "lsm="),
            (LandlockStatus::NotImplemented, "Linux 5.19 or newer"),
            (available, "renames between directories"),
        ] {
            let lacking = measure("landlock", &RulesetStatus::NotEnforced, &landlock);
            assert!(!lacking.in_force && lacking.detail.contains(part), "{lacking:?}");
        }
        let partly = measure("landlock", &RulesetStatus::PartiallyEnforced, &available);
        assert!(partly.in_force && partly.detail.contains("version 1"), "{partly:?}");
        assert!(measure("landlock", &RulesetStatus::FullyEnforced, &available).in_force);
    }
}
