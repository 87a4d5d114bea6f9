//! Whether every job of a queue can be reached and brought back.

use crate::error::Result;
use crate::guc;
use crate::host::spi::{connected, once, Mode};
use crate::host::xact;
use crate::job::floor::{Floor, Key, Reason, Segment, PRIORITIES};
use crate::job::floor_store;
use crate::job::lease;
use crate::job::sweep;
use crate::job::table::Place;
use crate::queue::cache::Queue;
use crate::queue::check::Check;
use crate::queue::registry::Home;

const WITHOUT_ORDER: &str = "SELECT pg_catalog.count(*) FROM {q} j
    WHERE j.status OPERATOR(pg_catalog.=) 'pending' AND j.available_at IS NULL
        AND (j.enqueued_xid IS NULL OR j.priority IS NULL)";

const HELD: &str = "SELECT j.id::pg_catalog.int8, j.lease FROM {q} j
    WHERE j.status OPERATOR(pg_catalog.=) 'in_progress' LIMIT 1000000";

/// Rows read at a time.
const AT_ONCE: usize = 10_000;

/// All checks of jobs.
pub fn checks(queue: &Queue) -> Result<Vec<Check>> {
    Ok(vec![home(queue), floor(queue)?, leases(queue)?, sweeps(queue)?])
}

fn home(queue: &Queue) -> Check {
    let ok = queue.row.is_at_home();
    Check {
        name: "home",
        ok,
        detail: match queue.row.home {
            Home::Here => "the table belongs to this database".into(),
            Home::Adopted => "the table was adopted, and has not been looked through yet".into(),
            Home::Elsewhere => "the table was restored or copied, and has not been looked through yet".into(),
        },
        remedy: (!ok).then(|| "Run qflow.reap() until this is gone, or just fetch.".into()),
    }
}

/// The invariant: a pending row whose `available_at` is NULL lies at or above every floor, or is a listed hole.
fn floor(queue: &Queue) -> Result<Check> {
    let floors = floor_store::visible(queue.row.number, queue.row.table)?;
    let mut lost: Vec<i64> = Vec::new();
    for floor in &floors {
        lost.extend(below(queue, floor)?);
    }
    lost.sort_unstable();
    lost.dedup();
    let odd = without_order(queue)? + beyond(queue)?;
    let ok = lost.is_empty() && odd == 0;
    let first = lost.first().map(|id| format!(" The first is job {id}.")).unwrap_or_default();
    Ok(Check {
        name: "floor",
        ok,
        detail: match ok {
            true => format!("every pending job can be reached ({} floors)", floors.len()),
            false => format!("{} pending jobs are out of reach of fetches.{first}", lost.len() as i64 + odd),
        },
        remedy: (!ok).then(|| {
            format!("UPDATE {} SET available_at = now() WHERE status = 'pending' AND available_at IS NULL;", queue.name)
        }),
    })
}

/// Pending rows that a fetch with this floor would not see.
fn below(queue: &Queue, floor: &Floor) -> Result<Vec<i64>> {
    let mut lost = Vec::new();
    for priority in 0..PRIORITIES {
        let mut from = Key::before(0);
        let to = floor.starts[priority];
        while from < to {
            let segment = Segment { priority, from, to, reason: Reason::Fresh };
            let found = connected(|spi| queue.jobs.scan(spi, &[segment], AT_ONCE, Mode::Write))?;
            let keys = found.iter().filter_map(|candidate| match candidate.place {
                Place::Fresh(_, key) => Some(key),
                Place::Due(_) => None,
            });
            let keys: Vec<Key> = keys.collect();
            lost.extend(keys.iter().filter(|key| !floor.covers(priority, **key)).map(|key| key.id));
            from = match keys.last() {
                Some(last) if keys.len() == AT_ONCE => last.next(),
                _ => to,
            };
        }
    }
    Ok(lost)
}

/// Pending rows that stand in no order.
fn without_order(queue: &Queue) -> Result<i64> {
    let sql = WITHOUT_ORDER.replace("{q}", &queue.name);
    connected(|spi| Ok(once(spi, &sql, &[])?.first().and_then(|row| row.bigint(1)).unwrap_or(0)))
}

/// Pending rows of transactions that are still to come.
fn beyond(queue: &Queue) -> Result<i64> {
    let from = Key::before(xact::next_xid() + 1);
    let to = Key::before(i64::MAX as u64);
    let segments: Vec<Segment> =
        (0..PRIORITIES).map(|priority| Segment { priority, from, to, reason: Reason::Fresh }).collect();
    Ok(connected(|spi| queue.jobs.scan(spi, &segments, AT_ONCE, Mode::Write))?.len() as i64)
}

fn leases(queue: &Queue) -> Result<Check> {
    let sql = HELD.replace("{q}", &queue.name);
    let held: Vec<(i64, Option<i64>)> = connected(|spi| {
        let rows = once(spi, &sql, &[])?;
        let held = rows.iter().map(|row| (row.bigint(1).unwrap_or_default(), row.bigint(2)));
        Ok(held.collect())
    })?;
    let pairs: Vec<(i64, i64)> = held.iter().filter_map(|(id, lease)| lease.map(|lease| (*id, lease))).collect();
    let leased = lease::containing(&pairs)?.len();
    let orphans = held.len().saturating_sub(leased);
    Ok(Check {
        name: "leases",
        ok: orphans == 0,
        detail: match orphans {
            0 => format!("all {} jobs in progress have their lease", held.len()),
            _ => format!("{orphans} of {} jobs in progress have no lease", held.len()),
        },
        remedy: (orphans > 0)
            .then(|| "They come back when the queue's timeout has passed since their updated_at.".into()),
    })
}

fn sweeps(queue: &Queue) -> Result<Check> {
    let rescued = sweep::rescued_total(queue.row.number)?;
    let is_on = guc::sweep();
    Ok(Check {
        name: "sweep",
        ok: rescued == 0,
        detail: format!("{}; {rescued} jobs rescued so far", if is_on { "on" } else { "off (qflow.sweep)" }),
        remedy: (rescued > 0).then(|| {
            "Jobs were out of reach: look whether the return triggers were disabled, and report it otherwise.".into()
        }),
    })
}
