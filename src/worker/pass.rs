//! One pass of a worker: what is due in each queue, each in a transaction of its own, those that fail last.

use std::collections::BTreeMap;
use std::ffi::CStr;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};

use super::counting;
use super::ended::{self, Ended};
use super::retention::Retention;
use super::trouble;
use crate::error::{self, Level, Result};
use crate::guc;
use crate::host::subtransaction::Caught;
use crate::host::{background, relation, value, xact};
use crate::job::{lease, upkeep};
use crate::queue::registry::{self, QueueRow};
use crate::shmem::database::{self, Database};
use crate::shmem::queue::{self, Slot};
use crate::shmem::NEVER;

/// What somebody has locked is looked at again after this long, microseconds.
const AGAIN: i64 = 500_000;
/// While transactions are prepared the worker looks so often, microseconds.
const PREPARED_ROUND: i64 = 5_000_000;
/// One queue is swept a little so often while the worker is up, microseconds. It is no reason to stay.
const SWEEP_ROUND: i64 = 1_000_000;
/// Queues whose tables are gone are removed so often while the worker is up, microseconds.
const ORPHAN_ROUND: i64 = 60_000_000;

/// What a pass found.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// The database has no qflow.
    NoQflow,
    /// Something was done.
    Work,
    /// Nothing was to be done.
    Nothing,
}

/// A queue, as a pass sees it.
struct Due {
    row: QueueRow,
    name: String,
    slot: Slot,
    deadline: i64,
    failures: u32,
    retry_at: i64,
}

/// What is read at the beginning of a pass.
struct Survey {
    queues: Vec<Due>,
    ended: BTreeMap<i64, Vec<i64>>,
    any_prepared: bool,
}

/// What a worker remembers between passes.
#[derive(Default)]
pub struct Worker {
    ended: Ended,
    sweep_at: i64,
    /// The queue swept last, by number.
    swept: i64,
    orphans_at: i64,
    retention: Retention,
    /// How often in a row not even the beginning of a pass succeeded, and when it is tried again, microseconds.
    failures: u32,
    rested_at: i64,
}

impl Worker {
    /// Whether something is to be done that nobody has asked for.
    pub fn has_own_work(&self, now: i64) -> bool {
        self.next_own_work() <= now
    }

    /// When that is, microseconds.
    pub fn next_own_work(&self) -> i64 {
        let sweep_at = if guc::sweep() { self.sweep_at } else { NEVER };
        sweep_at.min(self.retention.next())
    }

    /// When another pass may begin: after a failure not at once, whoever asks, microseconds.
    pub fn rested_at(&self) -> i64 {
        self.rested_at
    }

    /// Whether it may begin now.
    pub fn is_rested(&self, now: i64) -> bool {
        self.rested_at <= now
    }

    /// Does what is due, and notes when there is something to do next.
    pub fn pass(&mut self, database: &Database) -> Found {
        database.begin_pass();
        let survey = match transaction(c"qflow: looking for work", || self.survey(database)) {
            Ok(Some(survey)) => {
                self.failures = 0;
                survey
            }
            Ok(None) => return Found::NoQflow,
            Err(caught) => {
                database.has_prepared.store(true, SeqCst);
                self.rest(database, &caught);
                return Found::Nothing;
            }
        };
        let has_worked = self.serve_all(&survey, database);
        self.remove_orphans(value::now());
        if !counting::count(survey.queues.iter().map(|queue| (&queue.row, &queue.slot))) {
            database.wake_by(0);
        }
        if self.ended.is_any_locked() {
            database.wake_by(value::now() + AGAIN);
        }
        if survey.any_prepared {
            database.wake_by(value::now() + PREPARED_ROUND);
        }
        database.last_pass.store(value::now(), Relaxed);
        database.passes.fetch_add(1, Relaxed);
        match has_worked {
            true => Found::Work,
            false => Found::Nothing,
        }
    }

