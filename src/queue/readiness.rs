//! Whether a consumer that calls `fetch` for a workflow now can work, and why nothing comes. Reads no more than a fetch
//! does and changes nothing.

use std::panic::AssertUnwindSafe;

use super::cache::{self, Purpose};
use super::check::Check;
use super::name;
use super::registry::{self, QueueRow, WorkflowRow};
use super::service::service;
use super::settings::OnComplete;
use super::verify;
use crate::error::Result;
use crate::host::subtransaction::attempt;
use crate::host::{identity, relation, value, xact};
use crate::job::claim;
use crate::resource::catalog::Kind;
use crate::resource::{hints, want};
use crate::shmem::database;

/// Jobs counted at most.
const MOST: usize = 1_000;

/// Everything that stands between a workflow and its jobs.
pub fn readiness(name: &str) -> Result<Vec<Check>> {
    let remedy = || format!("SELECT qflow.create_workflow({}, '<queue>');", name::literal(name));
    let Some(workflow) = registry::workflow(name)? else {
        return Ok(vec![Check::gap("workflow", format!("\"{name}\" does not exist"), remedy())]);
    };
    let Some(queue) = registry::queue_numbered(workflow.queue)? else {
        return Ok(vec![Check::gap("workflow", format!("the queue of \"{name}\" is gone, with its table"), remedy())]);
    };
    let table = relation::display_name(queue.table);
    let mut checks = vec![Check::well("workflow", format!("registered for queue {table}"))];
    let gaps = verify::schema_gaps(&queue)?;
    if gaps.is_empty() {
        checks.push(Check::well("schema", "the table has all that a queue needs"));
    }
    checks.extend(gaps);
    let rights = rights(&queue, &table);
    let may_look = rights.ok;
    checks.push(rights);
    checks.push(paused(&workflow, &queue, &table));
    checks.push(claims(&workflow));
    checks.push(server());
    checks.push(service().readiness());
    if may_look {
        checks.extend(jobs(&queue)?);
    }
    Ok(checks)
}

/// What consuming needs of the caller.
fn rights(queue: &QueueRow, table: &str) -> Check {
    let mut missing: Vec<&str> = relation::CONSUMING
        .iter()
        .filter(|(right, _)| !relation::may(queue.table, *right))
        .map(|(_, name)| *name)
        .collect();
    if queue.on_complete == OnComplete::Delete && !relation::may(queue.table, pgrx::pg_sys::ACL_DELETE) {
        missing.push("DELETE");
    }
    let user = identity::current_user_name();
    if !missing.is_empty() {
        return Check::gap(
            "rights",
            format!("role {user} has no {} on {table}", missing.join(", ")),
            format!("SELECT qflow.grant_consumer({}, {});", name::literal(table), name::literal(&user)),
        );
    }
    if !relation::may_enter_schema(queue.table) {
        let schema = relation::display_schema(queue.table);
        return Check::gap(
            "rights",
            format!("role {user} has no USAGE on schema {schema}"),
            format!("GRANT USAGE ON SCHEMA {schema} TO {};", name::quoted(&user)),
        );
    }
    Check::well("rights", format!("role {user} may consume"))
}

fn paused(workflow: &WorkflowRow, queue: &QueueRow, table: &str) -> Check {
    let name = name::literal(&workflow.name);
    match (workflow.paused, queue.paused) {
        (false, false) => Check::well("paused", "neither workflow nor queue is"),
        (true, _) => Check::gap("paused", "the workflow is", format!("SELECT qflow.resume_workflow({name});")),
        (false, true) => {
            Check::gap("paused", "the queue is", format!("SELECT qflow.resume_queue({});", name::literal(table)))
        }
    }
}

/// Whether the workflow's own hints can be satisfied at all.
fn claims(workflow: &WorkflowRow) -> Check {
    let hints = workflow.settings.resource_hints.as_deref().map_or(Ok(hints::Hints::default()), hints::parse);
    match hints.and_then(|hints| want::wants(&hints)) {
        Ok(wants) if wants.iter().any(|want| want.resource.kind == Kind::Slots) && database::all().len() > 1 => {
            Check::well(
                "resources",
                "what the workflow's hints ask for exists; another database of this server uses qflow too: slots are \
                    exclusive in both only with hold = \"session\"",
            )
        }
        Ok(_) => Check::well("resources", "what the workflow's hints ask for exists"),
        Err(error) => Check::gap("resources", error.message(), error.hint_text().unwrap_or("Change resource_hints.")),
    }
}

fn server() -> Check {
    match xact::is_standby() {
        false => Check::well("server", "takes writes"),
        true => Check::gap("server", "a read-only standby: fetches raise 25006", "Connect to the primary."),
    }
}

/// What a fetch would find.
fn jobs(queue: &QueueRow) -> Result<Option<Check>> {
    let Ok(Some(queue)) = cache::queue_of(queue.table, Purpose::Look) else {
        return Ok(None); // named above
    };
    // As the owner: planning a query runs what he put into his indexes, and whoever asks must not.
    let probed = attempt(AssertUnwindSafe(|| identity::restricted_as(queue.owner, || claim::probe(&queue, MOST))));
    let found = match probed {
        Ok(found) => found,
        Err(caught) => {
            let detail = format!("cannot be looked at: {} ({})", caught.message, caught.sqlstate);
            return Ok(Some(Check::gap("jobs", detail, "Run qflow.verify on the queue: it says what to do.")));
        }
    };
    let more = if found.waiting >= MOST { "or more " } else { "" };
    let detail = match (found.waiting, found.next_due.map(wait_ms)) {
        (0, None) => "none is pending: fetches return no rows".to_owned(),
        (0, Some(wait_ms)) => format!("none can be fetched now; the next is due in {wait_ms} ms"),
        (count, _) => format!("{count} {more}can be fetched now"),
    };
    Ok(Some(Check::well("jobs", detail)))
}

/// `-infinity` and `infinity` are the ends of i64.
fn wait_ms(until: i64) -> i64 {
    until.saturating_sub(value::now()).max(0) / 1_000
}
