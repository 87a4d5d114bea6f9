//! The slow net: goes through a queue in the order of ids, a chunk at a time, and returns what nothing else would find:
//! pending jobs below every floor, and jobs in progress without their lease. Every guard above it is tested with the
//! sweep off; what it finds is counted and reported.
//!
//! The same walk looks through a table that was restored, copied or adopted: transaction ids and leases in it are not of
//! this database. That pass runs with the sweep off too, and its queue is at home once it is through.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};

use pgrx::pg_sys;

use super::floor::{Key, PRIORITIES};
use super::floor_store;
use super::lease;
use super::reap::{self, End, Reaped};
use super::retry;
use super::state::Status;
use super::table::{Change, Met};
use crate::error::{self, Error, Level, Result};
use crate::guc;
use crate::host::spi::{connected, once};
use crate::host::{value, xact};
use crate::queue::cache::Queue;
use crate::queue::registry::{self, as_owner, Home};
use crate::shmem::at_commit;

/// Rows looked at by one call of `reap()`, and in a restored table also by a fetch.
const CHUNK: usize = 1_000;
/// Rows looked at by a fetch.
const CHUNK_IN_FETCH: usize = 256;

const POSITION: &str = "SELECT CASE WHEN s.system_identifier OPERATOR(pg_catalog.=) $2
            AND s.database_oid OPERATOR(pg_catalog.=) $3 AND s.relation_oid OPERATOR(pg_catalog.=) $4
        THEN s.next_id END, s.rescued_total, s.left_over
    FROM qflow.sweep s WHERE s.queue OPERATOR(pg_catalog.=) $1 FOR UPDATE SKIP LOCKED";

const MOVE_ON: &str = "UPDATE qflow.sweep SET next_id = $5, system_identifier = $2, database_oid = $3,
        relation_oid = $4, rescued_total = rescued_total OPERATOR(pg_catalog.+) $6, left_over = $7
    WHERE queue OPERATOR(pg_catalog.=) $1";

const COUNT_RESCUED: &str = "UPDATE qflow.sweep SET rescued_total = rescued_total OPERATOR(pg_catalog.+) $2
    WHERE queue OPERATOR(pg_catalog.=) (SELECT s.queue FROM qflow.sweep s
        WHERE s.queue OPERATOR(pg_catalog.=) $1 FOR UPDATE SKIP LOCKED)";

const RESCUED: &str = "SELECT rescued_total FROM qflow.sweep WHERE queue OPERATOR(pg_catalog.=) $1";

const SPAN: &str = "SELECT pg_catalog.min(id)::pg_catalog.int8, pg_catalog.max(id)::pg_catalog.int8 FROM {q}";

const HOLD_TERMS: &str = "SELECT COALESCE(q.timeout_ms, (SELECT pg_catalog.max(w.timeout_ms) FROM qflow.workflow w
            WHERE w.queue OPERATOR(pg_catalog.=) q.number)),
        COALESCE((SELECT pg_catalog.max(COALESCE(w.retries, q.retries)) FROM qflow.workflow w
            WHERE w.queue OPERATOR(pg_catalog.=) q.number), q.retries)
    FROM qflow.queue q WHERE q.number OPERATOR(pg_catalog.=) $1";

thread_local! {
    /// Where this session's own sweep stands, by queue.
    static NEXT: RefCell<HashMap<i64, i64>> = RefCell::new(HashMap::new());
}

/// What one chunk came to.
#[derive(Default)]
struct Outcome {
    next: i64,
    is_through: bool,
    /// Whether a job was met that somebody has locked, or whose lease is gone but whose time is not over yet.
    left_over: bool,
    rescued: i64,
    reaped: Reaped,
}

/// Whether a fetch has anything to sweep.
pub fn is_due_in_fetch(queue: &Queue) -> bool {
    guc::sweep() || !queue.row.is_at_home()
}

/// A fetch's share: in a table at home from a position of this session's own, so that nothing is written when nothing is
/// found.
pub fn in_fetch(queue: &Queue, now: i64) -> Result<()> {
    if !queue.row.is_at_home() {
        return persistent(queue, now).map(|_| ());
    }
    let number = queue.row.number;
    let from = match NEXT.with(|next| next.borrow().get(&number).copied()) {
        Some(from) => from,
        None => somewhere(queue)?,
    };
    let outcome = chunk(queue, from, CHUNK_IN_FETCH, now)?;
    NEXT.with(|next| next.borrow_mut().insert(number, outcome.next));
    if outcome.rescued > 0 {
        note_rescued(queue, outcome.rescued)?;
    }
    Ok(())
}

/// One chunk from where the last session's ended; nothing when another session is at it.
pub fn persistent(queue: &Queue, now: i64) -> Result<Reaped> {
    if queue.row.is_at_home() && !guc::sweep() {
        return Ok(Reaped::default());
    }
    Ok(go_on(queue, now)?.map_or_else(Reaped::default, |outcome| outcome.reaped))
}