    /// Says that no pass can begin, and leaves it alone for a while that doubles.
    fn rest(&mut self, database: &Database, caught: &Caught) {
        let Caught { message, sqlstate } = caught;
        self.failures = self.failures.saturating_add(1);
        let pause = trouble::rest(self.failures);
        self.rested_at = value::now().saturating_add(pause);
        database::keep_error(value::now(), sqlstate, message);
        let seconds = pause / 1_000_000;
        error::say(Level::Log, format!("qflow worker: {message} ({sqlstate}); next try in {seconds} s"));
        database.wake_by(self.rested_at);
    }

    /// What there is; nothing where qflow is not installed.
    fn survey(&mut self, database: &Database) -> Result<Option<Survey>> {
        if !relation::lock_extension(c"qflow") {
            return Ok(None);
        }
        let registry = registry::table()?;
        // Before the leases are read: what commits in between shows in them, or is still prepared.
        let is_asked = database.has_prepared.swap(false, SeqCst) || database.passes.load(Relaxed) == 0;
        let any_prepared = is_asked && ended::any_prepared()?;
        if any_prepared {
            database.has_prepared.store(true, SeqCst);
        }
        let mut queues = Vec::new();
        for row in registry::all_queues()? {
            let slot = Slot::taken(registry, row.number);
            let (retry_at, failures) = trouble::standing(&slot);
            let deadline = lease::next_deadline(row.number)?.unwrap_or(NEVER);
            let name = relation::display_name(row.table);
            queues.push(Due { row, name, slot, deadline, failures, retry_at });
        }
        queue::forget(xact::database(), |key| {
            key.registry == registry && queues.iter().any(|queue| queue.row.number == key.number)
        });
        queues.sort_by_key(|queue| (queue.failures, queue.row.number));
        Ok(Some(Survey { queues, ended: self.ended.leases(is_asked)?, any_prepared }))
    }

    fn serve_all(&mut self, survey: &Survey, database: &Database) -> bool {
        let sweep = self.turn(survey, value::now());
        self.retention.keep(|number| survey.queues.iter().any(|queue| queue.row.number == number));
        let mut has_worked = false;
        let none = Vec::new();
        for queue in &survey.queues {
            let ended = survey.ended.get(&queue.row.number).unwrap_or(&none);
            let is_swept = sweep == Some(queue.row.number) || !queue.row.is_at_home();
            database.heartbeat.store(value::now(), Relaxed);
            let outcome = serve(queue, ended, is_swept);
            has_worked |= outcome == Outcome::Worked;
            database.wake_by(match outcome {
                // What came up since the survey was noted by who brought it.
                Outcome::Untouched | Outcome::Swept => queue.deadline,
                Outcome::Failed => trouble::standing(&queue.slot).0,
                Outcome::Worked => next(queue, ended),
            });
        }
        // What a table's triggers do to a removal must not keep leases of other queues waiting.
        for queue in &survey.queues {
            let (again_at, has_removed) = self.remove_old(queue);
            has_worked |= has_removed;
            database.wake_by(again_at);
        }
        has_worked
    }

    /// A step of a queue's retention, unless the queue rests.
    fn remove_old(&mut self, queue: &Due) -> (i64, bool) {
        let (retry_at, _) = trouble::standing(&queue.slot);
        if retry_at > value::now() {
            return (retry_at, false);
        }
        trouble::mark(&queue.slot, true);
        let done = self.retention.step(&queue.row, &queue.name);
        trouble::mark(&queue.slot, false);
        done
    }

    /// The queue whose turn it is to be swept.
    fn turn(&mut self, survey: &Survey, now: i64) -> Option<i64> {
        if now < self.sweep_at || !guc::sweep() {
            return None;
        }
        self.sweep_at = now + SWEEP_ROUND;
        let numbers = || survey.queues.iter().map(|queue| queue.row.number);
        let turn = numbers().filter(|number| *number > self.swept).min().or_else(|| numbers().min());
        self.swept = turn.unwrap_or(0);
        turn
    }

