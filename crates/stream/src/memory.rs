//! What the allocator keeps for itself of freed memory.

/// Buffers of this size and larger are the system's own pages, and go back to it when they are freed, unless
/// [`keep_large`] says otherwise. A body or a batch of a megabyte is larger, a record, a header, a read buffer smaller.
pub const LARGE_BYTES: usize = 256 << 10;
/// Free memory at the end of a heap that is not given back.
const KEPT_BYTES: usize = 1 << 20;

/// Keeps the process near what it holds. Left alone, glibc learns from the first large buffer that is freed to keep such
/// buffers in its heaps, of which it makes eight for each core; there they leave holes, and a budget of 64 MiB becomes
/// 90. Other allocators are as they are.
pub fn keep_little() {
    keep(LARGE_BYTES, KEPT_BYTES);
}

/// Keeps freed buffers of up to `buffer_bytes`, some `kept_bytes` of them, for the next ones: a process that fills one
/// large buffer after the other otherwise has each of its pages made anew, which is half of what an agent's batch costs.
/// Who asks for this calls [`give_back`] in quiet times.
pub fn keep_large(buffer_bytes: usize, kept_bytes: usize) {
    keep(buffer_bytes + 1, kept_bytes);
}

fn keep(own_pages_bytes: usize, kept_bytes: usize) {
    let heaps = std::thread::available_parallelism().map_or(2, |cores| cores.get());
    glibc::set(heaps, own_pages_bytes, kept_bytes);
}

/// Gives all free memory back to the system.
pub fn give_back() {
    glibc::trim();
}

#[cfg(all(target_os = "linux", target_env = "gnu"))]
mod glibc {
    #![allow(unsafe_code, reason = "no safe crate does this, and the environment is read before `main`")]

    pub fn set(heaps: usize, own_pages_bytes: usize, kept_bytes: usize) {
        let options = [
            (libc::M_MMAP_THRESHOLD, own_pages_bytes),
            (libc::M_TRIM_THRESHOLD, kept_bytes),
            (libc::M_ARENA_MAX, heaps),
        ];
        for (option, value) in options {
            // SAFETY: `mallopt` only sets numbers of the allocator, under its own lock.
            unsafe { libc::mallopt(option, i32::try_from(value).unwrap_or(i32::MAX)) };
        }
    }

    pub fn trim() {
        // SAFETY: `malloc_trim` only gives back pages that hold no allocation, under the allocator's own locks.
        unsafe { libc::malloc_trim(0) };
    }
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
mod glibc {
    pub fn set(_heaps: usize, _own_pages_bytes: usize, _kept_bytes: usize) {}

    pub fn trim() {}
}
