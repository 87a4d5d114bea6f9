//! Rows of a table without SQL: found through an index, locked, changed, inserted and deleted as the executor would do it,
//! but without planning, and without locking a row before it is changed.
//!
//! What holds here, and what callers see to:
//! - **Locks.** The caller holds a lock on the table until the transaction ends: ROW EXCLUSIVE where he writes, at least ACCESS
//!   SHARE where he reads, which a standby allows too. So its definition stays, and an
//!   index that is known stays openable.
//! - **Which tables.** Only those that have nothing that the executor would act on and this does not: triggers,
//!   rules, row security, CHECKs, generated columns (`queue::path` decides; qflow's own tables have none).
//! - **READ COMMITTED only.** Above it a changed row has to raise 40001, and reads leave predicate locks: that is left to the
//!   executor. So no serialization check is due here.
//! - **Command ids.** A `Writer` increments the command counter when it begins and when it ends: it sees what the
//!   transaction did before, and what comes after sees what it did.
//! - **Pins.** A version is read from its page only while the page is pinned, by the scan that stands on it or by its
//!   `Version`. What is handed on points to that page, for the time of one call.
//! - **Errors** unwind as the server's: guards close what they opened only when nothing is raised, the abort does the rest.

use pgrx::pg_sys;

pub mod by_id;
pub mod entries;
pub mod fill;
pub mod index;
pub mod row;
pub mod write;

/// Where a version of a row lies. It says nothing of which row that is: whoever uses it looks at what he finds there.
pub type Tid = pg_sys::ItemPointerData;

/// An open table.
pub struct Heap {
    relation: pg_sys::Relation,
}

impl Heap {
    /// Opens a table on which the transaction holds a lock already; `None` when it is gone.
    pub fn open(table: pg_sys::Oid) -> Option<Self> {
        // SAFETY: the caller holds a lock; a relation that is gone is answered with NULL.
        let relation = unsafe { pg_sys::try_relation_open(table, pg_sys::NoLock as i32) };
        (!relation.is_null()).then_some(Self { relation })
    }

    /// The server's own structure, valid as long as `self`.
    fn raw(&self) -> pg_sys::Relation {
        self.relation
    }

    fn description(&self) -> pg_sys::TupleDesc {
        // SAFETY: the relation is open; its description stays while it is locked.
        unsafe { (*self.relation).rd_att }
    }

    /// The index of its primary key.
    pub fn primary_key(&self) -> Option<pg_sys::Oid> {
        // SAFETY: the relation is open; reading its list of indexes also finds the key's.
        let key = unsafe {
            pg_sys::list_free(pg_sys::RelationGetIndexList(self.relation));
            (*self.relation).rd_pkindex
        };
        (key != pg_sys::InvalidOid).then_some(key)
    }

    fn oid(&self) -> pg_sys::Oid {
        // SAFETY: as above.
        unsafe { (*self.relation).rd_id }
    }

    /// How many columns it has, dropped ones included.
    pub fn columns(&self) -> usize {
        // SAFETY: as above.
        unsafe { (*self.description()).natts.max(0) as usize }
    }
}

impl Drop for Heap {
    fn drop(&mut self) {
        // SAFETY: closes what `open` opened; while an error unwinds the abort does it.
        if !std::thread::panicking() {
            unsafe { pg_sys::relation_close(self.relation, pg_sys::NoLock as i32) }
        }
    }
}
