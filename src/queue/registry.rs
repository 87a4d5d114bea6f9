//! The one place that reads and writes the registry tables `qflow.queue` and `qflow.workflow`. All of it runs as the
//! extension's owner, restricted; who may ask for it is decided by the callers. It is read with the newest snapshot: what
//! is read is remembered beyond the transaction, and must not be what an old snapshot shows.

use pgrx::pg_sys;

use super::settings::{OnComplete, QueueSettings, WorkflowSettings};
use crate::error::{Error, Result};
use crate::host::lock::{self, What};
use crate::host::spi::{change_latest, connected, once, once_latest, Row};
use crate::host::value::{self, Arg};
use crate::host::{identity, relation, xact};
use crate::job::lease;
use crate::resource::release::{self, Why};

/// A row of `qflow.queue` whose table exists.
#[derive(Debug, Clone)]
pub struct QueueRow {
    /// The queue's number.
    pub number: i64,
    /// Its table.
    pub table: pg_sys::Oid,
    /// Whether the table was there before the queue.
    pub adopted: bool,
    /// Whether fetches return nothing.
    pub paused: bool,
    /// Its settings.
    pub settings: QueueSettings,
    /// What an ack does.
    pub on_complete: OnComplete,
    /// Where its jobs come from.
    pub home: Home,
}

/// Whether what stands in a queue's table is of this database: transaction ids, leases.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Home {
    /// All of it.
    Here,
    /// It was there before the queue, and has not been looked through since.
    Adopted,
    /// It was restored from a dump or copied with its database, and has not been looked through since.
    Elsewhere,
}

impl QueueRow {
    /// Whether the table needs no looking through.
    pub fn is_at_home(&self) -> bool {
        self.home == Home::Here
    }
}

/// A row of `qflow.workflow`.
#[derive(Debug, Clone)]
pub struct WorkflowRow {
    /// Its name.
    pub name: String,
    /// Number of its queue.
    pub queue: i64,
    /// Whether fetches return nothing.
    pub paused: bool,
    /// Its settings.
    pub settings: WorkflowSettings,
}

const QUEUES: &str = "SELECT number, table_oid::pg_catalog.oid, adopted, paused, timeout_ms, retries, batch_size,
        retention_ms, failed_retention_ms, on_complete,
        system_identifier OPERATOR(pg_catalog.=) $1 AND database_oid OPERATOR(pg_catalog.=) $2
            AND relation_oid OPERATOR(pg_catalog.=) table_oid::pg_catalog.oid,
        system_identifier OPERATOR(pg_catalog.=) 0 AND database_oid OPERATOR(pg_catalog.=) $2
            AND relation_oid OPERATOR(pg_catalog.=) table_oid::pg_catalog.oid
    FROM qflow.queue
    WHERE ($3::pg_catalog.oid IS NULL OR table_oid::pg_catalog.oid OPERATOR(pg_catalog.=) $3)
        AND ($4::pg_catalog.int8 IS NULL OR number OPERATOR(pg_catalog.=) $4)
    ORDER BY number";

const ADD_QUEUE: &str = "INSERT INTO qflow.queue (number, table_oid, adopted, timeout_ms, retries, batch_size,
        retention_ms, failed_retention_ms, on_complete, system_identifier, database_oid, relation_oid)
    VALUES ($1, $2::pg_catalog.regclass, $3, $4, $5, $6, $7, $8, $9, $10, $11, $2)";

const ADD_FLOOR_AND_SWEEP: &str = "WITH f AS (
        INSERT INTO qflow.floor (queue, copy, system_identifier, database_oid, relation_oid, evidence_end, starts,
            open_xacts, skipped)
        SELECT $1, n, 0, 0, 0, 0, '{}', '{}', '{}' FROM pg_catalog.generate_series(1, 8) AS n
        ON CONFLICT DO NOTHING)
    INSERT INTO qflow.sweep (queue) VALUES ($1) ON CONFLICT DO NOTHING";

const NEXT_NUMBER: &str = "SELECT pg_catalog.nextval('qflow.queue_number'::pg_catalog.regclass)";

