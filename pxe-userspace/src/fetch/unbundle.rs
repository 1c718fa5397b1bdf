//! Takes the files out of a bundle, with the checks of a download: hash, length, and nothing outside the artifacts directory.

use std::{
    collections::BTreeMap,
    io::{self, Read},
    sync::Arc,
    time::SystemTime,
};

use tar::{Archive, EntryType};

use super::{
    bundle::{BundleError, BundleList, BundledFile, LIST_LIMIT, LIST_NAME},
    fault::Fault,
    partial::Partial,
    place,
    work::recorded_conflict,
};
use crate::artifacts::{Content, Download, Proof, Records, Sha256, Verdict};

/// The largest window of the packer, as a power of two. It bounds the memory.
const WINDOW: u32 = 27;
/// The most bytes that are read at once.
const PIECE: usize = 256 << 10;
/// The most bytes after the last file: the end of the archive and its padding.
const TAIL_LIMIT: u64 = 1 << 20;

/// The files of a bundle that are in their places.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unbundled {
    /// The files that were taken, with their lengths.
    pub taken: Vec<(Arc<str>, u64)>,
    /// The files that are there already.
    pub there: Vec<Arc<str>>,
    /// The files in whose places a person has put others, which stay as they are.
    pub kept: Vec<Arc<str>>,
    /// The files that nobody asked for.
    pub left: Vec<Arc<str>>,
}

/// Takes files out of a bundle. `wanted` returns the content that a file should have, or `None` if it is left. Each is put into its place when
/// it is whole and verified, so what came before an error stays. Blocks.
///
/// # Errors
///
/// If the bundle or a file in it cannot be used.
pub fn read(
    input: impl Read,
    records: &Records,
    wanted: impl Fn(&str) -> Option<Content>,
    mut progress: impl FnMut(&Arc<str>, u64, u64),
) -> Result<Unbundled, BundleError> {
    let mut unpacker = zstd::Decoder::new(input).map_err(BundleError::Write)?;
    unpacker.window_log_max(WINDOW).map_err(BundleError::Write)?;
    let mut archive = Archive::new(unpacker);
    let mut members = archive.entries().map_err(damaged)?.raw(true);
    let first = members.next().ok_or_else(|| BundleError::NotABundle("it is empty".to_owned()))?;
    let list = read_list(first.map_err(no_list)?)?;
    let mut missing: BTreeMap<Arc<str>, BundledFile> =
        list.files.into_iter().map(|file| (Arc::clone(&file.path), file)).collect();
    let mut done = Unbundled::default();
    for member in members {
        let mut member = member.map_err(damaged)?;
        let name = String::from_utf8_lossy(&member.path_bytes()).into_owned();
        if member.header().entry_type() != EntryType::Regular {
            return Err(BundleError::Member(format!("a member {name:?} that is not a file")));
        }
        let size = member.header().size().map_err(damaged)?;
        let file = missing
            .remove(&*name)
            .ok_or_else(|| BundleError::Member(format!("a file {name:?} that its list lacks")))?;
        if size != file.size {
            let reason = format!("has {size} bytes, and {} in its list", file.size);
            return Err(BundleError::Content { path: file.path, reason });
        }
        let Some(content) = wanted(&file.path) else {
            done.left.push(file.path);
            continue;
        };
        let is_there = records.is_as_recorded(&file.path)
            && records.entry(&file.path).is_some_and(|entry| entry.sha256 == file.sha256);
        if is_there {
            done.there.push(file.path);
            continue;
        }
        if records.is_a_persons(&file.path) {
            let offered = Download { sha256: file.sha256, proof: Proof::Bundle, source: file.source.clone() };
            let verdict = match records.entry(&file.path) {
                Some(_) => Ok(records.verify(&file.path)),
                None => records.compare_with(&file.path, offered, SystemTime::now()),
            };
            match verdict {
                Ok(Verdict::Verified) => done.there.push(file.path),
                Ok(_) => done.kept.push(file.path),
                Err(error) => return Err(BundleError::Place { path: file.path, reason: error.to_string() }),
            }
            continue;
        }
        take(&file, content, &mut member, records, |bytes| progress(&file.path, bytes, size))?;
        done.taken.push((file.path, size));
    }
    if let Some(path) = missing.keys().next() {
        return Err(BundleError::Damaged(format!(
            "{path} and {} more files of its list are not in it",
            missing.len() - 1
        )));
    }
    // Up to its end there is a checksum of everything.
    let mut tail = archive.into_inner();
    let rest = io::copy(&mut (&mut tail).take(TAIL_LIMIT), &mut io::sink()).map_err(damaged)?;
    if rest == TAIL_LIMIT {
        return Err(BundleError::Damaged("there is more after its last file".to_owned()));
    }
    Ok(done)
}

