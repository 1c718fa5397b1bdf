//! How an interface is served, compared with the best way: for `pxed status` and the metrics.

use std::fmt;

use super::{Dataplane, datapath::Path, port::Port};

/// How frames of one interface reach us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// The name of the interface.
    pub interface: String,
    /// The path.
    pub path: Path,
    /// Set if a better path was wanted and does not work.
    pub is_slower: bool,
    /// The receive queues of the interface.
    pub queues: u32,
    /// Those of them that have a worker. A packet socket serves all with one.
    pub served: u32,
    /// The sockets of AF_XDP whose frames the kernel copies.
    pub copying: u32,
}

impl Service {
    /// Returns how each interface is served.
    #[must_use]
    pub fn of(dataplane: &Dataplane) -> Vec<Self> {
        dataplane.ports().map(Self::of_port).collect()
    }

    /// Returns how one interface is served.
    pub(super) fn of_port(port: &Port) -> Self {
        let (path, queues) = (port.path(), port.interface().queues);
        let sockets =
            port.queues().fold((0, 0), |(all, copying), (_, stats)| (all + 1, copying + u32::from(!stats.zero_copy)));
        let (served, copying) = if path == Path::Socket { (queues, 0) } else { sockets };
        Self {
            interface: port.interface().name.clone(),
            path,
            is_slower: port.state().fallback.is_some(),
            queues,
            served,
            copying,
        }
    }

    /// Returns the number of queues whose frames nobody answers.
    #[must_use]
    pub fn unserved(&self) -> u32 {
        self.queues.saturating_sub(self.served)
    }
}

/// Writes one line: `eth0: xdp-driver on 4 of 8 queues, with copies`.
impl fmt::Display for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { interface, path, is_slower, queues, served, copying } = self;
        write!(f, "{interface}: {}", path.name())?;
        if *path != Path::Socket {
            match (self.unserved(), queues) {
                (0, 1) => f.write_str(" on its queue")?,
                (0, _) => write!(f, " on {queues} queues")?,
                _ => write!(f, " on only {served} of {queues} queues")?,
            }
            f.write_str(if *copying == 0 { ", without copies" } else { ", with copies" })?;
        }
        f.write_str(if *is_slower { ", slower than wanted" } else { "" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_says_what_is_less_than_the_best() {
        let service = |path, is_slower, queues, served, copying| Service {
            interface: "eth0".to_owned(),
            path,
            is_slower,
            queues,
            served,
            copying,
        };
        for (service, line) in [
            (service(Path::Driver, false, 4, 4, 0), "eth0: xdp-driver on 4 queues, without copies"),
            (service(Path::Driver, false, 1, 1, 1), "eth0: xdp-driver on its queue, with copies"),
            (
                service(Path::Generic, true, 8, 4, 4),
                "eth0: xdp-generic on only 4 of 8 queues, with copies, slower than wanted",
            ),
            (service(Path::Socket, true, 8, 8, 0), "eth0: socket, slower than wanted"),
            (service(Path::Socket, false, 8, 8, 0), "eth0: socket"),
        ] {
            assert_eq!(service.to_string(), line);
        }
    }
}
