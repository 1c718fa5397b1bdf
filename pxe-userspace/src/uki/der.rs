//! DER, as much as signatures and certificates need.

/// Tags.
pub(super) mod tag {
    pub(crate) const INTEGER: u8 = 0x02;
    pub(crate) const BIT_STRING: u8 = 0x03;
    pub(crate) const OCTET_STRING: u8 = 0x04;
    pub(crate) const OBJECT_IDENTIFIER: u8 = 0x06;
    pub(crate) const UTC_TIME: u8 = 0x17;
    pub(crate) const GENERALIZED_TIME: u8 = 0x18;
    pub(crate) const SEQUENCE: u8 = 0x30;
    pub(crate) const SET: u8 = 0x31;

    /// Returns the tag of a constructed field of the context.
    pub(crate) const fn context(number: u8) -> u8 {
        0xa0 | number
    }

    /// Returns the tag of a primitive field of the context.
    pub(crate) const fn context_primitive(number: u8) -> u8 {
        0x80 | number
    }
}

/// Contents of object identifiers.
pub(super) mod oid {
    pub(crate) const SHA_256: &[u8] = b"\x60\x86\x48\x01\x65\x03\x04\x02\x01";
    pub(crate) const RSA: &[u8] = b"\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01";
    pub(crate) const EC: &[u8] = b"\x2a\x86\x48\xce\x3d\x02\x01";
    pub(crate) const ED25519: &[u8] = b"\x2b\x65\x70";
    pub(crate) const SIGNED_DATA: &[u8] = b"\x2a\x86\x48\x86\xf7\x0d\x01\x07\x02";
    pub(crate) const CONTENT_TYPE: &[u8] = b"\x2a\x86\x48\x86\xf7\x0d\x01\x09\x03";
    pub(crate) const MESSAGE_DIGEST: &[u8] = b"\x2a\x86\x48\x86\xf7\x0d\x01\x09\x04";
    pub(crate) const SPC_INDIRECT_DATA: &[u8] = b"\x2b\x06\x01\x04\x01\x82\x37\x02\x01\x04";
    pub(crate) const SPC_PE_IMAGE_DATA: &[u8] = b"\x2b\x06\x01\x04\x01\x82\x37\x02\x01\x0f";
    /// The extended key usage "kernel modules only" of Ubuntu and shim.
    pub(crate) const MODULE_SIGNING: &[u8] = b"\x2b\x06\x01\x04\x01\x92\x08\x10\x01\x02";
}

/// Returns an element: tag, length, and its contents in order.
pub(super) fn element(tag: u8, contents: &[&[u8]]) -> Vec<u8> {
    let length: usize = contents.iter().map(|part| part.len()).sum();
    let mut bytes = Vec::with_capacity(length + 10);
    bytes.push(tag);
    match u8::try_from(length) {
        Ok(short @ ..0x80) => bytes.push(short),
        _ => {
            let digits = length.to_be_bytes();
            let leading = length.leading_zeros() as usize / 8;
            bytes.push(0x80 | digits[leading..].len() as u8);
            bytes.extend_from_slice(&digits[leading..]);
        }
    }
    for part in contents {
        bytes.extend_from_slice(part);
    }
    bytes
}

/// An element that was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Element<'a> {
    pub(super) tag: u8,
    pub(super) contents: &'a [u8],
    /// The element with its tag and length.
    pub(super) whole: &'a [u8],
}

/// Reads elements in order.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(super) const fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// Returns the bytes that were not read.
    pub(super) const fn rest(&self) -> &'a [u8] {
        self.0
    }

    /// Reads the next element.
    pub(super) fn next(&mut self) -> Option<Element<'a>> {
        let (&[tag, first], rest) = self.0.split_first_chunk()?;
        let (length, rest) = if first < 0x80 {
            (usize::from(first), rest)
        } else {
            // Longer elements than 16 MiB do not occur, and an indefinite length is not DER.
            let (digits, rest) = rest
                .split_at_checked(usize::from(first & 0x7f))
                .filter(|(digits, _)| (1..=3).contains(&digits.len()))?;
            (digits.iter().fold(0, |length, &digit| length << 8 | usize::from(digit)), rest)
        };
        let (contents, rest) = rest.split_at_checked(length)?;
        let whole = &self.0[..self.0.len() - rest.len()];
        self.0 = rest;
        Some(Element { tag, contents, whole })
    }

    /// Reads the next element if it has this tag.
    pub(super) fn expect(&mut self, tag: u8) -> Option<Element<'a>> {
        let mut ahead = *self;
        let element = ahead.next().filter(|element| element.tag == tag)?;
        *self = ahead;
        Some(element)
    }

    /// Reads the next element if it has this tag, and returns a reader of its contents.
    pub(super) fn enter(&mut self, tag: u8) -> Option<Self> {
        self.expect(tag).map(|element| Self(element.contents))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn length_has_as_few_bytes_as_possible() {
        let header = |length: usize| element(tag::OCTET_STRING, &[&vec![7; length]])[..].to_vec();
        assert_eq!(header(0), [4, 0]);
        assert_eq!(header(0x7f)[..2], [4, 0x7f]);
        assert_eq!(header(0x80)[..3], [4, 0x81, 0x80]);
        assert_eq!(header(0xff)[..3], [4, 0x81, 0xff]);
        assert_eq!(header(0x100)[..4], [4, 0x82, 1, 0]);
        assert_eq!(header(0x1_0000)[..5], [4, 0x83, 1, 0, 0]);
    }

    proptest! {
        #[test]
        fn element_is_read_as_it_was_written(tag in any::<u8>(), contents in prop::collection::vec(any::<u8>(), 0..600)) {
            let bytes = element(tag, &[&contents]);
            let mut reader = Reader::new(&bytes);
            prop_assert_eq!(reader.next(), Some(Element { tag, contents: &contents, whole: &bytes }));
            prop_assert!(reader.rest().is_empty());
            let cut_off = Reader::new(&bytes[..bytes.len() - 1]).next();
            prop_assert_eq!(cut_off, None, "it was cut off");
        }

        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..50)) {
            let mut reader = Reader::new(&bytes);
            while reader.next().is_some() {}
        }
    }
}