const CHANGE_QUEUE: &str = "UPDATE qflow.queue SET timeout_ms = COALESCE($2, timeout_ms),
        retries = COALESCE($3, retries), batch_size = COALESCE($4, batch_size),
        retention_ms = COALESCE($5, retention_ms), failed_retention_ms = COALESCE($6, failed_retention_ms),
        on_complete = COALESCE($7, on_complete)
    WHERE number OPERATOR(pg_catalog.=) $1
        AND (COALESCE($2, timeout_ms) IS DISTINCT FROM timeout_ms OR COALESCE($3, retries) IS DISTINCT FROM retries
            OR COALESCE($4, batch_size) IS DISTINCT FROM batch_size
            OR COALESCE($5, retention_ms) IS DISTINCT FROM retention_ms
            OR COALESCE($6, failed_retention_ms) IS DISTINCT FROM failed_retention_ms
            OR COALESCE($7, on_complete) IS DISTINCT FROM on_complete)";

const PAUSE_QUEUE: &str = "UPDATE qflow.queue SET paused = $2
    WHERE number OPERATOR(pg_catalog.=) $1 AND paused OPERATOR(pg_catalog.<>) $2";

const SETTLE_IN: &str = "UPDATE qflow.queue
    SET system_identifier = $2, database_oid = $3, relation_oid = table_oid::pg_catalog.oid
    WHERE number OPERATOR(pg_catalog.=) $1";

const REMOVE_QUEUE: &str = "WITH l AS (DELETE FROM qflow.lease WHERE queue OPERATOR(pg_catalog.=) $1),
        w AS (DELETE FROM qflow.workflow WHERE queue OPERATOR(pg_catalog.=) $1)
    DELETE FROM qflow.queue WHERE number OPERATOR(pg_catalog.=) $1";

const ORPHANED_QUEUES: &str = "SELECT q.number FROM qflow.queue q WHERE NOT EXISTS (
        SELECT FROM pg_catalog.pg_class c WHERE c.oid OPERATOR(pg_catalog.=) q.table_oid::pg_catalog.oid)";

const ORPHANED_WORKFLOWS: &str = "DELETE FROM qflow.workflow w WHERE NOT EXISTS (
        SELECT FROM qflow.queue q WHERE q.number OPERATOR(pg_catalog.=) w.queue)";

const WORKFLOWS: &str = "SELECT workflow, queue, paused, timeout_ms, retries, batch_size, concurrency,
        resource_hints::pg_catalog.text, retry_delay_ms, retry_max_delay_ms
    FROM qflow.workflow WHERE $1::pg_catalog.text IS NULL OR workflow OPERATOR(pg_catalog.=) $1 ORDER BY workflow";

const ADD_WORKFLOW: &str = "INSERT INTO qflow.workflow (workflow, queue, timeout_ms, retries, batch_size, concurrency,
        resource_hints, retry_delay_ms, retry_max_delay_ms)
    VALUES ($1, $2, $3, $4, $5, $6, $7::pg_catalog.jsonb, $8, $9) ON CONFLICT (workflow) DO NOTHING";

const CHANGE_WORKFLOW: &str = "UPDATE qflow.workflow SET timeout_ms = COALESCE($2, timeout_ms),
        retries = COALESCE($3, retries), batch_size = COALESCE($4, batch_size),
        concurrency = COALESCE($5, concurrency), resource_hints = COALESCE($6::pg_catalog.jsonb, resource_hints),
        retry_delay_ms = COALESCE($7, retry_delay_ms), retry_max_delay_ms = COALESCE($8, retry_max_delay_ms)
    WHERE workflow OPERATOR(pg_catalog.=) $1
        AND (COALESCE($2, timeout_ms) IS DISTINCT FROM timeout_ms OR COALESCE($3, retries) IS DISTINCT FROM retries
            OR COALESCE($4, batch_size) IS DISTINCT FROM batch_size
            OR COALESCE($5, concurrency) IS DISTINCT FROM concurrency
            OR COALESCE($6::pg_catalog.jsonb, resource_hints) IS DISTINCT FROM resource_hints
            OR COALESCE($7, retry_delay_ms) IS DISTINCT FROM retry_delay_ms
            OR COALESCE($8, retry_max_delay_ms) IS DISTINCT FROM retry_max_delay_ms)";

