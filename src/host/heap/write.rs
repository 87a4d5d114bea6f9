//! Changing rows.

use std::cell::Cell;

use pgrx::pg_sys;

use super::entries::{Entries, Wanted};
use super::row::{Patch, Row};
use super::{Heap, Tid};
use crate::compat;
use crate::host::value::Arg;

/// How long to wait for who has locked a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// Until he has ended his transaction.
    Yes,
    /// Not at all.
    No,
}

/// How strong a lock on a row is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Strength {
    /// As UPDATE takes it: others may still refer to the row's key.
    NoKeyUpdate,
    /// As DELETE takes it.
    Update,
}

/// What became of a version of a row that was to be locked, changed or deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Met {
    /// Done.
    Done,
    /// There is a newer version, or none any more: look again with a newer snapshot.
    Changed,
    /// Others have it locked.
    Locked,
}

impl Met {
    fn of(result: pg_sys::TM_Result::Type) -> Self {
        match result {
            pg_sys::TM_Result::TM_Ok => Self::Done,
            pg_sys::TM_Result::TM_BeingModified | pg_sys::TM_Result::TM_WouldBlock => Self::Locked,
            // TM_Updated, TM_Deleted; TM_SelfModified and TM_Invisible: changed by this very command.
            _ => Self::Changed,
        }
    }
}

thread_local! {
    static HAS_ASSERTIONS: Cell<Option<bool>> = const { Cell::new(None) };
}

/// Whether the server was built with assertions. They do not allow a row to be changed that was not locked before.
fn has_assertions() -> bool {
    HAS_ASSERTIONS.get().unwrap_or_else(|| {
        // SAFETY: reads a setting that every server has; the answer is NULL or ends in NUL.
        let answer = unsafe {
            let value = pg_sys::GetConfigOption(c"debug_assertions".as_ptr(), true, false);
            !value.is_null() && std::ffi::CStr::from_ptr(value) == c"on"
        };
        HAS_ASSERTIONS.set(Some(answer));
        answer
    })
}

/// A version of a row on its pinned page.
pub struct Version<'r> {
    row: &'r mut Row,
    buffer: pg_sys::Buffer,
    /// Whether nobody has anything to do with it.
    is_secured: bool,
}

impl Version<'_> {
    /// Its columns.
    pub fn row(&self) -> &Row {
        self.row
    }
}

impl Drop for Version<'_> {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            // SAFETY: lets go of the page that was pinned for this; an abort does it by itself.
            unsafe { pg_sys::ReleaseBuffer(self.buffer) }
        }
    }
}

/// Writes to a table as one command.
pub struct Writer<'h> {
    heap: &'h Heap,
    command: pg_sys::CommandId,
    entries: Option<Entries>,
    /// Whether it was asked that updates can be published.
    may_update: bool,
}

impl<'h> Writer<'h> {
    /// Begins.
    pub fn begin(heap: &'h Heap) -> Self {
        // SAFETY: the counter moves on only where the command before has written.
        let command = unsafe {
            pg_sys::CommandCounterIncrement();
            pg_sys::GetCurrentCommandId(true)
        };
        Self { heap, command, entries: None, may_update: false }
    }

