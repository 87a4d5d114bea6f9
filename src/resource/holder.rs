//! Who holds what: the rows of `qflow.holder`, and the leases on each of them. All of it runs as the extension's owner.
//!
//! They are read as they are at this moment, rows of open transactions included (`host::dirty`): whoever is about to take
//! a slot must see who else is.

use pgrx::pg_sys;

use super::catalog::Kind;
use crate::error::{Error, Result};
use crate::host::dirty::{self, DirtyRow};
use crate::host::lock::ResourceLock;
use crate::host::spi::{connected, kept, Mode, Row};
use crate::host::{relation, value, xact};
use crate::queue::registry::as_owner;
use crate::shmem::database::Session;

/// One slot that is taken, or the units of one consumer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// Its number.
    pub id: i64,
    /// Since when, microseconds.
    pub since: i64,
    /// The session that took it.
    pub session: Session,
    /// The database in which it was written: a copy of a database is no holder.
    pub database: pg_sys::Oid,
    /// Whether the session keeps a lock too.
    pub by_session: bool,
    /// The resource.
    pub resource: String,
    /// The slot; `None` for units.
    pub slot: Option<i64>,
    /// How many units; 0 for a slot.
    pub units: i64,
    /// Whose fetch took it.
    pub workflow: String,
    /// The worker's name, if it gave one.
    pub worker: Option<String>,
}

impl Holder {
    /// The lock that a session keeps beside the row.
    pub fn lock(&self) -> ResourceLock {
        match self.slot {
            Some(slot) => ResourceLock::slot(&self.resource, slot),
            None => ResourceLock::holder(&self.resource, self.id),
        }
    }

    /// How it is counted.
    pub fn kind(&self) -> Kind {
        if self.slot.is_some() {
            Kind::Slots
        } else {
            Kind::Units
        }
    }
}

/// The own session.
pub fn own_session() -> Session {
    Session { pid: xact::backend_pid(), start: xact::backend_start() }
}

/// All holders, those included that others are about to add or to remove.
pub fn all() -> Result<Vec<Holder>> {
    all_and_copies().map(|(holders, _)| holders)
}

/// The same, and whether there are rows besides that came with a copy of a database.
pub fn all_and_copies() -> Result<(Vec<Holder>, bool)> {
    let here = xact::database();
    let rows: Result<Vec<Holder>> = dirty::rows(table()?, of).into_iter().collect();
    let (mut holders, copies): (Vec<Holder>, Vec<Holder>) =
        rows?.into_iter().partition(|holder| holder.database == here);
    // A row that an open transaction has changed comes in both versions: it may end with either. The larger one counts.
    holders.sort_by_key(|holder| (holder.id, std::cmp::Reverse(holder.units)));
    holders.dedup_by_key(|holder| holder.id);
    Ok((holders, !copies.is_empty()))
}

/// The table; DROP EXTENSION and CREATE EXTENSION make another one, whose rows are numbered anew.
pub fn table() -> Result<pg_sys::Oid> {
    let found = relation::schema("qflow").and_then(|schema| relation::find(Some(schema), "holder"));
    found.ok_or_else(|| Error::not_ready("table qflow.holder is missing").hint("Run CREATE EXTENSION qflow."))
}

/// The columns in the order of `sql/schema.sql`.
fn of(row: &DirtyRow) -> Result<Holder> {
    let text = |at| row.datum(at).map(value::to_string).transpose();
    let number = |at| row.datum(at).map(|datum| datum.value() as i64);
    Ok(Holder {
        id: number(1).unwrap_or_default(),
        since: number(2).unwrap_or_default(),
        session: Session { pid: number(4).unwrap_or_default() as i32, start: number(3).unwrap_or_default() },
        database: pg_sys::Oid::from(number(5).unwrap_or_default() as u32),
        by_session: number(6).is_some_and(|flag| flag & 1 == 1),
        resource: text(7)?.unwrap_or_default(),
        slot: number(8),
        units: number(9).unwrap_or_default(),
        workflow: text(10)?.unwrap_or_default(),
        worker: text(11)?,
    })
}

