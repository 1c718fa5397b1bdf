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

/// The file with the processes of a group.
const MEMBERS: &str = "cgroup.procs";

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
            if !Path::new(place).join(MEMBERS).exists() {
                reasons.push(format!("{place} is not a control group"));
                continue;
            }
            let group = Self(Path::new(place).join(&name));
            match fs::create_dir(&group.0).and_then(|()| fs::write(group.0.join(file), bytes.to_string())) {
                Ok(()) => return Ok(group),
                Err(error) => reasons.push(format!("{}: {error}", group.0.display())),
            }
        }
        Err(Skip(format!("needs control groups with a limit of memory: {}", reasons.join(", "))).into())
    }

    /// Puts a process into the group. What it has got before is not counted.
    ///
    /// # Errors
    ///
    /// Fails if there is no such process.
    pub fn add(&self, process: u32) -> io::Result<()> {
        fs::write(self.0.join(MEMBERS), process.to_string())
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
