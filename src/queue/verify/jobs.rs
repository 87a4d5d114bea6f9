//! Whether every job of a queue can be reached and brought back.

use crate::error::Result;
use crate::guc;
use crate::host::spi::{connected, once, Mode};
use crate::host::xact;
use crate::job::floor::{Floor, Key, Reason, Segment, PRIORITIES};
use crate::job::floor_store;
use crate::job::lease;
use crate::job::sweep;
use crate::job::table::{Candidate, Place};
use crate::queue::cache::Queue;
use crate::queue::check::Check;
use crate::queue::registry::Home;

const WITHOUT_ORDER: &str = "SELECT j.id::pg_catalog.int8 FROM {q} j
    WHERE j.status OPERATOR(pg_catalog.=) 'pending' AND j.available_at IS NULL AND j.id IS NOT NULL
        AND (j.enqueued_xid IS NULL OR j.priority IS NULL OR j.priority OPERATOR(pg_catalog.<) 0
            OR j.priority OPERATOR(pg_catalog.>) 9)
    LIMIT 1000000";

const HELD: &str = "SELECT j.id::pg_catalog.int8, j.lease FROM {q} j
    WHERE j.status OPERATOR(pg_catalog.=) 'in_progress' LIMIT 1000000";

/// Rows read at a time.
const AT_ONCE: usize = 10_000;

/// Lost jobs that a remedy names at most.
const NAMED: usize = 1_000;

/// All checks of jobs. `names`: whether ids may be told.
pub fn checks(queue: &Queue, names: bool) -> Result<Vec<Check>> {
    Ok(vec![home(queue), floor(queue, names)?, leases(queue)?, sweeps(queue)?])
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
fn floor(queue: &Queue, names: bool) -> Result<Check> {
    let floors = floor_store::visible(queue)?;
    let mut lost: Vec<i64> = without_order(queue)?;
    lost.extend(beyond(queue)?);
    for floor in &floors {
        lost.extend(below(queue, floor)?);
    }
    lost.sort_unstable();
    lost.dedup();
    let Some(first) = lost.first() else {
        return Ok(Check::well("floor", format!("every pending job can be reached ({} floors)", floors.len())));
    };
    let first = if names { format!(" The first is job {first}.") } else { String::new() };
    let remedy = match names {
        true => due_at_once(&queue.name, &lost),
        false => "Run qflow.verify as somebody who sees all rows: it names the jobs.".to_owned(),
    };
    Ok(Check::gap("floor", format!("{} pending jobs are out of reach of fetches.{first}", lost.len()), remedy))
}

/// Only those: what can be reached comes in its order. With so many that not all are named, it is to be done again.
fn due_at_once(table: &str, lost: &[i64]) -> String {
    let ids: Vec<String> = lost.iter().take(NAMED).map(i64::to_string).collect();
    format!(
        "UPDATE {table} SET available_at = now() WHERE status = 'pending' AND available_at IS NULL AND id IN ({});",
        ids.join(", ")
    )
}

/// Pending rows that a fetch with this floor would not see.
fn below(queue: &Queue, floor: &Floor) -> Result<Vec<i64>> {
    let mut lost = Vec::new();
    for priority in 0..PRIORITIES {
        let mut from = Key::before(0);
        let to = floor.starts[priority];
        while from < to {
            let segment = Segment { priority, from, to, reason: Reason::Fresh };
            let (found, _) = connected(|spi| queue.jobs.scan(spi, &[segment], AT_ONCE, Mode::Write))?;
            let keys: Vec<Key> = found.iter().filter_map(fresh_key).collect();
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
fn without_order(queue: &Queue) -> Result<Vec<i64>> {
    let sql = WITHOUT_ORDER.replace("{q}", &queue.name);
    connected(|spi| Ok(once(spi, &sql, &[])?.iter().filter_map(|row| row.bigint(1)).collect()))
}

/// Pending rows of transactions that are still to come.
fn beyond(queue: &Queue) -> Result<Vec<i64>> {
    let from = Key::before(xact::next_xid());
    let to = Key::before(i64::MAX as u64);
    let segments: Vec<Segment> =
        (0..PRIORITIES).map(|priority| Segment { priority, from, to, reason: Reason::Fresh }).collect();
    let (found, _) = connected(|spi| queue.jobs.scan(spi, &segments, AT_ONCE, Mode::Write))?;
    // Some of them have come since the scan was begun.
    let next_xid = xact::next_xid();
    Ok(found.iter().filter_map(fresh_key).filter(|key| key.xid >= next_xid).map(|key| key.id).collect())
}

/// Where a fresh job stands.
fn fresh_key(candidate: &Candidate) -> Option<Key> {
    match candidate.place {
        Place::Fresh(_, key) => Some(key),
        Place::Due(_) => None,
    }
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
