//! The token bucket of a machine, stored as the time at which it will be full again (the generic cell rate algorithm,
//! ITU-T I.371): no division, no multiplication, one word of state.

use crate::layout::{MachineState, Settings};

impl MachineState {
    /// Takes a token at `now_ns`. Returns the bucket afterwards, and `true` if there was a token to take.
    #[inline(always)]
    #[must_use]
    pub const fn take(self, now_ns: u64, settings: &Settings) -> (Self, bool) {
        let full_at_ns = if self.full_at_ns > now_ns { self.full_at_ns } else { now_ns };
        if full_at_ns - now_ns > settings.tolerance_ns {
            (self, false)
        } else {
            (Self { full_at_ns: full_at_ns.saturating_add(settings.refill_ns) }, true)
        }
    }
}

#[cfg(test)]
mod tests {
    use core::num::NonZeroU32;
    use std::vec::Vec;

    use proptest::prelude::*;

    use super::*;
    use crate::layout::UnknownMachines;

    /// The bucket of the textbooks: tokens return one by one, up to the burst. In units of 1/refill_ns.
    struct Textbook {
        credit: u64,
        last_ns: u64,
    }

    impl Textbook {
        fn take(&mut self, now_ns: u64, burst: u32, refill_ns: u64) -> bool {
            self.credit = (self.credit + (now_ns - self.last_ns)).min(u64::from(burst) * refill_ns);
            self.last_ns = now_ns;
            let taken = self.credit >= refill_ns;
            if taken {
                self.credit -= refill_ns;
            }
            taken
        }
    }

    proptest! {
        #[test]
        fn bucket_behaves_as_in_the_textbook(
            burst in 1..100u32,
            per_second in 1..1000u32,
            start_ns in 0..u64::MAX / 2,
            pauses_ns in proptest::collection::vec(prop_oneof![Just(0), 0..5_000_000u64, 0..5_000_000_000u64], 0..300),
        ) {
            let settings = Settings::new(
                UnknownMachines::Pass,
                NonZeroU32::new(burst).unwrap(),
                NonZeroU32::new(per_second).unwrap(),
            );
            let mut textbook = Textbook { credit: u64::from(burst) * settings.refill_ns, last_ns: start_ns };
            let (mut state, mut now_ns) = (MachineState::default(), start_ns);
            for pause_ns in pauses_ns {
                now_ns += pause_ns;
                let (after, taken) = state.take(now_ns, &settings);
                prop_assert_eq!(taken, textbook.take(now_ns, burst, settings.refill_ns));
                state = after;
            }
        }

        #[test]
        fn bucket_never_overflows(full_at_ns: u64, now_ns: u64, refill_ns: u64, tolerance_ns: u64) {
            let settings = Settings { refill_ns, tolerance_ns, ..Settings::default() };
            let _ = MachineState { full_at_ns }.take(now_ns, &settings);
        }
    }

    #[test]
    fn machine_within_the_rate_is_never_refused() {
        let settings = Settings::default();
        let mut state = MachineState::default();
        for second in 0..600 {
            for _ in 0..8 {
                let (after, taken) = state.take(second * 1_000_000_000, &settings);
                assert!(taken, "second {second}");
                state = after;
            }
        }
    }

    #[test]
    fn settings_of_zeros_refuse_nobody() {
        let settings = Settings { refill_ns: 0, tolerance_ns: 0, drop_unknown: 0, zero: 0 };
        let mut state = MachineState::default();
        let taken: Vec<bool> = (0..1000)
            .map(|_| {
                let (after, taken) = state.take(7, &settings);
                state = after;
                taken
            })
            .collect();
        assert!(taken.iter().all(|&taken| taken));
    }
}
