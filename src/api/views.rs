//! The rows of the views. A viewer sees the queues on which he may SELECT at least one column.

use std::panic::AssertUnwindSafe;

use pgrx::pg_sys;

use crate::error::Result;
use crate::host::call::Call;
use crate::host::rows::Sink;
use crate::host::spi::{connected, once};
use crate::host::subtransaction::attempt;
use crate::host::value::{self, Arg};
use crate::host::{identity, relation};
use crate::job::lease;
use crate::job::shape::Shape;
use crate::queue::cache::{self, Purpose};
use crate::queue::effective::Effective;
use crate::queue::registry::{self, QueueRow};

crate::entry_points! {
    qflow_queue_stats_rows, pg_finfo_qflow_queue_stats_rows => queue_stats_rows;
    qflow_workflow_status_rows, pg_finfo_qflow_workflow_status_rows => workflow_status_rows;
    qflow_lease_status_rows, pg_finfo_qflow_lease_status_rows => lease_status_rows;
}

/// Counted in the table: there are no counters yet.
const DEPTHS: &str = "SELECT
        pg_catalog.count(*) FILTER (WHERE j.status OPERATOR(pg_catalog.=) 'pending'),
        pg_catalog.count(*) FILTER (WHERE j.status OPERATOR(pg_catalog.=) 'pending'
            AND j.available_at OPERATOR(pg_catalog.>) pg_catalog.clock_timestamp()),
        pg_catalog.count(*) FILTER (WHERE j.status OPERATOR(pg_catalog.=) 'in_progress'),
        pg_catalog.count(*) FILTER (WHERE j.status OPERATOR(pg_catalog.=) 'completed'),
        pg_catalog.count(*) FILTER (WHERE j.status OPERATOR(pg_catalog.=) 'failed'),
        pg_catalog.floor(EXTRACT(epoch FROM pg_catalog.clock_timestamp() OPERATOR(pg_catalog.-)
            pg_catalog.min(j.inserted_at{inserted_zone}) FILTER (WHERE j.status OPERATOR(pg_catalog.=) 'pending'
                AND pg_catalog.isfinite(j.inserted_at{inserted_zone}) AND (j.available_at IS NULL
                    OR j.available_at OPERATOR(pg_catalog.<=) pg_catalog.clock_timestamp())))
            OPERATOR(pg_catalog.*) 1000)::pg_catalog.int8
    FROM {q} j";

/// The queues that the viewer may see, with their names.
fn visible() -> Result<Vec<(QueueRow, String)>> {
    let mut seen = Vec::new();
    for row in registry::all_queues()? {
        if !relation::may_read_some_column(row.table) {
            continue;
        }
        let name = relation::display_name(row.table);
        seen.push((row, name));
    }
    Ok(seen)
}

fn queue_stats_rows(call: &Call) -> Result<Arg> {
    let sink = Sink::open(call)?;
    for (row, name) in visible()? {
        let mut line = vec![value::text_for_people(&name), value::boolean(row.paused)];
        line.extend([None; 14]);
        match (relation::owner(row.table), relation::qualified_name(row.table)) {
            // What cannot be counted (a column is gone, a right was taken from the owner) is shown without numbers.
            (Some(owner), Ok(Some(table))) => {
                if attempt(AssertUnwindSafe(|| count_depths(&sink, &line, owner, row.table, &table))).is_err() {
                    sink.put(&line);
                }
            }
            // A name that no statement can be written with: nothing is known of it but that it is there.
            _ => sink.put(&line),
        }
    }
    Ok(None)
}

/// Counts as the table's owner: the right to read one column is enough to see the numbers.
fn count_depths(sink: &Sink, line: &[Arg], owner: pg_sys::Oid, table: pg_sys::Oid, name: &str) -> Result<()> {
    let sql = Shape::of(table, name).fill(DEPTHS);
    identity::restricted_as(owner, || {
        connected(|spi| {
            let rows = once(spi, &sql, &[])?;
            let mut line = line.to_vec();
            for (column, depth) in (1..=6).zip(&mut line[2..]) {
                *depth = rows.first().and_then(|depths| depths.datum(column));
            }
            sink.put(&line);
            Ok(())
        })
    })
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
            own.iter().map(|lease| lease.leased_at).max().and_then(value::timestamp),
            None,
        ]);
    }
    Ok(None)
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
            None::<pg_sys::Datum>,
        ]);
    }
    Ok(None)
}