    fn remove_orphans(&mut self, now: i64) {
        if now >= self.orphans_at {
            self.orphans_at = now + ORPHAN_ROUND;
            // What stands in the way now is tried again in the next round.
            let _ = transaction(c"qflow: forgetting queues without tables", registry::remove_orphans);
        }
    }
}

/// A transaction of a worker, which the launcher sees begin and end.
pub fn transaction<R>(doing: &CStr, work: impl FnOnce() -> Result<R>) -> std::result::Result<R, Caught> {
    let busy_since = |at| database::own(false).into_iter().for_each(|slot| slot.busy_since.store(at, Relaxed));
    busy_since(value::now());
    let done = background::transaction(guc::worker_statement_timeout_ms(), doing, work);
    busy_since(0);
    done
}

/// What came of serving a queue.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Outcome {
    /// It failed lately and is left alone, or failed now.
    Failed,
    /// There was no need.
    Untouched,
    /// It was swept, which is no reason to stay.
    Swept,
    /// It was looked after.
    Worked,
}

/// Looks after one queue, as far as something is due.
fn serve(queue: &Due, ended: &[i64], is_swept: bool) -> Outcome {
    let now = value::now();
    if queue.retry_at > now {
        return Outcome::Failed;
    }
    let is_due = queue.deadline <= now || queue.failures > 0;
    if !(is_due || is_swept || !ended.is_empty()) {
        return Outcome::Untouched;
    }
    if !trouble::begin(&queue.slot, &queue.name, now) {
        return Outcome::Failed;
    }
    let done = transaction(c"qflow: looking after a queue", || {
        if relation::lock_extension(c"qflow") {
            look_after(queue, ended, is_due, is_swept)?;
        }
        Ok(())
    });
    match done {
        Ok(()) => {
            trouble::passed(&queue.slot);
            match is_due || !ended.is_empty() || !queue.row.is_at_home() {
                true => Outcome::Worked,
                false => Outcome::Swept,
            }
        }
        Err(caught) => {
            if is_still_there(queue) {
                trouble::failed(&queue.slot, &queue.name, now, &caught);
            }
            Outcome::Failed
        }
    }
}

fn look_after(queue: &Due, ended: &[i64], is_due: bool, is_swept: bool) -> Result<()> {
    if !ended.is_empty() {
        upkeep::end_bound(queue.row.table, ended)?;
    }
    if is_due {
        upkeep::reap_some(queue.row.table)?;
    }
    if is_swept {
        upkeep::sweep(queue.row.table)?;
    }
    Ok(())
}

/// A queue, or an extension, that was dropped meanwhile is no trouble.
fn is_still_there(queue: &Due) -> bool {
    let is_there = || Ok(relation::lock_extension(c"qflow") && registry::queue_numbered(queue.row.number)?.is_some());
    transaction(c"qflow: looking for a queue", is_there).unwrap_or(true)
}

/// When there is something to do for a queue next, microseconds.
fn next(queue: &Due, ended: &[i64]) -> i64 {
    let now = value::now();
    let left = transaction(c"qflow: looking for the next deadline", || {
        if !relation::lock_extension(c"qflow") {
            return Ok((NEVER, 0, true));
        }
        let row = registry::queue_numbered(queue.row.number)?;
        let is_at_home = row.is_none_or(|row| row.is_at_home());
        Ok((lease::next_deadline(queue.row.number)?.unwrap_or(NEVER), lease::count(ended)?, is_at_home))
    });
    match left {
        Ok((deadline, ended, is_at_home)) => {
            let held = if ended > 0 { now + AGAIN } else { NEVER };
            let passes = if is_at_home { NEVER } else { now + AGAIN };
            // What is still expired is more than one transaction takes, or locked by others.
            let deadline = if deadline <= now { now + AGAIN } else { deadline };
            deadline.min(held).min(passes)
        }
        Err(_) => now + AGAIN,
    }
}