/// One chunk more of a restored, copied or adopted table, for a fetch that found nothing: what is pending there may not
/// be within reach yet. False when the pass is through, or another session is at it.
pub fn look_through(queue: &Queue, now: i64) -> Result<bool> {
    Ok(go_on(queue, now)?.is_some_and(|outcome| !outcome.is_through))
}

fn go_on(queue: &Queue, now: i64) -> Result<Option<Outcome>> {
    let Some(before) = position(queue)? else {
        return Ok(None);
    };
    // An adoption has done that.
    if before.next_id.is_none() && queue.row.home == Home::Elsewhere {
        queue.look(|| lease::newest_in(&queue.name)).and_then(lease::jump)?;
    }
    let outcome = chunk(queue, before.next_id.unwrap_or(i64::MIN), CHUNK, now)?;
    // What a restore left behind is expected, not rescued.
    let rescued = if queue.row.is_at_home() { outcome.rescued } else { 0 };
    let left_over = before.left_over || outcome.left_over;
    move_on(queue, outcome.next, rescued, left_over && !outcome.is_through)?;
    if rescued > 0 && before.rescued_total == 0 {
        complain(queue, rescued);
    }
    // Only a pass that left nothing over makes the table one of this database.
    if outcome.is_through && !left_over && !queue.row.is_at_home() {
        registry::settle_in(queue.row.number)?;
    }
    Ok(Some(outcome))
}

/// How many jobs the sweep of a queue ever found; 0 in a healthy database.
pub fn rescued_total(number: i64) -> Result<i64> {
    let args = [(pg_sys::INT8OID, value::bigint(number))];
    as_owner(|| connected(|spi| Ok(once(spi, RESCUED, &args)?.first().and_then(|row| row.bigint(1)).unwrap_or(0))))
}

fn chunk(queue: &Queue, from: i64, limit: usize, now: i64) -> Result<Outcome> {
    // Floors before rows: a row that is pending now was pending, or not there, when each of them was made.
    let floors = floor_store::visible(queue)?;
    let as_table_owner = |work: &dyn Fn() -> Result<Vec<Met>>| queue.look(work);
    let met = as_table_owner(&|| connected(|spi| queue.jobs.chunk(spi, from, limit)))?;
    // After the rows: no transaction that wrote one of them was still to come by now.
    let next_xid = xact::next_xid();
    let lost: Vec<i64> = met
        .iter()
        .filter(|row| row.is_fresh && row.state.status == Some(Status::Pending))
        .filter(|row| match row.enqueued_xid {
            // No scan of the fresh index meets it, wherever the floors stand.
            _ if row.priority >= PRIORITIES => true,
            None => true,
            Some(xid) => {
                xid >= next_xid || !floors.iter().all(|floor| floor.covers(row.priority, Key { xid, id: row.id }))
            }
        })
        .map(|row| row.id)
        .collect();
    let Orphans { over, undated, left_over } = orphans(queue, &met, now)?;
    let (rescued, reaped) = queue.keep_up(|| {
        connected(|spi| {
            let rescued = queue.jobs.make_due(spi, &lost, now)?;
            queue.jobs.stamp(spi, &undated, now)?;
            Ok((rescued, take_back_orphans(spi, queue, &over, now)?))
        })
    })?;
    reap::make_known(queue, &reaped, None, now);
    if rescued > 0 {
        at_commit::due(&queue.slot, now);
    }
    // What others hold locked now is looked at again by the next pass.
    let is_short = rescued < lost.len() || reaped.returned + reaped.failed < over.len() as i64;
    let is_through = met.len() < limit;
    let next = if is_through { i64::MIN } else { met.last().map_or(i64::MIN, |row| row.id.saturating_add(1)) };
    Ok(Outcome { next, is_through, left_over: left_over || is_short, rescued: rescued as i64, reaped })
}

/// A job in progress without its lease, and what is to become of it.
struct Orphan {
    change: Change,
    /// The lease that its row names.
    lease: Option<i64>,
}

#[derive(Default)]
struct Orphans {
    over: Vec<Orphan>,
    /// Those that do not say since when, or name a time to come: theirs begins when they are met.
    undated: Vec<i64>,
    left_over: bool,
}

/// Jobs in progress whose lease does not exist or does not contain them, and whose time is over; and whether there are
/// others whose time is not.
fn orphans(queue: &Queue, met: &[Met], now: i64) -> Result<Orphans> {
    let held: Vec<&Met> = met.iter().filter(|row| row.state.status == Some(Status::InProgress)).collect();
    if held.is_empty() {
        return Ok(Orphans::default());
    }
    let pairs: Vec<(i64, i64)> = held.iter().filter_map(|row| row.state.lease.map(|lease| (row.id, lease))).collect();
    let leased: HashSet<i64> = lease::containing(&pairs)?.into_iter().collect();
    let (timeout_ms, max_attempts) = hold_terms(queue)?;
    let is_over =
        |row: &&Met| row.updated_at.is_some_and(|since| since.saturating_add(timeout_ms.saturating_mul(1_000)) <= now);
    let (over, not_yet): (Vec<&Met>, Vec<&Met>) =
        held.into_iter().filter(|row| !leased.contains(&row.id)).partition(is_over);
    let change = |row: &Met| Orphan {
        change: reap::taken_back(row.id, row.state.attempt, max_attempts, 0, now, End::Expired),
        lease: row.state.lease,
    };
    let is_undated = |row: &&&Met| row.updated_at.is_none_or(|since| since > now);
    let undated = not_yet.iter().filter(is_undated).map(|row| row.id).collect();
    Ok(Orphans { over: over.into_iter().map(change).collect(), undated, left_over: !not_yet.is_empty() })
}

