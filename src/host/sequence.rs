//! Sequences whose numbers must never come twice, crash included.

use pgrx::{pg_sys, IntoDatum};

/// The next number of a sequence. Needs the right to USAGE; assigns a transaction id.
pub fn next(sequence: pg_sys::Oid) -> Option<i64> {
    // SAFETY: calls the server's function with what its declaration says.
    unsafe { pgrx::direct_function_call::<i64>(pg_sys::nextval_oid, &[sequence.into_datum()]) }
}

/// Waits until the log record that reserves the sequence's latest numbers is durable: one flush for 32 numbers, none
/// when an earlier commit has flushed it already.
pub fn make_durable(sequence: pg_sys::Oid) {
    // SAFETY: the relation stays open and the buffer pinned for as long as they are used; the page of a sequence is its
    // block 0.
    unsafe {
        let relation = pg_sys::relation_open(sequence, pg_sys::AccessShareLock as i32);
        let buffer = pg_sys::ReadBuffer(relation, 0);
        let logged_at = pg_sys::BufferGetLSNAtomic(buffer);
        pg_sys::ReleaseBuffer(buffer);
        pg_sys::relation_close(relation, pg_sys::NoLock as i32);
        pg_sys::XLogFlush(logged_at);
    }
}
