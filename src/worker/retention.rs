//! Removing old jobs: when which queue is due for a step, and what is said where jobs cannot be removed.

use std::collections::HashMap;

use super::pass::transaction;
use crate::error;
use crate::host::subtransaction::Caught;
use crate::host::value;
use crate::job::retention::{self, Outcome};
use crate::job::upkeep;
use crate::queue::registry::QueueRow;
use crate::shmem::NEVER;

/// A step that only read is followed by a pause, so that a large table is gone through at leisure, microseconds.
const READING_PAUSE: i64 = 50_000;
/// After an error the next step waits so long, and an error is said so often, microseconds.
const COMPLAINT_ROUND: i64 = 60_000_000;

/// A worker knows nothing when it comes, and reads the whole table: while it is not there, old jobs are no reason to call
/// it before as much time as the retention has passed, and this much at most, microseconds.
const MOST_AWAY: i64 = 3_600_000_000;
const LEAST_AWAY: i64 = 60_000_000;

/// `retention_ms` and `failed_retention_ms`.
type Terms = (Option<i64>, Option<i64>);

/// What a worker remembers of each queue's retention, by number.
#[derive(Default)]
pub struct Retention {
    /// When the next step is due, as long as these settings hold.
    again_at: HashMap<i64, (Terms, i64)>,
    complained_at: HashMap<i64, i64>,
}

impl Retention {
    /// Forgets queues that are gone.
    pub fn keep(&mut self, is_there: impl Fn(i64) -> bool) {
        self.again_at.retain(|number, _| is_there(*number));
        self.complained_at.retain(|number, _| is_there(*number));
    }

    /// When the next step of any queue is due, microseconds, while this worker is there.
    pub fn next(&self) -> i64 {
        self.again_at.values().map(|(_, at)| *at).min().unwrap_or(NEVER)
    }

    /// Takes a step where one is due. When a worker is to be called for the next one, microseconds; whether jobs were
    /// removed.
    pub fn step(&mut self, row: &QueueRow, name: &str) -> (i64, bool) {
        if !retention::is_set(&row.settings) {
            self.again_at.remove(&row.number);
            return (NEVER, false);
        }
        let now = value::now();
        let terms = (row.settings.retention_ms, row.settings.failed_retention_ms);
        let known = self.again_at.get(&row.number).filter(|(of, _)| *of == terms).map_or(0, |(_, at)| *at);
        if known > now {
            return (called_for(known, terms, now), false);
        }
        let (next, removed) = match transaction(c"qflow: removing old jobs", || upkeep::remove_old(row.table, false)) {
            Ok(outcome) => {
                outcome.refused.iter().for_each(|caught| self.complain(row.number, name, now, caught));
                (after(&outcome, now), outcome.removed > 0)
            }
            Err(caught) => {
                self.complain(row.number, name, now, &caught);
                (now + COMPLAINT_ROUND, false)
            }
        };
        self.again_at.insert(row.number, (terms, next));
        (called_for(next, terms, now), removed)
    }

    fn complain(&mut self, number: i64, name: &str, now: i64, caught: &Caught) {
        let before = self.complained_at.get(&number).copied();
        if before.is_some_and(|before| now - before < COMPLAINT_ROUND) {
            return;
        }
        self.complained_at.insert(number, now);
        let Caught { message, sqlstate } = caught;
        error::log(
            format!("qflow could not remove all old jobs of queue {name}: {message} ({sqlstate})"),
            "Jobs that other tables refer to, or that a trigger keeps, stay; drop the reference or the retention.",
        );
    }
}

fn called_for(again_at: i64, (completed, failed): Terms, now: i64) -> i64 {
    let retention = completed.into_iter().chain(failed).min().unwrap_or(i64::MAX).saturating_mul(1_000);
    // What is due at once is worth staying for.
    match again_at <= now.saturating_add(READING_PAUSE) {
        true => again_at,
        false => again_at.max(now.saturating_add(retention.clamp(LEAST_AWAY, MOST_AWAY))),
    }
}

fn after(outcome: &Outcome, now: i64) -> i64 {
    match (outcome.has_more, outcome.removed) {
        (true, 0) => now + READING_PAUSE,
        (true, _) => now,
        (false, _) => outcome.again_at.unwrap_or(NEVER).max(now),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_that_removed_jobs_is_followed_at_once_and_one_that_only_read_after_a_pause() {
        let outcome = |removed, has_more, again_at| Outcome { removed, has_more, again_at, refused: None };
        assert_eq!(after(&outcome(5, true, Some(7)), 100), 100);
        assert_eq!(after(&outcome(0, true, Some(7)), 100), 100 + READING_PAUSE);
        assert_eq!(after(&outcome(5, false, Some(700)), 100), 700);
        assert_eq!(after(&outcome(0, false, None), 100), NEVER);
    }

    #[test]
    fn nobody_is_called_for_a_few_old_jobs() {
        let hour = Some(3_600_000);
        assert_eq!(called_for(100, (hour, None), 100), 100);
        assert_eq!(called_for(1_000_000, (hour, None), 100), 100 + MOST_AWAY);
        assert_eq!(called_for(1_000_000, (hour, Some(5)), 100), 100 + LEAST_AWAY);
        assert_eq!(called_for(MOST_AWAY * 3, (hour, None), 100), MOST_AWAY * 3);
    }
}
