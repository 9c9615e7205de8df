//! What the allocator keeps for itself of freed memory.

/// Buffers of this size and larger are the system's own pages, and go back to it when they are freed. A body or a batch
/// of a megabyte is larger, a record, a header, a read buffer smaller.
const LARGE_BYTES: i32 = 256 << 10;
/// Free memory at the end of a heap that is not given back.
const KEPT_BYTES: i32 = 1 << 20;

/// Keeps the process near what it holds. Left alone, glibc learns from the first large buffer that is freed to keep such
/// buffers in its heaps, of which it makes eight for each core; there they leave holes, and a budget of 64 MiB becomes
/// 90. Other allocators are as they are.
pub fn keep_little() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        let heaps = std::thread::available_parallelism().map_or(2, |cores| cores.get() as i32);
        let options =
            [(libc::M_MMAP_THRESHOLD, LARGE_BYTES), (libc::M_TRIM_THRESHOLD, KEPT_BYTES), (libc::M_ARENA_MAX, heaps)];
        for (option, value) in options {
            // SAFETY: `mallopt` only sets numbers of the allocator, under its own lock.
            #[allow(unsafe_code, reason = "no safe crate sets these, and the environment is read before `main`")]
            unsafe {
                libc::mallopt(option, value);
            }
        }
    }
}
