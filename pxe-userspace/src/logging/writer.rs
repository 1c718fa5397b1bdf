//! The writing of lines to an output that may be slow, full, or gone.

use std::io::{self, Write};

use super::queue::{self, Batch};

/// Writes batches of lines, and says how many lines were lost as soon as it can write again.
#[derive(Debug)]
pub(super) struct Writer<W> {
    output: W,
    /// The last write ended within a line.
    is_torn: bool,
    /// Lines that were lost and that nobody has been told of.
    lost: u64,
}

impl<W: Write> Writer<W> {
    /// Creates a writer to this output.
    pub(super) fn new(output: W) -> Self {
        Self { output, is_torn: false, lost: 0 }
    }

    /// Writes a batch, then the `notice` of the lines that were lost before or in it. Returns how many lines of the batch could
    /// not be written.
    pub(super) fn write(&mut self, batch: &Batch, notice: impl FnOnce(u64) -> Vec<u8>) -> u64 {
        let unwritten = self.write_lines(&batch.lines);
        self.lost += unwritten + batch.gap;
        if self.lost > 0 && self.write_lines(&notice(self.lost)) == 0 {
            self.lost = 0;
        }
        unwritten
    }

    /// Writes lines as far as possible. Returns the number of lines that are missing or incomplete.
    fn write_lines(&mut self, lines: &[u8]) -> u64 {
        if self.is_torn && !lines.is_empty() {
            if self.write_bytes(b"\n").is_err() {
                return queue::count(lines);
            }
            self.is_torn = false;
        }
        match self.write_bytes(lines) {
            Ok(()) => 0,
            Err(rest) => queue::count(rest),
        }
    }

    /// Writes bytes, or returns those that could not be written.
    fn write_bytes<'b>(&mut self, mut bytes: &'b [u8]) -> Result<(), &'b [u8]> {
        while !bytes.is_empty() {
            match self.output.write(bytes) {
                Ok(0) => return Err(bytes),
                Ok(count) => {
                    let (written, rest) = bytes.split_at(count.min(bytes.len()));
                    self.is_torn = written.last() != Some(&b'\n');
                    bytes = rest;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return Err(bytes),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file on a disk with this much room, and then none.
    #[derive(Default)]
    struct Disk {
        written: Vec<u8>,
        room: usize,
    }

    impl Write for Disk {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let count = bytes.len().min(self.room);
            if count == 0 {
                return Err(io::ErrorKind::StorageFull.into());
            }
            self.room -= count;
            self.written.extend_from_slice(&bytes[..count]);
            Ok(count)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn notice(lost: u64) -> Vec<u8> {
        format!("lost {lost}\n").into_bytes()
    }

    fn batch(lines: &str, gap: u64) -> Batch {
        Batch { lines: lines.as_bytes().to_vec(), gap }
    }

    #[test]
    fn gap_is_told_after_the_batch_before_it() {
        let mut writer = Writer::new(Disk { room: usize::MAX, ..Disk::default() });
        assert_eq!(writer.write(&batch("one\n", 0), notice), 0);
        assert_eq!(writer.write(&batch("two\n", 7), notice), 0);
        assert_eq!(writer.write(&batch("ten\n", 0), notice), 0);
        assert_eq!(writer.output.written, b"one\ntwo\nlost 7\nten\n");
    }

    #[test]
    fn lines_that_cannot_be_written_are_told_of_once_that_works_again() {
        let mut writer = Writer::new(Disk { room: 6, ..Disk::default() });
        assert_eq!(writer.write(&batch("one\ntwo\nthree\n", 0), notice), 2);
        assert_eq!(writer.write(&batch("four\n", 1), notice), 1);
        writer.output.room = usize::MAX;
        assert_eq!(writer.write(&batch("five\n", 0), notice), 0);
        assert_eq!(writer.write(&batch("six\n", 0), notice), 0);
        // Two and three, four, and one that never came: four lines. The torn line is ended first.
        assert_eq!(writer.output.written, b"one\ntw\nfive\nlost 4\nsix\n");
    }

    #[test]
    fn output_that_takes_nothing_ends_no_loop() {
        struct Nothing;
        impl Write for Nothing {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Ok(0)
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        assert_eq!(Writer::new(Nothing).write(&batch("one\ntwo\n", 0), notice), 2);
    }
}