const ADD: &str =
    "INSERT INTO qflow.holder (since, backend_start, backend_pid, database_oid, by_session, resource, slot,
        units, workflow, worker)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) RETURNING id";

const REMOVE_COPY: &str = "DELETE FROM qflow.holder WHERE resource OPERATOR(pg_catalog.=) $1
    AND slot OPERATOR(pg_catalog.=) $2 AND database_oid OPERATOR(pg_catalog.<>) $3";

const ATTACH: &str = "INSERT INTO qflow.holder_lease (lease, holder) VALUES ($1, $2)";

const RAISE: &str = "UPDATE qflow.holder SET units = $2
    WHERE id OPERATOR(pg_catalog.=) $1 AND units OPERATOR(pg_catalog.<) $2";

const LOCK_FREE: &str = "SELECT id FROM qflow.holder WHERE id OPERATOR(pg_catalog.=) ANY ($1)
    ORDER BY id FOR UPDATE SKIP LOCKED";

// By an array, so that the planner cannot turn it around: through all holders to their leases.
const LOCK_OF_LEASES: &str =
    "SELECT h.id, h.since, h.backend_start, h.backend_pid, h.database_oid, h.by_session, h.resource,
        h.slot, h.units, h.workflow, h.worker
    FROM qflow.holder AS h
    WHERE h.id OPERATOR(pg_catalog.=) ANY (ARRAY(
        SELECT l.holder FROM qflow.holder_lease AS l WHERE l.lease OPERATOR(pg_catalog.=) ANY ($1)))
    ORDER BY h.id FOR UPDATE";

const BY_SESSION_OF: &str =
    "SELECT h.id, h.since, h.backend_start, h.backend_pid, h.database_oid, h.by_session, h.resource,
        h.slot, h.units, h.workflow, h.worker
    FROM qflow.holder AS h
    WHERE h.id OPERATOR(pg_catalog.=) ANY (ARRAY(
        SELECT l.holder FROM qflow.holder_lease AS l WHERE l.lease OPERATOR(pg_catalog.=) ANY ($1))) AND h.by_session
    ORDER BY h.id";

// Of a copy of a database the holders may be gone while the leases are there.
const OF_LEASES: &str = "SELECT h.id FROM qflow.holder AS h
    WHERE h.id OPERATOR(pg_catalog.=) ANY (ARRAY(
        SELECT l.holder FROM qflow.holder_lease AS l WHERE l.lease OPERATOR(pg_catalog.=) ANY ($1)))
    ORDER BY h.id";

const DETACH: &str = "DELETE FROM qflow.holder_lease WHERE lease OPERATOR(pg_catalog.=) ANY ($1)";

const WITH_LEASE: &str = "SELECT DISTINCT l.holder FROM qflow.holder_lease AS l
    WHERE l.holder OPERATOR(pg_catalog.=) ANY ($1)";

const REMOVE: &str = "DELETE FROM qflow.holder WHERE id OPERATOR(pg_catalog.=) ANY ($1)";

// OFFSET 0, so that the planner looks each lease up: merging would lead through all of them.
const ON_THEM: &str = "SELECT l.holder, l.lease, e.deadline, e.queue
    FROM qflow.holder_lease AS l CROSS JOIN LATERAL (
        SELECT deadline, queue FROM qflow.lease WHERE id OPERATOR(pg_catalog.=) l.lease OFFSET 0) AS e
    WHERE l.holder OPERATOR(pg_catalog.=) ANY ($1)
    ORDER BY l.holder, l.lease";

