//! The SQL that touches job rows. `{q}` stands for the queue's table. Everything is qualified, operators included: these
//! statements run under the caller's search_path, so that his triggers see what they would see on a plain UPDATE.

use pgrx::pg_sys::{self, Oid};

/// A statement on a queue's table; its plan is kept per queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Statement {
    /// Fresh pending jobs in stretches of the index.
    Scan,
    /// Pending jobs whose time has come.
    Due,
    /// Locks those of some jobs that can be claimed, skipping what others hold.
    LockPending,
    /// Claims locked jobs.
    Claim,
    /// Locks jobs in ascending order, waiting, and says how they stand.
    LockStates,
    /// Says how jobs stand, without locking them.
    States,
    /// Locks what can be locked of the jobs in progress under a lease.
    LockHeld,
    /// Locks a job if it is in progress under a lease, or under none.
    LockOrphan,
    /// Completes jobs in progress under one lease.
    Complete,
    /// Deletes jobs in progress under one lease.
    CompleteAndDelete,
    /// Changes locked jobs, each in its own way.
    Apply,
    /// Deletes locked jobs.
    Delete,
    /// Whether a job is still in progress under a lease.
    AnyHeld,
    /// How many jobs are still in progress under a lease.
    CountHeld,
    /// Which jobs are in progress, and under which lease.
    Leases,
    /// Gives a job that became pending its `available_at`.
    Return,
    /// A chunk of all jobs in the order of their ids.
    Chunk,
    /// Gives pending jobs an `available_at`.
    MakeDue,
    /// Gives jobs in progress an `updated_at` that have none.
    Stamp,
    /// Inserts jobs.
    Insert,
    /// When the first of the jobs with an `available_at` is due.
    NextDue,
    /// A stretch of all jobs in the order of their ids: how they stand, and since when.
    Ages,
    /// Deletes jobs that ended long enough ago, skipping what others hold.
    RemoveOld,
    /// Gives jobs that ended an `updated_at` that have none.
    DateEnded,
    /// How many jobs wait for their time, counted up to a limit.
    Delayed,
    /// When the first job of each of some stretches of the index was inserted, the earliest of these.
    OldestFresh,
    /// When the earliest of the jobs whose time has come was inserted, looked for up to a limit.
    OldestDue,
}

/// How many statements there are.
pub const STATEMENTS: usize = 27;

impl Statement {
    /// Its text, with the placeholders of `Shape::fill`.
    pub fn text(self) -> &'static str {
        match self {
            Self::Scan => SCAN,
            Self::Due => DUE,
            Self::LockPending => LOCK_PENDING,
            Self::Claim => CLAIM,
            Self::LockStates => LOCK_STATES,
            Self::States => STATES,
            Self::LockHeld => LOCK_HELD,
            Self::LockOrphan => LOCK_ORPHAN,
            Self::Complete => COMPLETE,
            Self::CompleteAndDelete => COMPLETE_AND_DELETE,
            Self::Apply => APPLY,
            Self::Delete => DELETE,
            Self::AnyHeld => ANY_HELD,
            Self::CountHeld => COUNT_HELD,
            Self::Leases => LEASES,
            Self::Return => RETURN,
            Self::Chunk => CHUNK,
            Self::MakeDue => MAKE_DUE,
            Self::Stamp => STAMP,
            Self::Insert => INSERT,
            Self::NextDue => NEXT_DUE,
            Self::Ages => AGES,
            Self::RemoveOld => REMOVE_OLD,
            Self::DateEnded => DATE_ENDED,
            Self::Delayed => DELAYED,
            Self::OldestFresh => OLDEST_FRESH,
            Self::OldestDue => OLDEST_DUE,
        }
    }

    /// The types of its parameters.
    pub fn types(self) -> &'static [Oid] {
        const IDS: Oid = pg_sys::INT8ARRAYOID;
        const ID: Oid = pg_sys::INT8OID;
        const TIME: Oid = pg_sys::TIMESTAMPTZOID;
        const XIDS: Oid = pg_sys::XID8ARRAYOID;
        match self {
            Self::Scan => &[IDS, XIDS, IDS, XIDS, IDS, ID],
            Self::Due => &[TIME, TIME, ID, ID],
            Self::LockPending => &[IDS, TIME, ID],
            Self::Claim => &[IDS, ID, TIME],
            Self::LockStates | Self::States | Self::Leases | Self::Delete => &[IDS],
            Self::LockHeld => &[IDS, ID, ID],
            Self::AnyHeld | Self::CountHeld => &[IDS, ID],
            Self::Complete => &[IDS, ID, TIME],
            Self::CompleteAndDelete => &[IDS, ID],
            Self::Apply => &[IDS, pg_sys::TEXTARRAYOID, pg_sys::TIMESTAMPTZARRAYOID, IDS, pg_sys::TEXTARRAYOID, TIME],
            Self::Return => &[ID],
            Self::NextDue => &[],
            Self::Delayed | Self::OldestDue => &[TIME, ID],
            Self::OldestFresh => &[IDS, XIDS, IDS, XIDS, IDS],
            Self::LockOrphan => &[ID, ID],
            Self::Chunk => &[ID, ID],
            Self::MakeDue | Self::Stamp | Self::DateEnded => &[IDS, TIME],
            Self::Ages => &[ID, ID, ID],
            Self::RemoveOld => &[IDS, TIME, TIME],
            Self::Insert => &[IDS, pg_sys::JSONBARRAYOID, pg_sys::JSONBARRAYOID, pg_sys::INT2OID, TIME],
        }
    }
}

