//! The rows of the views. A viewer sees the queues on which he may SELECT at least one column.

use std::panic::AssertUnwindSafe;

use crate::error::Result;
use crate::guc;
use crate::host::call::Call;
use crate::host::rows::Sink;
use crate::host::spi::connected;
use crate::host::subtransaction::attempt;
use crate::host::value::{self, Arg};
use crate::host::{identity, relation};
use crate::job::lease;
use crate::metrics::depths::{self, Figures, For};
use crate::metrics::totals::totals;
use crate::metrics::visible::visible;
use crate::queue::cache::{self, Purpose};
use crate::queue::effective::Effective;
use crate::queue::registry::{self, QueueRow};
use crate::shmem::gauges::Depths;
use crate::shmem::queue::{Slot, COUNTERS};

crate::entry_points! {
    qflow_queue_stats_rows, pg_finfo_qflow_queue_stats_rows => queue_stats_rows;
    qflow_workflow_status_rows, pg_finfo_qflow_workflow_status_rows => workflow_status_rows;
    qflow_lease_status_rows, pg_finfo_qflow_lease_status_rows => lease_status_rows;
}

/// Columns of `queue_stats` before its counters.
const DEPTHS: usize = 8;

fn queue_stats_rows(call: &Call) -> Result<Arg> {
    let sink = Sink::open(call)?;
    let registry = registry::table()?;
    for (row, name) in visible()? {
        let slot = Slot::known(registry, row.number);
        let figures = figures(&row, &slot);
        let totals = totals(&slot);
        let depth = |of: fn(&Depths) -> i64| figures.as_ref().and_then(|known| value::bigint(of(&known.depths)));
        let first: [Arg; DEPTHS] = [
            value::text_for_people(&name),
            value::boolean(row.paused),
            depth(|depths| depths.pending),
            figures.as_ref().and_then(|known| known.delayed).and_then(value::bigint),
            depth(|depths| depths.in_progress),
            depth(|depths| depths.completed),
            depth(|depths| depths.failed),
            figures.as_ref().and_then(|known| known.oldest_pending_ms).and_then(value::bigint),
        ];
        let counted = |at: usize| totals.and_then(|totals| totals.get(at).copied()).and_then(value::bigint);
        let line: [Arg; DEPTHS + COUNTERS] =
            std::array::from_fn(|at| first.get(at).copied().unwrap_or_else(|| counted(at - DEPTHS)));
        sink.put(&line);
    }
    Ok(None)
}

/// From shared memory, unless the viewer wants them counted or they are not known there. What cannot be counted (a column
/// is gone, a right was taken from the owner) is shown without numbers.
fn figures(row: &QueueRow, slot: &Slot) -> Option<Figures> {
    let known = if guc::exact_counts() { None } else { depths::known(row, slot) };
    known.or_else(|| attempt(AssertUnwindSafe(|| depths::counted(row, For::Viewer))).ok().flatten())
}

fn workflow_status_rows(call: &Call) -> Result<Arg> {
    let sink = Sink::open(call)?;
    let queues = visible()?;
    let leases = lease::overview()?;
    for row in registry::all_workflows()? {
        let Some((queue, name)) = queues.iter().find(|(queue, _)| queue.number == row.queue) else {
            continue;
        };
        let own: Vec<&lease::Overview> = leases.iter().filter(|lease| lease.workflow == row.name).collect();
        // Unknown when any of them is.
        let in_flight: Option<i64> = own.iter().map(|lease| unsettled(queue, lease)).sum();
        let heard = heard(queue, &row.name);
        let fetched_at = heard.as_ref().and_then(|heard| heard.fetched_at);
        let last_fetch_at = own.iter().map(|lease| lease.leased_at).chain(fetched_at).max();
        let settings = Effective { workflow: row.settings, queue: queue.settings.clone() };
        sink.put(&[
            value::text_for_people(&row.name),
            value::text_for_people(name),
            value::boolean(row.paused || queue.paused),
            value::bigint(settings.timeout_ms()),
            value::bigint(settings.retries()),
            value::bigint(settings.batch_size()),
            value::bigint(settings.concurrency()),
            settings.workflow.resource_hints.as_deref().and_then(value::jsonb),
            in_flight.and_then(value::bigint),
            value::bigint(own.len() as i64),
            last_fetch_at.and_then(value::timestamp),
            heard.and_then(|heard| heard.reason).as_deref().and_then(value::text_for_people),
        ]);
    }
    Ok(None)
}

/// What was heard of a workflow's consumers.
struct Heard {
    fetched_at: Option<i64>,
    reason: Option<String>,
}

/// What shared memory knows of a workflow's consumers. The reason of a failure is for who may read that of the jobs.
fn heard(queue: &QueueRow, workflow: &str) -> Option<Heard> {
    let slot = Slot::known(registry::table().ok()?, queue.number);
    let notes = slot.read()?;
    let consumer = notes.known.consumers.get(workflow)?;
    let fetched_at = Some(consumer.fetched_at).filter(|at| *at != 0);
    let reason = (consumer.failed_at != 0).then(|| consumer.reason.as_str().to_owned());
    drop(notes);
    Some(Heard { fetched_at, reason: reason.filter(|_| relation::may_read_column(queue.table, "failure_reason")) })
}

/// Jobs in progress under a lease, counted as the table's owner: a viewer may lack the columns, and must not run what the
/// owner put into his indexes. Nothing where they cannot be counted (a column is gone, the owner lost a right): the other
/// queues are shown all the same.
fn unsettled(queue: &QueueRow, lease: &lease::Overview) -> Option<i64> {
    let count = || match cache::queue_of(queue.table, Purpose::Look)? {
        Some(queue) => identity::restricted_as(queue.owner, || {
            connected(|spi| queue.jobs.count_held(spi, &lease.job_ids, lease.id).map(Some))
        }),
        None => Ok(None),
    };
    attempt(AssertUnwindSafe(count)).ok().flatten()
}

fn lease_status_rows(call: &Call) -> Result<Arg> {
    let sink = Sink::open(call)?;
    let queues = visible()?;
    for lease in lease::overview()? {
        let Some((queue, name)) = queues.iter().find(|(queue, _)| queue.number == lease.queue) else {
            continue;
        };
        sink.put(&[
            value::bigint(lease.id),
            value::text_for_people(&lease.workflow),
            value::text_for_people(name),
            value::bigint(lease.job_ids.len() as i64),
            unsettled(queue, &lease).and_then(value::bigint),
            value::timestamp(lease.leased_at),
            value::timestamp(lease.deadline),
            value::opt_text(lease.worker.as_deref()),
            value::int(lease.pid),
            value::boolean(lease.bound),
            lease.resources.as_deref().and_then(value::jsonb),
        ]);
    }
    Ok(None)
}

/// The numbers of the queues that the viewer may see.
pub fn visible_queues() -> Result<Vec<i64>> {
    Ok(visible()?.into_iter().map(|(row, _)| row.number).collect())
}
