//! The file descriptors of the process: how many there may be, and how many are in use.

use std::{fmt, fs, io, thread, time::Duration};

use nix::{
    errno::Errno,
    sys::resource::{Resource, getrlimit, setrlimit},
};
use prometheus_client::{collector::Collector, encoding::DescriptorEncoder};

use crate::metrics::Families;

/// The remedy if there are too few.
pub const REMEDY: &str = "raise the limit: LimitNOFILE=65536 in the systemd unit, --ulimit nofile=65536 of the container, or `ulimit -n 65536`";

/// The directory that the kernel lists the descriptors in.
const OPEN: &str = "/proc/self/fd";

/// The further attempts of [`patiently`], and the time between two of them.
const ATTEMPTS: u32 = 40;
const AGAIN: Duration = Duration::from_millis(50);

/// Raises the soft limit to the hard limit: each machine of a large fleet needs two for its connection.
pub fn raise_limit() {
    if let Ok((_, hard)) = getrlimit(Resource::RLIMIT_NOFILE) {
        // If this fails, the current limit still suffices for a small fleet.
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    }
}

/// Returns the number of descriptors that the process may have.
#[must_use]
pub fn limit() -> u64 {
    getrlimit(Resource::RLIMIT_NOFILE).map_or(u64::MAX, |(soft, _)| soft)
}

/// Returns the number of descriptors in use, or `None` if the kernel does not tell.
#[must_use]
pub fn in_use() -> Option<u64> {
    // Since Linux 6.2. It needs no descriptor, so it works when none is free.
    match fs::metadata(OPEN) {
        Ok(metadata) if metadata.len() > 0 => return Some(metadata.len()),
        _ => {}
    }
    // One of them lists the directory.
    fs::read_dir(OPEN).ok().map(|entries| (entries.count() as u64).saturating_sub(1))
}

/// Returns `true` if a file can be opened now.
#[must_use]
pub fn is_one_free() -> bool {
    !fs::File::open("/dev/null").is_err_and(|error| is_exhausted(&error))
}

/// Opens something, and tries again for a while as long as no descriptor is free.
///
/// # Errors
///
/// The last attempt's.
pub fn patiently<T>(mut open: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    let mut attempts = 0..ATTEMPTS;
    loop {
        match open() {
            Err(error) if is_exhausted(&error) && attempts.next().is_some() => thread::sleep(AGAIN),
            opened => return opened,
        }
    }
}

/// Returns `true` if neither the process nor the host has a descriptor to spare.
fn is_exhausted(error: &io::Error) -> bool {
    let errno = error.raw_os_error().map(Errno::from_raw);
    matches!(errno, Some(Errno::EMFILE | Errno::ENFILE))
}

/// The descriptors as metrics, under the names that every Prometheus client uses.
#[derive(Debug)]
pub struct DescriptorMetrics;

impl Collector for DescriptorMetrics {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut families = Families::new(encoder);
        if let Some(open) = in_use() {
            families.gauge("process_open_fds", "File descriptors in use", open)?;
        }
        families.gauge("process_max_fds", "File descriptors that the process may have", limit())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptor_is_waited_for_and_other_errors_are_final() {
        let answers = [Errno::EMFILE, Errno::ENFILE, Errno::EMFILE].map(|errno| Err(errno.into()));
        let mut answers = answers.into_iter().chain([Ok(7)]);
        assert_eq!(patiently(|| answers.next().unwrap()).unwrap(), 7);
        let mut attempts = 0;
        let failed = patiently::<()>(|| {
            attempts += 1;
            Err(Errno::ENOENT.into())
        });
        assert_eq!((failed.unwrap_err().kind(), attempts), (io::ErrorKind::NotFound, 1));
    }

    #[test]
    fn open_descriptor_is_counted() {
        // Other tests open and close some meanwhile.
        const MANY: u64 = 300;
        let before = in_use().unwrap();
        let files: Vec<_> = (0..MANY).map(|_| fs::File::open("/dev/null").unwrap()).collect();
        let during = in_use().unwrap();
        drop(files);
        assert!(during > before + MANY / 2, "{before} {during}");
        assert!(limit() > during);
    }
}
