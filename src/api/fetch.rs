//! `fetch`: from arguments to claimed rows.

use std::time::{Duration, Instant};

use crate::api::queue::require_consumer;
use crate::error::{Error, Result};
use crate::guc;
use crate::host::call::{Call, Name};
use crate::host::rows::Sink;
use crate::host::value::{self, Arg};
use crate::host::xact;
use crate::job::claim::{self, Demand};
use crate::job::lease::Lease;
use crate::job::{reap, waiting};
use crate::queue::cache::{self, Workflow};
use crate::queue::settings::MAX_MS;
use crate::resource::at_end;
use crate::resource::claim::{self as resources, Claimant, Outcome};
use crate::resource::hints::{self, Hints, OnBusy};
use crate::resource::want::{self, Want};

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
    let order = Order::of(&workflow, demand, batch_size, &hints)?;
    at_end::let_go_of_reaped()?;
    workflow.queue.slot.fetched(&workflow.name, value::now());
    if workflow.paused {
        return Ok(None);
    }
    reap::look_after(&workflow.queue, value::now())?;
    let mut delivered = 0;
    for _ in 0..=LOOKS {
        let Some(count) = order.deliver(&sink)? else {
            break; // busy: more jobs would not help
        };
        delivered = count;
        if delivered > 0 || !reap::look_further(&workflow.queue, value::now()) {
            break;
        }
    }
    waiting::fetched(&workflow.name, delivered);
    Ok(None)
}

/// What was ordered.
struct Order<'a> {
    workflow: &'a Workflow,
    demand: Option<i64>,
    batch_size: Option<i64>,
    hints: &'a Hints,
    wants: Vec<Want>,
    /// Until when it waits for resources.
    deadline: Instant,
}

impl<'a> Order<'a> {
    fn of(workflow: &'a Workflow, demand: Option<i64>, batch_size: Option<i64>, hints: &'a Hints) -> Result<Self> {
        let wait = Duration::from_millis(hints.wait_ms.unwrap_or(0).unsigned_abs());
        let (wants, deadline) = (want::wants(hints)?, Instant::now() + wait);
        Ok(Self { workflow, demand, batch_size, hints, wants, deadline })
    }

    /// How many jobs; `None` when what was asked for besides is busy.
    fn deliver(&self, sink: &Sink) -> Result<Option<i64>> {
        match self.wants.is_empty() {
            true => self.deliver_with(sink, None).map(|(count, _)| Some(count)),
            false => self.deliver_holding(sink),
        }
    }

    /// With what was asked for besides jobs. Who finds no job takes nothing, so that nobody else meets it in his way.
    fn deliver_holding(&self, sink: &Sink) -> Result<Option<i64>> {
        if claim::probe(&self.workflow.queue, 1)?.waiting == 0 {
            return Ok(Some(0));
        }
        let claimant = self.claimant();
        let grant = match resources::acquire(&self.wants, &claimant, self.deadline)? {
            Outcome::Granted(grant) => grant,
            Outcome::Busy(resource) => return self.busy(&resource),
        };
        match self.deliver_with(sink, Some(&grant.as_json()))? {
            (count, Some(lease)) => grant.keep(&claimant, lease.id).map(|()| Some(count)),
            (count, None) => {
                grant.give_back();
                Ok(Some(count))
            }
        }
    }

    fn claimant(&self) -> Claimant<'_> {
        Claimant {
            workflow: &self.workflow.name,
            worker: self.hints.worker.as_deref(),
            by_session: want::is_by_session(self.hints),
        }
    }

    fn busy(&self, resource: &str) -> Result<Option<i64>> {
        match self.hints.on_busy {
            Some(OnBusy::Error) => Err(Error::busy(format!("resource \"{resource}\" is busy"))
                .hint("Fetch again after qflow.wait, or pass wait_ms. qflow.resource_status shows who holds it.")),
            _ => Ok(None),
        }
    }

    fn deliver_with(&self, sink: &Sink, resources: Option<&str>) -> Result<(i64, Option<Lease>)> {
        let workflow = self.workflow;
        let batch_size = self.batch_size.unwrap_or_else(|| workflow.settings.batch_size());
        let jobs = self.demand.unwrap_or_else(|| batch_size.min(guc::max_demand()));
        let resources = resources.and_then(value::jsonb);
        let demand = Demand {
            workflow,
            jobs: jobs as usize,
            timeout_ms: self.hints.timeout_ms.unwrap_or_else(|| workflow.settings.timeout_ms()).min(MAX_MS),
            worker: self.hints.worker.as_deref(),
            bound: self.hints.binds_session(),
            resources,
        };
        let mut delivered: i64 = 0;
        let lease = claim::claim(&demand, |lease, row| {
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
                resources,
            ]);
        })?;
        Ok((delivered, lease))
    }
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
