//! `fetch`: from arguments to claimed rows.

use crate::api::queue::require_consumer;
use crate::error::{Error, Result};
use crate::guc;
use crate::host::call::{Call, Name};
use crate::host::rows::Sink;
use crate::host::value::{self, Arg};
use crate::host::xact;
use crate::job::claim::{self, Demand};
use crate::job::{reap, waiting};
use crate::queue::cache::{self, Workflow};
use crate::queue::settings::MAX_MS;
use crate::queue::workflow::check_hints;
use crate::resource::hints::{self, Hints};

/// How often a fetch that finds nothing looks further into a table that was restored, copied or adopted.
const LOOKS: usize = 4;

crate::entry_points! {
    qflow_fetch, pg_finfo_qflow_fetch => fetch;
}

fn fetch(call: &Call) -> Result<Arg> {
    xact::require_writable(c"qflow.fetch()");
    let sink = Sink::open(call)?;
    let name = call.text((0, "workflow"))?;
    let demand = count(call, (1, "demand"))?;
    let batch_size = count(call, (2, "batch_size"))?;
    let call_hints = read_hints(call, (3, "hints"))?;
    let workflow = cache::workflow(&name)?;
    require_consumer(&workflow.queue.row)?;
    let hints = hints::overlay(call_hints, &workflow.hints);
    check_hints(&hints)?;
    workflow.queue.slot.fetched(&workflow.name, value::now());
    if workflow.paused {
        return Ok(None);
    }
    reap::look_after(&workflow.queue, value::now())?;
    let mut delivered = 0;
    for _ in 0..=LOOKS {
        delivered = deliver(&sink, &workflow, demand, batch_size, &hints)?;
        if delivered > 0 || !reap::look_further(&workflow.queue, value::now()) {
            break;
        }
    }
    waiting::fetched(&workflow.name, delivered);
    Ok(None)
}

fn deliver(
    sink: &Sink,
    workflow: &Workflow,
    demand: Option<i64>,
    batch_size: Option<i64>,
    hints: &Hints,
) -> Result<i64> {
    let batch_size = batch_size.unwrap_or_else(|| workflow.settings.batch_size());
    let jobs = demand.unwrap_or_else(|| batch_size.min(guc::max_demand()));
    let demand = Demand {
        workflow,
        jobs: jobs as usize,
        timeout_ms: hints.timeout_ms.unwrap_or_else(|| workflow.settings.timeout_ms()).min(MAX_MS),
        worker: hints.worker.as_deref(),
        bound: hints.binds_session(),
    };
    let mut delivered: i64 = 0;
    claim::claim(&demand, |lease, row| {
        let batch_no = delivered / batch_size + 1;
        delivered += 1;
        sink.put(&[
            value::int(batch_no as i32),
            row.datum(1),
            row.datum(2),
            row.datum(3),
            row.datum(4),
            value::int(lease.max_attempts),
            value::bigint(lease.id),
            value::timestamp(lease.deadline),
            row.datum(5),
            row.datum(6),
            None,
        ]);
    })?;
    Ok(delivered)
}

/// A number of jobs, at most the cap on demand.
fn count(call: &Call, name: Name) -> Result<Option<i64>> {
    let cap = guc::max_demand();
    match call.opt_bigint(name, 1)? {
        Some(value) if value > cap => Err(Error::over_cap(format!("{} must be at most {cap}", name.1))
            .detail(format!("The value given is {value}."))
            .hint("Ask for less, or raise qflow.max_demand.")),
        other => Ok(other),
    }
}

/// Reads an argument with hints; NULL is none.
pub fn read_hints(call: &Call, name: Name) -> Result<Hints> {
    match call.datum(name) {
        None => Ok(Hints::default()),
        Some(datum) => hints::parse(&value::jsonb_to_string(datum, hints::MAX_BYTES, name.1)?),
    }
}
