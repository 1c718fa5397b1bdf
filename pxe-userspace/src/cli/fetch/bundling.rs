//! `pxed fetch --bundle` and `--from`.

use std::{
    fs::{self, File},
    io::{self, BufReader, BufWriter, Read, Write as _},
    path::{Path, PathBuf},
};

use anyhow::Context as _;

use super::spec::Spec;
use crate::{
    artifacts::{Presence, Records, Severity},
    fetch::{
        bundle::{self, BundleList},
        bytes_text,
        unbundle::{self, Unbundled},
    },
    logging,
};

/// The name that stands for standard input or output.
const STANDARD: &str = "-";

/// Writes what the spec needs and the directory has into a bundle, which comes to its place when it is whole. Returns what is missing.
///
/// # Errors
///
/// If a file cannot be read, or the bundle cannot be written.
pub(super) fn write(records: &Records, spec: &Spec, to: &Path) -> anyhow::Result<()> {
    let paths = spec.plan.iter().filter(|wanted| Presence::of(wanted, records).is_served()).map(|wanted| &wanted.path);
    let recorded = |path: &str| {
        let entry = records.entry(path).filter(|_| records.is_as_recorded(path))?;
        Some((entry.sha256, entry.proof, entry.source))
    };
    let named = || format!("bundle {}", to.display());
    let list = BundleList::of(records.store(), paths, recorded).with_context(named)?;
    if to == Path::new(STANDARD) {
        let out =
            bundle::write(&list, records.store(), BufWriter::new(io::stdout().lock()), |_| {}).with_context(named)?;
        out.into_inner().map_err(io::IntoInnerError::into_error).with_context(named)?.flush().with_context(named)?;
    } else {
        let part = Part::create(to).with_context(named)?;
        let out = bundle::write(&list, records.store(), BufWriter::new(&part.file), |_| {}).with_context(named)?;
        out.into_inner().map_err(io::IntoInnerError::into_error).with_context(named)?;
        let length = part.keep(to).with_context(named)?;
        logging::say(&format!("{}: {} files, {}", to.display(), list.files.len(), bytes_text(length)));
    }
    Ok(())
}

/// A file that is deleted unless it is kept.
struct Part {
    file: File,
    path: PathBuf,
    is_kept: bool,
}

impl Part {
    fn create(to: &Path) -> io::Result<Self> {
        let mut name = to.file_name().ok_or_else(|| io::Error::other("it is not the name of a file"))?.to_owned();
        name.push(format!(".{}.part", std::process::id()));
        let path = to.with_file_name(name);
        Ok(Self { file: File::create_new(&path)?, path, is_kept: false })
    }

    /// Moves the file to its place. Returns its length.
    fn keep(mut self, to: &Path) -> io::Result<u64> {
        self.file.sync_all()?;
        let length = self.file.metadata()?.len();
        fs::rename(&self.path, to)?;
        self.is_kept = true;
        let directory = to.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(directory)?.sync_all()?;
        Ok(length)
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        if !self.is_kept {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Takes what the spec needs out of a bundle.
///
/// # Errors
///
/// If the bundle cannot be used. What was whole before is in its place all the same.
pub(super) fn read(records: &Records, spec: &Spec, from: &Path) -> anyhow::Result<Unbundled> {
    let named = || format!("bundle {}", from.display());
    let input: Box<dyn Read> = if from == Path::new(STANDARD) {
        Box::new(io::stdin().lock())
    } else {
        Box::new(BufReader::new(File::open(from).with_context(named)?))
    };
    let wanted = |path: &str| spec.plan.iter().find(|wanted| *wanted.path == *path).map(|wanted| wanted.content);
    let unbundled = unbundle::read(input, records, wanted, |path, done, total| {
        if done == total {
            logging::say(&format!("{path}: verified, {}", bytes_text(total)));
        }
    });
    let unbundled = unbundled.with_context(named)?;
    for path in &unbundled.left {
        logging::say(&format!("{path}: not needed by this spec, left in the bundle"));
    }
    Ok(unbundled)
}

/// Returns what the spec needs and the directory lacks: what machines certainly need, and the rest.
pub(super) fn missing(records: &Records, spec: &Spec) -> (Vec<String>, Vec<String>) {
    let lacking = spec.plan.iter().filter(|wanted| !Presence::of(wanted, records).is_served());
    let (errors, warnings): (Vec<_>, Vec<_>) = lacking.partition(|wanted| wanted.severity == Severity::Error);
    let line = |wanted: &crate::artifacts::Wanted| {
        let path = records.store().root().join(&*wanted.path);
        match Presence::of(wanted, records) {
            Presence::Altered(verdict) if records.is_a_persons(&wanted.path) => verdict.complaint(&path),
            _ => None,
        }
        .unwrap_or_else(|| format!("{}: missing (needed by {})", path.display(), wanted.needed_by))
    };
    (errors.into_iter().map(line).collect(), warnings.into_iter().map(line).collect())
}
