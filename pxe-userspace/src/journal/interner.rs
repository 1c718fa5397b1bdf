//! Paths and reasons, kept once however many events name them: ten thousand machines load the same five
//! files. Bounded, since a machine chooses the paths that it asks for.

use std::{collections::HashMap, sync::Arc};

/// A longer text is cut: what an event says is read by a person.
pub(super) const MAX_TEXT_BYTES: usize = 200;
/// Distinct texts beyond this are forgotten; it fits a path of its own for each of 100,000 machines.
const MAX_TOTAL_BYTES: usize = 16 << 20;
/// What stands for a text that was forgotten.
const FORGOTTEN: &str = "(not kept: the journal's memory for texts is full)";

/// A text of [`Interner`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TextId(u32);

/// A text that is part of the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct StaticId(u16);

impl TextId {
    const FORGOTTEN: Self = Self(u32::MAX);
}

#[derive(Debug)]
struct Entry {
    text: Arc<str>,
    uses: u32,
}

/// Reference-counted texts, found by content.
#[derive(Debug, Default)]
pub(super) struct Interner {
    entries: Vec<Option<Entry>>,
    free: Vec<u32>,
    by_text: HashMap<Arc<str>, u32>,
    bytes: usize,
    statics: Vec<&'static str>,
}

impl Interner {
    /// Keeps one more use of a text.
    pub(super) fn keep(&mut self, text: &Arc<str>) -> TextId {
        let shortened = shorten(text);
        if let Some(&index) = self.by_text.get(shortened)
            && let Some(Some(entry)) = self.entries.get_mut(index as usize)
        {
            entry.uses = entry.uses.saturating_add(1);
            return TextId(index);
        }
        if self.bytes + shortened.len() > MAX_TOTAL_BYTES {
            return TextId::FORGOTTEN;
        }
        let index = match self.free.pop() {
            Some(index) => index,
            None => match u32::try_from(self.entries.len()) {
                Ok(index) if index < u32::MAX => {
                    self.entries.push(None);
                    index
                }
                _ => return TextId::FORGOTTEN,
            },
        };
        let Some(slot) = self.entries.get_mut(index as usize) else { return TextId::FORGOTTEN };
        let text: Arc<str> = if shortened.len() == text.len() { Arc::clone(text) } else { Arc::from(shortened) };
        self.bytes += text.len();
        *slot = Some(Entry { text: Arc::clone(&text), uses: 1 });
        self.by_text.insert(text, index);
        TextId(index)
    }

    /// Gives one use back; with the last one the text is forgotten.
    pub(super) fn release(&mut self, TextId(index): TextId) {
        let Some(slot) = self.entries.get_mut(index as usize) else { return };
        let Some(entry) = slot else { return };
        entry.uses -= 1;
        if entry.uses == 0 {
            self.bytes -= entry.text.len();
            self.by_text.remove(&entry.text);
            *slot = None;
            self.free.push(index);
        }
    }

    /// The text.
    pub(super) fn get(&self, TextId(index): TextId) -> Arc<str> {
        match self.entries.get(index as usize) {
            Some(Some(entry)) => Arc::clone(&entry.text),
            _ => Arc::from(FORGOTTEN),
        }
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.bytes == 0 && self.by_text.is_empty() && self.free.len() == self.entries.len()
    }

    /// Keeps a text that is part of the program: there are a few dozen of them.
    pub(super) fn keep_static(&mut self, text: &'static str) -> StaticId {
        let index = self.statics.iter().position(|known| *known == text).unwrap_or_else(|| {
            self.statics.push(text);
            self.statics.len() - 1
        });
        StaticId(u16::try_from(index).unwrap_or(u16::MAX))
    }

    /// The text.
    pub(super) fn get_static(&self, StaticId(index): StaticId) -> &'static str {
        self.statics.get(usize::from(index)).copied().unwrap_or(FORGOTTEN)
    }
}

fn shorten(text: &str) -> &str {
    text.get(..text.floor_char_boundary(MAX_TEXT_BYTES)).unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_kept_once_and_forgotten_with_its_last_use() {
        let mut texts = Interner::default();
        let path: Arc<str> = Arc::from("ipxe-efi-x86_64.efi");
        let first = texts.keep(&path);
        let second = texts.keep(&Arc::from("ipxe-efi-x86_64.efi"));
        assert_eq!(first, second);
        texts.release(first);
        assert_eq!(&*texts.get(second), "ipxe-efi-x86_64.efi");
        texts.release(second);
        assert_eq!((texts.bytes, texts.by_text.len()), (0, 0));
        assert_eq!(texts.keep(&Arc::from("other")), first, "its place is used again");
    }

    #[test]
    fn long_texts_are_cut_at_a_character() {
        let mut texts = Interner::default();
        let id = texts.keep(&Arc::from("é".repeat(MAX_TEXT_BYTES)));
        assert_eq!(&*texts.get(id), "é".repeat(MAX_TEXT_BYTES / 2));
    }

    #[test]
    fn the_sum_of_all_texts_is_bounded() {
        let mut texts = Interner::default();
        let kept: Vec<TextId> = (0..90_000).map(|n| texts.keep(&Arc::from(format!("{n:0200}")))).collect();
        assert!(texts.bytes <= MAX_TOTAL_BYTES);
        assert_eq!(&*texts.get(kept[89_999]), FORGOTTEN);
        for id in kept {
            texts.release(id);
        }
        assert_eq!(texts.bytes, 0);
    }

    #[test]
    fn texts_of_the_program_keep_their_identity() {
        let mut texts = Interner::default();
        let (a, b) = (texts.keep_static("one"), texts.keep_static("two"));
        assert_eq!(texts.keep_static("one"), a);
        assert_eq!((texts.get_static(a), texts.get_static(b)), ("one", "two"));
    }
}
