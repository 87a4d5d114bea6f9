//! Settling: how the jobs of leases ended. Lease rows are locked first, then job rows, both ascending, so that crossed
//! calls queue up instead of deadlocking; a lease goes when nothing is in progress under it any more.

use std::collections::BTreeSet;

use super::lease::{self, Lease};
use super::outcomes;
use super::retry;
use super::state::{self, JobState, Outcome, Status, Verdict};
use super::table::Change;
use crate::error::{Error, Result};
use crate::host::snapshot::Latest;
use crate::host::spi::{connected, Spi};
use crate::host::value::{self, Arg};
use crate::ids::{IdMap, IdSet, PairMap};
use crate::queue::cache::{Queue, Workflow};
use crate::queue::settings::OnComplete;
use crate::resource::release::{self, Why};
use crate::shmem::at_commit;
use crate::shmem::queue::Counter;

/// One job's end, as asked for.
#[derive(Clone)]
pub struct Ask {
    /// The job.
    pub id: i64,
    /// Its fencing token; `None` where unfenced settling is allowed and wanted.
    pub lease: Option<i64>,
    /// How it ended.
    pub outcome: Outcome,
    /// Why, as a text datum.
    pub reason: Arg,
    /// Delay before it can be fetched again, milliseconds; `None`: the workflow's back-off.
    pub delay_ms: Option<i64>,
}

/// What became of an ask. The lease is the one asked for, or the one found where none was given.
pub struct Answer {
    /// The job.
    pub id: i64,
    /// Its fencing token.
    pub lease: Option<i64>,
    /// What was done.
    pub verdict: Verdict,
}

/// Settles jobs of one workflow's queue; one answer for each ask, in order. `strict`: not where the session has lost what
/// the jobs' leases hold.
pub fn settle(workflow: &Workflow, asks: &[Ask], strict: bool) -> Result<Vec<Answer>> {
    if asks.is_empty() {
        return Ok(Vec::new());
    }
    let queue = &workflow.queue;
    connected(|spi| {
        let mut fenced = fence(spi, workflow, asks)?;
        let wanted: BTreeSet<i64> = fenced.iter().filter_map(|ask| ask.lease).collect();
        let ids: Vec<i64> = wanted.into_iter().collect();
        let leases: IdMap<Lease> =
            lease::lock(queue.row.number, &ids)?.into_iter().map(|lease| (lease.id, lease)).collect();
        check_session(leases.values(), strict)?;
        let found: Vec<Option<i64>> = fenced.iter().map(|ask| ask.lease).collect();
        for (ask, asked) in fenced.iter_mut().zip(asks) {
            ask.lease = asked.lease.or(ask.lease.filter(|lease| is_live(workflow, &leases, *lease)));
        }
        let (asks, found, fenced) = distinct(asks, found, fenced)?;
        let now = value::now();
        let verdicts = match only_acks_of_one_lease(workflow, &fenced, &leases) {
            Some(lease) => ack_one_lease(spi, queue, &fenced, lease, now)?,
            None => settle_each(spi, workflow, &fenced, &leases, now)?,
        };
        let ended = ended_ids(&fenced, &verdicts);
        free(spi, queue, leases.values(), &ended)?;
        make_known(workflow, &fenced, &verdicts, now);
        let answers = asks.into_iter().zip(found).zip(verdicts);
        Ok(answers.map(|((ask, found), verdict)| answer(ask, found, verdict)).collect())
    })
}

/// Leases that hold something by their session are settled by it alone.
fn check_session<'a>(leases: impl Iterator<Item = &'a Lease>, strict: bool) -> Result<()> {
    let holding: Vec<i64> = leases.filter(|lease| lease.holds).map(|lease| lease.id).collect();
    match holding.is_empty() {
        true => Ok(()),
        false => release::check_session(&holding, strict),
    }
}

/// What others are to know of settled jobs.
fn make_known(workflow: &Workflow, asks: &[Ask], verdicts: &[Verdict], now: i64) {
    let queue = &workflow.queue;
    let counted = [
        (Verdict::Acked, Counter::Acked),
        (Verdict::Requeued, Counter::Requeued),
        (Verdict::Failed, Counter::Failed),
        (Verdict::Released, Counter::Released),
        (Verdict::Stale, Counter::Stale),
    ];
    let of = |verdict: Verdict| verdicts.iter().filter(|given| **given == verdict).count() as i64;
    counted.into_iter().for_each(|(verdict, counter)| at_commit::count(&queue.slot, counter, of(verdict)));
    let returned = of(Verdict::Requeued) + of(Verdict::Released);
    let (acked, failed) = (of(Verdict::Acked), of(Verdict::Failed));
    if acked + failed + returned > 0 {
        let reason = last_reason(asks, verdicts);
        at_commit::change(&queue.slot, |change| {
            change.moves.in_progress -= acked + failed + returned;
            change.moves.pending += returned;
            change.acked += acked;
            change.moves.failed += failed;
            if queue.row.on_complete == OnComplete::Keep {
                change.moves.completed += acked;
            }
            if let Some(reason) = reason {
                change.reason = Some((workflow.name.clone(), reason));
            }
        });
    }
    if returned > 0 {
        at_commit::due(&queue.slot, now);
    }
}

