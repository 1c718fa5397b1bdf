//! Chooses among resources of one kind and name.

use std::{collections::HashMap, path::Path};

use super::{
    contest,
    documents::{Key, Resource},
    placed::Placed,
};

/// Returns the resource that counts of each name, with its document: the one that was in force, or else the first without errors.
pub(crate) fn unique<'d>(documents: &'d [Placed], in_force: &[Placed]) -> HashMap<Key<'d>, (&'d Placed, &'d Resource)> {
    let mut counts: HashMap<Key<'d>, (&'d Placed, &'d Resource)> = HashMap::new();
    let mut former = None;
    for document in documents {
        for (_, resource) in document.resources().filter(|(_, resource)| resource.object().is_some()) {
            let (first, other) = *counts.entry(resource.key()).or_insert((document, resource));
            if std::ptr::eq(other, resource) {
                continue;
            }
            let former = former.get_or_insert_with(|| files_by_resource(in_force));
            let file = former.get(&resource.key());
            let rank = |document: &Placed, resource: &Resource| {
                contest::rank(file == Some(&&*document.file), resource.fault().is_none())
            };
            if rank(document, resource) < rank(first, other) {
                counts.insert(resource.key(), (document, resource));
            }
        }
    }
    counts
}

fn files_by_resource(documents: &[Placed]) -> HashMap<Key<'_>, &Path> {
    let resources = documents.iter().flat_map(|document| document.resources().map(move |found| (document, found.1)));
    resources.map(|(document, resource)| (resource.key(), &*document.file)).collect()
}
