//! What is with this program: each job from its fetch until the database has confirmed its end.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::lease::Lease;
use crate::calls::{Claim, ExtendedLease, Job};
use crate::telemetry;

/// A lease is renewed when this part of it is over.
const RENEW_AFTER: u32 = 3;

/// When to try again for a lease that is locked.
const AGAIN: Duration = Duration::from_millis(500);

/// How much there may be at one time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Jobs that are not settled.
    pub capacity: usize,
    /// Jobs that have not left the first stage of a pipeline.
    pub stage: usize,
    /// Leases.
    pub leases: usize,
}

/// The one place that knows how many jobs there are, under which leases, and so how many may be fetched.
#[derive(Debug)]
pub(crate) struct Ledger {
    limits: Limits,
    workflow: Arc<str>,
    held: Mutex<Held>,
    /// Jobs that went back unstarted.
    released: AtomicU64,
    /// Something was given back, or a lease came.
    changed: Notify,
}

#[derive(Debug, Default)]
struct Held {
    in_flight: usize,
    in_stage: usize,
    leases: HashMap<i64, HeldLease>,
}

#[derive(Debug)]
struct HeldLease {
    worker: Option<usize>,
    lost: CancellationToken,
    renew_at: Instant,
    /// Jobs that nobody has settled.
    working: HashSet<i64>,
    /// Jobs whose settle is under way: when the lease ends, that may be its effect.
    settling: HashSet<i64>,
}

impl Ledger {
    pub(crate) fn new(limits: Limits, workflow: Arc<str>) -> Self {
        Ledger { limits, workflow, held: Mutex::default(), released: AtomicU64::new(0), changed: Notify::new() }
    }

    pub(crate) fn workflow(&self) -> &Arc<str> {
        &self.workflow
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        // Nothing here leaves the counts half changed.
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until something is so.
    async fn when<T>(&self, mut look: impl FnMut(&Held) -> Option<T>) -> T {
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            changed.as_mut().enable();
            if let Some(answer) = look(&self.held()) {
                return answer;
            }
            changed.await;
        }
    }

    /// Waits until at least `least` jobs may be fetched, and says how many.
    pub(crate) async fn room(&self, least: usize) -> usize {
        self.when(|held| {
            let room = (self.limits.capacity.saturating_sub(held.in_flight))
                .min(self.limits.stage.saturating_sub(held.in_stage));
            let enough = least.min(self.limits.stage);
            (held.leases.len() < self.limits.leases && room >= enough).then_some(room)
        })
        .await
    }

    /// The lowest number that no lease has as its worker.
    pub(crate) fn free_worker(&self) -> usize {
        let held = self.held();
        let taken: HashSet<usize> = held.leases.values().filter_map(|lease| lease.worker).collect();
        (0..).find(|number| !taken.contains(number)).unwrap_or(0)
    }

    /// Takes up the jobs of one fetch and returns the lease of each.
    pub(crate) fn admit(&self, jobs: &[Job], worker: Option<usize>) -> Vec<Lease> {
        let mut held = self.held();
        held.in_flight += jobs.len();
        held.in_stage += jobs.len();
        let admitted = jobs.iter().map(|job| {
            let lease = held.leases.entry(job.lease).or_insert_with(|| HeldLease {
                worker,
                lost: CancellationToken::new(),
                renew_at: Instant::now() + job.lease_left / RENEW_AFTER,
                working: HashSet::new(),
                settling: HashSet::new(),
            });
            lease.working.insert(job.id);
            Lease { id: job.lease, lost: lease.lost.clone() }
        });
        let admitted = admitted.collect();
        telemetry::in_flight(&self.workflow, held.in_flight);
        drop(held);
        self.changed.notify_waiters();
        admitted
    }

