//! Stubs, images and a key for tests.

mod pe_file;

pub(crate) use pe_file::{PeFile, PeSection, section, stub, talos_uki};

use super::{
    layout::Template,
    pieces::{Piece, SourceFile},
};

/// A key and its certificate, made by `openssl req -new -x509 -newkey rsa:2048 -nodes`.
pub(crate) const KEY: &[u8] = include_bytes!("testdata/db.key");
pub(crate) const CERTIFICATE: &[u8] = include_bytes!("testdata/db.crt");

/// Returns the bytes of the shared part of an image.
pub(crate) fn shared_bytes(template: &Template, files: &[(SourceFile, &[u8])]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for piece in template.pieces() {
        match piece {
            Piece::Bytes(generated) => bytes.extend_from_slice(generated),
            Piece::File { file, range } => {
                let (_, contents) = files.iter().find(|(name, _)| name == file).unwrap();
                bytes.extend_from_slice(&contents[range.start as usize..range.end as usize]);
            }
        }
    }
    bytes
}
