//! Downloads of the files that machines boot from, from their projects' servers or a site's mirrors.
//!
//! A file comes to its place only whole, verified and written to the disk. What is not a download here: which files are needed
//! (`artifacts`), and when they are fetched (`daemon`, `cli`).

mod answer;
mod archive;
pub mod bundle;
pub mod checksums;
mod client;
mod download;
mod fault;
mod fetcher;
mod partial;
mod peers;
mod place;
mod progress;
mod published;
mod rate;
mod retry;
pub mod unbundle;
mod upstreams;
mod work;

pub use client::{ClientError, Timeouts};
pub use fault::{Fault, FetchError};
pub use fetcher::{FetchConfig, Fetcher, Job};
pub use progress::{Milestones, Observer, Progress, bytes_text};
pub use retry::RetryPolicy;
pub use upstreams::{BaseUrlError, base_url};
pub use work::Fetched;
