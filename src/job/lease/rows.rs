//! Lease rows without SQL, at READ COMMITTED: what every fetch and every settle does to them. No right is asked for: the
//! table is qflow's own.

use std::cell::RefCell;
use std::rc::Rc;

use pgrx::pg_sys;

use super::{Lease, NewLease};
use crate::error::{Error, Result};
use crate::guc;
use crate::host::heap::by_id::ById;
use crate::host::heap::index::Index;
use crate::host::heap::row::Row;
use crate::host::heap::write::{Met, Strength, Wait, Writer};
use crate::host::heap::Heap;
use crate::host::{relation, value, xact};
use crate::job::retry::Backoff;

// Numbers of the columns, in the order of sql/schema.sql; RESOURCES is the last.
const ID: usize = 1;
const QUEUE: usize = 2;
const LEASED_AT: usize = 3;
const DEADLINE: usize = 4;
const TIMEOUT_MS: usize = 5;
const RETRY_DELAY_MS: usize = 6;
const RETRY_MAX_DELAY_MS: usize = 7;
const MAX_ATTEMPTS: usize = 8;
const WORKFLOW: usize = 12;
const JOB_IDS: usize = 14;
const RESOURCES: usize = 15;

thread_local! {
    /// The index that was used last: another one after REINDEX CONCURRENTLY, or when the extension was made again.
    static BY_ID: RefCell<Option<Rc<Index>>> = const { RefCell::new(None) };
}

/// The table, open and locked.
pub struct Rows {
    heap: Heap,
    by_id: Rc<Index>,
}

/// Opens it; nothing where its rows are to be reached by SQL.
pub fn open() -> Result<Option<Rows>> {
    if !guc::direct_access() || !xact::is_read_committed() {
        return Ok(None);
    }
    let table = relation::schema("qflow").and_then(|schema| relation::find(Some(schema), "lease"));
    let table = table.filter(|table| relation::lock_for_jobs(*table));
    let heap = table.and_then(Heap::open).ok_or_else(|| Error::not_ready("table qflow.lease is missing"))?;
    if heap.columns() != RESOURCES {
        return Ok(None); // of another version of the extension: it may have columns that want their defaults
    }
    Ok(heap.primary_key().and_then(index).map(|by_id| Rows { heap, by_id }))
}

fn index(key: pg_sys::Oid) -> Option<Rc<Index>> {
    let known = BY_ID.with_borrow(|known| known.as_ref().filter(|index| index.oid() == key).cloned());
    known.or_else(|| {
        let found = Rc::new(Index::usable(key, &[pg_sys::INT8OID])?);
        BY_ID.set(Some(found.clone()));
        Some(found)
    })
}

impl Rows {
    fn by_id(&self) -> ById<'_> {
        ById { heap: &self.heap, index: &self.by_id, column: ID, is_int: false }
    }

    /// Writes the row of a lease.
    pub fn add(&self, new: &NewLease) {
        let lease = new.lease;
        Writer::begin(&self.heap).insert(&[
            value::bigint(lease.id),
            value::bigint(lease.queue),
            value::timestamp(new.leased_at),
            value::timestamp(lease.deadline),
            value::bigint(lease.timeout_ms),
            value::bigint(lease.backoff.delay_ms),
            value::bigint(lease.backoff.max_delay_ms),
            value::int(lease.max_attempts),
            value::int(xact::backend_pid()),
            value::timestamp(xact::backend_start()),
            value::boolean(new.bound),
            value::text(new.workflow),
            value::opt_text(new.worker),
            value::bigints(&lease.job_ids),
            new.resources,
        ]);
    }

    /// Locks leases of a queue in ascending order, waiting; those that are gone, or another queue's, are left out.
    pub fn lock(&self, queue: i64, ids: &[i64]) -> Result<Vec<Lease>> {
        let mut locked = Vec::with_capacity(ids.len());
        self.by_id().until_settled(ids, |writer, _, row| {
            if row.bigint(QUEUE) != Some(queue) {
                return Met::Done;
            }
            let met = writer.lock(row.tid(), Strength::Update, Wait::Yes);
            if met == Met::Done {
                locked.push(of(row));
            }
            met
        });
        locked.into_iter().collect()
    }

    /// Deletes leases that are locked.
    pub fn delete(&self, ids: &[i64]) {
        self.by_id().until_settled(ids, |writer, _, row| writer.delete(row.tid()));
    }
}

fn of(row: &Row) -> Result<Lease> {
    Ok(Lease {
        id: row.bigint(ID).unwrap_or_default(),
        queue: row.bigint(QUEUE).unwrap_or_default(),
        workflow: row.datum(WORKFLOW).map(value::to_string).transpose()?.unwrap_or_default(),
        timeout_ms: row.bigint(TIMEOUT_MS).unwrap_or_default(),
        leased_at: row.bigint(LEASED_AT).unwrap_or_default(),
        max_attempts: row.int(MAX_ATTEMPTS).unwrap_or_default(),
        backoff: Backoff {
            delay_ms: row.bigint(RETRY_DELAY_MS).unwrap_or_default(),
            max_delay_ms: row.bigint(RETRY_MAX_DELAY_MS).unwrap_or_default(),
        },
        deadline: row.bigint(DEADLINE).unwrap_or_default(),
        job_ids: row.datum(JOB_IDS).map(value::to_bigints).unwrap_or_default().into_iter().flatten().collect(),
        holds: row.datum(RESOURCES).is_some(),
    })
}