/// Why the last of the jobs did not come to its end that did not.
fn last_reason(asks: &[Ask], verdicts: &[Verdict]) -> Option<String> {
    let is_told = |verdict: &Verdict| matches!(verdict, Verdict::Requeued | Verdict::Failed);
    let told = asks.iter().zip(verdicts).filter(|(_, verdict)| is_told(verdict));
    told.filter_map(|(ask, _)| ask.reason).next_back().map(value::to_string_lossy)
}

/// Notes how long jobs of a lease took that are acked now; `inserted` says when each was inserted, microseconds.
fn note_acks(queue: &Queue, lease: &Lease, inserted: impl IntoIterator<Item = Option<i64>>, now: i64) {
    at_commit::change(&queue.slot, |change| {
        inserted.into_iter().for_each(|at| change.acks.note(at, lease.leased_at, lease.timeout_ms, now));
    });
}

/// Fills in the leases of unfenced asks: those that the jobs are in progress under, if they are this workflow's.
fn fence(spi: &Spi, workflow: &Workflow, asks: &[Ask]) -> Result<Vec<Ask>> {
    let mut fenced = asks.to_vec();
    let open: Vec<i64> = asks.iter().filter(|ask| ask.lease.is_none()).map(|ask| ask.id).collect();
    if open.is_empty() {
        return Ok(fenced);
    }
    let held: IdMap<i64> = workflow
        .queue
        .jobs
        .leases(spi, &open)?
        .into_iter()
        .filter_map(|(id, lease)| lease.map(|lease| (id, lease)))
        .collect();
    for ask in fenced.iter_mut().filter(|ask| ask.lease.is_none()) {
        ask.lease = held.get(&ask.id).copied();
    }
    Ok(fenced)
}

/// Asks as they were given, the leases found for them, and the asks with these leases; one entry each.
type Fenced<'a> = (Vec<&'a Ask>, Vec<Option<i64>>, Vec<Ask>);

/// One of each (id, lease): an ask without a lease may turn out to mean what another says with one. 22023 where the two
/// differ in their outcome.
fn distinct(asks: &[Ask], found: Vec<Option<i64>>, fenced: Vec<Ask>) -> Result<Fenced<'_>> {
    if fenced.windows(2).all(|pair| pair[0].id < pair[1].id) {
        return Ok((asks.iter().collect(), found, fenced)); // the common case
    }
    let mut first: PairMap<Outcome> = PairMap::with_capacity_and_hasher(fenced.len(), Default::default());
    let (mut kept, mut kept_found, mut kept_fenced) = (Vec::new(), Vec::new(), Vec::new());
    for ((ask, found), fenced) in asks.iter().zip(found).zip(fenced) {
        match fenced.lease.and_then(|lease| first.insert((ask.id, lease), ask.outcome)) {
            Some(outcome) if outcome != ask.outcome => {
                let detail = format!("Job {} is named with its lease and without, with different outcomes.", ask.id);
                return Err(Error::bad_value(outcomes::INVALID).detail(detail));
            }
            Some(_) => {}
            None => {
                kept.push(ask);
                kept_found.push(found);
                kept_fenced.push(fenced);
            }
        }
    }
    Ok((kept, kept_found, kept_fenced))
}

/// Whether a lease's row is there and is this workflow's.
fn is_live(workflow: &Workflow, leases: &IdMap<Lease>, lease: i64) -> bool {
    leases.get(&lease).is_some_and(|lease| lease.workflow == workflow.name)
}

/// Who gave no token cannot be told that he was heard before.
fn answer(ask: &Ask, found: Option<i64>, verdict: Verdict) -> Answer {
    let verdict = match verdict {
        Verdict::Already if ask.lease.is_none() => Verdict::Stale,
        other => other,
    };
    Answer { id: ask.id, lease: found, verdict }
}

