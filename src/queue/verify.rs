//! Whether a queue is sound. Reports only; everything is read as the caller.

use pgrx::pg_sys;

use super::cache::{self, Purpose, Queue};
use super::registry::QueueRow;
use crate::error::Result;
use crate::guc;
use crate::host::spi::{connected, once, Mode};
use crate::host::{relation, value, xact};
use crate::job::floor::{Floor, Key, Reason, Segment, PRIORITIES};
use crate::job::floor_store;
use crate::job::lease;
use crate::job::sweep;
use crate::job::table::Place;

/// One thing looked at.
pub struct Check {
    /// What it is.
    pub name: &'static str,
    /// Whether it is as it should be.
    pub ok: bool,
    /// What was found.
    pub detail: String,
    /// What to do about it.
    pub remedy: Option<String>,
}

const INDEXES: &str = "SELECT i.indrelid,
        (SELECT pg_catalog.string_agg(a.attname::pg_catalog.text, ',' ORDER BY k.ord)
            FROM pg_catalog.unnest(i.indkey) WITH ORDINALITY AS k (attnum, ord)
            JOIN pg_catalog.pg_attribute a ON a.attrelid OPERATOR(pg_catalog.=) i.indrelid
                AND a.attnum OPERATOR(pg_catalog.=) k.attnum),
        i.indpred IS NOT NULL
    FROM pg_catalog.pg_index i
    WHERE i.indrelid OPERATOR(pg_catalog.=) $1 AND i.indisvalid AND i.indisready";

const TRIGGERS: &str = "SELECT t.tgname::pg_catalog.text, t.tgenabled::pg_catalog.text
    FROM pg_catalog.pg_trigger t WHERE t.tgrelid OPERATOR(pg_catalog.=) $1
        AND t.tgname::pg_catalog.text OPERATOR(pg_catalog.~~) 'qflow\\_return\\_%'";

const WITHOUT_ORDER: &str = "SELECT pg_catalog.count(*) FROM {q} j
    WHERE j.status OPERATOR(pg_catalog.=) 'pending' AND j.available_at IS NULL
        AND (j.enqueued_xid IS NULL OR j.priority IS NULL)";

const HELD: &str = "SELECT j.id::pg_catalog.int8, j.lease FROM {q} j
    WHERE j.status OPERATOR(pg_catalog.=) 'in_progress' LIMIT 1000000";

/// Rows read at a time.
const AT_ONCE: usize = 10_000;

/// Looks at everything that this version can check.
pub fn verify(row: &QueueRow) -> Result<Vec<Check>> {
    let name = relation::display_name(row.table);
    let queue = match cache::queue_of(row.table, Purpose::Look) {
        Ok(Some(queue)) => queue,
        Ok(None) => return Ok(Vec::new()),
        Err(error) => return Ok(vec![columns(&name, Some(error.message()))]),
    };
    let mut checks = vec![columns(&name, None)];
    checks.extend(indexes(&queue)?);
    checks.push(triggers(&queue)?);
    checks.push(home(&queue));
    checks.push(floor(&queue)?);
    checks.push(leases(&queue)?);
    checks.push(sweeps(&queue)?);
    Ok(checks)
}

fn columns(name: &str, missing: Option<&str>) -> Check {
    Check {
        name: "columns",
        ok: missing.is_none(),
        detail: missing.map_or_else(|| "all there".to_owned(), str::to_owned),
        remedy: missing.map(|_| format!("Add the column again to {name}, as qflow.create_queue made it.")),
    }
}

fn indexes(queue: &Queue) -> Result<Vec<Check>> {
    let found: Vec<(String, bool)> = connected(|spi| {
        let rows = once(spi, INDEXES, &[(pg_sys::OIDOID, value::oid(queue.row.table))])?;
        let found: Result<Vec<(String, bool)>> =
            rows.iter().map(|row| Ok((row.text(2)?.unwrap_or_default(), row.flag(3)))).collect();
        found
    })?;
    let has = |columns: &str, partial: bool| found.iter().any(|(on, is)| on == columns && *is == partial);
    let check = |name, ok: bool, ddl: String| Check {
        name,
        ok,
        detail: if ok { "there".into() } else { "missing or invalid: fetches read the whole table".into() },
        remedy: (!ok).then_some(ddl),
    };
    let table = &queue.name;
    Ok(vec![
        check(
            "fresh index",
            has("priority,enqueued_xid,id", false),
            format!("CREATE INDEX CONCURRENTLY ON {table} (priority, enqueued_xid, id);"),
        ),
        check(
            "due index",
            has("available_at,id", true),
            format!("CREATE INDEX CONCURRENTLY ON {table} (available_at, id) WHERE available_at IS NOT NULL;"),
        ),
    ])
}

fn triggers(queue: &Queue) -> Result<Check> {
    let found: Vec<(String, String)> = connected(|spi| {
        let rows = once(spi, TRIGGERS, &[(pg_sys::OIDOID, value::oid(queue.row.table))])?;
        let found: Result<Vec<(String, String)>> =
            rows.iter().map(|row| Ok((row.text(1)?.unwrap_or_default(), row.text(2)?.unwrap_or_default()))).collect();
        found
    })?;
    let always = |name: &str| found.iter().any(|(is, enabled)| is == name && enabled == "A");
    let wrong: Vec<&str> =
        ["qflow_return_insert", "qflow_return_update"].into_iter().filter(|name| !always(name)).collect();
    let enable = |name: &&str| format!("ALTER TABLE {} ENABLE ALWAYS TRIGGER {name};", queue.name);
    Ok(Check {
        name: "return triggers",
        ok: wrong.is_empty(),
        detail: match wrong.is_empty() {
            true => "there, and always enabled".into(),
            false => format!("missing or not always enabled: {}", wrong.join(", ")),
        },
        remedy: (!wrong.is_empty()).then(|| wrong.iter().map(enable).collect::<Vec<_>>().join(" ")),
    })
}

fn home(queue: &Queue) -> Check {
    let ok = queue.row.at_home;
    Check {
        name: "home",
        ok,
        detail: match ok {
            true => "the table belongs to this database".into(),
            false => "the table was restored or copied, and has not been looked through yet".into(),
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
