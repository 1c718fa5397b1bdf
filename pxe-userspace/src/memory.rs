//! Memory that was needed for a moment.

/// Gives back to the kernel what the allocator keeps and nobody uses. Reading the spec of a large fleet takes as much
/// memory again as the fleet, in pieces that lie between those that stay, and an allocator keeps it for the next time.
///
/// Only glibc can be asked to; with another C library it does nothing.
pub fn give_back() {
    #[cfg(target_env = "gnu")]
    {
        #[expect(unsafe_code, reason = "there is no other way to ask glibc")]
        // SAFETY: it has no precondition, may be called by any thread at any time (malloc_trim(3): MT-Safe), and touches
        // no memory that is in use.
        let _any = unsafe { libc::malloc_trim(0) };
    }
}
