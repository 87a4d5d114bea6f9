//! Jobs without SQL: what `JobTable` does for a table that has nothing but what qflow knows (`queue::path`). Each function
//! here does what the statement of the same name does, at READ COMMITTED.

pub mod change;
pub mod find;
pub mod insert;
pub mod layout;

use pgrx::pg_sys::Oid;

use self::layout::{Columns, Indexes, Layout};
use super::state::{JobState, Status};
use crate::host::heap::by_id::ById;
use crate::host::heap::row::Row;
use crate::host::heap::Heap;

/// A queue's table, open.
pub struct Direct<'l> {
    heap: Heap,
    columns: &'l Columns,
    indexes: &'l Indexes,
}

impl<'l> Direct<'l> {
    /// Opens a table, on which the transaction holds ROW EXCLUSIVE; nothing as long as one of its indexes cannot be used.
    pub fn open(table: Oid, layout: &'l Layout) -> Option<Self> {
        let indexes = layout.indexes()?;
        Some(Self { heap: Heap::open(table)?, columns: &layout.columns, indexes })
    }

    fn by_id(&self) -> ById<'_> {
        let Columns { id, id_is_int, .. } = *self.columns;
        ById { heap: &self.heap, index: &self.indexes.by_id, column: id, is_int: id_is_int }
    }

    fn status(&self, row: &Row) -> Option<Status> {
        row.bytes(self.columns.status).and_then(Status::of)
    }

    fn state(&self, row: &Row) -> JobState {
        JobState {
            status: self.status(row),
            lease: row.bigint(self.columns.lease),
            attempt: row.int(self.columns.attempt).unwrap_or_default(),
        }
    }

    /// Whether a row is in progress under a lease.
    fn is_held(&self, row: &Row, lease: i64) -> bool {
        row.bigint(self.columns.lease) == Some(lease) && self.status(row) == Some(Status::InProgress)
    }
}
