//! The room for lists while they are read.
//!
//! All of them together have as much as the objects that are kept, however many kinds and namespaces are listed at once: a server that floods
//! every list gets no more memory than one that floods a single list.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use super::objects::{Full, MOST_BYTES};

/// The room, with the bytes that are taken.
#[derive(Debug, Default)]
pub(super) struct Room(AtomicUsize);

/// The bytes that one list has taken, until this is dropped.
#[derive(Debug)]
pub(super) struct Taken {
    room: Arc<Room>,
    bytes: usize,
}

impl Taken {
    /// Begins with nothing.
    pub(super) fn new(room: &Arc<Room>) -> Self {
        Self { room: Arc::clone(room), bytes: 0 }
    }

    /// Takes more. If there is no room, it is taken all the same until this is dropped.
    pub(super) fn more(&mut self, bytes: usize) -> Result<(), Full> {
        let before = self.room.0.fetch_add(bytes, Ordering::Relaxed);
        self.bytes += bytes;
        if before.saturating_add(bytes) > MOST_BYTES { Err(Full) } else { Ok(()) }
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.room.0.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_shared_and_given_back() {
        let room = Arc::new(Room::default());
        let (mut one, mut other) = (Taken::new(&room), Taken::new(&room));
        one.more(MOST_BYTES / 2).unwrap();
        other.more(MOST_BYTES / 2).unwrap();
        assert_eq!(one.more(1), Err(Full));
        drop(one);
        other.more(MOST_BYTES / 2).unwrap();
        assert_eq!(other.more(1), Err(Full));
        drop(other);
        assert_eq!(room.0.load(Ordering::Relaxed), 0);
    }
}
