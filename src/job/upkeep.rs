//! What is done for a queue on nobody's behalf: expired leases, the sweep, retention. The worker and `reap()` both call it.

use crate::error::Result;
use crate::host::identity::Settings;
use crate::host::value;
use crate::job::reap::{self, End, Reaped};
use crate::job::retention;
use crate::job::sweep;
use crate::queue::cache::{self, ForNobody, Purpose, Queue};

/// One pass over a queue: its name, and what it took back. Nothing where the table is no queue.
pub fn look_after(table: pgrx::pg_sys::Oid) -> Result<Option<(String, Reaped)>> {
    let _terms = terms();
    let Some(queue) = open(table)? else {
        return Ok(None);
    };
    let now = value::now();
    let reaped = reap::reap(&queue, &reap::PASS, now)?;
    let swept = sweep::persistent(&queue, now)?;
    let total = Reaped { returned: reaped.returned + swept.returned, failed: reaped.failed + swept.failed };
    Ok(Some((queue.name.clone(), total)))
}

/// Takes back what one transaction should: for a worker, which comes again.
pub fn reap_some(table: pgrx::pg_sys::Oid) -> Result<Reaped> {
    let _terms = terms();
    match open(table)? {
        Some(queue) => reap::reap(&queue, &reap::SOME, value::now()),
        None => Ok(Reaped::default()),
    }
}

/// Sweeps one chunk of a queue, or looks through one of a table that was restored, copied or adopted.
pub fn sweep(table: pgrx::pg_sys::Oid) -> Result<()> {
    let _terms = terms();
    match open(table)? {
        Some(queue) => sweep::persistent(&queue, value::now()).map(|_| ()),
        None => Ok(()),
    }
}

/// One step of a queue's retention; `anyway` as `retention::step` has it. To be done in a transaction, or an attempt, of its
/// own: what is reaped must not be undone where old jobs cannot be removed.
pub fn remove_old(table: pgrx::pg_sys::Oid, anyway: bool) -> Result<retention::Outcome> {
    let _terms = terms();
    match open(table)? {
        Some(queue) => retention::step(&queue, value::now(), anyway),
        None => Ok(retention::Outcome::default()),
    }
}

/// Takes back the jobs of leases whose sessions have ended; how many leases are still there, because others have
/// something of theirs locked.
pub fn end_bound(table: pgrx::pg_sys::Oid, leases: &[i64]) -> Result<usize> {
    let _terms = terms();
    match open(table)? {
        Some(queue) => reap::end_bound(&queue, leases, value::now()),
        None => Ok(0),
    }
}

/// Takes back the jobs of a lease whose time is over, or which is broken off; false when it is not there, or locked.
pub fn end_lease(table: pgrx::pg_sys::Oid, lease: i64, end: End) -> Result<bool> {
    let _terms = terms();
    match open(table)? {
        Some(queue) => reap::end_one(&queue, lease, end, value::now()),
        None => Ok(false),
    }
}

/// Somebody's LOCK TABLE must not keep the other queues waiting; and whoever calls must not run the owner's triggers as
/// himself.
fn terms() -> (Settings, ForNobody) {
    (Settings::change(&[(c"lock_timeout", c"1s")]), ForNobody::begin())
}

/// A queue whose jobs are to be changed as its table's owner. 55000 where they cannot be.
fn open(table: pgrx::pg_sys::Oid) -> Result<Option<std::rc::Rc<Queue>>> {
    let Some(queue) = cache::queue_of(table, Purpose::Jobs)? else {
        return Ok(None);
    };
    if !queue.can_be_kept_up() {
        return Err(cache::only_consumers());
    }
    Ok(Some(queue))
}
