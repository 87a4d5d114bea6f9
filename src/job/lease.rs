//! Leases: one row per fetch in `qflow.lease`, and the ids that fence them. All of it runs as the extension's owner.

mod rows;

use std::cell::Cell;

use pgrx::pg_sys;

use super::retry::Backoff;
use crate::error::{Error, Result};
use crate::host::identity::with_rights_of;
use crate::host::lock::{self, Turn, What};
use crate::host::sequence;
use crate::host::spi::{connected, kept, once, once_latest, Mode, Row};
use crate::host::value::Arg;
use crate::host::{relation, value, xact};
use crate::queue::registry::{self, as_owner};
use crate::resource::release::{self, Why};
use crate::shmem::database::Session;

/// What a settle or a reap needs to know of a lease, as it was when the jobs were fetched.
#[derive(Debug, Clone)]
pub struct Lease {
    /// The fencing token.
    pub id: i64,
    /// Number of the queue.
    pub queue: i64,
    /// Its workflow.
    pub workflow: String,
    /// Lease time, milliseconds.
    pub timeout_ms: i64,
    /// When it began, microseconds.
    pub leased_at: i64,
    /// Tries in all.
    pub max_attempts: i32,
    /// Delays before retries.
    pub backoff: Backoff,
    /// When it ends, microseconds.
    pub deadline: i64,
    /// The jobs that were fetched with it.
    pub job_ids: Vec<i64>,
    /// Whether resources were taken with it.
    pub holds: bool,
}

const COLUMNS_TYPES: [pg_sys::Oid; 15] = [
    pg_sys::INT8OID,
    pg_sys::INT8OID,
    pg_sys::TEXTOID,
    pg_sys::INT8OID,
    pg_sys::INT4OID,
    pg_sys::INT8OID,
    pg_sys::INT8OID,
    pg_sys::TIMESTAMPTZOID,
    pg_sys::TIMESTAMPTZOID,
    pg_sys::INT8ARRAYOID,
    pg_sys::INT4OID,
    pg_sys::TIMESTAMPTZOID,
    pg_sys::BOOLOID,
    pg_sys::TEXTOID,
    pg_sys::JSONBOID,
];

const ADD: &str = "INSERT INTO qflow.lease (id, queue, workflow, timeout_ms, max_attempts, retry_delay_ms,
        retry_max_delay_ms, leased_at, deadline, job_ids, backend_pid, backend_start, bound, worker, resources)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)";

// Leases whose ids are in hand are found by these alone: int8eq is no operator that an index on the queue would serve, which
// the planner prefers as long as it takes the table for small, and which leads through all that an old snapshot keeps.
const LOCK: &str = "SELECT id, queue, workflow, timeout_ms, max_attempts, retry_delay_ms, retry_max_delay_ms, deadline,
        job_ids, leased_at, resources IS NOT NULL
    FROM qflow.lease WHERE id OPERATOR(pg_catalog.=) ANY ($1) AND pg_catalog.int8eq(queue, $2)
    ORDER BY id FOR UPDATE";

const LOCK_EXPIRED: &str = "SELECT id, queue, workflow, timeout_ms, max_attempts, retry_delay_ms, retry_max_delay_ms,
        deadline, job_ids, leased_at, resources IS NOT NULL
    FROM qflow.lease
    WHERE queue OPERATOR(pg_catalog.=) $1 AND deadline OPERATOR(pg_catalog.<=) $2
        AND ROW(deadline, id) OPERATOR(pg_catalog.>) ROW($3, $4)
    ORDER BY deadline, id LIMIT $5 FOR UPDATE SKIP LOCKED";

const LOCK_FREE: &str = "SELECT id, queue, workflow, timeout_ms, max_attempts, retry_delay_ms, retry_max_delay_ms,
        deadline, job_ids, leased_at, resources IS NOT NULL
    FROM qflow.lease WHERE id OPERATOR(pg_catalog.=) ANY ($1) AND pg_catalog.int8eq(queue, $2)
    ORDER BY id FOR UPDATE SKIP LOCKED";

const COUNT: &str = "SELECT pg_catalog.count(*) FROM qflow.lease WHERE id OPERATOR(pg_catalog.=) ANY ($1)";

const BOUND: &str = "SELECT id, queue, backend_pid, backend_start FROM qflow.lease WHERE bound";

