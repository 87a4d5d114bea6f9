//! Where things are in a queue's table: columns by their numbers, and the indexes by which its rows are found.

use std::cell::OnceCell;

use pgrx::pg_sys::{self, Oid};

use crate::guc;
use crate::host::heap::index::Index;
use crate::host::heap::row::Row;
use crate::host::value::{self, Arg};

/// Numbers of the columns, and what differs between tables.
#[derive(Debug, Clone, Copy)]
pub struct Columns {
    /// `id`.
    pub id: usize,
    /// `enqueued_xid`.
    pub enqueued_xid: usize,
    /// `lease`.
    pub lease: usize,
    /// `inserted_at`.
    pub inserted_at: usize,
    /// `updated_at`.
    pub updated_at: usize,
    /// `available_at`.
    pub available_at: usize,
    /// `attempt`.
    pub attempt: usize,
    /// `priority`.
    pub priority: usize,
    /// `status`.
    pub status: usize,
    /// `failure_reason`.
    pub failure_reason: usize,
    /// `metadata`.
    pub metadata: usize,
    /// `data`.
    pub data: usize,
    /// Whether ids are integers, not bigints.
    pub id_is_int: bool,
    /// Whether `inserted_at` has no time zone.
    pub inserted_is_naive: bool,
    /// Whether `updated_at` has no time zone.
    pub updated_is_naive: bool,
}

impl Columns {
    /// When a row was inserted, microseconds.
    pub fn inserted_at_of(&self, row: &Row) -> Option<i64> {
        let found = row.bigint(self.inserted_at)?;
        match zone(self.inserted_is_naive) {
            Some(zone) => value::from_zone(found, &zone),
            None => Some(found),
        }
    }

    /// What is to stand in `updated_at`.
    pub fn updated_at(&self, now: i64) -> Arg {
        match zone(self.updated_is_naive) {
            Some(zone) => value::in_zone(now, &zone),
            None => value::timestamp(now),
        }
    }
}

/// The time zone of a timestamp that has none; nothing where it makes no difference.
fn zone(is_naive: bool) -> Option<String> {
    is_naive.then(guc::naive_timezone).filter(|zone| zone != "UTC")
}

/// Columns and indexes of a table that can be reached directly.
pub struct Layout {
    /// The columns.
    pub columns: Columns,
    /// The queue's number, as the default of `enqueued_xid` has it, where jobs can be inserted directly too.
    pub counts_as: Option<i64>,
    oids: [Oid; 3],
    indexes: OnceCell<Indexes>,
}

/// The indexes, ready for use.
pub struct Indexes {
    /// By id.
    pub by_id: Index,
    /// By (priority, enqueued_xid, id).
    pub fresh: Index,
    /// By (available_at, id).
    pub due: Index,
}

impl Layout {
    /// `indexes`: by id, the fresh one, the due one.
    pub fn new(columns: Columns, counts_as: Option<i64>, indexes: [Oid; 3]) -> Self {
        Self { columns, counts_as, oids: indexes, indexes: OnceCell::new() }
    }

    /// The indexes; nothing as long as one of them cannot be used yet.
    pub fn indexes(&self) -> Option<&Indexes> {
        if let Some(known) = self.indexes.get() {
            return Some(known);
        }
        let [by_id, fresh, due] = self.oids;
        let found = Indexes {
            by_id: Index::usable(by_id, &[pg_sys::INT8OID])?,
            fresh: Index::usable(fresh, &[pg_sys::INT2OID, pg_sys::XID8OID, pg_sys::INT8OID])?,
            due: Index::usable(due, &[pg_sys::TIMESTAMPTZOID, pg_sys::INT8OID])?,
        };
        Some(self.indexes.get_or_init(|| found))
    }
}
