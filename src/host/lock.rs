//! Advisory locks of a class that SQL cannot reach: nobody can hold them to hold qflow up.

use pgrx::pg_sys;

/// SQL's advisory locks are of class 1 and 2.
const CLASS: u16 = 0x716;

/// What a lock stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// Moving the sequence of lease ids ahead.
    LeaseJump,
    /// Noting that it was moved.
    LeaseNote,
    /// Making the bookkeeping rows of a queue, by its number.
    Bookkeeping(i64),
    /// Changing who may do what with a table or sequence.
    Rights(pg_sys::Oid),
}

/// Takes a lock until the end of the transaction, if nobody else has it; never waits.
pub fn try_for_transaction(what: What) -> bool {
    let tag = tag(what);
    // SAFETY: the tag lives through the call; a lock of the transaction is released by the server.
    let got = unsafe { pg_sys::LockAcquire(&tag, pg_sys::ExclusiveLock as i32, false, true) };
    got != pg_sys::LockAcquireResult::LOCKACQUIRE_NOT_AVAIL
}

/// Takes a lock until the end of the transaction, waiting for it.
pub fn wait_for_transaction(what: What) {
    let tag = tag(what);
    // SAFETY: as above.
    unsafe { pg_sys::LockAcquire(&tag, pg_sys::ExclusiveLock as i32, false, false) };
}

/// A lock of this session for the time between two calls; released when dropped.
pub struct Turn(What);

impl Turn {
    /// Waits for it.
    pub fn take(what: What) -> Self {
        // SAFETY: as above; released by `drop`.
        unsafe { pg_sys::LockAcquire(&tag(what), pg_sys::ExclusiveLock as i32, true, false) };
        Self(what)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        // SAFETY: releases what `take` took, also while an error unwinds.
        unsafe { pg_sys::LockRelease(&tag(self.0), pg_sys::ExclusiveLock as i32, true) };
    }
}

fn tag(what: What) -> pg_sys::LOCKTAG {
    let (kind, number) = match what {
        What::LeaseJump => (1, 0),
        What::LeaseNote => (2, 0),
        What::Bookkeeping(number) => (3, number as u32),
        What::Rights(object) => (4, object.to_u32()),
    };
    pg_sys::LOCKTAG {
        locktag_field1: super::xact::database().to_u32(),
        locktag_field2: kind,
        locktag_field3: number,
        locktag_field4: CLASS,
        locktag_type: pg_sys::LockTagType::LOCKTAG_ADVISORY as u8,
        locktag_lockmethodid: pg_sys::USER_LOCKMETHOD as u8,
    }
}