const NEXT_DEADLINE: &str = "SELECT deadline FROM qflow.lease
    WHERE queue OPERATOR(pg_catalog.=) $1 ORDER BY deadline LIMIT 1";

const ANY_EXPIRED: &str = "SELECT 1 FROM qflow.lease
    WHERE queue OPERATOR(pg_catalog.=) $1 AND deadline OPERATOR(pg_catalog.<=) $2 LIMIT 1";

const HOLDING: &str = "SELECT id FROM qflow.lease
    WHERE queue OPERATOR(pg_catalog.=) $1 AND resources IS NOT NULL ORDER BY id";

const REMOVE: &str = "DELETE FROM qflow.lease WHERE id OPERATOR(pg_catalog.=) ANY ($1)";

const EXTEND: &str = "UPDATE qflow.lease SET deadline = $2 WHERE id OPERATOR(pg_catalog.=) $1";

const CONTAINS: &str = "SELECT j.id FROM ROWS FROM (pg_catalog.unnest($1), pg_catalog.unnest($2)) AS j (id, lease)
    JOIN qflow.lease l ON l.id OPERATOR(pg_catalog.=) j.lease
    WHERE j.id OPERATOR(pg_catalog.=) ANY (l.job_ids)";

/// Where ids are given out: another server start, timeline, cluster or database may not know the newest ones.
const INCARNATION: &str = "SELECT i, EXISTS (
        SELECT FROM qflow.lease_incarnation l WHERE l.incarnation OPERATOR(pg_catalog.=) i)
    FROM pg_catalog.concat_ws('/',
        pg_catalog.substr(pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_insert_lsn()), 1, 8),
        $1::pg_catalog.text, $2::pg_catalog.text,
        EXTRACT(epoch FROM pg_catalog.pg_postmaster_start_time())) AS i";

const JUMP: &str = "SELECT pg_catalog.setval('qflow.lease_id'::pg_catalog.regclass,
        GREATEST(
            GREATEST(pg_catalog.nextval('qflow.lease_id'::pg_catalog.regclass), $1) OPERATOR(pg_catalog.+) 4294967296,
            pg_catalog.floor(EXTRACT(epoch FROM pg_catalog.clock_timestamp()))::pg_catalog.int8
                OPERATOR(pg_catalog.*) 1048576)
            OPERATOR(pg_catalog.+) pg_catalog.floor(pg_catalog.random() OPERATOR(pg_catalog.*) 4294967296)::pg_catalog.int8)";

const NOTE_INCARNATION: &str = "WITH old AS (
        DELETE FROM qflow.lease_incarnation l WHERE l.incarnation OPERATOR(pg_catalog.<>) $1)
    INSERT INTO qflow.lease_incarnation VALUES ($1) ON CONFLICT DO NOTHING";

/// Ids follow the clock at a distance (see `JUMP`); what stands far above it was written by hand, and must not push the
/// sequence towards its end.
const NEWEST: &str = "SELECT pg_catalog.max(j.lease) FROM {q} j
    WHERE j.lease OPERATOR(pg_catalog.<) (1125899906842624 OPERATOR(pg_catalog.+)
        (pg_catalog.floor(EXTRACT(epoch FROM pg_catalog.now()))::pg_catalog.int8 OPERATOR(pg_catalog.*) 1048576))";

/// A lease about to be written.
pub struct NewLease<'a> {
    /// Who fetches.
    pub workflow: &'a str,
    /// The lease, its workflow's settings included.
    pub lease: &'a Lease,
    /// When it began, microseconds.
    pub leased_at: i64,
    /// Whether it ends with the session.
    pub bound: bool,
    /// The worker's name, if it gave one.
    pub worker: Option<&'a str>,
    /// The resources taken with it, as jsonb.
    pub resources: Arg,
}

/// A new fencing token: never given out before, whatever crashed since. Assigns a transaction id.
pub fn next_id() -> Result<i64> {
    let sequence = sequence()?;
    if FOLLOWED.get() != sequence {
        as_owner(|| follow_incarnation(sequence))?;
    }
    let id = with_rights_of(registry::owner()?, || sequence::next(sequence));
    sequence::make_durable(sequence);
    id.ok_or_else(|| Error::internal("no lease id"))
}

