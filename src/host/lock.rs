//! Advisory locks of a class that SQL cannot reach: nobody can hold them to hold qflow up.

use pgrx::pg_sys;

use super::identity::Settings;
use super::subtransaction;
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

/// A lock that stands for something of a resource, of a class of its own. Slots are the same for all databases of the
/// server: database 0 stands in their tags. Units are counted in each database, and its holders are numbered there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ResourceLock {
    database: u32,
    class: u16,
    name: u32,
    number: u32,
}

impl ResourceLock {
    /// One slot of a resource.
    pub fn slot(resource: &str, slot: i64) -> Self {
        Self { database: 0, class: CLASS + 1, name: hash(resource), number: slot as u32 }
    }

    /// One holder of units, by the number of its row.
    pub fn holder(resource: &str, holder: i64) -> Self {
        Self { class: CLASS + 2, ..Self::gate(resource, holder as u32) }
    }

    /// Whose turn it is to count the units of a resource.
    pub fn counting(resource: &str) -> Self {
        Self { class: CLASS + 3, ..Self::gate(resource, 0) }
    }

    /// The place of who waits for a resource and is first in line, where there is no line in shared memory.
    pub fn gate(resource: &str, number: u32) -> Self {
        Self { database: super::xact::database().to_u32(), class: CLASS + 4, name: hash(resource), number }
    }

    /// Takes it until the end of the (sub)transaction if no other session has it; never waits.
    pub fn try_take(self) -> bool {
        self.take(pg_sys::ExclusiveLock, true)
    }

    /// Takes it until the end of the (sub)transaction, in the order of those who ask; false after `ms` milliseconds, 1 or
    /// more, or where waiting would be a deadlock.
    pub fn wait_for(self, ms: i64) -> bool {
        let timeout = std::ffi::CString::new(format!("{ms}ms")).unwrap_or_default();
        let taken = subtransaction::attempt(std::panic::AssertUnwindSafe(|| {
            let _timeout = Settings::change(&[(c"lock_timeout", &timeout)]);
            Ok(self.take(pg_sys::ExclusiveLock, false))
        }));
        taken.unwrap_or(false)
    }

    /// Whether another session has it, or waits for it before this one.
    pub fn is_wanted(self) -> bool {
        // Who has it is first. Up to PostgreSQL 16 the server would refuse it even to him as soon as others wait.
        if self.is_held() {
            return false;
        }
        let is_free = self.take(pg_sys::ShareLock, true);
        if is_free {
            self.release(pg_sys::ShareLock);
        }
        !is_free
    }

    /// Gives back what `try_take` or `wait_for` took in the same (sub)transaction.
    pub fn give_back(self) {
        self.release(pg_sys::ExclusiveLock);
    }

    fn take(self, mode: u32, at_once: bool) -> bool {
        let _owner = OfTransaction::begin();
        // SAFETY: the tag lives through the call; the server releases a lock of the transaction.
        let got = unsafe { pg_sys::LockAcquire(&self.tag(), mode as i32, false, at_once) };
        got != pg_sys::LockAcquireResult::LOCKACQUIRE_NOT_AVAIL
    }

    fn release(self, mode: u32) {
        let _owner = OfTransaction::begin();
        // SAFETY: it was taken for the same owner.
        unsafe { pg_sys::LockRelease(&self.tag(), mode as i32, false) };
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
            locktag_field1: self.database,
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
