//! A limit of memory for a process, by a control group.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process,
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::Duration,
};

use crate::requires::Skip;

/// The places of the memory controller, of either version of control groups, with the file that holds the limit.
const PLACES: [(&str, &str); 2] =
    [("/sys/fs/cgroup", "memory.max"), ("/sys/fs/cgroup/memory", "memory.limit_in_bytes")];

/// A control group. It is removed when it is dropped, by when its processes must have ended.
#[derive(Debug)]
pub struct MemoryLimit(PathBuf);

impl MemoryLimit {
    /// Makes a control group whose processes get no more memory than this.
    ///
    /// # Errors
    ///
    /// Fails with [`Skip`] if this host's control groups cannot be used.
    pub fn new(bytes: u64) -> anyhow::Result<Self> {
        static COUNTER: AtomicU32 = AtomicU32::new(0);
        let name = format!("pxelab-{}-{}", process::id(), COUNTER.fetch_add(1, Ordering::Relaxed));
        let mut reasons = Vec::new();
        for (place, file) in PLACES {
            let group = Self(Path::new(place).join(&name));
            match fs::create_dir(&group.0).and_then(|()| fs::write(group.0.join(file), bytes.to_string())) {
                Ok(()) => return Ok(group),
                Err(error) => reasons.push(format!("{}: {error}", group.0.display())),
            }
        }
        Err(Skip(format!("needs control groups with a limit of memory: {}", reasons.join(", "))).into())
    }

    /// Returns a command that becomes another one within the limit ([`crate::pxed::Launch::wrapper`]).
    #[must_use]
    pub fn wrapper(&self) -> [String; 4] {
        let enter = format!("echo $$ > {}; exec \"$@\"", self.0.join("cgroup.procs").display());
        ["sh", "-ec", &enter, "sh"].map(str::to_owned)
    }
}

impl Drop for MemoryLimit {
    fn drop(&mut self) {
        // The kernel needs a moment to forget a process that has ended.
        for _ in 0..50 {
            match fs::remove_dir(&self.0) {
                Err(error) if error.kind() == io::ErrorKind::ResourceBusy => thread::sleep(Duration::from_millis(20)),
                _ => return,
            }
        }
        eprintln!("lab: {} is still in use", self.0.display());
    }
}