    /// The version of a row at a place, unless it is gone or was changed since. Never waits.
    pub fn version<'r>(&self, tid: Tid, row: &'r mut Row) -> Option<Version<'r>> {
        // SAFETY: the page is pinned as long as the answer lives; its lock is held only while the version is judged.
        unsafe {
            let (mut tuple, mut buffer): (pg_sys::HeapTupleData, pg_sys::Buffer) = (std::mem::zeroed(), 0);
            tuple.t_self = tid;
            if !compat::heap_fetch_any(self.heap.raw(), &mut tuple, &mut buffer) {
                return None;
            }
            let mut version = Version { row, buffer, is_secured: false };
            pg_sys::LockBuffer(buffer, pg_sys::BUFFER_LOCK_SHARE as i32);
            let standing = pg_sys::HeapTupleSatisfiesUpdate(&mut tuple, self.command, buffer);
            pg_sys::LockBuffer(buffer, pg_sys::BUFFER_LOCK_UNLOCK as i32);
            match Met::of(standing) {
                Met::Changed => None,
                met => {
                    version.row.take_apart(self.heap, &mut tuple);
                    version.is_secured = met == Met::Done && !has_assertions();
                    Some(version)
                }
            }
        }
    }

    /// Whether a version can be changed without waiting. One that somebody has locked or is changing must be locked for
    /// that, which can be had at once or not at all: a lock that only keeps the key as it is is in nobody's way.
    pub fn secure(&mut self, version: &mut Version) -> Option<Wait> {
        if version.is_secured {
            return Some(Wait::No);
        }
        let met = self.lock(version.row.tid(), Strength::NoKeyUpdate, Wait::No);
        (met == Met::Done).then_some(Wait::Yes)
    }

    /// Changes the row that a scan stands on, or a version, `wait` then being what `secure` has answered.
    pub fn update(&mut self, found: &Row, patch: &Patch, wait: Wait) -> Met {
        // SAFETY: scan or version keep the page pinned; the new row is a copy of what `found` points to.
        unsafe {
            let new = found.patched(self.heap, patch);
            let met = self.put(found.tid(), new, wait);
            pg_sys::heap_freetuple(new);
            met
        }
    }

    /// Changes the row that a scan stands on if that can be had at once. Whoever may have to be waited for is found out by
    /// trying: a lock that only keeps the key as it is is in nobody's way.
    pub fn update_at_once(&mut self, found: &Row, patch: &Patch) -> Met {
        let met = if has_assertions() { Met::Locked } else { self.update(found, patch, Wait::No) };
        if met != Met::Locked {
            return met;
        }
        match self.lock(found.tid(), Strength::NoKeyUpdate, Wait::No) {
            Met::Done => self.update(found, patch, Wait::Yes),
            refused => refused,
        }
    }

    /// Raises where the table's updates are published and its rows have no identity.
    unsafe fn put(&mut self, tid: Tid, new: pg_sys::HeapTuple, wait: Wait) -> Met {
        if !self.may_update {
            // SAFETY: the table is open.
            unsafe { pg_sys::CheckCmdReplicaIdentity(self.heap.raw(), pg_sys::CmdType::CMD_UPDATE) }
            self.may_update = true;
        }
        // SAFETY: the new row is one of the table's, in memory of our own; `compat` knows the version's form of the call.
        unsafe {
            let (result, wanted) = compat::heap_update(self.heap.raw(), tid, new, self.command, wait == Wait::Yes);
            let met = Met::of(result);
            if met == Met::Done && wanted != Wanted::None {
                self.entries().add(new, wanted, true);
            }
            met
        }
    }

    /// Locks the version of a row at a place.
    pub fn lock(&mut self, tid: Tid, strength: Strength, wait: Wait) -> Met {
        // SAFETY: the server finds the row by its place, pins its page for us, and we let go of it.
        unsafe {
            let (mut tuple, mut buffer): (pg_sys::HeapTupleData, pg_sys::Buffer) = (std::mem::zeroed(), 0);
            let mut failure = pg_sys::TM_FailureData::default();
            tuple.t_self = tid;
            let mode = match strength {
                Strength::NoKeyUpdate => pg_sys::LockTupleMode::LockTupleNoKeyExclusive,
                Strength::Update => pg_sys::LockTupleMode::LockTupleExclusive,
            };
            let policy = match wait {
                Wait::Yes => pg_sys::LockWaitPolicy::LockWaitBlock,
                Wait::No => pg_sys::LockWaitPolicy::LockWaitSkip,
            };
            let (heap, command) = (self.heap.raw(), self.command);
            let result =
                pg_sys::heap_lock_tuple(heap, &mut tuple, command, mode, policy, false, &mut buffer, &mut failure);
            if buffer != 0 {
                pg_sys::ReleaseBuffer(buffer);
            }
            Met::of(result)
        }
    }

    /// Deletes the version of a row at a place; waits for who has locked it.
    pub fn delete(&mut self, tid: Tid) -> Met {
        let (mut tid, none) = (tid, std::ptr::null_mut());
        let mut failure = pg_sys::TM_FailureData::default();
        // SAFETY: the table is open and locked.
        let result =
            unsafe { pg_sys::heap_delete(self.heap.raw(), &mut tid, self.command, none, true, &mut failure, false) };
        Met::of(result)
    }

    /// Inserts a row with these values, one for each column. For qflow's own tables: nothing is checked.
    pub fn insert(&mut self, values: &[Arg]) {
        // SAFETY: the row is a copy of what the values hold.
        unsafe {
            let tuple = formed(self.heap, values);
            pg_sys::heap_insert(self.heap.raw(), tuple, self.command, 0, std::ptr::null_mut());
            self.entries().add(tuple, Wanted::All, false);
        }
    }

    /// Inserts rows with these values, one for each column, with one record in the log for those of a page. Raises what the
    /// table's CHECKs and its NOT NULLs refuse, and what an index has to be unique for.
    pub fn insert_many(&mut self, rows: impl Iterator<Item = Vec<Arg>>) {
        let heap = self.heap;
        let entries = self.entries.get_or_insert_with(|| Entries::open(heap));
        // SAFETY: each slot owns a copy of its row, and is dropped once the indexes have it.
        unsafe {
            let mut slots: Vec<*mut pg_sys::TupleTableSlot> = Vec::with_capacity(rows.size_hint().0);
            for values in rows {
                let tuple = formed(heap, &values);
                entries.check(tuple);
                let slot = pg_sys::MakeSingleTupleTableSlot(heap.description(), &raw const pg_sys::TTSOpsHeapTuple);
                slots.push(pg_sys::ExecStoreHeapTuple(tuple, slot, true));
            }
            let (first, count) = (slots.as_mut_ptr(), slots.len() as i32);
            pg_sys::heap_multi_insert(heap.raw(), first, count, self.command, 0, std::ptr::null_mut());
            for slot in slots {
                entries.add_inserted(slot);
                pg_sys::ExecDropSingleTupleTableSlot(slot);
            }
        }
    }

    fn entries(&mut self) -> &mut Entries {
        let heap = self.heap;
        self.entries.get_or_insert_with(|| Entries::open(heap))
    }
}

impl Drop for Writer<'_> {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            // SAFETY: what comes next is to see what was written.
            unsafe { pg_sys::CommandCounterIncrement() }
        }
    }
}

/// A row of a table with these values; columns without one are NULL.
unsafe fn formed(heap: &Heap, values: &[Arg]) -> pg_sys::HeapTuple {
    let mut datums: Vec<pg_sys::Datum> = values.iter().map(|v| v.unwrap_or(pg_sys::Datum::from(0usize))).collect();
    let mut nulls: Vec<bool> = values.iter().map(Option::is_none).collect();
    datums.resize(heap.columns(), pg_sys::Datum::from(0usize));
    nulls.resize(heap.columns(), true);
    // SAFETY: the arrays have an entry for each column; the row is a copy of what they hold.
    unsafe { pg_sys::heap_form_tuple(heap.description(), datums.as_mut_ptr(), nulls.as_mut_ptr()) }
}
