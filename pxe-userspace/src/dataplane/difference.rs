//! The difference of two sorted lists.

use std::{collections::BTreeSet, sync::Arc};

/// The entries to add to a list and to remove from it so that it becomes another, sorted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference<T> {
    /// The missing entries.
    pub added: Vec<T>,
    /// The superfluous entries.
    pub removed: Vec<T>,
}

impl<T: Copy + Ord> Difference<T> {
    /// Compares two sorted lists. This is free if they are the same allocation.
    #[must_use]
    pub fn between(before: &Arc<[T]>, after: &Arc<[T]>) -> Self {
        let mut difference = Self { added: Vec::new(), removed: Vec::new() };
        if Arc::ptr_eq(before, after) {
            return difference;
        }
        let (mut old, mut new) = (before.iter().copied().peekable(), after.iter().copied().peekable());
        loop {
            match (old.peek().copied(), new.peek().copied()) {
                (None, None) => return difference,
                (Some(gone), next) if next.is_none_or(|next| gone < next) => {
                    difference.removed.push(gone);
                    old.next();
                }
                (next, Some(came)) if next.is_none_or(|next| came < next) => {
                    difference.added.push(came);
                    new.next();
                }
                _ => {
                    old.next();
                    new.next();
                }
            }
        }
    }

    /// Returns `true` if the lists are equal.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.added.is_empty() && self.removed.is_empty()
    }

    /// Applies the difference to a list.
    #[must_use]
    pub fn applied_to(&self, before: &[T]) -> Arc<[T]> {
        let removed: BTreeSet<T> = self.removed.iter().copied().collect();
        let mut list: Vec<T> = before.iter().copied().filter(|entry| !removed.contains(entry)).collect();
        list.extend(&self.added);
        list.sort_unstable();
        list.dedup();
        list.into()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn difference_makes_one_list_the_other(before: BTreeSet<u8>, after: BTreeSet<u8>) {
            let list = |set: &BTreeSet<u8>| set.iter().copied().collect::<Arc<[u8]>>();
            let (old, new) = (list(&before), list(&after));
            let difference = Difference::between(&old, &new);
            prop_assert_eq!(&difference.added, &after.difference(&before).copied().collect::<Vec<_>>());
            prop_assert_eq!(&difference.removed, &before.difference(&after).copied().collect::<Vec<_>>());
            prop_assert_eq!(difference.is_empty(), before == after);
            prop_assert_eq!(difference.applied_to(&old), new);
        }
    }
}
