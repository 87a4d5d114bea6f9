//! Making, changing and dropping queues.

use std::rc::Rc;

use pgrx::pg_sys;

use crate::error::{self, Error, Result};
use crate::host::call::{Call, Name};
use crate::host::spi::{connected, once};
use crate::host::value::{self, Arg};
use crate::host::{relation, xact};
use crate::job::shape::Shape;
use crate::job::state::Status;
use crate::queue::cache::{self, Purpose, Workflow};
use crate::queue::create::{self, Wanted};
use crate::queue::name::{self, QueueName};
use crate::queue::registry::{self, QueueRow};
use crate::queue::settings::{self, OnComplete, QueueSettings, WorkflowSettings, MAX_MS};
use crate::queue::workflow as workflows;
use crate::resource::at_end;
use crate::shmem::at_commit;
use crate::shmem::queue::Slot;

const QUEUE: Name = (0, "queue");

crate::entry_points! {
    qflow_create_queue, pg_finfo_qflow_create_queue => create_queue;
    qflow_alter_queue, pg_finfo_qflow_alter_queue => alter_queue;
    qflow_drop_queue, pg_finfo_qflow_drop_queue => drop_queue;
    qflow_pause_queue, pg_finfo_qflow_pause_queue => pause_queue;
    qflow_resume_queue, pg_finfo_qflow_resume_queue => resume_queue;
    qflow_purge_queue, pg_finfo_qflow_purge_queue => purge_queue;
    qflow_retry_failed, pg_finfo_qflow_retry_failed => retry_failed;
}

fn create_queue(call: &Call) -> Result<Arg> {
    xact::require_writable(c"qflow.create_queue()");
    let wanted = Wanted {
        name: QueueName::parse(&call.text(QUEUE)?)?,
        settings: queue_settings(call)?,
        on_complete: OnComplete::parse(&call.opt_text((6, "on_complete"))?.unwrap_or_else(|| "keep".into()))?,
    };
    let workflow = call.opt_text((8, "workflow"))?.unwrap_or_else(|| wanted.name.table.clone());
    name::check_plain(&workflow, "workflow")?;
    let if_not_exists = call.flag((7, "if_not_exists"), false);
    let look = || if if_not_exists { existing(&wanted.name) } else { Ok(None) };
    if let Some(name) = look()? {
        return Ok(value::text(&name));
    }
    let existing = match create::lock_table(&wanted) {
        // Somebody else may have made it while we waited.
        Err(error) if if_not_exists && error.code() == "42710" => None,
        other => other?,
    };
    create::lock_registry()?;
    if let Some(name) = look()? {
        return Ok(value::text(&name));
    }
    let row = make(&wanted, existing, &workflow)?;
    Ok(relation::qualified_name(row.table)?.as_deref().and_then(value::text))
}

/// The qualified name of the queue, if it exists where it would be made; 42501 unless the caller may consume from it.
fn existing(name: &QueueName) -> Result<Option<String>> {
    let schema = create::target_schema(name)?;
    let table = relation::schema(&schema).and_then(|oid| relation::find(Some(oid), &name.table));
    match table.map(registry::queue_of).transpose()?.flatten() {
        Some(row) => {
            require_consumer(&row)?;
            relation::qualified_name(row.table)
        }
        None => Ok(None),
    }
}

fn make(wanted: &Wanted, existing: Option<pg_sys::Oid>, workflow: &str) -> Result<QueueRow> {
    let row = create::create(wanted, existing)?;
    let queue = cache::queue_of(row.table, Purpose::Jobs)?
        .ok_or_else(|| Error::internal("the queue just made is not there"))?;
    workflows::create(workflow, &queue, &WorkflowSettings::default(), false).map_err(|error| {
        if error.code() == "42710" {
            error.hint("Name another with workflow => '...'.")
        } else {
            error
        }
    })?;
    Ok(row)
}

