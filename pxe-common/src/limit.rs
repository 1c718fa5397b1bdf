//! A token bucket, stored as the time at which it will be full again (the generic cell rate algorithm,
//! ITU-T I.371): no division, no multiplication, one word of state.

use crate::layout::{Bucket, Limit};

impl Bucket {
    /// Takes a token at `now_ns`. Returns the bucket afterwards, and `true` if there was a token to take.
    #[inline(always)]
    #[must_use]
    pub const fn take(self, now_ns: u64, limit: Limit) -> (Self, bool) {
        let full_at_ns = if self.full_at_ns > now_ns { self.full_at_ns } else { now_ns };
        if full_at_ns - now_ns > limit.tolerance_ns {
            (self, false)
        } else {
            (Self { full_at_ns: full_at_ns.saturating_add(limit.refill_ns) }, true)
        }
    }
}

#[cfg(test)]
mod tests {
    use core::num::NonZeroU32;
    use std::vec::Vec;

    use proptest::prelude::*;

    use super::*;
    use crate::layout::{Settings, UnknownMachines};

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
            let (mut state, mut now_ns) = (Bucket::default(), start_ns);
            for pause_ns in pauses_ns {
                now_ns += pause_ns;
                let (after, taken) = state.take(now_ns, settings.of_machine());
                prop_assert_eq!(taken, textbook.take(now_ns, burst, settings.refill_ns));
                state = after;
            }
        }

        #[test]
        fn bucket_never_overflows(full_at_ns: u64, now_ns: u64, refill_ns: u64, tolerance_ns: u64) {
            let settings = Settings { refill_ns, tolerance_ns, ..Settings::default() };
            for limit in [settings.of_machine(), settings.of_sender(), settings.of_elsewhere()] {
                let _ = Bucket { full_at_ns }.take(now_ns, limit);
            }
        }
    }

    #[test]
    fn machine_within_the_rate_is_never_refused() {
        let settings = Settings::default();
        let mut state = Bucket::default();
        for second in 0..600 {
            for _ in 0..8 {
                let (after, taken) = state.take(second * 1_000_000_000, settings.of_machine());
                assert!(taken, "second {second}");
                state = after;
            }
        }
    }

    #[test]
    fn settings_of_zeros_refuse_nobody() {
        let settings = Settings { refill_ns: 0, tolerance_ns: 0, drop_unknown: 0, zero: 0 };
        let mut state = Bucket::default();
        let taken: Vec<bool> = (0..1000)
            .map(|_| {
                let (after, taken) = state.take(7, settings.of_machine());
                state = after;
                taken
            })
            .collect();
        assert!(taken.iter().all(|&taken| taken));
    }
}