/// Moves the sequence far ahead, above `floor` too: for a database that may not know the newest ids given out.
pub fn jump(floor: i64) -> Result<()> {
    as_owner(|| {
        let _turn = Turn::take(What::LeaseJump);
        connected(|spi| once(spi, JUMP, &[(pg_sys::INT8OID, value::bigint(floor))]).map(|_| ()))?;
        sequence::make_durable(sequence()?);
        Ok(())
    })
}

/// The highest lease id in a table, named as SQL writes it; reads all of it.
pub fn newest_in(table: &str) -> Result<i64> {
    let sql = NEWEST.replace("{q}", table);
    connected(|spi| Ok(once_latest(spi, &sql, &[])?.first().and_then(|row| row.bigint(1)).unwrap_or(0)))
}

fn sequence() -> Result<pg_sys::Oid> {
    let sequence = relation::schema("qflow").and_then(|schema| relation::find(Some(schema), "lease_id"));
    sequence.ok_or_else(|| Error::not_ready("sequence qflow.lease_id is missing"))
}

thread_local! {
    /// The sequence that this session has seen moved ahead. The extension may be dropped and made again, or restored
    /// from an older dump, under a session that stays: its sequence is another one then, and begins anew.
    static FOLLOWED: Cell<pg_sys::Oid> = const { Cell::new(pg_sys::InvalidOid) };
}

/// Once per session and sequence, before its first id: after a server start, a promotion, a restore or a copy of the
/// database the sequence may stand below ids that were given out, and is moved far ahead.
fn follow_incarnation(sequence: pg_sys::Oid) -> Result<()> {
    let here =
        [(pg_sys::INT8OID, value::bigint(xact::system_identifier())), (pg_sys::OIDOID, value::oid(xact::database()))];
    let (incarnation, known) = connected(|spi| {
        let rows = once(spi, INCARNATION, &here)?;
        let row = rows.first().ok_or_else(|| Error::internal("no incarnation"))?;
        Ok((row.text(1)?.unwrap_or_default(), row.flag(2)))
    })?;
    if !known {
        jump(0)?;
        if lock::try_for_transaction(What::LeaseNote) {
            let args = [(pg_sys::TEXTOID, value::text(&incarnation))];
            connected(|spi| once(spi, NOTE_INCARNATION, &args).map(|_| ()))?;
        }
    }
    FOLLOWED.set(sequence);
    Ok(())
}

/// Writes the row of a lease.
pub fn add(new: &NewLease) -> Result<()> {
    if let Some(rows) = rows::open()? {
        rows.add(new);
        return Ok(());
    }
    let lease = new.lease;
    let args = [
        value::bigint(lease.id),
        value::bigint(lease.queue),
        value::text(new.workflow),
        value::bigint(lease.timeout_ms),
        value::int(lease.max_attempts),
        value::bigint(lease.backoff.delay_ms),
        value::bigint(lease.backoff.max_delay_ms),
        value::timestamp(new.leased_at),
        value::timestamp(lease.deadline),
        value::bigints(&lease.job_ids),
        value::int(xact::backend_pid()),
        value::timestamp(xact::backend_start()),
        value::boolean(new.bound),
        value::opt_text(new.worker),
        new.resources,
    ];
    as_owner(|| connected(|spi| kept(spi, ADD, &COLUMNS_TYPES)?.run(spi, &args, Mode::Write).map(|_| ())))
}

/// Locks leases of a queue in ascending order, waiting; those that are gone, or another queue's, are left out.
pub fn lock(queue: i64, ids: &[i64]) -> Result<Vec<Lease>> {
    if let Some(rows) = rows::open()? {
        return rows.lock(queue, ids);
    }
    const TYPES: [pg_sys::Oid; 2] = [pg_sys::INT8ARRAYOID, pg_sys::INT8OID];
    let args = [value::bigints(ids), value::bigint(queue)];
    leases(LOCK, &TYPES, &args)
}

/// The leases that a statement returns, run as the extension's owner.
fn leases(sql: &'static str, types: &[pg_sys::Oid], args: &[Arg]) -> Result<Vec<Lease>> {
    as_owner(|| {
        connected(|spi| {
            let rows = kept(spi, sql, types)?.run(spi, args, Mode::Write)?;
            let leases: Result<Vec<Lease>> = rows.iter().map(|row| lease_of(&row)).collect();
            leases
        })
    })
}