const PAUSE_WORKFLOW: &str = "UPDATE qflow.workflow SET paused = $2
    WHERE workflow OPERATOR(pg_catalog.=) $1 AND paused OPERATOR(pg_catalog.<>) $2";

const REMOVE_WORKFLOW: &str = "DELETE FROM qflow.workflow WHERE workflow OPERATOR(pg_catalog.=) $1";

/// No cluster's identifier: stands for a table that was adopted and not looked through yet.
const NOWHERE: i64 = 0;

/// The table of queues: another one once the extension was dropped and made again.
pub fn table() -> Result<pg_sys::Oid> {
    relation::schema("qflow").and_then(|schema| relation::find(Some(schema), "queue")).ok_or_else(not_installed)
}

fn not_installed() -> Error {
    Error::not_ready("extension qflow is not installed here").hint("Run CREATE EXTENSION qflow.")
}

/// The role that owns qflow's tables.
pub fn owner() -> Result<pg_sys::Oid> {
    relation::owner(table()?).ok_or_else(not_installed)
}

/// Runs `work` with the rights of qflow's owner, restricted.
pub fn as_owner<R>(work: impl FnOnce() -> Result<R>) -> Result<R> {
    identity::restricted_as(owner()?, work)
}

fn changed(sql: &str, args: &[(pg_sys::Oid, Arg)]) -> Result<usize> {
    as_owner(|| connected(|spi| Ok(once(spi, sql, args)?.count())))
}

/// The queue of a table.
pub fn queue_of(table: pg_sys::Oid) -> Result<Option<QueueRow>> {
    Ok(queues(Some(table), None)?.pop())
}

/// The queue with a number, if its table exists.
pub fn queue_numbered(number: i64) -> Result<Option<QueueRow>> {
    Ok(queues(None, Some(number))?.pop())
}

/// All queues whose tables exist.
pub fn all_queues() -> Result<Vec<QueueRow>> {
    queues(None, None)
}

fn queues(table: Option<pg_sys::Oid>, number: Option<i64>) -> Result<Vec<QueueRow>> {
    let args = [
        (pg_sys::INT8OID, value::bigint(xact::system_identifier())),
        (pg_sys::OIDOID, value::oid(xact::database())),
        (pg_sys::OIDOID, table.and_then(value::oid)),
        (pg_sys::INT8OID, number.and_then(value::bigint)),
    ];
    let rows: Vec<QueueRow> =
        as_owner(|| connected(|spi| once_latest(spi, QUEUES, &args)?.iter().map(|row| queue_row(&row)).collect()))?;
    Ok(rows.into_iter().filter(|row| relation::owner(row.table).is_some()).collect())
}

fn queue_row(row: &Row) -> Result<QueueRow> {
    Ok(QueueRow {
        number: row.bigint(1).unwrap_or_default(),
        table: row.oid(2).unwrap_or(pg_sys::InvalidOid),
        adopted: row.flag(3),
        paused: row.flag(4),
        settings: QueueSettings {
            timeout_ms: row.bigint(5),
            retries: row.bigint(6),
            batch_size: row.bigint(7),
            retention_ms: row.bigint(8),
            failed_retention_ms: row.bigint(9),
        },
        on_complete: OnComplete::parse(&row.text(10)?.unwrap_or_default())?,
        home: match (row.flag(11), row.flag(12)) {
            (true, _) => Home::Here,
            (false, true) => Home::Adopted,
            (false, false) => Home::Elsewhere,
        },
    })
}

/// A number for a queue about to be made.
pub fn next_number() -> Result<i64> {
    as_owner(|| {
        connected(|spi| {
            let number = once(spi, NEXT_NUMBER, &[])?.first().and_then(|row| row.bigint(1));
            number.ok_or_else(|| Error::internal("no queue number"))
        })
    })
}

