//! Another pxed on this host, which has the ports and the XDP program that this one needs.

use std::{fmt, fs, path::Path};

/// Another pxed that runs on this host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SecondPxed {
    pid: u32,
    /// The service of the Debian package has started it.
    is_service: bool,
}

/// Names it, and says how to stop it.
impl fmt::Display for SecondPxed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { pid, is_service } = self;
        write!(f, "pxed (pid {pid}) already runs on this host; stop it with `")?;
        if *is_service { f.write_str("systemctl stop pxed`") } else { write!(f, "kill {pid}`") }
    }
}

impl SecondPxed {
    /// Looks for another pxed in this network namespace. Processes that may not be looked at count as in this one.
    #[must_use]
    pub fn find() -> Option<Self> {
        Self::find_in(Path::new("/proc"), std::process::id())
    }

    fn find_in(proc: &Path, own: u32) -> Option<Self> {
        let namespace = |pid: u32| fs::read_link(proc.join(pid.to_string()).join("ns/net")).ok();
        let here = namespace(own);
        let pids = fs::read_dir(proc).ok()?.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
        let mut found: Vec<_> = pids
            .filter(|&pid| pid != own && runs_pxed(&proc.join(pid.to_string())))
            .filter(|&pid| here.is_none() || namespace(pid).is_none_or(|namespace| Some(namespace) == here))
            .collect();
        // The one that has run for longest, as a rule.
        found.sort_unstable();
        let pid = *found.first()?;
        let groups = fs::read(proc.join(pid.to_string()).join("cgroup")).unwrap_or_default();
        let is_service = String::from_utf8_lossy(&groups).lines().any(|line| line.ends_with("/pxed.service"));
        Some(Self { pid, is_service })
    }
}

/// Returns `true` for a process that runs `pxed run`. Other commands of pxed have no ports.
fn runs_pxed(process: &Path) -> bool {
    let is_pxed = fs::read(process.join("comm")).is_ok_and(|name| name.trim_ascii_end() == b"pxed");
    is_pxed
        && fs::read(process.join("cmdline"))
            .is_ok_and(|line| line.split(|byte| *byte == 0).skip(1).any(|argument| argument == b"run"))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    struct Process {
        pid: u32,
        name: &'static str,
        arguments: &'static str,
        namespace: Option<&'static str>,
        cgroup: &'static str,
    }

    const OTHER: Process = Process {
        pid: 1234,
        name: "pxed",
        arguments: "/usr/bin/pxed\0run\0",
        namespace: None,
        cgroup: "0::/user.slice\n",
    };

    fn found(processes: &[Process]) -> Option<SecondPxed> {
        let proc = tempfile::tempdir().unwrap();
        let own = Process { pid: 77, namespace: Some("net:[1]"), ..OTHER };
        for Process { pid, name, arguments, namespace, cgroup } in processes.iter().chain([&own]) {
            let directory = proc.path().join(pid.to_string());
            fs::create_dir_all(directory.join("ns")).unwrap();
            fs::write(directory.join("comm"), format!("{name}\n")).unwrap();
            fs::write(directory.join("cmdline"), arguments).unwrap();
            fs::write(directory.join("cgroup"), cgroup).unwrap();
            if let Some(namespace) = namespace {
                symlink(namespace, directory.join("ns/net")).unwrap();
            }
        }
        fs::create_dir(proc.path().join("net")).unwrap();
        SecondPxed::find_in(proc.path(), 77)
    }

    #[test]
    fn second_pxed_is_named_with_the_way_to_stop_it() {
        let text = found(&[OTHER]).unwrap().to_string();
        assert_eq!(text, "pxed (pid 1234) already runs on this host; stop it with `kill 1234`");
        let service = Process { cgroup: "0::/system.slice/pxed.service\n", ..OTHER };
        assert!(found(&[service]).unwrap().to_string().ends_with("`systemctl stop pxed`"));
        let here = Process { namespace: Some("net:[1]"), ..OTHER };
        assert!(found(&[here]).is_some());
    }

    #[test]
    fn other_processes_are_no_second_pxed() {
        for other in [
            Process { name: "dnsmasq", ..OTHER },
            Process { arguments: "pxed\0watch\0", ..OTHER },
            Process { arguments: "run\0", ..OTHER },
            Process { arguments: "", ..OTHER },
            Process { namespace: Some("net:[2]"), ..OTHER },
        ] {
            assert_eq!(found(&[other]), None);
        }
        assert_eq!(found(&[]), None, "itself");
    }
}
