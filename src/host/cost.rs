//! What work has cost so far.

use pgrx::pg_sys;

/// Buffers that this process has touched, whether they were in memory or not.
pub fn buffers() -> i64 {
    // SAFETY: counters of the own process.
    unsafe { pg_sys::pgBufferUsage.shared_blks_hit + pg_sys::pgBufferUsage.shared_blks_read }
}
