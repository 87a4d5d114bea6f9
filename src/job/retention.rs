//! Removing jobs that ended long enough ago: `retention_ms` of a queue for completed ones, `failed_retention_ms` for
//! failed ones, counted from `updated_at`. Acts as the table's owner, restricted, and waits for no row.
//!
//! No index knows status or age, so jobs are met by walking the table in the order of ids, and what matters is not to read
//! what cannot have grown old. A process remembers stretches of ids (`walk`), each with the time at which it is worth a look
//! again. A look reads a stretch and knows it from its rows (`age`): a job that has ended is old at `updated_at` plus its
//! retention, and one that has not ended cannot be old before a whole retention has passed. So
//!
//! - with millions of jobs kept and thousands growing old each second, a step reads the stretch whose time has come, which
//!   holds little else than old jobs, and nothing of the others. A job is read when it is met first, when it is old, and
//!   with what is left of its stretch a second later: about three times in its life, however many are kept.
//! - where nothing is old no step reads anything, and the worker is told when the first stretch is due.
//! - a step reads at most `READS` rows, removes at most `REMOVALS`, and looks at most at `LOOKS` stretches. Where a new
//!   process knows nothing yet it begins at the first or at a random id, so that those that do one step and end come to
//!   every row all the same. A small table is gone through at once.
//!
//! What is remembered is a hint. A row that nobody could foresee (inserted as completed long ago, changed by hand) is only
//! removed later: by the longest rest of a stretch, a day; and a removal that was rolled back is looked at again after a
//! second. The price is memory, about 80 bytes for each 1,000 jobs kept, bounded at 8,192 stretches; and that jobs of a
//! queue whose retention is shorter than a minute may stay for a minute when consumers have not touched their neighbours.
//! Index entries of removed jobs that some old snapshot still may need are passed over again at each look at their stretch.
//!
//! A foreign key on the jobs, or a trigger, may refuse to let a job go. So each batch is removed in a subtransaction; one
//! that fails is tried again in smaller ones, down to the single job, and the walk goes on behind it. The refusal is
//! handed to the caller beside what was removed; a step that removes nothing for refusals is followed by a pause.

use std::cell::RefCell;
use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::rc::Rc;

use pgrx::pg_sys;

use super::sweep;
use crate::error::{Error, Result};
use crate::host::spi::connected;
use crate::host::subtransaction::{attempt, Caught};
use crate::host::{value, xact};
use crate::queue::cache::Queue;
use crate::queue::registry;
use crate::queue::settings::QueueSettings;
use crate::shmem::at_commit;

mod age;
#[cfg(test)]
mod simulation;
mod walk;

pub use age::Aged;
use age::{Found, Terms};
pub use walk::Span;
use walk::Walk;

/// Most rows that a step reads.
const READS: usize = 4_000;
/// Most jobs that a step removes, or dates.
const REMOVALS: usize = 1_000;
/// Most rows of one look.
const CHUNK: usize = 1_000;
/// Most stretches that a step looks at.
const LOOKS: usize = 64;
/// Most batches of a step that may be refused.
const REFUSALS: usize = 16;
/// Where a snapshot is too old to remove anything by, another transaction may have a newer one after this, microseconds.
const NEXT_TRANSACTION: i64 = 1_000_000;
/// Shortest and longest pause after a step that removed nothing for refusals, microseconds.
const PAUSES: (i64, i64) = (1_000_000, 60_000_000);
/// SQLSTATE of a lock_timeout.
const LOCK_NOT_AVAILABLE: &str = "55P03";

/// What a step came to.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Jobs removed.
    pub removed: usize,
    /// Whether there is more to do at once.
    pub has_more: bool,
    /// When to take the next step, microseconds; `None`: the queue keeps everything.
    pub again_at: Option<i64>,
    /// Why the last of the jobs that could not be removed or dated was not. What was removed beside it is removed.
    pub refused: Option<Caught>,
}

