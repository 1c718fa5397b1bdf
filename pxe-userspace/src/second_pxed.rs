//! Another pxed on this host, which has the ports and the XDP program that this one needs.

use std::{
    fmt, fs,
    net::{Ipv4Addr, UdpSocket},
    path::Path,
};

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
    /// Looks for another pxed in this network namespace.
    #[must_use]
    pub fn find() -> Option<Self> {
        // Nobody may read which namespace a confined process is in, but everybody may read its sockets: this one is among them or not.
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
        let inode = rustix::fs::fstat(&socket).ok()?.st_ino;
        Self::find_in(Path::new("/proc"), std::process::id(), inode)
    }

    fn find_in(proc: &Path, own: u32, inode: u64) -> Option<Self> {
        let pids = fs::read_dir(proc).ok()?.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
        let mut found: Vec<_> = pids
            .filter(|&pid| pid != own && runs_pxed(&proc.join(pid.to_string())))
            .filter(|&pid| sees_socket(&proc.join(pid.to_string()), inode))
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

/// Returns `true` if a UDP socket is in the network namespace of a process.
fn sees_socket(process: &Path, inode: u64) -> bool {
    let sockets = fs::read_to_string(process.join("net/udp")).unwrap_or_default();
    let inode = inode.to_string();
    // sl, local and remote address, state, queues, timer, retransmissions, user, timeout, inode.
    sockets.lines().skip(1).any(|line| line.split_ascii_whitespace().nth(9) == Some(&inode))
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Process {
        pid: u32,
        name: &'static str,
        arguments: &'static str,
        sockets: &'static str,
        cgroup: &'static str,
    }

    const HERE: &str = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops\n\
          417: 00000000:0043 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 4711 2 0000000000000000 0\n\
          418: 00000000:8A31 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 815 2 0000000000000000 0\n";
    const ELSEWHERE: &str = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops\n\
          815: 00000000:0815 00000000:0000 07 00000000:00000815 00:00000000 00000000   815      815 8150 815 0000000000000815 815\n";

    const OTHER: Process = Process {
        pid: 1234,
        name: "pxed",
        arguments: "/usr/bin/pxed\0run\0",
        sockets: HERE,
        cgroup: "0::/user.slice\n",
    };

    fn found(processes: &[Process]) -> Option<SecondPxed> {
        let proc = tempfile::tempdir().unwrap();
        let own = Process { pid: 77, sockets: HERE, ..OTHER };
        for Process { pid, name, arguments, sockets, cgroup } in processes.iter().chain([&own]) {
            let directory = proc.path().join(pid.to_string());
            fs::create_dir_all(directory.join("net")).unwrap();
            fs::write(directory.join("comm"), format!("{name}\n")).unwrap();
            fs::write(directory.join("cmdline"), arguments).unwrap();
            fs::write(directory.join("cgroup"), cgroup).unwrap();
            fs::write(directory.join("net/udp"), sockets).unwrap();
        }
        fs::create_dir(proc.path().join("net")).unwrap();
        SecondPxed::find_in(proc.path(), 77, 815)
    }

    #[test]
    fn second_pxed_is_named_with_the_way_to_stop_it() {
        let text = found(&[OTHER]).unwrap().to_string();
        assert_eq!(text, "pxed (pid 1234) already runs on this host; stop it with `kill 1234`");
        let service = Process { cgroup: "0::/system.slice/pxed.service\n", ..OTHER };
        assert!(found(&[service]).unwrap().to_string().ends_with("`systemctl stop pxed`"));
    }

    #[test]
    fn other_processes_are_no_second_pxed() {
        for other in [
            Process { name: "dnsmasq", ..OTHER },
            Process { arguments: "pxed\0watch\0", ..OTHER },
            Process { arguments: "run\0", ..OTHER },
            Process { arguments: "", ..OTHER },
            Process { sockets: ELSEWHERE, ..OTHER },
            Process { sockets: "", ..OTHER },
        ] {
            assert_eq!(found(&[other]), None);
        }
        assert_eq!(found(&[]), None, "itself");
    }
}