/// Writes the row of a new holder; its number.
pub fn add(holder: &Holder) -> Result<i64> {
    const TYPES: [pg_sys::Oid; 10] = [
        pg_sys::TIMESTAMPTZOID,
        pg_sys::TIMESTAMPTZOID,
        pg_sys::INT4OID,
        pg_sys::OIDOID,
        pg_sys::BOOLOID,
        pg_sys::TEXTOID,
        pg_sys::INT8OID,
        pg_sys::INT8OID,
        pg_sys::TEXTOID,
        pg_sys::TEXTOID,
    ];
    let args = [
        value::timestamp(holder.since),
        value::timestamp(holder.session.start),
        value::int(holder.session.pid),
        value::oid(holder.database),
        value::boolean(holder.by_session),
        value::text(&holder.resource),
        holder.slot.and_then(value::bigint),
        value::bigint(holder.units).filter(|_| holder.slot.is_none()),
        value::text(&holder.workflow),
        value::opt_text(holder.worker.as_deref()),
    ];
    as_owner(|| {
        connected(|spi| {
            let rows = kept(spi, ADD, &TYPES)?.run(spi, &args, Mode::Write)?;
            rows.first().and_then(|row| row.bigint(1)).ok_or_else(|| Error::internal("no number for a holder"))
        })
    })
}

/// Removes the row of a slot that came with a copy of a database: it would be in the way of a new one.
pub fn remove_copy(resource: &str, slot: i64, here: pg_sys::Oid) -> Result<()> {
    const TYPES: [pg_sys::Oid; 3] = [pg_sys::TEXTOID, pg_sys::INT8OID, pg_sys::OIDOID];
    let args = [value::text(resource), value::bigint(slot), value::oid(here)];
    as_owner(|| connected(|spi| kept(spi, REMOVE_COPY, &TYPES)?.run(spi, &args, Mode::WriteLatest).map(|_| ())))
}

/// Puts a lease on a holder.
pub fn attach(lease: i64, holder: i64) -> Result<()> {
    const TYPES: [pg_sys::Oid; 2] = [pg_sys::INT8OID, pg_sys::INT8OID];
    let args = [value::bigint(lease), value::bigint(holder)];
    as_owner(|| connected(|spi| kept(spi, ATTACH, &TYPES)?.run(spi, &args, Mode::Write).map(|_| ())))
}

/// Gives a locked holder more units.
pub fn raise(holder: i64, units: i64) -> Result<()> {
    const TYPES: [pg_sys::Oid; 2] = [pg_sys::INT8OID, pg_sys::INT8OID];
    let args = [value::bigint(holder), value::bigint(units)];
    as_owner(|| connected(|spi| kept(spi, RAISE, &TYPES)?.run(spi, &args, Mode::WriteLatest).map(|_| ())))
}

/// Locks those holders that nobody else has locked; their numbers. Assigns a transaction id.
pub fn lock_free(holders: &[i64]) -> Result<Vec<i64>> {
    numbers(LOCK_FREE, holders)
}

/// Of locked holders, those on which there is no lease any more.
pub fn without_lease(holders: &[i64]) -> Result<Vec<i64>> {
    let with = numbers(WITH_LEASE, holders)?;
    Ok(holders.iter().copied().filter(|holder| !with.contains(holder)).collect())
}

fn numbers(sql: &'static str, holders: &[i64]) -> Result<Vec<i64>> {
    if holders.is_empty() {
        return Ok(Vec::new());
    }
    let args = [value::bigints(holders)];
    as_owner(|| {
        connected(|spi| {
            let rows = kept(spi, sql, &[pg_sys::INT8ARRAYOID])?.run(spi, &args, Mode::WriteLatest)?;
            let numbers: Vec<i64> = rows.iter().filter_map(|row| row.bigint(1)).collect();
            Ok(numbers)
        })
    })
}

/// Locks the holders under some leases without waiting; false when somebody else has one of them locked.
pub fn try_lock_of_leases(leases: &[i64]) -> Result<bool> {
    let holders = numbers(OF_LEASES, leases)?;
    Ok(lock_free(&holders)? == holders)
}

/// Locks the holders under some leases, ascending, waiting: a fetch that adds a lease to one of them, or another settle.
pub fn lock_of_leases(leases: &[i64]) -> Result<Vec<Holder>> {
    under(LOCK_OF_LEASES, leases)
}