/// Whether a queue with these settings removes anything.
pub fn is_set(settings: &QueueSettings) -> bool {
    Terms::of(settings).is_some()
}

/// One bounded step for one queue, which the caller has locked for a change of jobs. Where no stretch is due it does
/// nothing, as suits the worker; with `anyway`, as suits somebody who asks for it, it looks at the next ones all the same.
/// 55000 where jobs cannot be changed as the table's owner. What the server raises while rows are read passes.
pub fn step(queue: &Queue, now: i64, anyway: bool) -> Result<Outcome> {
    let Some(terms) = Terms::of(&queue.row.settings) else {
        return Ok(Outcome::default());
    };
    if !queue.can_be_kept_up() {
        return Err(Error::not_ready("old jobs can only be removed as the table's owner")
            .hint("Run qflow.verify on the queue: it says why they cannot."));
    }
    let later = |wait| Outcome { again_at: Some(now.saturating_add(wait)), ..Outcome::default() };
    // Under an old snapshot, rows that changed since would raise 40001.
    if !xact::is_read_committed() {
        return Ok(later(NEXT_TRANSACTION));
    }
    let known = state_of(queue, terms)?;
    // A trigger on the jobs may have called us.
    let Ok(mut state) = known.try_borrow_mut() else {
        return Ok(later(NEXT_TRANSACTION));
    };
    state.walk.begin();
    let is_any_due = state.walk.next(now).is_some();
    let until = if anyway && !is_any_due { i64::MAX } else { now };
    let mut left = Left { reads: READS, removals: REMOVALS, looks: LOOKS, refusals: REFUSALS };
    let mut outcome = Outcome::default();
    while left.is_any() {
        let Some(span) = state.walk.next(until) else {
            break;
        };
        look(queue, &mut state, span, &mut left, &mut outcome, (now, until))?;
    }
    state.conclude(&mut outcome, now);
    Ok(outcome)
}

/// What a step may still do.
struct Left {
    reads: usize,
    removals: usize,
    looks: usize,
    refusals: usize,
}

impl Left {
    fn is_any(&self) -> bool {
        self.reads > 0 && self.removals > 0 && self.looks > 0
    }
}

/// What a process remembers of a queue.
struct State {
    table: pg_sys::Oid,
    /// The registry that gave the queue its number: after DROP EXTENSION another one may give it again.
    registry: pg_sys::Oid,
    terms: Terms,
    walk: Walk,
    /// How many jobs are removed at once: fewer while some are refused.
    at_once: usize,
    /// How long to pause after the next step that removes nothing for refusals, microseconds.
    pause: i64,
}

impl State {
    fn conclude(&mut self, outcome: &mut Outcome, now: i64) {
        outcome.has_more = self.walk.next(now).is_some();
        outcome.again_at = Some(if outcome.has_more { now } else { self.walk.next_at().max(now) });
        if outcome.refused.is_none() || outcome.removed > 0 {
            self.pause = PAUSES.0;
            return;
        }
        let after = now.saturating_add(self.pause);
        self.pause = self.pause.saturating_mul(2).min(PAUSES.1);
        outcome.has_more = false;
        outcome.again_at = outcome.again_at.map(|at| at.max(after));
    }
}

thread_local! {
    static STATES: RefCell<HashMap<i64, Rc<RefCell<State>>>> = RefCell::new(HashMap::new());
}

/// What is remembered of a queue, or a beginning.
fn state_of(queue: &Queue, terms: Terms) -> Result<Rc<RefCell<State>>> {
    let (number, table, registry) = (queue.row.number, queue.row.table, registry::table()?);
    let is_it = |state: &State| state.table == table && state.registry == registry && state.terms == terms;
    let known = STATES.with(|states| states.borrow().get(&number).cloned());
    // One that a step is at is the right one.
    if let Some(known) = known.filter(|known| known.try_borrow().map_or(true, |state| is_it(&state))) {
        return Ok(known);
    }
    let start = if value::random() < 0.5 { i64::MIN } else { sweep::somewhere(queue)? };
    let walk = Walk::starting_at(start);
    let state = Rc::new(RefCell::new(State { table, registry, terms, walk, at_once: REMOVALS, pause: PAUSES.0 }));
    STATES.with(|states| states.borrow_mut().insert(number, state.clone()));
    Ok(state)
}

