//! Machines with real firmware, in QEMU.

/// Set to 1, tests with guests are skipped.
pub const QUICK: &str = "PXED_TESTS_QUICK";
