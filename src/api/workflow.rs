//! Making, changing and dropping workflows.

use crate::api::queue::{require_consumer, require_owner, wake};
use crate::error::{Error, Result};
use crate::host::call::{Call, Name};
use crate::host::value::{self, Arg};
use crate::host::xact;
use crate::queue::cache;
use crate::queue::name;
use crate::queue::registry;
use crate::queue::settings::{self, WorkflowSettings};
use crate::queue::workflow as workflows;
use crate::resource::{hints, want};

const WORKFLOW: Name = (0, "workflow");

crate::entry_points! {
    qflow_create_workflow, pg_finfo_qflow_create_workflow => create_workflow;
    qflow_alter_workflow, pg_finfo_qflow_alter_workflow => alter_workflow;
    qflow_drop_workflow, pg_finfo_qflow_drop_workflow => drop_workflow;
    qflow_pause_workflow, pg_finfo_qflow_pause_workflow => pause_workflow;
    qflow_resume_workflow, pg_finfo_qflow_resume_workflow => resume_workflow;
}

/// Reads the settings that start at an argument.
fn workflow_settings(call: &Call, at: usize) -> Result<WorkflowSettings> {
    let hints_at: Name = (at + 4, "resource_hints");
    let hints_text = call.datum(hints_at).map(|datum| value::jsonb_to_string(datum, hints::MAX_BYTES, hints_at.1));
    Ok(WorkflowSettings {
        timeout_ms: settings::duration(call, (at, "timeout_ms"), 1)?,
        retries: settings::retries(call, (at + 1, "retries"))?,
        batch_size: settings::count(call, (at + 2, "batch_size"))?,
        concurrency: settings::count(call, (at + 3, "concurrency"))?,
        resource_hints: hints_text.transpose()?,
        retry_delay_ms: settings::duration(call, (at + 5, "retry_delay_ms"), 0)?,
        retry_max_delay_ms: settings::duration(call, (at + 6, "retry_max_delay_ms"), 1)?,
    })
}

fn create_workflow(call: &Call) -> Result<Arg> {
    xact::require_writable(c"qflow.create_workflow()");
    let workflow = call.text(WORKFLOW)?;
    name::check_plain(&workflow, "workflow")?;
    let queue = call.text((1, "queue"))?;
    let wanted = workflow_settings(call, 2)?;
    let if_not_exists = call.flag((9, "if_not_exists"), false);
    let queue = cache::queue_named(&queue)?;
    if if_not_exists && is_registered_here(&workflow, queue.row.number)? {
        require_consumer(&queue.row)?;
    } else {
        require_owner(&queue.row)?;
    }
    Ok(value::boolean(workflows::create(&workflow, &queue, &wanted, if_not_exists)?))
}

fn is_registered_here(workflow: &str, queue: i64) -> Result<bool> {
    Ok(registry::workflow(workflow)?.is_some_and(|row| row.queue == queue))
}

/// The workflow of the first argument, whose queue the caller must own. 42704 also where the queue's table is gone.
fn owned(call: &Call) -> Result<String> {
    let workflow = call.text(WORKFLOW)?;
    let row = registry::workflow(&workflow)?.map(|row| registry::queue_numbered(row.queue)).transpose()?.flatten();
    let queue = row.ok_or_else(|| cache::unknown_workflow(&workflow))?;
    require_owner(&queue)?;
    Ok(workflow)
}

fn alter_workflow(call: &Call) -> Result<Arg> {
    xact::require_writable(c"qflow.alter_workflow()");
    let wanted = workflow_settings(call, 1)?;
    if let Some(text) = &wanted.resource_hints {
        want::wants(&hints::parse(text)?)?;
    }
    let workflow = owned(call)?;
    Ok(value::boolean(registry::change_workflow(&workflow, &wanted)?))
}

fn drop_workflow(call: &Call) -> Result<Arg> {
    xact::require_writable(c"qflow.drop_workflow()");
    let workflow = owned(call)?;
    match registry::remove_workflow(&workflow)? {
        true => Ok(value::boolean(true)),
        false => Err(Error::unknown(format!("workflow \"{workflow}\" was dropped meanwhile"))),
    }
}

fn pause_workflow(call: &Call) -> Result<Arg> {
    set_paused(call, true)
}

fn resume_workflow(call: &Call) -> Result<Arg> {
    set_paused(call, false)
}

fn set_paused(call: &Call, paused: bool) -> Result<Arg> {
    xact::require_writable(if paused { c"qflow.pause_workflow()" } else { c"qflow.resume_workflow()" });
    let workflow = owned(call)?;
    let is_changed = registry::pause_workflow(&workflow, paused)?;
    if let Some(row) = registry::workflow(&workflow)?.filter(|_| is_changed && !paused) {
        wake(row.queue, value::now())?;
    }
    Ok(value::boolean(is_changed))
}