/// The common case, for which one UPDATE does it all: every ask is an ack under one live lease of this workflow.
fn only_acks_of_one_lease<'a>(workflow: &Workflow, asks: &[Ask], leases: &'a IdMap<Lease>) -> Option<&'a Lease> {
    let first = asks.first()?.lease?;
    let same = asks.iter().all(|ask| ask.outcome == Outcome::Ack && ask.lease == Some(first));
    leases.get(&first).filter(|lease| same && lease.workflow == workflow.name)
}

fn ack_one_lease(spi: &Spi, queue: &Queue, asks: &[Ask], lease: &Lease, now: i64) -> Result<Vec<Verdict>> {
    let ids: Vec<i64> = asks.iter().map(|ask| ask.id).collect();
    let done = match queue.row.on_complete {
        OnComplete::Keep => queue.jobs.complete(spi, &ids, lease.id, now)?,
        OnComplete::Delete => queue.jobs.complete_and_delete(spi, &ids, lease.id)?,
    };
    note_acks(queue, lease, done.iter().map(|(_, inserted_at)| *inserted_at), now);
    // Each job is asked for once, and done at most once.
    if done.len() == ids.len() {
        return Ok(vec![Verdict::Acked; asks.len()]);
    }
    let done: IdSet = done.into_iter().map(|(id, _)| id).collect();
    let others: Vec<i64> = ids.iter().copied().filter(|id| !done.contains(id)).collect();
    // Read without locks: these jobs are not changed, and locking them now, out of order, could deadlock.
    let _snapshot = Latest::take();
    let states: IdMap<JobState> = queue.jobs.states(spi, &others)?.into_iter().collect();
    let verdict = |id: &i64| match done.contains(id) {
        true => Verdict::Acked,
        // The UPDATE has passed it over: whatever it is, it is not in progress under this lease.
        false => state::verdict(states.get(id), Outcome::Ack, lease.id, false, lease.max_attempts),
    };
    Ok(ids.iter().map(verdict).collect())
}

fn settle_each(spi: &Spi, workflow: &Workflow, asks: &[Ask], leases: &IdMap<Lease>, now: i64) -> Result<Vec<Verdict>> {
    let queue = &workflow.queue;
    let ids: BTreeSet<i64> = asks.iter().map(|ask| ask.id).collect();
    let ids: Vec<i64> = ids.into_iter().collect();
    let (mut states, inserted) = states_with_locks(spi, queue, &ids, asks)?;
    let mut changes: Vec<Change> = Vec::new();
    let mut deleted: Vec<i64> = Vec::new();
    let mut verdicts = Vec::with_capacity(asks.len());
    for ask in asks {
        let verdict = judge(workflow, ask, &states, leases);
        if verdict.is_applied() {
            let terms = Terms::of(workflow, ask.lease.and_then(|lease| leases.get(&lease)));
            match states.get_mut(&ask.id) {
                Some(_) if verdict == Verdict::Acked && queue.row.on_complete == OnComplete::Delete => {
                    deleted.push(ask.id);
                    states.remove(&ask.id);
                }
                Some(job) => changes.push(change(ask, verdict, job, &terms, now)),
                None => {}
            }
        }
        verdicts.push(verdict);
    }
    let mut kept: IdSet = changes.iter().map(|change| change.id).chain(deleted.iter().copied()).collect();
    for id in queue.jobs.apply(spi, &changes, now)?.into_iter().chain(queue.jobs.delete(spi, &deleted)?) {
        kept.remove(&id);
    }
    refuse_kept(asks, &mut verdicts, &kept);
    for (ask, _) in asks.iter().zip(&verdicts).filter(|(_, verdict)| **verdict == Verdict::Acked) {
        if let Some(lease) = ask.lease.and_then(|lease| leases.get(&lease)) {
            note_acks(queue, lease, [inserted.get(&ask.id).copied()], now);
        }
    }
    Ok(verdicts)
}

/// A job that a trigger of its owner's kept as it was is not settled, whatever was to become of it; its lease stays.
fn refuse_kept(asks: &[Ask], verdicts: &mut [Verdict], kept: &IdSet) {
    for (ask, verdict) in asks.iter().zip(verdicts) {
        if kept.contains(&ask.id) && verdict.counts() {
            *verdict = Verdict::Stale;
        }
    }
}

/// How jobs stand, by id.
type States = IdMap<JobState>;

