//! `fetch`: from arguments to claimed rows.

use std::time::{Duration, Instant};

use crate::api::queue::consumed;
use crate::error::{Error, Result};
use crate::guc;
use crate::host::call::{Call, Name};
use crate::host::rows::Sink;
use crate::host::value::{self, Arg};
use crate::host::xact;
use crate::job::claim::{self, Demand};
use crate::job::lease::Lease;
use crate::job::{reap, waiting};
use crate::queue::cache::Workflow;
use crate::queue::settings::MAX_MS;
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
    let request = Request::read(call, 1)?;
    let workflow = consumed(&name)?;
    Order::of(&workflow, request)?.fill(&sink)?;
    Ok(None)
}

/// The arguments that say what to fetch.
pub struct Request {
    demand: Option<i64>,
    batch_size: Option<i64>,
    hints: Hints,
}

impl Request {
    /// Reads them; the first is at a position, the others follow.
    pub fn read(call: &Call, at: usize) -> Result<Self> {
        Ok(Self {
            demand: count(call, (at, "demand"))?,
            batch_size: count(call, (at + 1, "batch_size"))?,
            hints: read_hints(call, (at + 2, "hints"))?,
        })
    }
}

/// What was ordered.
pub struct Order<'a> {
    workflow: &'a Workflow,
    demand: Option<i64>,
    batch_size: Option<i64>,
    hints: Hints,
    wants: Vec<Want>,
    /// Whether nothing that this transaction did changes which jobs are pending.
    is_clean: bool,
}

impl<'a> Order<'a> {
    /// What a request comes to; an error where that can never be had. Between this and `fill` nothing may be done to jobs
    /// but to ack them.
    pub fn of(workflow: &'a Workflow, request: Request) -> Result<Self> {
        let Request { demand, batch_size, hints } = request;
        let hints = hints::overlay(hints, &workflow.hints);
        let wants = want::wants(&hints)?;
        Ok(Self { workflow, demand, batch_size, hints, wants, is_clean: xact::own_xid().is_none() })
    }

    /// Takes what there is and puts it into the sink.
    pub fn fill(&self, sink: &Sink) -> Result<()> {
        let workflow = self.workflow;
        workflow.queue.slot.fetched(&workflow.name, value::now());
        if workflow.paused {
            return Ok(());
        }
        let deadline = Instant::now() + Duration::from_millis(self.hints.wait_ms.unwrap_or(0).unsigned_abs());
        let has_looked = reap::look_after(&workflow.queue, value::now())?;
        let mut is_clean = self.is_clean && (!has_looked || xact::own_xid().is_none());
        let mut delivered = 0;
        for _ in 0..=LOOKS {
            let Some(count) = self.deliver(sink, deadline, is_clean)? else {
                break; // busy: more jobs would not help
            };
            delivered = count;
            if delivered > 0 || !reap::look_further(&workflow.queue, value::now()) {
                break;
            }
            is_clean = false;
        }
        waiting::fetched(&workflow.name, delivered);
        Ok(())
    }

    /// How many jobs; `None` when what was asked for besides is busy until the deadline.
    fn deliver(&self, sink: &Sink, deadline: Instant, is_clean: bool) -> Result<Option<i64>> {
        match self.wants.is_empty() {
            true => self.deliver_with(sink, None, is_clean).map(|(count, _)| Some(count)),
            false => self.deliver_holding(sink, deadline, is_clean),
        }
    }

    /// With what was asked for besides jobs. Who finds no job takes nothing, so that nobody else meets it in his way.
    fn deliver_holding(&self, sink: &Sink, deadline: Instant, is_clean: bool) -> Result<Option<i64>> {
        if claim::probe(&self.workflow.queue, 1)?.waiting == 0 {
            return Ok(Some(0));
        }
        let claimant = self.claimant();
        let grant = match resources::acquire(&self.wants, &claimant, deadline)? {
            Outcome::Granted(grant) => grant,
            Outcome::Busy(resource) => return self.busy(&resource),
        };
        // What was taken back for its resource may be pending again.
        let is_clean = is_clean && xact::own_xid().is_none();
        match self.deliver_with(sink, Some(&grant.as_json()), is_clean)? {
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
            by_session: want::is_by_session(&self.hints),
        }
    }

    fn busy(&self, resource: &str) -> Result<Option<i64>> {
        match self.hints.on_busy {
            Some(OnBusy::Error) => Err(Error::busy(format!("resource \"{resource}\" is busy"))
                .hint("Fetch again after qflow.wait, or pass wait_ms. qflow.resource_status shows who holds it.")),
            _ => Ok(None),
        }
    }

    fn deliver_with(&self, sink: &Sink, resources: Option<&str>, is_clean: bool) -> Result<(i64, Option<Lease>)> {
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
            is_clean,
        };
        let mut delivered: i64 = 0;
        let lease = claim::claim(&demand, |ticket, job| {
            let batch_no = delivered / batch_size + 1;
            delivered += 1;
            sink.put(&[
                value::int(batch_no as i32),
                value::bigint(job.id),
                job.data,
                job.metadata,
                job.attempt,
                value::int(ticket.max_attempts),
                value::bigint(ticket.lease),
                value::timestamp(ticket.deadline),
                job.inserted_at,
                job.failure_reason,
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