fn queue_settings(call: &Call) -> Result<QueueSettings> {
    Ok(QueueSettings {
        timeout_ms: settings::duration(call, (1, "timeout_ms"), 1)?,
        retries: settings::retries(call, (2, "retries"))?,
        batch_size: settings::count(call, (3, "batch_size"))?,
        retention_ms: settings::duration(call, (4, "retention_ms"), 1)?,
        failed_retention_ms: settings::duration(call, (5, "failed_retention_ms"), 1)?,
    })
}

/// The queue of the first argument, whose owner the caller must be.
fn owned(call: &Call) -> Result<QueueRow> {
    let row = cache::registered(&call.text(QUEUE)?)?;
    require_owner(&row)?;
    Ok(row)
}

/// 42501 unless the caller owns the queue's table.
pub fn require_owner(row: &QueueRow) -> Result<()> {
    if relation::is_owned(row.table) {
        return Ok(());
    }
    let name = relation::display_name(row.table);
    Err(Error::denied(format!("must be owner of queue {name}")))
}

/// 42501 unless the caller may consume from the queue, or owns its table.
pub fn require_consumer(row: &QueueRow) -> Result<()> {
    let name = || relation::display_name(row.table);
    if !relation::may(row.table, pg_sys::ACL_SELECT | pg_sys::ACL_UPDATE) && !relation::is_owned(row.table) {
        return Err(Error::denied(format!("permission denied for queue {}", name()))
            .hint("Consuming needs SELECT and UPDATE on the queue's table: qflow.grant_consumer gives them."));
    }
    if !relation::may_enter_schema(row.table) {
        return Err(Error::denied(format!("permission denied for the schema of queue {}", name()))
            .hint(format!("GRANT USAGE ON SCHEMA {} to the role.", relation::display_schema(row.table))));
    }
    Ok(())
}

/// The workflow of that name for a call that consumes with it: the caller may, and has let go of what was taken back from
/// him meanwhile.
pub fn consumed(workflow: &str) -> Result<Rc<Workflow>> {
    let workflow = cache::workflow(workflow)?;
    require_consumer(&workflow.queue.row)?;
    at_end::let_go_of_reaped()?;
    Ok(workflow)
}

fn alter_queue(call: &Call) -> Result<Arg> {
    xact::require_writable(c"qflow.alter_queue()");
    let wanted = queue_settings(call)?;
    let on_complete = call.opt_text((6, "on_complete"))?.as_deref().map(OnComplete::parse).transpose()?;
    let row = owned(call)?;
    if on_complete == Some(OnComplete::Delete) && row.on_complete != OnComplete::Delete {
        error::note(
            format!("consumers of queue {} now need DELETE on its table", relation::display_name(row.table)),
            "Call qflow.grant_consumer again for each role that consumes.",
        );
    }
    Ok(value::boolean(registry::change_queue(row.number, &wanted, on_complete)?))
}

fn drop_queue(call: &Call) -> Result<Arg> {
    xact::require_writable(c"qflow.drop_queue()");
    let keep_table = call.flag((1, "keep_table"), true);
    let row = owned(call)?;
    if !keep_table && row.adopted {
        return Err(Error::not_ready("the table of this queue was there before the queue")
            .hint("Drop the queue with keep_table => true, then the table yourself."));
    }
    let table = relation::qualified_name(row.table)?.unwrap_or_default();
    if keep_table {
        create::release_table(row.table, &table)?;
    }
    // The table first: this waits for fetches that are still open, whose leases then are seen and removed.
    if !keep_table {
        create::drop_table(&table)?;
    }
    registry::remove_queue(row.number)?;
    Ok(value::boolean(true))
}

fn pause_queue(call: &Call) -> Result<Arg> {
    set_paused(call, true)
}

fn resume_queue(call: &Call) -> Result<Arg> {
    set_paused(call, false)
}

fn set_paused(call: &Call, paused: bool) -> Result<Arg> {
    xact::require_writable(if paused { c"qflow.pause_queue()" } else { c"qflow.resume_queue()" });
    let row = owned(call)?;
    let is_changed = registry::pause_queue(row.number, paused)?;
    if is_changed && !paused {
        wake(row.number, value::now())?;
    }
    Ok(value::boolean(is_changed))
}