/// A stretch ends before a transaction's rows, or is of one transaction and asked for with its id. With a row comparison
/// as its end an index scan, up to PostgreSQL 17, would stop at the first part only: behind all rows of the transaction
/// in which the stretch ends, hundreds of thousands where they were loaded by one COPY.
const SCAN: &str = "SELECT s.ord, j.enqueued_xid, j.id, j.data, j.metadata
    FROM ROWS FROM (pg_catalog.unnest($1), pg_catalog.unnest($2), pg_catalog.unnest($3), pg_catalog.unnest($4),
            pg_catalog.unnest($5)) WITH ORDINALITY AS s (priority, from_xid, from_id, to_xid, to_id, ord)
        CROSS JOIN LATERAL (
            (SELECT i.enqueued_xid, i.id::pg_catalog.int8 AS id, i.data, i.metadata FROM {q} i
            WHERE s.from_xid OPERATOR(pg_catalog.<>) s.to_xid AND i.priority OPERATOR(pg_catalog.=) s.priority
                AND ROW(i.enqueued_xid, i.id) OPERATOR(pg_catalog.>=) ROW(s.from_xid, s.from_id)
                AND i.enqueued_xid OPERATOR(pg_catalog.<) s.to_xid
                AND i.status OPERATOR(pg_catalog.=) 'pending' AND i.available_at IS NULL
            ORDER BY i.priority, i.enqueued_xid, i.id LIMIT $6)
            UNION ALL
            (SELECT i.enqueued_xid, i.id::pg_catalog.int8 AS id, i.data, i.metadata FROM {q} i
            WHERE s.from_xid OPERATOR(pg_catalog.=) s.to_xid AND i.priority OPERATOR(pg_catalog.=) s.priority
                AND i.enqueued_xid OPERATOR(pg_catalog.=) s.from_xid
                AND i.id OPERATOR(pg_catalog.>=) s.from_id AND i.id OPERATOR(pg_catalog.<) s.to_id
                AND i.status OPERATOR(pg_catalog.=) 'pending' AND i.available_at IS NULL
            ORDER BY i.priority, i.enqueued_xid, i.id LIMIT $6)) j
    LIMIT $6";

const DUE: &str = "SELECT j.id::pg_catalog.int8, j.available_at, j.data, j.metadata FROM {q} j
    WHERE j.available_at IS NOT NULL AND j.available_at OPERATOR(pg_catalog.<=) $1
        AND ROW(j.available_at, j.id) OPERATOR(pg_catalog.>) ROW($2, $3)
        AND j.status OPERATOR(pg_catalog.=) 'pending'
    ORDER BY j.available_at, j.id LIMIT $4";

const NEXT_DUE: &str = "SELECT j.available_at FROM {q} j
    WHERE j.available_at IS NOT NULL AND j.status OPERATOR(pg_catalog.=) 'pending'
    ORDER BY j.available_at, j.id LIMIT 1";

const DELAYED: &str = "SELECT pg_catalog.count(*) FROM (
        SELECT 1 FROM {q} j
        WHERE j.available_at IS NOT NULL AND j.available_at OPERATOR(pg_catalog.>) $1
            AND j.status OPERATOR(pg_catalog.=) 'pending'
        ORDER BY j.available_at, j.id LIMIT $2) d";

const OLDEST_FRESH: &str = "SELECT pg_catalog.min(j.inserted_at) FILTER (WHERE pg_catalog.isfinite(j.inserted_at))
    FROM ROWS FROM (pg_catalog.unnest($1), pg_catalog.unnest($2), pg_catalog.unnest($3), pg_catalog.unnest($4),
            pg_catalog.unnest($5)) AS s (priority, from_xid, from_id, to_xid, to_id)
        CROSS JOIN LATERAL (
            SELECT i.inserted_at{inserted_zone} AS inserted_at FROM {q} i
            WHERE i.priority OPERATOR(pg_catalog.=) s.priority
                AND ROW(i.enqueued_xid, i.id) OPERATOR(pg_catalog.>=) ROW(s.from_xid, s.from_id)
                AND ROW(i.enqueued_xid, i.id) OPERATOR(pg_catalog.<) ROW(s.to_xid, s.to_id)
                AND i.status OPERATOR(pg_catalog.=) 'pending' AND i.available_at IS NULL
            ORDER BY i.priority, i.enqueued_xid, i.id LIMIT 1) j";

