//! The Authenticode hash of an image: SHA-256 over everything but the checksum, the place of the signature and the signature.

use std::ops::Range;

use ring::digest::{Context, SHA256};
use thiserror::Error;

use super::{command_line::SECTION_LENGTH, layout::Template};

/// The shared part of an image has another length than the template says, because a file has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("{read} bytes were read where the image has {expected}: a file has changed meanwhile")]
pub struct Changed {
    /// The bytes that were read.
    pub read: u64,
    /// The length of the shared part.
    pub expected: u64,
}

/// Hashes the shared part of images. It is given the bytes of [`Template::pieces`], in order and in parts of any length.
#[derive(Clone)]
pub struct Hasher {
    context: Context,
    position: u64,
    expected: u64,
    skipped: [Range<u64>; 2],
}

impl Hasher {
    /// Begins with the first byte of the image.
    #[must_use]
    pub fn new(template: &Template) -> Self {
        Self {
            context: Context::new(&SHA256),
            position: 0,
            expected: template.shared_length(),
            skipped: template.unsigned().clone(),
        }
    }

    /// Adds the next bytes.
    pub fn update(&mut self, mut bytes: &[u8]) {
        for Range { start, end } in self.skipped.clone() {
            let split = |at: u64, bytes: &[u8]| usize::try_from(at).unwrap_or(usize::MAX).min(bytes.len());
            let (signed, rest) = bytes.split_at(split(start.saturating_sub(self.position), bytes));
            self.context.update(signed);
            self.position += signed.len() as u64;
            let (skipped, rest) = rest.split_at(split(end.saturating_sub(self.position), rest));
            self.position += skipped.len() as u64;
            bytes = rest;
        }
        self.context.update(bytes);
        self.position += bytes.len() as u64;
    }

    /// Returns the state before the machine's own part.
    ///
    /// # Errors
    ///
    /// The files had other lengths than the template says.
    pub fn finish(self) -> Result<Midstate, Changed> {
        let Self { context, position, expected, skipped: _ } = self;
        if position == expected { Ok(Midstate(context)) } else { Err(Changed { read: position, expected }) }
    }
}

/// The state of the hash before the machine's own part, the same for all machines of a template.
#[derive(Clone)]
pub struct Midstate(Context);

impl Midstate {
    /// Returns the hash of the image with this section `.cmdline`.
    #[must_use]
    pub fn digest(&self, command_line: &[u8; SECTION_LENGTH]) -> [u8; 32] {
        let mut context = self.0.clone();
        context.update(command_line);
        context.finish().as_ref().try_into().unwrap_or_default()
    }
}
