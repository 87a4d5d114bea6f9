//! Registering workflows.

use super::cache::Queue;
use super::registry::{self, WorkflowRow};
use super::settings::WorkflowSettings;
use crate::error::{self, Error, Level, Result};
use crate::resource::{hints, want};

/// Registers a workflow; false when it is there already on the same queue and `if_not_exists` accepts that.
pub fn create(name: &str, queue: &Queue, settings: &WorkflowSettings, if_not_exists: bool) -> Result<bool> {
    if let Some(text) = &settings.resource_hints {
        want::wants(&hints::parse(text)?)?;
    }
    // A look first: nothing is written, and nobody waited for, when it is there already.
    if let Some(existing) = registered(name)? {
        return accept(name, queue, settings, &existing, if_not_exists);
    }
    if registry::add_workflow(name, queue.row.number, settings)? {
        return Ok(true);
    }
    match registered(name)? {
        Some(existing) => accept(name, queue, settings, &existing, if_not_exists),
        None => {
            registry::remove_orphaned_workflows()?;
            registry::add_workflow(name, queue.row.number, settings)
        }
    }
}

/// The workflow with a name, if its queue exists.
fn registered(name: &str) -> Result<Option<WorkflowRow>> {
    match registry::workflow(name)? {
        Some(row) => Ok(registry::queue_numbered(row.queue)?.map(|_| row)),
        None => Ok(None),
    }
}

/// False when an existing workflow is what `if_not_exists` accepts; else 42710.
fn accept(
    name: &str,
    queue: &Queue,
    settings: &WorkflowSettings,
    existing: &WorkflowRow,
    if_not_exists: bool,
) -> Result<bool> {
    if existing.queue != queue.row.number {
        return Err(Error::exists(format!("workflow \"{name}\" already exists for another queue"))
            .hint("Names of workflows are unique in a database: choose another."));
    }
    if !if_not_exists {
        return Err(Error::exists(format!("workflow \"{name}\" already exists"))
            .hint("Pass if_not_exists => true to accept it as it is, or change it with qflow.alter_workflow."));
    }
    note_differences(name, settings, &existing.settings);
    Ok(false)
}

fn note_differences(name: &str, asked: &WorkflowSettings, registered: &WorkflowSettings) {
    let pairs = [
        ("timeout_ms", asked.timeout_ms, registered.timeout_ms),
        ("retries", asked.retries, registered.retries),
        ("batch_size", asked.batch_size, registered.batch_size),
        ("concurrency", asked.concurrency, registered.concurrency),
        ("retry_delay_ms", asked.retry_delay_ms, registered.retry_delay_ms),
        ("retry_max_delay_ms", asked.retry_max_delay_ms, registered.retry_max_delay_ms),
    ];
    let mut different: Vec<&str> =
        pairs.iter().filter(|(_, asked, is)| asked.is_some() && asked != is).map(|(name, ..)| *name).collect();
    if asked.resource_hints.is_some() && asked.resource_hints != registered.resource_hints {
        different.push("resource_hints");
    }
    if !different.is_empty() {
        let list = different.join(", ");
        error::say(Level::Notice, format!("workflow \"{name}\" already exists with other settings: {list}"));
    }
}
