//! Taking back what consumers did not settle in time. Acts as the table's owner, restricted; never waits for a row: a
//! lease of which a job is locked stays, and is looked at again.

use std::panic::AssertUnwindSafe;

use super::lease::{self, Lease};
use super::retry;
use super::state::{JobState, Status};
use super::sweep;
use super::table::Change;
use crate::error::{self, Level, Result};
use crate::host::spi::connected;
use crate::host::subtransaction::{attempt, Caught};
use crate::host::value;
use crate::host::xact;
use crate::ids::IdSet;
use crate::queue::cache::Queue;
use crate::queue::settings::MAX_MS;
use crate::resource::release::Why;
use crate::shmem::at_commit;
use crate::shmem::database::is_served;
use crate::shmem::queue::Counter;

/// Why a job failed that nobody settled.
const LEASE_EXPIRED: &str = "lease expired";
/// Why one failed whose lease was ended by hand.
const LEASE_BROKEN: &str = "lease broken off";

/// Why jobs are taken back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The time of their lease is over.
    Expired,
    /// It was ended by hand.
    Broken,
    /// It was bound to a session that has ended.
    WithSession,
}

impl End {
    /// What stands in the jobs.
    fn reason(self) -> &'static str {
        match self {
            Self::Broken => LEASE_BROKEN,
            Self::Expired | Self::WithSession => LEASE_EXPIRED,
        }
    }

    /// Whether they wait as long as their workflow says, before they are tried again.
    fn backs_off(self) -> bool {
        self != Self::WithSession
    }

    /// What it means for what the lease holds.
    fn why(self) -> Why {
        match self {
            Self::Expired | Self::Broken => Why::Reaped,
            Self::WithSession => Why::SessionEnded,
        }
    }
}

/// How much one pass may do.
pub struct Bounds {
    /// Jobs taken back.
    pub jobs: usize,
    /// Leases looked at, so that those with jobs that stay locked cannot hold up the rest for ever.
    pub leases: usize,
    /// Leases locked at a time.
    pub at_once: i64,
}

/// A whole pass.
pub const PASS: Bounds = Bounds { jobs: usize::MAX, leases: 10_000, at_once: 64 };
/// What a worker does in one transaction.
pub const SOME: Bounds = Bounds { jobs: 10_000, leases: 256, at_once: 64 };
/// What a fetch does on the way: it locks no lease that it has no use for, since it may stay open for long.
const IN_FETCH: Bounds = Bounds { jobs: 64, leases: 64, at_once: 1 };
/// A fetch looks after its queue this often, microseconds.
const FETCH_EVERY: i64 = 1_000_000;

/// What a pass took back.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Reaped {
    /// Jobs that are pending again.
    pub returned: i64,
    /// Jobs that failed, because no attempt was left.
    pub failed: i64,
}

/// Takes back jobs of a queue's expired leases.
pub fn reap(queue: &Queue, bounds: &Bounds, now: i64) -> Result<Reaped> {
    let mut total = Reaped::default();
    let mut after = (i64::MIN, i64::MIN);
    let mut seen = 0;
    loop {
        let leases = lease::lock_expired(queue.row.number, now, after, bounds.at_once)?;
        for lease in &leases {
            let room = bounds.jobs.saturating_sub((total.returned + total.failed) as usize);
            if room == 0 {
                return Ok(total);
            }
            let (reaped, _) = take_back(queue, lease, room, now, End::Expired)?;
            total.returned += reaped.returned;
            total.failed += reaped.failed;
            after = (lease.deadline, lease.id);
        }
        seen += leases.len();
        if leases.is_empty() || seen >= bounds.leases {
            return Ok(total);
        }
    }
}

/// Takes back the jobs of leases that were bound to sessions that have ended, at once and without back-off. How many of
/// them are still there, because others have something of theirs locked.
pub fn end_bound(queue: &Queue, leases: &[i64], now: i64) -> Result<usize> {
    for lease in lease::lock_free(queue.row.number, leases)? {
        take_back(queue, &lease, usize::MAX, now, End::WithSession)?;
    }
    lease::count(leases)
}

/// Takes back the jobs of a lease whose time is over, or which is broken off, if nobody has it locked; false when it is
/// not there, or stays, because others have something of it locked.
pub fn end_one(queue: &Queue, lease: i64, end: End, now: i64) -> Result<bool> {
    let is_to_end = |lease: &Lease| end == End::Broken || lease.deadline <= now;
    match lease::lock_free(queue.row.number, &[lease])?.into_iter().find(is_to_end) {
        Some(lease) => take_back(queue, &lease, usize::MAX, now, end).map(|(_, is_over)| is_over),
        None => Ok(false),
    }
}

/// What others are to know of jobs that were taken back; from which workflow and why, where that is known.
pub fn make_known(queue: &Queue, reaped: &Reaped, known: Option<(&str, End)>, now: i64) {
    at_commit::count(&queue.slot, Counter::Reaped, reaped.returned + reaped.failed);
    at_commit::count(&queue.slot, Counter::Failed, reaped.failed);
    if *reaped == Reaped::default() {
        return;
    }
    at_commit::change(&queue.slot, |change| {
        change.moves.in_progress -= reaped.returned + reaped.failed;
        change.moves.pending += reaped.returned;
        change.moves.failed += reaped.failed;
        if let Some((workflow, end)) = known {
            change.reason = Some((workflow.to_owned(), end.reason().to_owned()));
        }
    });
    if reaped.returned > 0 {
        at_commit::due(&queue.slot, now);
    }
}