/// The holders under some leases that a session keeps by its locks.
pub fn by_session_of(leases: &[i64]) -> Result<Vec<Holder>> {
    under(BY_SESSION_OF, leases)
}

fn under(sql: &'static str, leases: &[i64]) -> Result<Vec<Holder>> {
    let args = [value::bigints(leases)];
    as_owner(|| {
        connected(|spi| {
            let plan = kept(spi, sql, &[pg_sys::INT8ARRAYOID])?;
            let holders: Result<Vec<Holder>> =
                plan.run(spi, &args, Mode::WriteLatest)?.iter().map(|row| of_row(&row)).collect();
            holders
        })
    })
}

fn of_row(row: &Row) -> Result<Holder> {
    Ok(Holder {
        id: row.bigint(1).unwrap_or_default(),
        since: row.bigint(2).unwrap_or_default(),
        session: Session { pid: row.int(4).unwrap_or_default(), start: row.bigint(3).unwrap_or_default() },
        database: row.oid(5).unwrap_or(pg_sys::InvalidOid),
        by_session: row.flag(6),
        resource: row.text(7)?.unwrap_or_default(),
        slot: row.bigint(8),
        units: row.bigint(9).unwrap_or_default(),
        workflow: row.text(10)?.unwrap_or_default(),
        worker: row.text(11)?,
    })
}

/// Takes leases off their holders.
pub fn detach(leases: &[i64]) -> Result<()> {
    change(DETACH, leases)
}

/// Removes locked holders.
pub fn remove(holders: &[i64]) -> Result<()> {
    match holders.is_empty() {
        true => Ok(()),
        false => change(REMOVE, holders),
    }
}

fn change(sql: &'static str, ids: &[i64]) -> Result<()> {
    let args = [value::bigints(ids)];
    let types = [pg_sys::INT8ARRAYOID];
    as_owner(|| connected(|spi| kept(spi, sql, &types)?.run(spi, &args, Mode::WriteLatest).map(|_| ())))
}

/// A lease on a holder.
pub struct OnIt {
    /// The holder.
    pub holder: i64,
    /// The lease.
    pub lease: i64,
    /// When it ends, microseconds.
    pub deadline: i64,
    /// Number of its queue.
    pub queue: i64,
}

/// The leases on some holders, by holder. Found by the holders' numbers, so that what is gone is not met.
pub fn leases(holders: &[i64]) -> Result<Vec<OnIt>> {
    if holders.is_empty() {
        return Ok(Vec::new());
    }
    let of = |row: Row| OnIt {
        holder: row.bigint(1).unwrap_or_default(),
        lease: row.bigint(2).unwrap_or_default(),
        deadline: row.bigint(3).unwrap_or_default(),
        queue: row.bigint(4).unwrap_or_default(),
    };
    as_owner(|| {
        connected(|spi| {
            let rows =
                kept(spi, ON_THEM, &[pg_sys::INT8ARRAYOID])?.run(spi, &[value::bigints(holders)], Mode::WriteLatest)?;
            let leases: Vec<OnIt> = rows.iter().map(of).collect();
            Ok(leases)
        })
    })
}

const IS_LIVE: &str = "SELECT EXISTS (SELECT FROM pg_catalog.pg_stat_get_activity($1) AS a
    WHERE a.backend_start OPERATOR(pg_catalog.=) $2)";

/// Whether a session is still there.
pub fn is_live(session: Session) -> Result<bool> {
    if session == own_session() {
        return Ok(true);
    }
    const TYPES: [pg_sys::Oid; 2] = [pg_sys::INT4OID, pg_sys::TIMESTAMPTZOID];
    let args = [value::int(session.pid), value::timestamp(session.start)];
    as_owner(|| {
        connected(|spi| {
            let rows = kept(spi, IS_LIVE, &TYPES)?.run(spi, &args, Mode::Write)?;
            Ok(rows.first().is_some_and(|row| row.flag(1)))
        })
    })
}
