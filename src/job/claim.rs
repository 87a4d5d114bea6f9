//! Claiming jobs for a fetch: find candidates, take what nobody else holds, write the lease, and learn from what was seen
//! where the next fetch can start.

mod picker;
mod scan;
mod search;
mod spread;
mod taking;

use self::search::Search;
use self::taking::Taking;
use super::floor::Floor;
use super::lease::{self, Lease, NewLease};
use super::table::Claimed;
use super::{binding, floor_store};
use crate::error::Result;
use crate::host::spi::{connected, Spi};
use crate::host::value::{self, Arg};
use crate::host::xact;
use crate::queue::cache::{Queue, Workflow};
use crate::shmem::at_commit;
use crate::shmem::queue::Counter;

/// What a fetch asks for, precedence applied.
pub struct Demand<'a> {
    /// Whose jobs.
    pub workflow: &'a Workflow,
    /// At most this many.
    pub jobs: usize,
    /// Lease time, milliseconds.
    pub timeout_ms: i64,
    /// The worker's name, if it gave one.
    pub worker: Option<&'a str>,
    /// Whether the lease ends with the session.
    pub bound: bool,
    /// The resources that were taken for it, as jsonb.
    pub resources: Arg,
    /// Whether nothing that this transaction did changes which jobs are pending: it did nothing, or acked.
    pub is_clean: bool,
}

/// What a consumer gets with each of his jobs.
#[derive(Clone, Copy)]
pub struct Ticket {
    /// The fencing token.
    pub lease: i64,
    /// Tries in all.
    pub max_attempts: i32,
    /// When the lease ends, microseconds.
    pub deadline: i64,
}

impl Demand<'_> {
    fn ticket(&self, lease: i64, now: i64) -> Ticket {
        let deadline = now.saturating_add(self.timeout_ms.saturating_mul(1_000));
        Ticket { lease, max_attempts: self.workflow.settings.max_attempts(), deadline }
    }
}

/// Claims jobs; the lease, if there were any. `emit` gets each of them, in the order of claiming; its values stay as long as
/// that call lasts.
pub fn claim(demand: &Demand, mut emit: impl FnMut(&Ticket, &Claimed)) -> Result<Option<Lease>> {
    let queue = &demand.workflow.queue;
    let now = value::now();
    let floor = floor_store::current(queue, now)?;
    connected(|spi| {
        let direct = queue.jobs.direct();
        let mut taking = Taking::begin(demand, direct.as_ref(), now, &mut emit);
        let mut search = look(spi, demand, floor, now, &mut taking)?;
        let taken = search.take_candidates(spi, queue, &mut taking)?;
        let lease = match taking.finish(spi, taken)? {
            Some((ticket, jobs)) => {
                let lease = lease_of(demand, ticket, jobs, now);
                let (bound, worker, resources) = (demand.bound, demand.worker, demand.resources);
                let workflow = &demand.workflow.name;
                lease::add(&NewLease { workflow, lease: &lease, leased_at: now, bound, worker, resources })?;
                make_known(demand, &lease);
                search.note_claimed(queue);
                Some(lease)
            }
            None => None,
        };
        let count = lease.as_ref().map_or(0, |lease| lease.job_ids.len());
        if let Some(floor) = search.learned(spi, queue)? {
            floor_store::moved(queue, floor, count, now)?;
        }
        Ok(lease)
    })
}

fn lease_of(demand: &Demand, ticket: Ticket, job_ids: Vec<i64>, now: i64) -> Lease {
    let workflow = demand.workflow;
    Lease {
        id: ticket.lease,
        queue: workflow.queue.row.number,
        workflow: workflow.name.clone(),
        timeout_ms: demand.timeout_ms,
        leased_at: now,
        max_attempts: ticket.max_attempts,
        backoff: workflow.settings.backoff(),
        deadline: ticket.deadline,
        job_ids,
        holds: demand.resources.is_some(),
    }
}

/// Looks where nobody else is at work, if there is enough; else from the floor on.
fn look(spi: &Spi, demand: &Demand, floor: Floor, now: i64, taking: &mut Taking) -> Result<Search> {
    let (queue, wanted, is_clean) = (&demand.workflow.queue, demand.jobs, demand.is_clean);
    let ahead = if is_clean { Search::ahead(spi, queue, &floor, wanted, now)? } else { None };
    let Some(mut ahead) = ahead else {
        return Search::begin(spi, queue, floor, (wanted, now, is_clean), Some(taking));
    };
    ahead.take_candidates(spi, queue, taking)?;
    if ahead.is_full() {
        return Ok(ahead);
    }
    // What is taken is this fetch's, and must not be taken for nothing.
    let mut whole = Search::begin(spi, queue, floor, (wanted, now, xact::own_xid().is_none()), None)?;
    whole.take_over(ahead);
    Ok(whole)
}

/// What waits in a queue.
pub struct Waiting {
    /// Jobs that could be claimed now, counted up to a limit.
    pub waiting: usize,
    /// When the first job with a delay, or back-off, is due, microseconds.
    pub next_due: Option<i64>,
}

/// What a fetch would find now, counted up to `limit`; locks and changes nothing.
pub fn probe(queue: &Queue, limit: usize) -> Result<Waiting> {
    let now = value::now();
    let floor = floor_store::current(queue, now)?;
    connected(|spi| {
        let search = Search::begin(spi, queue, floor, (limit, now, xact::own_xid().is_none()), None)?;
        Ok(Waiting { waiting: search.found().min(limit), next_due: queue.jobs.next_due(spi)? })
    })
}

/// What others are to know of a claim. Whoever was woken for these jobs may have left some: the next in line looks.
fn make_known(demand: &Demand, lease: &Lease) {
    let slot = &demand.workflow.queue.slot;
    let jobs = lease.job_ids.len() as i64;
    at_commit::count(slot, Counter::Claimed, jobs);
    at_commit::change(slot, |change| {
        change.moves.pending -= jobs;
        change.moves.in_progress += jobs;
    });
    at_commit::pass_on(slot);
    at_commit::work_by(lease.deadline);
    if demand.bound {
        binding::end_leases_at_exit();
    }
}
