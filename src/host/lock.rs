//! Advisory locks of a class that SQL cannot reach: nobody can hold them to hold qflow up.

use pgrx::pg_sys;

use crate::compat;

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

/// A lock that is the same for all databases of the server: database 0 stands in its tag, and it is of classes of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClusterLock {
    class: u16,
    name: u32,
    number: u32,
}

impl ClusterLock {
    /// One slot of a resource.
    pub fn slot(resource: &str, slot: i64) -> Self {
        Self { class: CLASS + 1, name: hash(resource), number: slot as u32 }
    }

    /// One holder of units, by the number of its row.
    pub fn holder(resource: &str, holder: i64) -> Self {
        Self { class: CLASS + 2, name: hash(resource), number: holder as u32 }
    }

    /// Whose turn it is to count the units of a resource.
    pub fn counting(resource: &str) -> Self {
        Self { class: CLASS + 3, name: hash(resource), number: super::xact::database().to_u32() }
    }

    /// Takes it until the end of the (sub)transaction if no other session has it; never waits.
    pub fn try_take(self) -> bool {
        let _owner = OfTransaction::begin();
        // SAFETY: the tag lives through the call; the server releases a lock of the transaction.
        let got = unsafe { pg_sys::LockAcquire(&self.tag(), pg_sys::ExclusiveLock as i32, false, true) };
        got != pg_sys::LockAcquireResult::LOCKACQUIRE_NOT_AVAIL
    }

    /// Gives back what `try_take` took in the same (sub)transaction.
    pub fn give_back(self) {
        let _owner = OfTransaction::begin();
        // SAFETY: it was taken for the same owner.
        unsafe { pg_sys::LockRelease(&self.tag(), pg_sys::ExclusiveLock as i32, false) };
    }

    /// Keeps for the session what the transaction holds, or what nobody does.
    pub fn keep(self) -> bool {
        // SAFETY: as above; released by `let_go`, or by the server with the session.
        let got = unsafe { pg_sys::LockAcquire(&self.tag(), pg_sys::ExclusiveLock as i32, true, true) };
        got != pg_sys::LockAcquireResult::LOCKACQUIRE_NOT_AVAIL
    }

    /// The opposite; nothing where it was lost meanwhile. Raises nothing.
    pub fn let_go(self) {
        if self.is_held() {
            // SAFETY: held, as was just seen.
            unsafe { pg_sys::LockRelease(&self.tag(), pg_sys::ExclusiveLock as i32, true) };
        }
    }

    /// Whether this session holds it. It loses its locks by DISCARD ALL and pg_advisory_unlock_all().
    pub fn is_held(self) -> bool {
        // SAFETY: reads the session's own list of locks.
        unsafe { compat::is_lock_held_by_me(&self.tag(), pg_sys::ExclusiveLock as i32) }
    }

    fn tag(self) -> pg_sys::LOCKTAG {
        pg_sys::LOCKTAG {
            locktag_field1: 0,
            locktag_field2: self.name,
            locktag_field3: self.number,
            locktag_field4: self.class,
            locktag_type: pg_sys::LockTagType::LOCKTAG_ADVISORY as u8,
            locktag_lockmethodid: pg_sys::USER_LOCKMETHOD as u8,
        }
    }
}

// Of the server, and not among pgrx's bindings.
extern "C-unwind" {
    fn hash_bytes(bytes: *const u8, len: i32) -> u32;
}

/// What stands for a name in a tag: the server's own hash, the same in all its processes.
fn hash(name: &str) -> u32 {
    // SAFETY: pointer and length describe `name`.
    unsafe { hash_bytes(name.as_ptr(), name.len() as i32) }
}

/// While it lives, locks belong to the transaction, or the part of it that runs, and not to the statement: so whoever
/// took one can give it back also from another statement.
struct OfTransaction {
    before: pg_sys::ResourceOwner,
}

impl OfTransaction {
    fn begin() -> Self {
        // SAFETY: plain values of the own process; put back by `drop`, also while an error unwinds.
        unsafe {
            let before = pg_sys::CurrentResourceOwner;
            pg_sys::CurrentResourceOwner = pg_sys::CurTransactionResourceOwner;
            Self { before }
        }
    }
}

impl Drop for OfTransaction {
    fn drop(&mut self) {
        // SAFETY: as above.
        unsafe { pg_sys::CurrentResourceOwner = self.before };
    }
}