/// Who waited for a queue that was paused has something to look for.
pub fn wake(number: i64, now: i64) -> Result<()> {
    at_commit::due(&Rc::new(Slot::known(registry::table()?, number)), now);
    Ok(())
}

const PURGE: &str =
    "DELETE FROM {q} j WHERE j.status OPERATOR(pg_catalog.=) $1 AND j.updated_at{updated_zone} OPERATOR(pg_catalog.<=) $2";

fn purge_queue(call: &Call) -> Result<Arg> {
    xact::require_writable(c"qflow.purge_queue()");
    let status = call.opt_text((1, "status"))?;
    let age = settings::duration(call, (2, "older_than_ms"), 0)?;
    let words = match status.as_deref() {
        None => vec![Status::Completed, Status::Failed],
        Some(word) => match Status::parse(word) {
            Some(Status::InProgress) => {
                return Err(Error::bad_value("jobs in progress cannot be purged")
                    .hint("Pause the queue, wait for its leases to end, then purge."));
            }
            Some(status) => vec![status],
            None => return Err(Error::bad_value("status must be 'pending', 'completed' or 'failed'")),
        },
    };
    let row = owned(call)?;
    let sql = shape(&row)?.fill(PURGE);
    let now = value::now();
    let mut purged = 0;
    for status in words {
        let age = age.or_else(|| retention(&row, status)).unwrap_or(0).min(MAX_MS);
        let args = [
            (pg_sys::TEXTOID, value::text(status.as_str())),
            (pg_sys::TIMESTAMPTZOID, value::timestamp(now.saturating_sub(age.saturating_mul(1_000)))),
        ];
        let gone = connected(|spi| Ok(once(spi, &sql, &args)?.count()))?;
        purged += gone;
        note_moves(row.number, Moves { from: status, to: None, jobs: gone })?;
    }
    Ok(value::bigint(purged as i64))
}

/// Jobs that leave a status for another, or are gone.
struct Moves {
    from: Status,
    to: Option<Status>,
    jobs: usize,
}

/// What others are to know of jobs that their owner moved.
fn note_moves(number: i64, moves: Moves) -> Result<()> {
    let slot = Rc::new(Slot::known(registry::table()?, number));
    at_commit::change(&slot, |change| {
        change.moves.shift(moves.from, -(moves.jobs as i64));
        moves.to.into_iter().for_each(|to| change.moves.shift(to, moves.jobs as i64));
    });
    Ok(())
}

/// How the table of a queue is typed.
fn shape(row: &QueueRow) -> Result<Shape> {
    Shape::checked(row.table, &relation::qualified_name(row.table)?.unwrap_or_default())
}

fn retention(row: &QueueRow, status: Status) -> Option<i64> {
    match status {
        Status::Completed => row.settings.retention_ms,
        Status::Failed => row.settings.failed_retention_ms,
        _ => None,
    }
}

const RETRY_FAILED: &str = "UPDATE {q} j SET status = 'pending', attempt = 0,
        available_at = pg_catalog.clock_timestamp(), updated_at = pg_catalog.clock_timestamp(){updated_zone}
    WHERE j.status OPERATOR(pg_catalog.=) 'failed'
        AND ($1::pg_catalog.int8[] IS NULL OR j.id OPERATOR(pg_catalog.=) ANY ($1))";

fn retry_failed(call: &Call) -> Result<Arg> {
    xact::require_writable(c"qflow.retry_failed()");
    let ids = call.opt_bigints((1, "ids"), crate::guc::max_ids())?;
    let row = owned(call)?;
    let sql = shape(&row)?.fill(RETRY_FAILED);
    let args = [(pg_sys::INT8ARRAYOID, ids.as_deref().and_then(value::bigints))];
    let now = value::now();
    let retried = connected(|spi| Ok(once(spi, &sql, &args)?.count()))?;
    note_moves(row.number, Moves { from: Status::Failed, to: Some(Status::Pending), jobs: retried })?;
    if retried > 0 {
        wake(row.number, now)?;
    }
    Ok(value::bigint(retried as i64))
}
