//! Reads a file once and hashes it.

use std::{
    fs::File,
    io::{self, Read as _},
    os::unix::fs::MetadataExt as _,
    thread,
    time::{Duration, SystemTime},
};

use ring::digest::{Context, SHA256};
use rustix::fs::{Advice, fadvise};

use super::manifest::{Identity, Sha256};

/// The bytes that are read at once: few enough to be hashed from the processor's cache.
const PIECE: usize = 256 << 10;

/// The resolution of modification times. Two writes within it may leave the same time.
const CLOCK_TICK: Duration = Duration::from_millis(20);

/// The most attempts at a file that is written to meanwhile.
const ATTEMPTS: usize = 3;

impl Identity {
    /// Returns the identity of an open file.
    ///
    /// # Errors
    ///
    /// If the file cannot be examined.
    pub fn of(file: &File) -> io::Result<Self> {
        let metadata = file.metadata()?;
        Ok(Self::new(metadata.len(), metadata.ino(), metadata.modified()?))
    }
}

impl Sha256 {
    /// Reads an open file from its beginning and returns its hash, with the identity that it had all the while.
    ///
    /// # Errors
    ///
    /// If the file cannot be read, or somebody writes to it all the time.
    pub fn of(file: &File) -> io::Result<(Self, Identity)> {
        for _ in 0..ATTEMPTS {
            let before = Identity::of(file)?;
            let_time_pass(file)?;
            let hash = Self::of_content(file)?;
            if Identity::of(file)? == before {
                return Ok((hash, before));
            }
        }
        Err(io::Error::other("somebody writes to it"))
    }

    fn of_content(mut file: &File) -> io::Result<Self> {
        // Only speed depends on it.
        let _ = fadvise(file, 0, None, Advice::Sequential);
        io::Seek::rewind(&mut file)?;
        let mut context = Context::new(&SHA256);
        let mut piece = vec![0; PIECE];
        loop {
            match file.read(&mut piece) {
                Ok(0) => break,
                Ok(read) => context.update(&piece[..read]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        let mut hash = [0; 32];
        hash.copy_from_slice(context.finish().as_ref());
        Ok(Self(hash))
    }
}

/// Waits if the file was written to just now, so that a write that follows leaves another time.
fn let_time_pass(file: &File) -> io::Result<()> {
    let age = SystemTime::now().duration_since(file.metadata()?.modified()?).unwrap_or_default();
    if age < CLOCK_TICK {
        thread::sleep(CLOCK_TICK);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::{fs, io::Write as _};

    use super::*;

    #[test]
    fn hash_is_that_of_the_whole_file_wherever_it_was_read_to() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        for length in [0, 1, PIECE - 1, PIECE, PIECE + 1, 3 * PIECE + 17] {
            let content: Vec<u8> = (0..length).map(|index| (index % 251) as u8).collect();
            fs::write(&path, &content).unwrap();
            let mut file = File::open(&path).unwrap();
            let _ = file.read(&mut [0; 10]).unwrap();
            let (hash, identity) = Sha256::of(&file).unwrap();
            assert_eq!(hash.0, ring::digest::digest(&SHA256, &content).as_ref(), "{length} bytes");
            assert_eq!(identity, Identity::of(&file).unwrap());
            assert_eq!(identity.size, length as u64);
        }
    }

    #[test]
    fn hash_has_the_usual_text_form() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        File::create(&path).unwrap().write_all(b"abc").unwrap();
        let (hash, _) = Sha256::of(&File::open(&path).unwrap()).unwrap();
        // FIPS 180-4, the example of one block.
        let text = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(hash.to_string(), text);
        assert_eq!(text.to_uppercase().parse(), Ok(hash));
    }

    /// A figure, not a test: `cargo test --release -p pxe-userspace --lib artifacts::hash -- --ignored --nocapture`
    #[test]
    #[ignore = "measures"]
    fn hash_speed() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(256 << 20).unwrap();
        Sha256::of(&file).unwrap();
        let begin = std::time::Instant::now();
        Sha256::of(&file).unwrap();
        println!("{:.0} MB/s", f64::from(256 << 20) / 1e6 / begin.elapsed().as_secs_f64());
    }
}
