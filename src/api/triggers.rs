//! What the server calls on its own: column default and triggers of queue tables, and the registry's trigger.

use pgrx::pg_sys;

use crate::error::{Error, Result};
use crate::host::call::Call;
use crate::host::spi::connected;
use crate::host::trigger;
use crate::host::value::{self, Arg};
use crate::host::xact;
use crate::job::arrival;
use crate::queue::cache::{self, Purpose};
use crate::shmem::at_commit;

/// What an AFTER trigger answers: a row that nobody reads, and not SQL's NULL.
const NO_ROW: Arg = Some(pg_sys::Datum::null());

crate::entry_points! {
    qflow_enqueued_xid, pg_finfo_qflow_enqueued_xid => enqueued_xid;
    qflow_return_job, pg_finfo_qflow_return_job => return_job;
    qflow_registry_changed, pg_finfo_qflow_registry_changed => registry_changed;
}

/// The own transaction's id. A job of the queue with this number is counted, and who waits for one is woken at commit.
fn enqueued_xid(call: &Call) -> Result<Arg> {
    if let Some(number) = call.opt_bigint((0, "queue"), i64::MIN)? {
        arrival::one(number)?;
    }
    Ok(Some(pg_sys::Datum::from(xact::assign_xid() as usize)))
}

/// Gives a row that became pending an `available_at`, as the table's owner.
fn return_job(call: &Call) -> Result<Arg> {
    let Some(row) = trigger::row(call) else {
        return Err(Error::bad_value("qflow.return_job() can only be called as a row trigger"));
    };
    // A table that qflow no longer knows is nobody's queue: nothing looks at its floor.
    if let (Some(queue), Some(id)) = (cache::queue_of(row.table, Purpose::Jobs)?, row.id) {
        let now = value::now();
        queue.keep_up(|| connected(|spi| queue.jobs.return_job(spi, id)))?;
        at_commit::due(&queue.slot, now);
    }
    Ok(NO_ROW)
}

/// Makes every session read the registry anew; the change itself is news enough only for the table it stands in.
fn registry_changed(call: &Call) -> Result<Arg> {
    let Some(table) = trigger::table(call) else {
        return Err(Error::bad_value("qflow.registry_changed() can only be called as a trigger"));
    };
    crate::host::relation::invalidate(table);
    cache::forget();
    // What was restored, or is gone, or has a retention now, is the worker's business.
    crate::shmem::database::own(true);
    at_commit::work_by(0);
    Ok(NO_ROW)
}