/// Locks expired leases of a queue, oldest deadline first, from after position `after` (deadline, id); never waits.
pub fn lock_expired(queue: i64, now: i64, after: (i64, i64), limit: i64) -> Result<Vec<Lease>> {
    const TYPES: [pg_sys::Oid; 5] =
        [pg_sys::INT8OID, pg_sys::TIMESTAMPTZOID, pg_sys::TIMESTAMPTZOID, pg_sys::INT8OID, pg_sys::INT8OID];
    let args = [
        value::bigint(queue),
        value::timestamp(now),
        value::timestamp(after.0),
        value::bigint(after.1),
        value::bigint(limit),
    ];
    leases(LOCK_EXPIRED, &TYPES, &args)
}

/// Locks those of a queue's leases that nobody else has locked, ascending.
pub fn lock_free(queue: i64, ids: &[i64]) -> Result<Vec<Lease>> {
    const TYPES: [pg_sys::Oid; 2] = [pg_sys::INT8ARRAYOID, pg_sys::INT8OID];
    let args = [value::bigints(ids), value::bigint(queue)];
    leases(LOCK_FREE, &TYPES, &args)
}

/// How many of these leases there are.
pub fn count(ids: &[i64]) -> Result<usize> {
    let args = [value::bigints(ids)];
    as_owner(|| {
        connected(|spi| {
            let rows = kept(spi, COUNT, &[pg_sys::INT8ARRAYOID])?.run(spi, &args, Mode::Write)?;
            Ok(rows.first().and_then(|row| row.bigint(1)).unwrap_or(0) as usize)
        })
    })
}

/// A lease that ends with its session.
pub struct Bound {
    /// The lease.
    pub id: i64,
    /// Number of its queue.
    pub queue: i64,
    /// The session.
    pub session: Session,
}

/// All leases that end with their sessions.
pub fn bound() -> Result<Vec<Bound>> {
    let of = |row: &Row| Bound {
        id: row.bigint(1).unwrap_or_default(),
        queue: row.bigint(2).unwrap_or_default(),
        session: Session { pid: row.int(3).unwrap_or_default(), start: row.bigint(4).unwrap_or_default() },
    };
    as_owner(|| {
        connected(|spi| Ok(kept(spi, BOUND, &[])?.run(spi, &[], Mode::Write)?.iter().map(|row| of(&row)).collect()))
    })
}

/// When the first of a queue's leases ends, microseconds.
pub fn next_deadline(queue: i64) -> Result<Option<i64>> {
    let args = [value::bigint(queue)];
    as_owner(|| {
        connected(|spi| {
            let rows = kept(spi, NEXT_DEADLINE, &[pg_sys::INT8OID])?.run(spi, &args, Mode::Write)?;
            Ok(rows.first().and_then(|row| row.bigint(1)))
        })
    })
}

/// Whether a queue has an expired lease; reads only.
pub fn any_expired(queue: i64, now: i64) -> Result<bool> {
    const TYPES: [pg_sys::Oid; 2] = [pg_sys::INT8OID, pg_sys::TIMESTAMPTZOID];
    let args = [value::bigint(queue), value::timestamp(now)];
    as_owner(|| connected(|spi| Ok(kept(spi, ANY_EXPIRED, &TYPES)?.run(spi, &args, Mode::Write)?.count() > 0)))
}

/// Removes leases whose rows are locked and whose jobs have all ended, and gives back what they held; false when they are
/// left for later, because others have that locked.
pub fn remove(ended: &[&Lease], why: Why) -> Result<bool> {
    if ended.is_empty() {
        return Ok(true);
    }
    let held: Vec<i64> = ended.iter().filter(|lease| lease.holds).map(|lease| lease.id).collect();
    if !release::lock(&held, why)? {
        return Ok(false);
    }
    let ids: Vec<i64> = ended.iter().map(|lease| lease.id).collect();
    delete(&ids)?;
    release::leases_ended(&held, why)?;
    Ok(true)
}

fn delete(ids: &[i64]) -> Result<()> {
    if let Some(rows) = rows::open()? {
        rows.delete(ids);
        return Ok(());
    }
    let args = [value::bigints(ids)];
    as_owner(|| connected(|spi| kept(spi, REMOVE, &[pg_sys::INT8ARRAYOID])?.run(spi, &args, Mode::Write).map(|_| ())))
}