fn read_list<R: Read>(mut member: tar::Entry<'_, R>) -> Result<BundleList, BundleError> {
    let name = member.path_bytes().into_owned();
    let size = member.header().size().map_err(no_list)?;
    if name != LIST_NAME.as_bytes() || member.header().entry_type() != EntryType::Regular {
        let name = String::from_utf8_lossy(&name);
        return Err(BundleError::NotABundle(format!("it begins with {name:?} instead of {LIST_NAME}")));
    }
    if size > LIST_LIMIT {
        return Err(BundleError::NotABundle(format!("its list has {size} bytes")));
    }
    let mut text = Vec::new();
    member.read_to_end(&mut text).map_err(damaged)?;
    BundleList::parse(&text)
}

/// Takes one file.
fn take(
    file: &BundledFile,
    content: Content,
    member: &mut impl Read,
    records: &Records,
    mut progress: impl FnMut(u64),
) -> Result<(), BundleError> {
    let BundledFile { path, size, sha256, proof: _, source } = file;
    let wrong = |reason: String| BundleError::Content { path: Arc::clone(path), reason };
    let fault = |fault: Fault| BundleError::Place { path: Arc::clone(path), reason: fault.with_remedy() };
    let root = records.store().root();
    let directory = place::partial_directory(root).map_err(fault)?;
    let locked = Partial::try_lock(&directory, path, false).map_err(fault)?;
    let mut partial = locked.ok_or_else(|| BundleError::Place {
        path: Arc::clone(path),
        reason: "another process is downloading it; end that, or wait for it, and try again".to_owned(),
    })?;
    let copied = copy(&mut partial, member, *size, &mut progress, fault);
    let found = match copied {
        Ok(found) => found,
        Err(error) => {
            partial.discard();
            return Err(error);
        }
    };
    let entry = records.entry(path);
    let complaint = if found != *sha256 {
        Some(format!("has the SHA-256 {found}, and {sha256} in its list: the bundle was altered or damaged"))
    } else if let Some(reason) = partial.implausible(content).map_err(fault)? {
        Some(format!("is not what it should be: {reason}"))
    } else {
        recorded_conflict(entry.as_ref(), found).map(|conflict| format!("cannot be taken: {}", conflict.with_remedy()))
    };
    if let Some(complaint) = complaint {
        partial.discard();
        return Err(wrong(complaint));
    }
    // A file that was verified by a published checksum stays so.
    let proof = entry.filter(|entry| entry.sha256 == found).map_or(Proof::Bundle, |entry| entry.proof);
    let download = Download { sha256: found, proof, source: source.clone() };
    let placed = partial
        .sync()
        .and_then(|()| place::make_readable(partial.file(), partial.path()))
        .and_then(|()| place::prepare(root, path))
        .and_then(|()| place::install(records, partial.path(), path, download, SystemTime::now()));
    match placed {
        Ok(()) => {
            partial.moved();
            Ok(())
        }
        Err(error) => {
            partial.discard();
            Err(fault(error))
        }
    }
}

fn copy(
    partial: &mut Partial,
    content: &mut impl Read,
    size: u64,
    progress: &mut impl FnMut(u64),
    fault: impl Fn(Fault) -> BundleError,
) -> Result<Sha256, BundleError> {
    partial.restart().and_then(|()| partial.reserve(size)).map_err(&fault)?;
    let mut piece = vec![0; PIECE];
    loop {
        let read = match content.read(&mut piece) {
            Ok(0) => break,
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(damaged(error)),
        };
        partial.write(&piece[..read]).map_err(&fault)?;
        progress(partial.length());
    }
    if partial.length() != size {
        return Err(BundleError::Damaged(format!("it ends after {} of {size} bytes of a file", partial.length())));
    }
    let mut sha256 = Sha256([0; 32]);
    sha256.0.copy_from_slice(partial.hashes().sha256.as_ref());
    Ok(sha256)
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn damaged(error: io::Error) -> BundleError {
    BundleError::Damaged(error.to_string())
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn no_list(error: io::Error) -> BundleError {
    BundleError::NotABundle(error.to_string())
}