/// Takes back jobs of a lease that is locked; whether it is over then.
fn take_back(queue: &Queue, lease: &Lease, max_jobs: usize, now: i64, end: End) -> Result<(Reaped, bool)> {
    let reaped = queue.keep_up(|| {
        connected(|spi| {
            let held = queue.jobs.lock_held(spi, &lease.job_ids, lease.id, max_jobs)?;
            let changes: Vec<Change> = held.iter().map(|(id, job)| change(*id, job, lease, now, end)).collect();
            let changed = queue.jobs.apply(spi, &changes, now)?;
            Ok(count(&changes, &changed))
        })
    })?;
    make_known(queue, &reaped, Some((&lease.workflow, end)), now);
    let is_any_held = connected(|spi| super::settle::is_any_held(spi, queue, lease))?;
    Ok((reaped, !is_any_held && lease::remove(&[lease], end.why())?))
}

fn change(id: i64, job: &JobState, lease: &Lease, now: i64, end: End) -> Change {
    let wait_ms = match end.backs_off() {
        true => retry::delay_ms(&lease.backoff, i64::from(job.attempt), value::random()),
        false => 0,
    };
    taken_back(id, job.attempt, lease.max_attempts, wait_ms, now, end)
}

/// What becomes of a job that is taken back: pending again after `wait_ms`, or failed when no attempt is left.
pub fn taken_back(id: i64, attempt: i32, max_attempts: i32, wait_ms: i64, now: i64, end: End) -> Change {
    let spent = retry::spent(attempt, max_attempts);
    let wait = wait_ms.min(MAX_MS).saturating_mul(1_000);
    Change {
        id,
        status: if spent { Status::Failed } else { Status::Pending },
        available_at: (!spent).then(|| now.saturating_add(wait)),
        refund: 0,
        reason: value::text(end.reason()),
    }
}

/// How many of the changes that were made return a job, and how many end one.
pub fn count(changes: &[Change], changed: &[i64]) -> Reaped {
    let changed: IdSet = changed.iter().copied().collect();
    let made = || changes.iter().filter(|change| changed.contains(&change.id));
    let failed = made().filter(|change| change.status == Status::Failed).count() as i64;
    Reaped { returned: made().count() as i64 - failed, failed }
}

/// What a fetch does for its queue on the way, at most once a second in a session, where no worker does it: takes back
/// a few expired jobs and sweeps a little. What fails here is reported and does not hold up the fetch. Whether it may have
/// changed jobs.
pub fn look_after(queue: &Queue, now: i64) -> Result<bool> {
    // Under an old snapshot, rows that changed since would raise 40001 for the fetch's transaction.
    if is_looked_after(queue, now) || !xact::is_read_committed() {
        return Ok(false);
    }
    if is_left_to_worker(queue, now) {
        return Ok(false);
    }
    queue.jobs.last_reap.set(now);
    let (is_reaping, is_sweeping) = (lease::any_expired(queue.row.number, now)?, sweep::is_due_in_fetch(queue));
    if is_reaping {
        report(queue, "take back expired jobs", attempt(AssertUnwindSafe(|| reap(queue, &IN_FETCH, now).map(|_| ()))));
    }
    if is_sweeping {
        report(queue, "sweep", attempt(AssertUnwindSafe(|| sweep::in_fetch(queue, now))));
    }
    Ok(is_reaping || is_sweeping)
}

/// For a fetch that found nothing in a table that was restored, copied or adopted: goes on looking through it, and says
/// whether it is worth to look for jobs once more. After a pass it rests, as `look_after` does.
pub fn look_further(queue: &Queue, now: i64) -> bool {
    let rested = queue.jobs.last_pass.get();
    if queue.row.is_at_home()
        || !xact::is_read_committed()
        || (now >= rested && now.saturating_sub(rested) < FETCH_EVERY)
    {
        return false;
    }
    let more = attempt(AssertUnwindSafe(|| sweep::look_through(queue, now))).unwrap_or(false);
    if !more {
        queue.jobs.last_pass.set(now);
    }
    true
}

/// Whether a fetch would now do something for its queue that may bring jobs: take back expired leases, or look through a
/// table from elsewhere. At most as often as a fetch of this session does that. Reads only.
pub fn fetch_would_help(queue: &Queue, now: i64) -> Result<bool> {
    if is_looked_after(queue, now) || is_left_to_worker(queue, now) || !xact::is_read_committed_by_default() {
        return Ok(false);
    }
    Ok(!queue.row.is_at_home() || lease::any_expired(queue.row.number, now)?)
}

/// Whether a worker looks after the queue.
fn is_left_to_worker(queue: &Queue, now: i64) -> bool {
    queue.can_be_kept_up() && is_served(now)
}

/// Whether this session did its part for the queue less than a second ago.
fn is_looked_after(queue: &Queue, now: i64) -> bool {
    let last = queue.jobs.last_reap.get();
    now >= last && now - last < FETCH_EVERY
}

fn report(queue: &Queue, task: &str, outcome: std::result::Result<(), Caught>) {
    if let Err(caught) = outcome {
        let Caught { message, sqlstate } = caught;
        error::say(Level::Warning, format!("qflow could not {task} in queue {}: {message} ({sqlstate})", queue.name));
    }
}
