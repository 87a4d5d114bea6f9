//! Whether anybody is still there for whom this session works.

use pgrx::pg_sys;

// Not among pgrx's bindings.
extern "C-unwind" {
    fn pq_check_connection() -> bool;
}

/// Ends the session, as the server does when it notices, if its client is gone. May take a waking that has come in: call
/// it before a look, not between a look and a sleep.
pub fn require() {
    // SAFETY: asks about the own socket, if there is a client at all, so that an error is caught as those of pgrx's own
    // bindings are; the flags are what the server sets when it finds a connection broken.
    unsafe {
        let has_client = pg_sys::IsUnderPostmaster && !pg_sys::MyProcPort.is_null();
        if !has_client || pg_sys::ffi::pg_guard_ffi_boundary(|| pq_check_connection()) {
            return;
        }
        pg_sys::ClientConnectionLost = 1;
        pg_sys::InterruptPending = 1;
    }
    pg_sys::check_for_interrupts!();
}