/// Registers a table as a queue. The unique key raises 23505 when another session registers the same table.
pub fn add_queue(row: &QueueRow) -> Result<()> {
    let settings = &row.settings;
    let args = [
        (pg_sys::INT8OID, value::bigint(row.number)),
        (pg_sys::OIDOID, value::oid(row.table)),
        (pg_sys::BOOLOID, value::boolean(row.adopted)),
        (pg_sys::INT8OID, settings.timeout_ms.and_then(value::bigint)),
        (pg_sys::INT8OID, settings.retries.and_then(value::bigint)),
        (pg_sys::INT8OID, settings.batch_size.and_then(value::bigint)),
        (pg_sys::INT8OID, settings.retention_ms.and_then(value::bigint)),
        (pg_sys::INT8OID, settings.failed_retention_ms.and_then(value::bigint)),
        (pg_sys::TEXTOID, value::text(row.on_complete.as_str())),
        (pg_sys::INT8OID, value::bigint(if row.is_at_home() { xact::system_identifier() } else { NOWHERE })),
        (pg_sys::OIDOID, value::oid(xact::database())),
    ];
    changed(ADD_QUEUE, &args)?;
    prepare_bookkeeping(row.number)
}

/// Makes the rows in which floors and sweep positions are kept, where they are missing (they are not dumped).
pub fn prepare_bookkeeping(number: i64) -> Result<()> {
    // Who else makes them now may stay open for long: nobody waits for rows that can be made later.
    if !lock::try_for_transaction(What::Bookkeeping(number)) {
        return Ok(());
    }
    changed(ADD_FLOOR_AND_SWEEP, &[(pg_sys::INT8OID, value::bigint(number))]).map(|_| ())
}

/// Notes that the queue's table belongs here: its jobs have been looked through after a restore or copy.
pub fn settle_in(number: i64) -> Result<()> {
    let args = [
        (pg_sys::INT8OID, value::bigint(number)),
        (pg_sys::INT8OID, value::bigint(xact::system_identifier())),
        (pg_sys::OIDOID, value::oid(xact::database())),
    ];
    changed(SETTLE_IN, &args).map(|_| ())
}

/// Sets what is given; true when something changed.
pub fn change_queue(number: i64, settings: &QueueSettings, on_complete: Option<OnComplete>) -> Result<bool> {
    let args = [
        (pg_sys::INT8OID, value::bigint(number)),
        (pg_sys::INT8OID, settings.timeout_ms.and_then(value::bigint)),
        (pg_sys::INT8OID, settings.retries.and_then(value::bigint)),
        (pg_sys::INT8OID, settings.batch_size.and_then(value::bigint)),
        (pg_sys::INT8OID, settings.retention_ms.and_then(value::bigint)),
        (pg_sys::INT8OID, settings.failed_retention_ms.and_then(value::bigint)),
        (pg_sys::TEXTOID, value::opt_text(on_complete.map(OnComplete::as_str))),
    ];
    Ok(changed(CHANGE_QUEUE, &args)? > 0)
}

/// Pauses or resumes; true when something changed.
pub fn pause_queue(number: i64, paused: bool) -> Result<bool> {
    let args = [(pg_sys::INT8OID, value::bigint(number)), (pg_sys::BOOLOID, value::boolean(paused))];
    Ok(changed(PAUSE_QUEUE, &args)? > 0)
}

/// Forgets a queue, its workflows and its leases, those included that an old snapshot does not show: nobody would ever
/// remove them.
pub fn remove_queue(number: i64) -> Result<()> {
    release::leases_ended(&lease::holding(number)?, Why::Reaped)?;
    let args = [(pg_sys::INT8OID, value::bigint(number))];
    as_owner(|| connected(|spi| change_latest(spi, REMOVE_QUEUE, &args).map(|_| ())))
}

