//! Interned texts: a path or reason is stored once, however many events name it. Ten thousand machines load the same five files.
//! The memory is bounded, since a machine chooses the paths that it asks for.

use std::{collections::HashMap, sync::Arc};

/// Longer texts are cut. A person reads them.
pub(super) const MAX_TEXT_BYTES: usize = 200;
/// The sum of all texts in bytes. Texts beyond it are dropped. It has room for a different path of each of 100,000 machines.
const MAX_TOTAL_BYTES: usize = 16 << 20;
/// The replacement of a text that was dropped.
const FORGOTTEN: &str = "(not kept: the journal's memory for texts is full)";

/// The identifier of a text in an [`Interner`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TextId(u32);

/// The identifier of a text that is part of the program.
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

/// Reference-counted texts, found by their content.
#[derive(Debug, Default)]
pub(super) struct Interner {
    entries: Vec<Option<Entry>>,
    free: Vec<u32>,
    by_text: HashMap<Arc<str>, u32>,
    bytes: usize,
    statics: Vec<&'static str>,
}

impl Interner {
    /// Stores a text, or counts one more use of it.
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

    /// Releases one use of a text. The last release removes it.
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

    /// Returns the text.
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

    /// Stores a text that is part of the program. There are a few dozen of them.
    pub(super) fn keep_static(&mut self, text: &'static str) -> StaticId {
        let index = self.statics.iter().position(|known| *known == text).unwrap_or_else(|| {
            self.statics.push(text);
            self.statics.len() - 1
        });
        StaticId(u16::try_from(index).unwrap_or(u16::MAX))
    }

    /// Returns the text.
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
    fn text_is_stored_once_and_removed_with_its_last_use() {
        let mut texts = Interner::default();
        let path: Arc<str> = Arc::from("ipxe-efi-x86_64.efi");
        let first = texts.keep(&path);
        let second = texts.keep(&Arc::from("ipxe-efi-x86_64.efi"));
        assert_eq!(first, second);
        texts.release(first);
        assert_eq!(&*texts.get(second), "ipxe-efi-x86_64.efi");
        texts.release(second);
        assert_eq!((texts.bytes, texts.by_text.len()), (0, 0));
        assert_eq!(texts.keep(&Arc::from("other")), first, "its slot is reused");
    }

    #[test]
    fn long_text_is_cut_between_characters() {
        let mut texts = Interner::default();
        let id = texts.keep(&Arc::from("é".repeat(MAX_TEXT_BYTES)));
        assert_eq!(&*texts.get(id), "é".repeat(MAX_TEXT_BYTES / 2));
    }

    #[test]
    fn sum_of_all_texts_is_bounded() {
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
    fn static_text_keeps_its_identifier() {
        let mut texts = Interner::default();
        let (a, b) = (texts.keep_static("one"), texts.keep_static("two"));
        assert_eq!(texts.keep_static("one"), a);
        assert_eq!((texts.get_static(a), texts.get_static(b)), ("one", "two"));
    }
}
