//! Claiming jobs for a fetch: find candidates, lock what nobody else holds, claim it, write the lease, and learn from
//! what was seen where the next fetch can start.

mod picker;
mod scan;
mod search;
mod spread;

use std::collections::HashMap;

use self::search::Search;
use super::floor::Floor;
use super::lease::{self, Lease, NewLease};
use super::{binding, floor_store};
use crate::error::Result;
use crate::host::spi::{connected, Row, Spi};
use crate::host::value::{self, Arg};
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
}

/// Claims jobs; the lease, if there were any. `emit` gets each row in the order of claiming: id, data, metadata, attempt,
/// inserted_at, failure_reason.
pub fn claim(demand: &Demand, emit: impl FnMut(&Lease, Row)) -> Result<Option<Lease>> {
    let queue = &demand.workflow.queue;
    let now = value::now();
    let floor = floor_store::current(queue, now)?;
    connected(|spi| {
        let mut search = look(spi, queue, floor, demand.jobs, now)?;
        let locked = search.lock_candidates(spi, queue)?;
        let lease = if locked.is_empty() { None } else { take(spi, demand, &locked, now, emit)? };
        let count = lease.as_ref().map_or(0, |lease| lease.job_ids.len());
        if count > 0 {
            search.note_claimed(queue);
        }
        if let Some(floor) = search.learned(spi, queue)? {
            floor_store::moved(queue, floor, count, now)?;
        }
        Ok(lease)
    })
}

/// Looks where nobody else is at work, if there is enough; else from the floor on.
fn look(spi: &Spi, queue: &Queue, floor: Floor, wanted: usize, now: i64) -> Result<Search> {
    let Some(mut ahead) = Search::ahead(spi, queue, &floor, wanted, now)? else {
        return Search::begin(spi, queue, floor, wanted, now);
    };
    ahead.lock_candidates(spi, queue)?;
    if ahead.is_full() {
        return Ok(ahead);
    }
    // What is locked is this fetch's, and must not stay locked for nothing.
    let mut whole = Search::begin(spi, queue, floor, wanted, now)?;
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
        let search = Search::begin(spi, queue, floor, limit, now)?;
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

/// Claims locked jobs under a new lease.
fn take(spi: &Spi, demand: &Demand, ids: &[i64], now: i64, mut emit: impl FnMut(&Lease, Row)) -> Result<Option<Lease>> {
    let workflow = demand.workflow;
    at_commit::claiming(&workflow.queue.slot);
    let mut lease = Lease {
        id: lease::next_id()?,
        queue: workflow.queue.row.number,
        workflow: workflow.name.clone(),
        timeout_ms: demand.timeout_ms,
        leased_at: now,
        max_attempts: workflow.settings.max_attempts(),
        backoff: workflow.settings.backoff(),
        deadline: now.saturating_add(demand.timeout_ms.saturating_mul(1_000)),
        job_ids: Vec::new(),
        holds: demand.resources.is_some(),
    };
    let rows = workflow.queue.jobs.claim(spi, ids, lease.id, now)?;
    let order: HashMap<i64, usize> = ids.iter().enumerate().map(|(at, id)| (*id, at)).collect();
    let place = |row: &Row| row.bigint(1).and_then(|id| order.get(&id).copied());
    let mut claimed: Vec<(Option<usize>, Row)> = rows.iter().map(|row| (place(&row), row)).collect();
    claimed.sort_by_key(|(place, _)| *place);
    lease.job_ids = claimed.iter().filter_map(|(_, row)| row.bigint(1)).collect();
    if lease.job_ids.is_empty() {
        return Ok(None);
    }
    let (bound, worker, resources) = (demand.bound, demand.worker, demand.resources);
    lease::add(&NewLease { workflow: &workflow.name, lease: &lease, leased_at: now, bound, worker, resources })?;
    make_known(demand, &lease);
    for (_, row) in &claimed {
        emit(&lease, *row);
    }
    Ok(Some(lease))
}
