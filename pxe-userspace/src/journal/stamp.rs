//! The time of an event in a compact form, with its network card and its origin.

use std::time::{Duration, SystemTime};

use crate::model::origin::Origin;

/// Milliseconds since the Unix epoch, in two halves: the alignment of a `u64` would cost four bytes in each event.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Millis(u32, u32);

impl Millis {
    pub(super) fn of(time: SystemTime) -> Self {
        let millis = time.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_millis());
        Self((millis >> 32) as u32, millis as u32)
    }

    pub(super) fn time(self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_millis((u64::from(self.0) << 32) | u64::from(self.1))
    }
}

/// The time of an event, the number of the network card that it came from, and whether it is proven, in eight bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stamp(Millis);

impl Stamp {
    /// The upper bits of the time, which reach for a quarter of a million years.
    const TIME: u32 = 0x007f_ffff;
    const UNPROVEN: u32 = 0x0080_0000;

    pub(super) fn new(at: SystemTime, card: u8, origin: Origin) -> Self {
        let Millis(high, low) = Millis::of(at);
        let unproven = if origin.is_proven() { 0 } else { Self::UNPROVEN };
        Self(Millis(high & Self::TIME | unproven | u32::from(card) << 24, low))
    }

    pub(super) fn time(self) -> SystemTime {
        let Millis(high, low) = self.0;
        Millis(high & Self::TIME, low).time()
    }

    /// Returns whether the event is proven. The sender of one that is not is not kept.
    pub(super) fn origin(self) -> Origin {
        if self.0.0 & Self::UNPROVEN == 0 { Origin::Machine } else { Origin::Unproven }
    }

    pub(super) fn card(self) -> u8 {
        (self.0.0 >> 24) as u8
    }
}
