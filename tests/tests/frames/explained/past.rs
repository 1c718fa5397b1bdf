//! Time that has passed: the history of a pxed that has ended is made older, so that the next one finds machines that have waited for minutes.

use std::{fs, path::Path, time::Duration};

use anyhow::{Context as _, ensure};

/// The first bytes of a segment, with the version of the format.
const HEADER: &[u8] = b"pxedlog\x01";
/// The bytes of a block's length and of its checksum.
const WORD: usize = 4;
/// The tags of entries that are no events.
const TEXT: u8 = 0;
const CARD: u8 = 1;
const MAC_LENGTH: usize = 6;

/// Moves all events of the history in a state directory into the past. Each segment has the time of its first event, and the differences of
/// the others.
pub(super) fn grow_older(state: &Path, by: Duration) -> anyhow::Result<()> {
    for entry in fs::read_dir(state.join("history"))? {
        let path = entry?.path();
        let mut segment = fs::read(&path)?;
        ensure!(segment.starts_with(HEADER), "{} is no segment of this version", path.display());
        shift_first_event(&mut segment, by).with_context(|| format!("no event in {}", path.display()))?;
        fs::write(&path, segment)?;
    }
    Ok(())
}

fn shift_first_event(segment: &mut [u8], by: Duration) -> Option<()> {
    let (length, rest) = segment.get_mut(HEADER.len()..)?.split_first_chunk_mut::<WORD>()?;
    let (sum, rest) = rest.split_first_chunk_mut::<WORD>()?;
    let entries = rest.get_mut(..u32::from_le_bytes(*length) as usize)?;
    let mut at = 0;
    loop {
        let tag = *entries.get(at)?;
        at += 1;
        match tag {
            TEXT => {
                let (length, next) = number(entries, at)?;
                at = next + usize::try_from(length).ok()?;
            }
            CARD => at += MAC_LENGTH,
            _ => break,
        }
    }
    let (_card, first) = number(entries, at)?;
    let (zigzag, after) = number(entries, first)?;
    let mut earlier = zigzag.checked_sub(2 * u64::try_from(by.as_millis()).ok()?)?;
    for byte in entries.get_mut(first..after - 1)? {
        *byte = earlier as u8 | 0x80;
        earlier >>= 7;
    }
    *entries.get_mut(after - 1)? = u8::try_from(earlier).ok().filter(|last| *last < 0x80)?;
    *sum = crc(entries).to_le_bytes();
    Some(())
}

/// Returns a number in groups of seven bits, the lowest first, and the place after it.
fn number(bytes: &[u8], from: usize) -> Option<(u64, usize)> {
    let length = bytes.get(from..)?.iter().position(|byte| byte & 0x80 == 0)? + 1;
    let groups = bytes.get(from..from + length)?.iter().rev();
    Some((groups.fold(0, |value, byte| value << 7 | u64::from(byte & 0x7f)), from + length))
}

/// Returns the CRC-32 of IEEE 802.3.
fn crc(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0_u32, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| crc >> 1 ^ if crc & 1 == 1 { 0xedb8_8320 } else { 0 })
    })
}
