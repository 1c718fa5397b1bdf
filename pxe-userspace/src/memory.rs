//! Return of unused memory to the kernel.

/// Returns the memory to the kernel that the allocator keeps and nothing uses. Reading the spec of a large fleet takes as much
/// memory again as the fleet, in pieces between those that stay, which the allocator keeps for later use.
///
/// Does nothing with a C library other than glibc.
pub fn give_back() {
    #[cfg(target_env = "gnu")]
    {
        #[expect(unsafe_code, reason = "glibc offers this by no other interface")]
        // SAFETY: it has no precondition, may be called by any thread at any time (malloc_trim(3): MT-Safe), and touches
        // no memory that is in use.
        let _any = unsafe { libc::malloc_trim(0) };
    }
}