/// The leases of a queue that hold resources.
pub fn holding(queue: i64) -> Result<Vec<i64>> {
    let args = [value::bigint(queue)];
    as_owner(|| {
        connected(|spi| {
            let rows = kept(spi, HOLDING, &[pg_sys::INT8OID])?.run(spi, &args, Mode::WriteLatest)?;
            let ids: Vec<i64> = rows.iter().filter_map(|row| row.bigint(1)).collect();
            Ok(ids)
        })
    })
}

/// Sets the deadline of a locked lease, microseconds.
pub fn set_deadline(id: i64, deadline: i64) -> Result<()> {
    const TYPES: [pg_sys::Oid; 2] = [pg_sys::INT8OID, pg_sys::TIMESTAMPTZOID];
    let args = [value::bigint(id), value::timestamp(deadline)];
    as_owner(|| connected(|spi| kept(spi, EXTEND, &TYPES)?.run(spi, &args, Mode::Write).map(|_| ())))
}

/// Of (job, lease) pairs, the jobs whose lease row exists and contains them.
pub fn containing(pairs: &[(i64, i64)]) -> Result<Vec<i64>> {
    const TYPES: [pg_sys::Oid; 2] = [pg_sys::INT8ARRAYOID, pg_sys::INT8ARRAYOID];
    let args = [
        value::bigints(&pairs.iter().map(|pair| pair.0).collect::<Vec<_>>()),
        value::bigints(&pairs.iter().map(|pair| pair.1).collect::<Vec<_>>()),
    ];
    as_owner(|| {
        connected(|spi| {
            let rows = kept(spi, CONTAINS, &TYPES)?.run(spi, &args, Mode::Write)?;
            let ids: Vec<i64> = rows.iter().filter_map(|row| row.bigint(1)).collect();
            Ok(ids)
        })
    })
}

fn lease_of(row: &Row) -> Result<Lease> {
    Ok(Lease {
        id: row.bigint(1).unwrap_or_default(),
        queue: row.bigint(2).unwrap_or_default(),
        workflow: row.text(3)?.unwrap_or_default(),
        timeout_ms: row.bigint(4).unwrap_or_default(),
        max_attempts: row.int(5).unwrap_or_default(),
        backoff: Backoff {
            delay_ms: row.bigint(6).unwrap_or_default(),
            max_delay_ms: row.bigint(7).unwrap_or_default(),
        },
        deadline: row.bigint(8).unwrap_or_default(),
        job_ids: row.bigints(9),
        leased_at: row.bigint(10).unwrap_or_default(),
        holds: row.flag(11),
    })
}

/// A lease as the views show it.
pub struct Overview {
    /// The fencing token.
    pub id: i64,
    /// Number of the queue.
    pub queue: i64,
    /// Its workflow.
    pub workflow: String,
    /// When it began, microseconds.
    pub leased_at: i64,
    /// When it ends, microseconds.
    pub deadline: i64,
    /// The worker's name, if it gave one.
    pub worker: Option<String>,
    /// Process id of the backend that fetched.
    pub pid: i32,
    /// Whether it ends with that backend.
    pub bound: bool,
    /// The jobs that were fetched with it.
    pub job_ids: Vec<i64>,
    /// The resources taken with it, as the text of a jsonb.
    pub resources: Option<String>,
}

const OVERVIEW: &str = "SELECT id, queue, workflow, leased_at, deadline, worker, backend_pid, bound, job_ids,
        resources::pg_catalog.text
    FROM qflow.lease ORDER BY id";

/// All leases, in the order of their ids.
pub fn overview() -> Result<Vec<Overview>> {
    as_owner(|| {
        connected(|spi| {
            let rows = once(spi, OVERVIEW, &[])?;
            let leases: Result<Vec<Overview>> = rows
                .iter()
                .map(|row| {
                    Ok(Overview {
                        id: row.bigint(1).unwrap_or_default(),
                        queue: row.bigint(2).unwrap_or_default(),
                        workflow: row.text(3)?.unwrap_or_default(),
                        leased_at: row.bigint(4).unwrap_or_default(),
                        deadline: row.bigint(5).unwrap_or_default(),
                        worker: row.text(6)?,
                        pid: row.int(7).unwrap_or_default(),
                        bound: row.flag(8),
                        job_ids: row.bigints(9),
                        resources: row.text(10)?,
                    })
                })
                .collect();
            leases
        })
    })
}
