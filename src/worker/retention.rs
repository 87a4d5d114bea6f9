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

/// What a worker remembers of each queue's retention, by number.
#[derive(Default)]
pub struct Retention {
    again_at: HashMap<i64, i64>,
    complained_at: HashMap<i64, i64>,
}

impl Retention {
    /// Takes a step where one is due. When the next one is, microseconds; whether jobs were removed.
    pub fn step(&mut self, row: &QueueRow, name: &str) -> (i64, bool) {
        if !retention::is_set(&row.settings) {
            self.again_at.remove(&row.number);
            return (NEVER, false);
        }
        let now = value::now();
        let again_at = self.again_at.get(&row.number).copied().unwrap_or(0);
        if again_at > now {
            return (again_at, false);
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
        self.again_at.insert(row.number, next);
        (next, removed)
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
}
