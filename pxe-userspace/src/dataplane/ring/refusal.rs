//! Reasons of the kernel for refusing an AF_XDP socket, in words that say what to do.

use std::{error::Error as _, io};

use xdp::socket::SocketError;

use crate::capabilities::{self, Capabilities, FOR_LOCKED_MEMORY, FOR_RAW_SOCKETS};

/// The facts about this process that explain a refusal.
#[derive(Clone, Copy, Debug)]
struct Situation {
    /// The capabilities for raw sockets that are missing.
    raw_sockets: Capabilities,
    /// The capabilities for locked memory that are missing.
    locked_memory: Capabilities,
    /// `RLIMIT_MEMLOCK` in bytes; `None` for no limit.
    limit: Option<u64>,
}

/// Returns the reason for an error of a socket with this amount of memory, in bytes.
pub(super) fn reason(error: &SocketError, memory: u64) -> String {
    let Some(cause) = error.source().and_then(|cause| cause.downcast_ref::<io::Error>()) else {
        return error.to_string();
    };
    let situation = Situation {
        raw_sockets: FOR_RAW_SOCKETS.missing(),
        locked_memory: FOR_LOCKED_MEMORY.missing(),
        limit: capabilities::locked_memory_limit(),
    };
    situation.reason(cause, memory)
}

impl Situation {
    fn reason(self, error: &io::Error, memory: u64) -> String {
        let Self { raw_sockets, locked_memory, limit } = self;
        match (error.raw_os_error(), limit) {
            (Some(libc::EPERM), _) if !raw_sockets.is_empty() => {
                format!("{raw_sockets} is missing. Grant capabilities by {}", capabilities::remedy())
            }
            // The kernel adds up the memory of all processes of a user, so a queue may exceed the limit although it is smaller.
            (Some(libc::ENOBUFS), Some(limit)) if !locked_memory.is_empty() => format!(
                "its memory of {} is more than this user may still lock (RLIMIT_MEMLOCK is {}), and {locked_memory} is missing. Raise the \
                 limit by LimitMEMLOCK=infinity of the systemd unit or --ulimit memlock=-1 of the container, or grant capabilities by {}",
                mebibytes(memory),
                mebibytes(limit),
                capabilities::remedy()
            ),
            _ => error.to_string(),
        }
    }
}

fn mebibytes(bytes: u64) -> String {
    format!("{} MiB", bytes.div_ceil(1 << 20))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MEMORY: u64 = 40 << 20;

    fn reason_of(errno: i32, holds_all: bool, limit: Option<u64>) -> String {
        // This test's process may or may not have them.
        let nothing = Capabilities::NONE;
        let situation = match holds_all {
            true => Situation { raw_sockets: nothing, locked_memory: nothing, limit },
            false => Situation { raw_sockets: FOR_RAW_SOCKETS, locked_memory: FOR_LOCKED_MEMORY, limit },
        };
        situation.reason(&io::Error::from_raw_os_error(errno), MEMORY)
    }

    #[test]
    fn refusal_names_the_missing_capability() {
        let text = reason_of(libc::EPERM, false, None);
        assert!(text.starts_with("CAP_NET_RAW is missing. Grant capabilities by AmbientCapabilities="), "{text}");
        let text = reason_of(libc::ENOBUFS, false, Some(8 << 20));
        assert!(text.starts_with("its memory of 40 MiB is more than this user may still lock (RLIMIT_MEMLOCK is 8 MiB), and CAP_IPC_LOCK is missing."), "{text}");
    }

    #[test]
    fn refusal_blames_no_capability_that_is_there() {
        for (errno, limit) in [(libc::EPERM, None), (libc::ENOBUFS, Some(8 << 20)), (libc::EOPNOTSUPP, None)] {
            assert_eq!(reason_of(errno, true, limit), io::Error::from_raw_os_error(errno).to_string());
        }
        assert_eq!(reason_of(libc::ENOBUFS, false, None), io::Error::from_raw_os_error(libc::ENOBUFS).to_string());
    }
}
