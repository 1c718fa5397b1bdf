//! The metrics of the files that the inventory needs.

use std::fmt;

use prometheus_client::{
    collector::Collector, encoding::DescriptorEncoder, metrics::counter::Counter, registry::Registry,
};

use crate::{
    metrics::Families,
    model::images::{FileState, SharedImages},
};

/// The counters of downloads.
#[derive(Clone, Debug, Default)]
pub(in crate::daemon) struct FetchMetrics {
    /// The bytes that came.
    pub(super) bytes: Counter,
    /// The attempts that failed.
    pub(super) failures: Counter,
}

impl FetchMetrics {
    /// Registers the counters, and the files of the snapshot in force.
    pub(in crate::daemon) fn register(&self, images: SharedImages, registry: &mut Registry) {
        registry.register("fetched_bytes", "Bytes of files that machines boot from, downloaded", self.bytes.clone());
        registry.register("fetch_failures", "Attempts to download a file that failed", self.failures.clone());
        registry.register_collector(Box::new(ImageFiles(images)));
    }
}

/// The files by state, counted when the metrics are read.
#[derive(Debug)]
struct ImageFiles(SharedImages);

impl Collector for ImageFiles {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let images = self.0.load();
        let mut families = Families::new(encoder);
        let mut family = families.gauges("image_files", "Files that the machines of the spec need, by state")?;
        FileState::NAMES.iter().try_for_each(|&name| {
            let count = images.files().values().filter(|file| file.state.name() == name).count();
            family.member(&[("state", &*name.replace('-', "_"))], count as u64)
        })
    }
}