const OLDEST_DUE: &str = "SELECT pg_catalog.min(d.inserted_at) FILTER (WHERE pg_catalog.isfinite(d.inserted_at)) FROM (
        SELECT j.inserted_at{inserted_zone} AS inserted_at FROM {q} j
        WHERE j.available_at IS NOT NULL AND j.available_at OPERATOR(pg_catalog.<=) $1
            AND j.status OPERATOR(pg_catalog.=) 'pending'
        ORDER BY j.available_at, j.id LIMIT $2) d";

const LOCK_PENDING: &str = "SELECT j.id::pg_catalog.int8 FROM {q} j
    WHERE j.id OPERATOR(pg_catalog.=) ANY ($1) AND j.status OPERATOR(pg_catalog.=) 'pending'
        AND (j.available_at IS NULL OR j.available_at OPERATOR(pg_catalog.<=) $2)
    ORDER BY j.id LIMIT $3 FOR NO KEY UPDATE SKIP LOCKED";

const CLAIM: &str = "UPDATE {q} j SET status = 'in_progress', lease = $2, updated_at = $3{updated_zone},
        available_at = NULL, attempt = LEAST(COALESCE(j.attempt, 0), 2147483646) OPERATOR(pg_catalog.+) 1
    WHERE j.id OPERATOR(pg_catalog.=) ANY ($1)
    RETURNING j.id::pg_catalog.int8, j.data, j.metadata, j.attempt, j.inserted_at{inserted_zone}, j.failure_reason::pg_catalog.text";

const LOCK_STATES: &str = "SELECT j.id::pg_catalog.int8, j.status, j.lease, j.attempt, j.inserted_at{inserted_zone}
    FROM {q} j
    WHERE j.id OPERATOR(pg_catalog.=) ANY ($1) ORDER BY j.id FOR NO KEY UPDATE";

const STATES: &str = "SELECT j.id::pg_catalog.int8, j.status, j.lease, j.attempt FROM {q} j
    WHERE j.id OPERATOR(pg_catalog.=) ANY ($1)";

const LOCK_HELD: &str = "SELECT j.id::pg_catalog.int8, j.status, j.lease, j.attempt FROM {q} j
    WHERE j.id OPERATOR(pg_catalog.=) ANY ($1) AND j.lease OPERATOR(pg_catalog.=) $2
        AND j.status OPERATOR(pg_catalog.=) 'in_progress'
    ORDER BY j.id LIMIT $3 FOR NO KEY UPDATE SKIP LOCKED";

const LOCK_ORPHAN: &str = "SELECT 1 FROM {q} j
    WHERE j.id OPERATOR(pg_catalog.=) $1 AND j.lease IS NOT DISTINCT FROM $2
        AND j.status OPERATOR(pg_catalog.=) 'in_progress'
    FOR NO KEY UPDATE SKIP LOCKED";

const COMPLETE: &str = "UPDATE {q} j SET status = 'completed', updated_at = $3{updated_zone}
    WHERE j.id OPERATOR(pg_catalog.=) ANY ($1) AND j.lease OPERATOR(pg_catalog.=) $2
        AND j.status OPERATOR(pg_catalog.=) 'in_progress'
    RETURNING j.id::pg_catalog.int8, j.inserted_at{inserted_zone}";

const COMPLETE_AND_DELETE: &str = "DELETE FROM {q} j
    WHERE j.id OPERATOR(pg_catalog.=) ANY ($1) AND j.lease OPERATOR(pg_catalog.=) $2
        AND j.status OPERATOR(pg_catalog.=) 'in_progress'
    RETURNING j.id::pg_catalog.int8, j.inserted_at{inserted_zone}";

const APPLY: &str = "UPDATE {q} j SET status = u.status, available_at = u.available_at,
        attempt = j.attempt OPERATOR(pg_catalog.-) u.refund::pg_catalog.int4,
        failure_reason = COALESCE(u.reason::{reason}, j.failure_reason), updated_at = $6{updated_zone}
    FROM ROWS FROM (pg_catalog.unnest($1), pg_catalog.unnest($2), pg_catalog.unnest($3), pg_catalog.unnest($4),
        pg_catalog.unnest($5)) AS u (id, status, available_at, refund, reason)
    WHERE j.id OPERATOR(pg_catalog.=) u.id
    RETURNING j.id::pg_catalog.int8";

