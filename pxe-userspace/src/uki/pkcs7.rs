//! The signature of an image: Authenticode in PKCS#7, in a `WIN_CERTIFICATE`.

use super::{
    certificate::Certificate,
    der::{element, oid, tag},
};

/// The header of a `WIN_CERTIFICATE`: length, revision and type.
const HEADER_LENGTH: usize = 8;
/// `WIN_CERT_REVISION_2_0`.
const REVISION: u16 = 0x0200;
/// `WIN_CERT_TYPE_PKCS_SIGNED_DATA`.
const TYPE_PKCS_SIGNED_DATA: u16 = 0x0002;
/// A `WIN_CERTIFICATE` begins at a multiple of this, and the next one would.
const ALIGNMENT: usize = 8;

/// The signed content of a signature, without the signature itself.
pub(super) struct Statement {
    /// `SpcIndirectDataContent`: the hash of the image.
    content: Vec<u8>,
    /// The signed attributes, one after the other.
    attributes: Vec<u8>,
}

impl Statement {
    /// Makes the statement about an image with this hash.
    pub(super) fn new(image_hash: &[u8; 32]) -> Self {
        // "Windows Authenticode Portable Executable Signature Format": the file's name is not used any more.
        let obsolete: Vec<u8> = "<<<Obsolete>>>".encode_utf16().flat_map(u16::to_be_bytes).collect();
        let file = element(tag::context(2), &[&element(tag::context_primitive(0), &[&obsolete])]);
        let no_flags = element(tag::BIT_STRING, &[&[0]]);
        let image_data = element(tag::SEQUENCE, &[&no_flags, &element(tag::context(0), &[&file])]);
        let data = element(tag::SEQUENCE, &[&identifier(oid::SPC_PE_IMAGE_DATA), &image_data]);
        let digest = element(tag::SEQUENCE, &[&sha_256(), &element(tag::OCTET_STRING, &[image_hash])]);
        let fields = [data, digest].concat();
        // The hash of the content is that of its fields, without their sequence's header (PKCS#7 §9.3).
        let hash = ring::digest::digest(&ring::digest::SHA256, &fields);
        let attribute =
            |name: &[u8], value: &[u8]| element(tag::SEQUENCE, &[&identifier(name), &element(tag::SET, &[value])]);
        // In the order of DER for sets: by their bytes, and the first one is shorter.
        let attributes = [
            attribute(oid::CONTENT_TYPE, &identifier(oid::SPC_INDIRECT_DATA)),
            attribute(oid::MESSAGE_DIGEST, &element(tag::OCTET_STRING, &[hash.as_ref()])),
        ];
        Self { content: element(tag::SEQUENCE, &[&fields]), attributes: attributes.concat() }
    }

    /// Returns the bytes that are signed: the attributes as a set, although they have another tag in the message (PKCS#7 §9.3).
    pub(super) fn to_sign(&self) -> Vec<u8> {
        element(tag::SET, &[&self.attributes])
    }

    /// Returns the `WIN_CERTIFICATE` with the signer's signature of [`Self::to_sign`], padded with zeros.
    pub(super) fn certificate(&self, signer: &Certificate, chain: &[Certificate], signature: &[u8]) -> Vec<u8> {
        let Self { content, attributes } = self;
        let version = element(tag::INTEGER, &[&[1]]);
        let content =
            element(tag::SEQUENCE, &[&identifier(oid::SPC_INDIRECT_DATA), &element(tag::context(0), &[content])]);
        let certificates: Vec<_> = std::iter::once(signer).chain(chain).map(|one| one.der.as_slice()).collect();
        let signer_info = element(
            tag::SEQUENCE,
            &[
                &version,
                &element(tag::SEQUENCE, &[&signer.issuer, &signer.serial]),
                &sha_256(),
                &element(tag::context(0), &[attributes]),
                &algorithm(oid::RSA),
                &element(tag::OCTET_STRING, &[signature]),
            ],
        );
        let signed_data = element(
            tag::SEQUENCE,
            &[
                &version,
                &element(tag::SET, &[&sha_256()]),
                &content,
                &element(tag::context(0), &certificates),
                &element(tag::SET, &[&signer_info]),
            ],
        );
        let message =
            element(tag::SEQUENCE, &[&identifier(oid::SIGNED_DATA), &element(tag::context(0), &[&signed_data])]);
        let length = HEADER_LENGTH + message.len();
        let mut bytes = Vec::with_capacity(length.next_multiple_of(ALIGNMENT));
        bytes.extend(u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes());
        bytes.extend(REVISION.to_le_bytes());
        bytes.extend(TYPE_PKCS_SIGNED_DATA.to_le_bytes());
        bytes.extend(message);
        bytes.resize(length.next_multiple_of(ALIGNMENT), 0);
        bytes
    }
}

fn identifier(contents: &[u8]) -> Vec<u8> {
    element(tag::OBJECT_IDENTIFIER, &[contents])
}

/// Returns an algorithm that has no parameters.
fn algorithm(contents: &[u8]) -> Vec<u8> {
    element(tag::SEQUENCE, &[&identifier(contents), &[5, 0]])
}

fn sha_256() -> Vec<u8> {
    algorithm(oid::SHA_256)
}
