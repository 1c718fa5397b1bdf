//! An artifacts directory, a server with the files of a release, and the fetcher between them.

use std::{
    fs,
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Duration,
};

use pxe_userspace::{
    artifacts::{Content, Records, Store},
    fetch::{FetchConfig, FetchError, Fetched, Fetcher, Job, Progress, RetryPolicy, Timeouts},
    model::{
        architecture::Architecture,
        image_source::{ImageSource, Upstreams},
    },
};
use ring::digest::{SHA256, SHA512, digest};

use crate::server::Server;

pub const KERNEL_CONTENT: Content = Content::Kernel(Architecture::Amd64);
pub const VERSION: &str = "v1.13.0";
/// The path of the kernel at the server.
pub const KERNEL: &str = "/talos/v1.13.0/vmlinuz-amd64";
pub const SHA256SUM: &str = "/talos/v1.13.0/sha256sum.txt";
pub const SHA512SUM: &str = "/talos/v1.13.0/sha512sum.txt";
/// The path of a schematic's kernel at the server.
pub const FACTORY_KERNEL: &str =
    "/factory/image/abababababababababababababababababababababababababababababababab/v1.13.0/kernel-amd64";

/// Returns a kernel of this length, of which no two megabytes are equal.
pub fn kernel(length: usize, seed: u8) -> Vec<u8> {
    let mut kernel: Vec<u8> = (0..length).map(|index| (index % 251) as u8 ^ (index >> 16) as u8 ^ seed).collect();
    // The boot sector's magic, and the setup header's.
    kernel[..2].copy_from_slice(b"MZ");
    // Its setup has 27 sectors, and what it says of the rest is less than there is.
    kernel[0x1f1] = 27;
    kernel[0x1f4..0x1f8].copy_from_slice(&u32::try_from(length.saturating_sub(28 * 512) / 16).unwrap().to_le_bytes());
    kernel[0x1fe..0x200].copy_from_slice(&[0x55, 0xaa]);
    kernel[0x202..0x206].copy_from_slice(b"HdrS");
    kernel
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub fn sha256(content: &[u8]) -> String {
    hex(digest(&SHA256, content).as_ref())
}

/// Publishes a kernel of a release, with both lists of checksums.
pub fn publish(server: &Server, content: &[u8]) {
    server.put(KERNEL, content);
    server.put(SHA256SUM, format!("{}  vmlinuz-amd64\n{}  other\n", sha256(content), sha256(b"other")).as_bytes());
    server.put(SHA512SUM, format!("{}  vmlinuz-amd64\n", hex(digest(&SHA512, content).as_ref())).as_bytes());
}

pub fn release_kernel() -> Job {
    Job {
        path: "vmlinuz-v1.13.0-amd64".into(),
        source: ImageSource::TalosRelease { version: VERSION.into(), file: "vmlinuz-amd64".into() },
        content: KERNEL_CONTENT,
    }
}

pub fn factory_kernel() -> Job {
    let schematic: Arc<str> = "ab".repeat(32).into();
    Job {
        path: format!("{schematic}/vmlinuz-v1.13.0-amd64").into(),
        source: ImageSource::Factory { schematic, version: VERSION.into(), file: "kernel-amd64".into() },
        content: KERNEL_CONTENT,
    }
}

/// The artifacts directory and what is set for it.
pub struct Lab {
    directory: tempfile::TempDir,
    pub config: FetchConfig,
    pub steps: Mutex<Vec<Progress>>,
    /// The attempts that a fetch makes.
    pub attempts: Mutex<u32>,
}

impl Lab {
    pub fn new(server: &Server) -> Self {
        let base = |name: &str| server.url(&format!("/{name}")).into();
        let config = FetchConfig {
            upstreams: Upstreams {
                talos: base("talos"),
                factory: base("factory"),
                ipxe: base("ipxe"),
                ipxe_releases: base("releases"),
            },
            timeouts: Timeouts::default(),
            retry: RetryPolicy {
                first_pause: Duration::from_millis(1),
                longest_pause: Duration::from_secs(2),
                ..RetryPolicy::default()
            },
            ..FetchConfig::default()
        };
        Self { directory: tempfile::tempdir().unwrap(), config, steps: Mutex::default(), attempts: Mutex::new(3) }
    }

    pub fn root(&self) -> PathBuf {
        self.directory.path().to_owned()
    }

    pub fn records(&self) -> Records {
        Records::open(Arc::new(Store::new(self.root()))).0
    }

    pub fn fetcher(&self) -> Fetcher {
        let mut config = self.config.clone();
        config.retry.attempts = *self.attempts.lock().unwrap();
        Fetcher::new(config, Arc::new(self.records())).unwrap()
    }

    /// Fetches with a fetcher of its own, as a process of its own would.
    pub async fn fetch(&self, job: &Job) -> Result<Fetched, FetchError> {
        self.steps.lock().unwrap().clear();
        self.fetcher().fetch(job, &|step| self.steps.lock().unwrap().push(step)).await
    }

    /// Returns the message of a fetch that has to fail. It names file and URL, unless the fault is the disk's.
    pub async fn failure(&self, job: &Job) -> String {
        let error = self.fetch(job).await.expect_err("the fetch fails");
        assert!(self.content(job).is_none(), "{error}: nothing is in the file's place");
        let message = error.to_string();
        assert!(message.starts_with(&*job.path), "{message}");
        message
    }

    /// Returns the content in the file's place.
    pub fn content(&self, job: &Job) -> Option<Vec<u8>> {
        fs::read(self.directory.path().join(&*job.path)).ok()
    }

    /// Returns the names of the partial files.
    pub fn left(&self) -> Vec<String> {
        let entries = fs::read_dir(self.directory.path().join(".pxed/partial"));
        let mut names: Vec<_> =
            entries.into_iter().flatten().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    /// Returns the number of pauses between attempts.
    pub fn pauses(&self) -> usize {
        self.steps.lock().unwrap().iter().filter(|step| matches!(step, Progress::Pausing { .. })).count()
    }
}