    pub(crate) fn count_released(&self) {
        self.released.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn released(&self) -> u64 {
        self.released.load(Ordering::Relaxed)
    }

    /// A job has left the first stage, however.
    pub(crate) fn leave_stage(&self) {
        self.held().in_stage -= 1;
        self.changed.notify_waiters();
    }

    pub(crate) fn settling(&self, claim: Claim) {
        if let Some(lease) = self.held().leases.get_mut(&claim.lease) {
            if lease.working.remove(&claim.id) {
                lease.settling.insert(claim.id);
            }
        }
    }

    /// The job is no longer with this program. Saying it twice, or after the lease was lost, does nothing.
    pub(crate) fn settled(&self, claims: impl IntoIterator<Item = Claim>) {
        let mut held = self.held();
        for claim in claims {
            let Some(lease) = held.leases.get_mut(&claim.lease) else { continue };
            let known = lease.settling.remove(&claim.id) || lease.working.remove(&claim.id);
            if lease.settling.is_empty() && lease.working.is_empty() {
                held.leases.remove(&claim.lease);
            }
            held.in_flight -= usize::from(known);
        }
        telemetry::in_flight(&self.workflow, held.in_flight);
        drop(held);
        self.changed.notify_waiters();
    }

    /// Waits until leases are to be renewed, and names them. Those that will be soon are renewed with them.
    pub(crate) async fn due_leases(&self) -> Vec<i64> {
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            changed.as_mut().enable();
            let soon = Instant::now() + Duration::from_millis(100);
            let (due, next) = self.held().due(soon);
            if !due.is_empty() && next <= Instant::now() {
                return due;
            }
            tokio::select! {
                () = tokio::time::sleep_until(next) => {}
                () = changed => {}
            }
        }
    }

    /// Takes note of what the database said of these leases; the rest is lost. Returns how many are.
    pub(crate) fn renewed(&self, asked: &[i64], held_leases: &[ExtendedLease]) -> usize {
        let mut held = self.held();
        for renewed in held_leases {
            if let Some(lease) = held.leases.get_mut(&renewed.lease) {
                lease.renew_at = Instant::now() + renewed.lease_left / RENEW_AFTER;
            }
        }
        let lost = asked.iter().filter(|id| !held_leases.iter().any(|renewed| renewed.lease == **id));
        let lost = lost.filter(|id| held.lose(**id)).count();
        drop(held);
        self.changed.notify_waiters();
        lost
    }

    /// Asks for a lease's renewal again soon.
    pub(crate) fn postpone(&self, id: i64) {
        if let Some(lease) = self.held().leases.get_mut(&id) {
            lease.renew_at = Instant::now() + AGAIN;
        }
    }

    pub(crate) fn in_flight(&self) -> usize {
        self.held().in_flight
    }

    /// Waits until no job is in the first stage.
    pub(crate) async fn stage_empty(&self) {
        self.when(|held| (held.in_stage == 0).then_some(())).await;
    }

    /// Waits until nothing is with this program.
    pub(crate) async fn empty(&self) {
        self.when(|held| (held.in_flight == 0).then_some(())).await;
    }
}

impl Held {
    fn working_leases(&self) -> impl Iterator<Item = (&i64, &HeldLease)> {
        self.leases.iter().filter(|(_, lease)| !lease.working.is_empty())
    }

    /// Leases to be renewed before `soon`, and when the first of all is.
    fn due(&self, soon: Instant) -> (Vec<i64>, Instant) {
        let mut next = soon + Duration::from_secs(3600);
        let mut due = Vec::new();
        for (id, lease) in self.working_leases() {
            next = next.min(lease.renew_at);
            if lease.renew_at <= soon {
                due.push(*id);
            }
        }
        (due, next)
    }

    /// Gives up a lease with all that somebody works on. What is being settled waits for its answer.
    fn lose(&mut self, id: i64) -> bool {
        let Some(lease) = self.leases.get_mut(&id) else { return false };
        if lease.working.is_empty() {
            return false;
        }
        lease.lost.cancel();
        self.in_flight -= lease.working.len();
        lease.working.clear();
        if lease.settling.is_empty() {
            self.leases.remove(&id);
        }
        true
    }
}
