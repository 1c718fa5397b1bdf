//! The share of the process's descriptors that connections may take, so that they leave enough for everything else: interfaces, files,
//! the spec, the state.

use std::sync::Mutex;

use crate::{descriptors, http::Places, tftp};

/// The descriptors of a connection: its socket and the file that it sends.
const PER_CONNECTION: u64 = 2;

/// Everything else is counted while at most this many connections are open. With more, their share would blur it.
const FEW_CONNECTIONS: usize = 8;

/// The fewest places, even if the limit leaves none: boots must go on somehow.
const LEAST_PLACES: usize = 8;

/// The budget of descriptors.
pub(super) struct Budget {
    places: Places,
    /// The descriptors that are in use for everything but connections, as of the last count.
    others: Mutex<u64>,
}

impl Budget {
    /// Returns a budget that gives connections their places.
    pub(super) fn new(places: Places) -> Self {
        Self { places, others: Mutex::new(0) }
    }

    /// Adjusts the number of places to the limit and to what else is in use. Returns a warning if almost all descriptors are in use.
    pub(super) fn adjust(&self) -> Option<String> {
        let (limit, in_use, taken) = (descriptors::limit(), descriptors::in_use(), self.places.taken());
        let mut others = self.others.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if taken <= FEW_CONNECTIONS
            && let Some(in_use) = in_use
        {
            *others = in_use.saturating_sub(taken as u64);
        }
        self.places.set_limit(places(limit, *others));
        let is_short = in_use.is_none_or(|in_use| limit.saturating_sub(in_use) < slack(limit) / 2);
        is_short.then(|| {
            format!("almost all of the {limit} file descriptors are in use, so requests wait; {}", descriptors::REMEDY)
        })
    }

    /// Returns a warning if fewer machines than there are can load at the same time.
    pub(super) fn warning_for(&self, machines: usize) -> Option<String> {
        let places = self.places.limit();
        (places < machines).then(|| {
            format!(
                "the limit of {} file descriptors lets {places} of {machines} machines load by HTTP at the same time, and others wait; {}",
                descriptors::limit(),
                descriptors::REMEDY
            )
        })
    }
}

/// Returns the number of connections of the admin listener under this limit.
pub(super) fn admin_connections(limit: u64) -> usize {
    usize::try_from(limit / 8).unwrap_or(usize::MAX).clamp(8, 256)
}

/// Returns the number of places for connections. The ports of TFTP transfers come and go, too.
fn places(limit: u64, others: u64) -> usize {
    let changing = [admin_connections(limit) as u64, tftp::sockets_limit(limit) as u64, slack(limit)];
    let kept = changing.into_iter().fold(others, u64::saturating_add);
    usize::try_from(limit.saturating_sub(kept) / PER_CONNECTION).unwrap_or(usize::MAX).max(LEAST_PLACES)
}

/// Returns the number of descriptors kept free for what comes and goes: files of TFTP, the spec and the state, questions to the kernel.
const fn slack(limit: u64) -> u64 {
    let share = limit / 16;
    if share > 1024 {
        1024
    } else if share < 24 {
        24
    } else {
        share
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_leave_room_for_everything_else() {
        for (limit, others, expected) in
            [(0, 0, LEAST_PLACES), (64, 60, LEAST_PLACES), (256, 60, 54), (1_024, 60, 322), (524_288, 100, 253_262)]
        {
            assert_eq!(places(limit, others), expected, "{limit} {others}");
        }
        for limit in (256..100_000).step_by(61) {
            let used = places(limit, 64) as u64 * PER_CONNECTION
                + 64
                + admin_connections(limit) as u64
                + tftp::sockets_limit(limit) as u64;
            assert!(used + 24 <= limit, "{limit}");
        }
        assert!(places(u64::MAX, 0) > 1 << 30);
    }
}