/// Reads the beginning of a stretch, and removes what is old there.
fn look(
    queue: &Queue,
    state: &mut State,
    span: Span,
    left: &mut Left,
    outcome: &mut Outcome,
    (now, until): (i64, i64),
) -> Result<()> {
    let limit = CHUNK.min(left.reads);
    let met = queue.look(|| connected(|spi| queue.jobs.ages(spi, span, limit)))?;
    let rest = state.walk.rest(span.from);
    let found = state.terms.judge(&met, left.removals, rest, now);
    let last = met.last().filter(|_| met.len() == limit).map(|row| row.id);
    let seen = Span { from: span.from, to: found.cut_at.or(last).unwrap_or(span.to) };
    left.looks -= 1;
    left.reads -= met.len();
    left.removals -= found.old.len() + found.undated.len();
    // Before anything is done: should it raise, the next step goes on behind.
    state.walk.pass(seen, found.rows, now);
    let removed = remove(queue, state, &found, left, outcome, now);
    let dated = date(queue, &found, outcome, now);
    outcome.removed += removed;
    let again_at = state.terms.again_at(&found, removed + dated, seen, rest, now);
    state.walk.settle(span.from, again_at, removed + dated > 0, until);
    Ok(())
}

/// Removes jobs in batches, each in a subtransaction of its own; what is refused is tried again in smaller ones.
fn remove(queue: &Queue, state: &mut State, found: &Found, left: &mut Left, outcome: &mut Outcome, now: i64) -> usize {
    let [completed, failed] = state.terms.cutoffs(now);
    let mut old = found.old.clone();
    if state.at_once < REMOVALS && !old.is_empty() {
        // Not the same ones are to come first, and be refused, each time.
        let first = ((old.len() as f64 * value::random()) as usize).min(old.len() - 1);
        old.rotate_left(first);
    }
    let (mut at, mut removed) = (0, 0);
    while at < old.len() && left.refusals > 0 {
        let batch: Vec<i64> = old[at..].iter().take(state.at_once).copied().collect();
        let delete = || connected(|spi| queue.jobs.remove_old(spi, &batch, completed, failed));
        match attempt(AssertUnwindSafe(|| queue.keep_up(delete))) {
            Ok(gone) => {
                make_known(queue, &gone);
                removed += gone.len();
                at += batch.len();
                state.at_once = state.at_once.saturating_mul(2).min(REMOVALS);
            }
            Err(caught) => {
                // Who waited in vain, behind a row that a deletion cascades to, does not wait sixteen times.
                left.refusals = if caught.sqlstate == LOCK_NOT_AVAILABLE { 0 } else { left.refusals - 1 };
                if batch.len() == 1 {
                    at += 1;
                }
                state.at_once = (batch.len() / 4).max(1);
                outcome.refused = Some(caught);
            }
        }
    }
    removed
}

/// What others are to know of jobs that were removed; of each, whether it had failed.
fn make_known(queue: &Queue, gone: &[bool]) {
    let failed = gone.iter().filter(|failed| **failed).count() as i64;
    at_commit::change(&queue.slot, |change| {
        change.moves.failed -= failed;
        change.moves.completed -= gone.len() as i64 - failed;
    });
}

/// Dates jobs that ended, so that they grow old from now on.
fn date(queue: &Queue, found: &Found, outcome: &mut Outcome, now: i64) -> usize {
    if found.undated.is_empty() {
        return 0;
    }
    let update = || connected(|spi| queue.jobs.date_ended(spi, &found.undated, now));
    attempt(AssertUnwindSafe(|| queue.keep_up(update))).unwrap_or_else(|caught| {
        outcome.refused = Some(caught);
        0
    })
}