/// How jobs stand; those that are in progress under a lease asked for are locked, ascending. The others are not: under
/// that lease they will never be in progress again, so a replay locks nothing that another call could wait for.
/// Also when these were inserted, microseconds.
fn states_with_locks(spi: &Spi, queue: &Queue, ids: &[i64], asks: &[Ask]) -> Result<(States, IdMap<i64>)> {
    let mut inserted = IdMap::default();
    let mut states: States = {
        let _snapshot = Latest::take();
        queue.jobs.states(spi, ids)?.into_iter().collect()
    };
    let is_held = |ask: &&Ask| match (ask.lease, states.get(&ask.id)) {
        (Some(lease), Some(job)) => job.status == Some(Status::InProgress) && job.lease == Some(lease),
        _ => false,
    };
    let held: BTreeSet<i64> = asks.iter().filter(is_held).map(|ask| ask.id).collect();
    let held: Vec<i64> = held.into_iter().collect();
    if !held.is_empty() {
        for id in &held {
            states.remove(id);
        }
        for (id, state, inserted_at) in queue.jobs.lock_states(spi, &held)? {
            states.insert(id, state);
            inserted.extend(inserted_at.map(|at| (id, at)));
        }
    }
    Ok((states, inserted))
}

fn judge(workflow: &Workflow, ask: &Ask, states: &IdMap<JobState>, leases: &IdMap<Lease>) -> Verdict {
    let job = states.get(&ask.id);
    let Some(id) = ask.lease else {
        return if job.is_some() { Verdict::Stale } else { Verdict::Unknown };
    };
    let lease = leases.get(&id);
    // A job in progress under a lease whose row is gone (a restored table) still is whose token fits.
    let is_ours = lease.is_none_or(|lease| lease.workflow == workflow.name);
    let max_attempts = lease.map_or_else(|| workflow.settings.max_attempts(), |lease| lease.max_attempts);
    state::verdict(job, ask.outcome, id, is_ours, max_attempts)
}

/// How retries go: as it was when the jobs were fetched.
pub struct Terms {
    backoff: retry::Backoff,
}

impl Terms {
    fn of(workflow: &Workflow, lease: Option<&Lease>) -> Self {
        Self { backoff: lease.map_or_else(|| workflow.settings.backoff(), |lease| lease.backoff) }
    }
}

/// The change to a job that a verdict means; the job's state follows, so that the same job asked for twice is judged by
/// what the first ask made of it.
fn change(ask: &Ask, verdict: Verdict, job: &mut JobState, terms: &Terms, now: i64) -> Change {
    let (status, wait_ms) = match verdict {
        Verdict::Requeued => (Status::Pending, Some(requeue_delay(ask, job, terms))),
        Verdict::Released => (Status::Pending, Some(0)),
        Verdict::Failed => (Status::Failed, None),
        _ => (Status::Completed, None),
    };
    job.status = Some(status);
    Change {
        id: ask.id,
        status,
        available_at: wait_ms.map(|wait| now.saturating_add(wait.saturating_mul(1_000))),
        refund: i64::from(verdict == Verdict::Released),
        reason: if matches!(verdict, Verdict::Requeued | Verdict::Failed) { ask.reason } else { None },
    }
}

fn requeue_delay(ask: &Ask, job: &JobState, terms: &Terms) -> i64 {
    ask.delay_ms.unwrap_or_else(|| retry::delay_ms(&terms.backoff, i64::from(job.attempt), value::random()))
}

/// Jobs that are no longer in progress under the lease asked for, with that lease; in order.
fn ended_ids(asks: &[Ask], verdicts: &[Verdict]) -> Vec<(i64, i64)> {
    let ended = asks.iter().zip(verdicts).filter(|(_, verdict)| verdict.is_applied());
    let mut ended: Vec<(i64, i64)> = ended.filter_map(|(ask, _)| ask.lease.map(|lease| (ask.id, lease))).collect();
    ended.sort_unstable();
    ended
}

/// Removes those of the locked leases under which nothing is in progress any more.
fn free<'a>(spi: &Spi, queue: &Queue, leases: impl Iterator<Item = &'a Lease>, ended: &[(i64, i64)]) -> Result<()> {
    let mut empty = Vec::new();
    for lease in leases {
        let all_ended = lease.job_ids.iter().all(|id| ended.binary_search(&(*id, lease.id)).is_ok());
        if all_ended || !is_any_held(spi, queue, lease)? {
            empty.push(lease);
        }
    }
    lease::remove(&empty, Why::Settled).map(|_| ())
}

/// Looks with the newest snapshot, whatever the isolation level, as the table's owner, from whom nothing is hidden: two
/// connections that settle the last two jobs of a lease come one after the other, and the second must see the first's.
pub fn is_any_held(spi: &Spi, queue: &Queue, lease: &Lease) -> Result<bool> {
    let _snapshot = Latest::take();
    queue.look(|| queue.jobs.any_held(spi, &lease.job_ids, lease.id))
}
