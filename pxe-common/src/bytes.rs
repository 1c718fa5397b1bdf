//! Bounds-checked access to the bytes of a frame.

/// The bytes of a frame. No access can leave them.
pub trait Bytes {
    /// Returns the number of bytes.
    fn length(&self) -> usize;

    /// Returns the `N` bytes from `offset` on, or `None` if the frame ends before them.
    fn read<const N: usize>(&self, offset: usize) -> Option<[u8; N]>;
}

impl Bytes for [u8] {
    fn length(&self) -> usize {
        self.len()
    }

    fn read<const N: usize>(&self, offset: usize) -> Option<[u8; N]> {
        self.get(offset..)?.first_chunk().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::Bytes as _;

    #[test]
    fn read_stays_within_the_slice() {
        let bytes: &[u8] = &[1, 2, 3];
        assert_eq!(bytes.read(1), Some([2, 3]));
        assert_eq!(bytes.read(3), Some([]));
        assert_eq!(bytes.read::<2>(2), None);
        assert_eq!(bytes.read::<1>(usize::MAX), None);
    }
}