/// Forgets the queues whose tables are gone, and what belonged to them; nothing is written when there are none. Those stay
/// for later of which others have locked what a lease holds.
pub fn remove_orphans() -> Result<()> {
    let numbers: Vec<i64> = as_owner(|| {
        connected(|spi| Ok(once_latest(spi, ORPHANED_QUEUES, &[])?.iter().filter_map(|row| row.bigint(1)).collect()))
    })?;
    for number in numbers {
        if release::lock(&lease::holding(number)?, Why::Reaped)? {
            remove_queue(number)?;
        }
    }
    Ok(())
}

/// Forgets a workflow whose queue is gone, so that its name is free.
pub fn remove_orphaned_workflows() -> Result<()> {
    remove_orphans()?;
    changed(ORPHANED_WORKFLOWS, &[]).map(|_| ())
}

/// The workflow with a name, whether or not its queue exists.
pub fn workflow(name: &str) -> Result<Option<WorkflowRow>> {
    Ok(workflows(Some(name))?.pop())
}

/// All workflows, in the order of their names.
pub fn all_workflows() -> Result<Vec<WorkflowRow>> {
    workflows(None)
}

fn workflows(name: Option<&str>) -> Result<Vec<WorkflowRow>> {
    let args = [(pg_sys::TEXTOID, value::opt_text(name))];
    as_owner(|| connected(|spi| once_latest(spi, WORKFLOWS, &args)?.iter().map(|row| workflow_row(&row)).collect()))
}

fn workflow_row(row: &Row) -> Result<WorkflowRow> {
    Ok(WorkflowRow {
        name: row.text(1)?.unwrap_or_default(),
        queue: row.bigint(2).unwrap_or_default(),
        paused: row.flag(3),
        settings: WorkflowSettings {
            timeout_ms: row.bigint(4),
            retries: row.bigint(5),
            batch_size: row.bigint(6),
            concurrency: row.bigint(7),
            resource_hints: row.text(8)?,
            retry_delay_ms: row.bigint(9),
            retry_max_delay_ms: row.bigint(10),
        },
    })
}

/// Registers a workflow; false when the name is taken.
pub fn add_workflow(name: &str, queue: i64, settings: &WorkflowSettings) -> Result<bool> {
    let mut args = vec![(pg_sys::TEXTOID, value::text(name)), (pg_sys::INT8OID, value::bigint(queue))];
    args.extend(workflow_args(settings));
    Ok(changed(ADD_WORKFLOW, &args)? > 0)
}

/// Sets what is given; true when something changed.
pub fn change_workflow(name: &str, settings: &WorkflowSettings) -> Result<bool> {
    let mut args = vec![(pg_sys::TEXTOID, value::text(name))];
    args.extend(workflow_args(settings));
    Ok(changed(CHANGE_WORKFLOW, &args)? > 0)
}

fn workflow_args(settings: &WorkflowSettings) -> [(pg_sys::Oid, Arg); 7] {
    [
        (pg_sys::INT8OID, settings.timeout_ms.and_then(value::bigint)),
        (pg_sys::INT8OID, settings.retries.and_then(value::bigint)),
        (pg_sys::INT8OID, settings.batch_size.and_then(value::bigint)),
        (pg_sys::INT8OID, settings.concurrency.and_then(value::bigint)),
        (pg_sys::TEXTOID, value::opt_text(settings.resource_hints.as_deref())),
        (pg_sys::INT8OID, settings.retry_delay_ms.and_then(value::bigint)),
        (pg_sys::INT8OID, settings.retry_max_delay_ms.and_then(value::bigint)),
    ]
}

/// Pauses or resumes; true when something changed.
pub fn pause_workflow(name: &str, paused: bool) -> Result<bool> {
    let args = [(pg_sys::TEXTOID, value::text(name)), (pg_sys::BOOLOID, value::boolean(paused))];
    Ok(changed(PAUSE_WORKFLOW, &args)? > 0)
}

/// Forgets a workflow; jobs in flight under it keep their leases.
pub fn remove_workflow(name: &str) -> Result<bool> {
    Ok(changed(REMOVE_WORKFLOW, &[(pg_sys::TEXTOID, value::text(name))])? > 0)
}
