//! Latches: how one process of the server wakes another.

use pgrx::pg_sys;

/// The latch of a process, valid in every process of the server. When that process is gone, setting it wakes whoever
/// got its place, which does no harm: everybody looks why he woke.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Latch(usize);

impl Latch {
    /// The own latch.
    pub fn own() -> Self {
        // SAFETY: a plain value of the own process; it points into the server's shared memory.
        Self(unsafe { pg_sys::MyLatch } as usize)
    }

    /// The latch as a number, for shared memory; 0 is none.
    pub fn to_number(self) -> usize {
        self.0
    }

    /// What `to_number` gave.
    pub fn from_number(number: usize) -> Option<Self> {
        (number != 0).then_some(Self(number))
    }

    /// Wakes its owner. Takes no lock, raises nothing.
    pub fn set(self) {
        // SAFETY: latches lie in shared memory at one address for all processes, for the life of the server.
        unsafe { pg_sys::SetLatch(self.0 as *mut pg_sys::Latch) };
    }
}

/// Sleeps until the own latch is set, or for `ms` milliseconds (`None`: for ever); true when it was set. Ends with the
/// postmaster; a cancel or termination raises. The latch is reset after the sleep: whoever looks for what he waits for
/// between two sleeps misses nothing, since what comes after his look ends the next sleep at once.
pub fn sleep(ms: Option<i64>) -> bool {
    let events = pg_sys::WL_LATCH_SET | pg_sys::WL_EXIT_ON_PM_DEATH | if ms.is_some() { pg_sys::WL_TIMEOUT } else { 0 };
    // SAFETY: waits on the own latch.
    let woken = unsafe {
        let ms = ms.unwrap_or(-1) as std::ffi::c_long;
        let came = pg_sys::WaitLatch(pg_sys::MyLatch, events as i32, ms, pg_sys::PG_WAIT_EXTENSION);
        pg_sys::ResetLatch(pg_sys::MyLatch);
        came as u32 & pg_sys::WL_LATCH_SET != 0
    };
    pg_sys::check_for_interrupts!();
    woken
}