const DELETE: &str = "DELETE FROM {q} j WHERE j.id OPERATOR(pg_catalog.=) ANY ($1) RETURNING j.id::pg_catalog.int8";

const ANY_HELD: &str = "SELECT 1 FROM {q} j
    WHERE j.id OPERATOR(pg_catalog.=) ANY ($1) AND j.lease OPERATOR(pg_catalog.=) $2
        AND j.status OPERATOR(pg_catalog.=) 'in_progress' LIMIT 1";

const COUNT_HELD: &str = "SELECT pg_catalog.count(*) FROM {q} j
    WHERE j.id OPERATOR(pg_catalog.=) ANY ($1) AND j.lease OPERATOR(pg_catalog.=) $2
        AND j.status OPERATOR(pg_catalog.=) 'in_progress'";

const LEASES: &str = "SELECT j.id::pg_catalog.int8, j.lease FROM {q} j
    WHERE j.id OPERATOR(pg_catalog.=) ANY ($1) AND j.status OPERATOR(pg_catalog.=) 'in_progress'";

const RETURN: &str = "UPDATE {q} j SET available_at = pg_catalog.clock_timestamp()
    WHERE j.id OPERATOR(pg_catalog.=) $1 AND j.status OPERATOR(pg_catalog.=) 'pending' AND j.available_at IS NULL";

const CHUNK: &str = "SELECT j.id::pg_catalog.int8, j.status, j.lease, j.attempt, j.priority::pg_catalog.int8,
        j.enqueued_xid, j.available_at IS NULL, j.updated_at{updated_zone}
    FROM {q} j WHERE j.id OPERATOR(pg_catalog.>=) $1 ORDER BY j.id LIMIT $2";

const MAKE_DUE: &str = "UPDATE {q} j SET available_at = $2
    WHERE j.id OPERATOR(pg_catalog.=) ANY (ARRAY(SELECT l.id FROM {q} l
        WHERE l.id OPERATOR(pg_catalog.=) ANY ($1) AND l.status OPERATOR(pg_catalog.=) 'pending'
            AND l.available_at IS NULL
        ORDER BY l.id FOR NO KEY UPDATE SKIP LOCKED))";

const STAMP: &str = "UPDATE {q} j SET updated_at = $2{updated_zone}
    WHERE j.id OPERATOR(pg_catalog.=) ANY (ARRAY(SELECT l.id FROM {q} l
        WHERE l.id OPERATOR(pg_catalog.=) ANY ($1) AND l.status OPERATOR(pg_catalog.=) 'in_progress'
            AND (l.updated_at IS NULL OR l.updated_at{updated_zone} OPERATOR(pg_catalog.>) $2)
        ORDER BY l.id FOR NO KEY UPDATE SKIP LOCKED))";

const INSERT: &str = "INSERT INTO {q} (id, data, metadata, priority, available_at) OVERRIDING SYSTEM VALUE
    SELECT u.id, u.data, u.metadata, $4, $5
    FROM ROWS FROM (pg_catalog.unnest($1), pg_catalog.unnest($2), pg_catalog.unnest($3)) AS u (id, data, metadata)";

const AGES: &str = "SELECT j.id::pg_catalog.int8, j.status, j.updated_at{updated_zone} FROM {q} j
    WHERE j.id OPERATOR(pg_catalog.>=) $1 AND j.id OPERATOR(pg_catalog.<=) $2 ORDER BY j.id LIMIT $3";

const REMOVE_OLD: &str = "DELETE FROM {q} j
    WHERE j.id OPERATOR(pg_catalog.=) ANY (ARRAY(SELECT l.id FROM {q} l
        WHERE l.id OPERATOR(pg_catalog.=) ANY ($1)
            AND l.updated_at{updated_zone} OPERATOR(pg_catalog.<=) CASE WHEN l.status OPERATOR(pg_catalog.=) 'completed' THEN $2
                WHEN l.status OPERATOR(pg_catalog.=) 'failed' THEN $3 END
        ORDER BY l.id FOR UPDATE SKIP LOCKED))
    RETURNING j.id::pg_catalog.int8, j.status OPERATOR(pg_catalog.=) 'failed'";

const DATE_ENDED: &str = "UPDATE {q} j SET updated_at = $2{updated_zone}
    WHERE j.id OPERATOR(pg_catalog.=) ANY (ARRAY(SELECT l.id FROM {q} l
        WHERE l.id OPERATOR(pg_catalog.=) ANY ($1) AND l.updated_at IS NULL
            AND l.status OPERATOR(pg_catalog.=) ANY ('{completed,failed}'::pg_catalog.text[])
        ORDER BY l.id FOR NO KEY UPDATE SKIP LOCKED))
    RETURNING j.id::pg_catalog.int8";
