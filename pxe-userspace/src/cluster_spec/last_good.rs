//! Puts the last good version of a resource in the place of one that has errors or cannot be read.

use std::{
    collections::{HashMap, HashSet},
    path::Path,
    sync::Arc,
};

use super::{
    documents::{Key, Resource},
    faults::FaultId,
    placed::{Placed, Version},
};

/// A file or directory that cannot be read.
#[derive(Debug)]
pub(crate) struct Unreadable {
    pub(crate) path: Arc<Path>,
    pub(crate) fault: FaultId,
}

/// The place of a resource: its document and its index in that.
type Place = (usize, usize);

/// Completes the documents of the files with those that were in force.
///
/// A resource with errors is replaced. A resource that was in a file of which something cannot be read now, and that is nowhere
/// else, is taken to be there still. Everything else that is gone is gone.
pub(crate) fn complete(mut current: Vec<Placed>, unreadable: &[Unreadable], in_force: &[Placed]) -> Vec<Placed> {
    let broken = current.iter().filter_map(|document| Some((&*document.file, document.fault(document.content.fault?))));
    let mut lost: Vec<(&Path, FaultId)> = broken.collect();
    lost.extend(unreadable.iter().map(|Unreadable { path, fault }| (&**path, *fault)));
    let mut faulty: HashMap<Key<'_>, (Place, FaultId)> = HashMap::new();
    for (index, document) in current.iter().enumerate() {
        for (resource, found) in document.resources() {
            if let Some(error) = found.fault() {
                faulty.insert(found.key(), ((index, resource), document.fault(error)));
            }
        }
    }
    if lost.is_empty() && faulty.is_empty() || in_force.is_empty() {
        return current;
    }
    let sound = current.iter().flat_map(Placed::resources).map(|(_, resource)| resource);
    let sound: HashSet<Key<'_>> = sound.filter(|resource| resource.fault().is_none()).map(Resource::key).collect();

    let mut kept: HashMap<(usize, FaultId), Vec<usize>> = HashMap::new();
    let mut replaced: HashMap<usize, HashSet<usize>> = HashMap::new();
    for (index, document) in in_force.iter().enumerate() {
        for (resource, found) in document.resources() {
            let key = found.key();
            if sound.contains(&key) {
                continue;
            }
            if let Some(((document, resource_now), fault)) = faulty.get(&key) {
                replaced.entry(*document).or_default().insert(*resource_now);
                kept.entry((index, *fault)).or_default().push(resource);
            } else if let Some((_, fault)) = lost.iter().find(|(path, _)| document.file.starts_with(path)) {
                kept.entry((index, *fault)).or_default().push(resource);
            }
        }
    }
    drop((faulty, sound, lost));
    for (index, replaced) in replaced {
        let Some(document) = current.get_mut(index) else { continue };
        let rest = document.resources().map(|(resource, _)| resource).filter(|resource| !replaced.contains(resource));
        document.selected = Some(rest.collect());
    }
    let mut kept: Vec<_> = kept.into_iter().collect();
    kept.sort_unstable_by_key(|((index, _), resources)| (*index, resources.first().copied()));
    for ((index, because), selected) in kept {
        let Some(document) = in_force.get(index) else { continue };
        let version = Version::LastGood { because };
        current.push(Placed { version, selected: Some(selected.into()), ..document.clone() });
    }
    current
}