fn take_back_orphans(spi: &crate::host::spi::Spi, queue: &Queue, orphans: &[Orphan], now: i64) -> Result<Reaped> {
    let mut sure = Vec::new();
    for orphan in orphans {
        // Locked and looked at again: it may have been settled or claimed since it was met.
        let still = queue.jobs.lock_orphan(spi, orphan.change.id, orphan.lease)?;
        sure.extend(still.then(|| orphan.change.clone()));
    }
    let changed = queue.jobs.apply(spi, &sure, now)?;
    Ok(reap::count(&sure, &changed))
}

/// Lease time (milliseconds) and tries of jobs whose lease is not known. Time: the queue's, else the longest of its
/// workflows', else the setting. Tries: the most that one of its workflows gives, else the setting.
fn hold_terms(queue: &Queue) -> Result<(i64, i32)> {
    let args = [(pg_sys::INT8OID, value::bigint(queue.row.number))];
    let (timeout, retries) = as_owner(|| {
        connected(|spi| {
            let rows = once(spi, HOLD_TERMS, &args)?;
            Ok(rows.first().map_or((None, None), |row| (row.bigint(1), row.bigint(2))))
        })
    })?;
    // Whoever calls must not shorten other people's time: his settings only count where they are more generous.
    let retries = retries.unwrap_or_else(|| guc::default_retries().max(guc::USUAL_RETRIES));
    let timeout_ms = timeout.unwrap_or_else(|| guc::default_timeout_ms().max(guc::USUAL_TIMEOUT_MS));
    Ok((timeout_ms, retry::max_attempts(retries)))
}

fn home_args(queue: &Queue) -> [(pg_sys::Oid, value::Arg); 4] {
    [
        (pg_sys::INT8OID, value::bigint(queue.row.number)),
        (pg_sys::INT8OID, value::bigint(xact::system_identifier())),
        (pg_sys::OIDOID, value::oid(xact::database())),
        (pg_sys::OIDOID, value::oid(queue.row.table)),
    ]
}

/// What is kept of a queue's sweep.
struct Position {
    /// Where it goes on; `None`: it has not begun in this database.
    next_id: Option<i64>,
    rescued_total: i64,
    /// Whether the pass so far left jobs over whose time was not over.
    left_over: bool,
}

/// What is kept, locked; nothing when another session is at it.
fn position(queue: &Queue) -> Result<Option<Position>> {
    registry::prepare_bookkeeping(queue.row.number)?;
    as_owner(|| {
        connected(|spi| {
            let rows = once(spi, POSITION, &home_args(queue))?;
            Ok(rows.first().map(|row| Position {
                next_id: row.bigint(1),
                rescued_total: row.bigint(2).unwrap_or(0),
                left_over: row.flag(3),
            }))
        })
    })
}

fn move_on(queue: &Queue, next: i64, rescued: i64, left_over: bool) -> Result<()> {
    let mut args = home_args(queue).to_vec();
    args.push((pg_sys::INT8OID, value::bigint(next)));
    args.push((pg_sys::INT8OID, value::bigint(rescued)));
    args.push((pg_sys::BOOLOID, value::boolean(left_over)));
    as_owner(|| connected(|spi| once(spi, MOVE_ON, &args).map(|_| ())))
}

fn note_rescued(queue: &Queue, rescued: i64) -> Result<()> {
    if rescued_total(queue.row.number)? == 0 {
        complain(queue, rescued);
    }
    let args = [(pg_sys::INT8OID, value::bigint(queue.row.number)), (pg_sys::INT8OID, value::bigint(rescued))];
    as_owner(|| connected(|spi| once(spi, COUNT_RESCUED, &args).map(|_| ())))
}

fn complain(queue: &Queue, rescued: i64) {
    let found = format!("found {rescued} pending jobs that no fetch would have found");
    error::say(Level::Log, format!("qflow: the sweep of queue {} {found}", queue.name));
}

/// A place to begin at: anywhere, so that many short sessions together still see every row.
pub fn somewhere(queue: &Queue) -> Result<i64> {
    let sql = SPAN.replace("{q}", &queue.name);
    let span = queue.look(|| {
        connected(|spi| {
            let rows = once(spi, &sql, &[])?;
            rows.first().map(|row| row.bigint(1).zip(row.bigint(2))).ok_or_else(|| Error::internal("no span of ids"))
        })
    })?;
    let (least, most) = span.unwrap_or((0, 0));
    Ok(least.saturating_add((most.saturating_sub(least) as f64 * value::random()) as i64))
}
