//! How the C library's allocator behaves in a server of many short-lived threads.

/// Lets all threads share two heaps. To be called before the first thread is started.
///
/// glibc gives a thread that finds all heaps locked one of its own, up to eight per processor, and what was freed in one
/// is of no use to the others. Calls here wait for disks on up to 64 threads and allocate little, so heaps of their own
/// bring no speed; they kept twice the memory resident after 32 calls in parallel (`docs/performance.md`).
pub fn share_heaps() {
    #[cfg(target_env = "gnu")]
    // SAFETY: the call sets one number of the allocator, under the allocator's own lock.
    unsafe {
        // No harm if it is refused: then it is as it was.
        let _ = nix::libc::mallopt(nix::libc::M_ARENA_MAX, 2);
    }
}
