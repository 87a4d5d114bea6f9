//! Which of the jobs met are old enough to be removed, and when to look for the others. Pure arithmetic; microseconds.

use super::walk::{Span, LONGEST_REST, SHORTEST_REST};
use crate::job::state::Status;
use crate::queue::settings::{QueueSettings, MAX_MS};

const MINUTE: i64 = 60_000_000;
/// Where jobs are on their way, a look is due after this at the latest, or after the retention if that is longer.
const LONGEST_FOR_OPEN: i64 = MINUTE;
/// Behind the last job, where new ones come, a look is due after this at the latest.
const LONGEST_AT_END: i64 = 10 * MINUTE;
/// Where nothing will grow old by itself: only somebody's hand can change that.
const FOR_KEPT: i64 = 60 * MINUTE;

/// A job as it was read.
#[derive(Debug, Clone, Copy)]
pub struct Aged {
    /// Its id.
    pub id: i64,
    /// Its status, if it is one of the four words.
    pub status: Option<Status>,
    /// When it last changed; an adopted table may not say.
    pub updated_at: Option<i64>,
}

/// How long a queue keeps what has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Terms {
    completed: Option<i64>,
    failed: Option<i64>,
}

/// What a look at a stretch found.
#[derive(Debug, Default)]
pub struct Found {
    /// Jobs to be removed, in the order of their ids.
    pub old: Vec<i64>,
    /// Jobs that have ended and do not say when.
    pub undated: Vec<i64>,
    /// When the first of the others is worth a look.
    pub again_at: Option<i64>,
    /// How many rows were judged.
    pub rows: usize,
    /// The last of them, where not all that were met could be judged.
    pub cut_at: Option<i64>,
}

impl Terms {
    /// A queue's; `None` where it keeps everything.
    pub fn of(settings: &QueueSettings) -> Option<Self> {
        let micros = |ms: Option<i64>| ms.map(|ms| ms.min(MAX_MS).saturating_mul(1_000));
        let terms = Self { completed: micros(settings.retention_ms), failed: micros(settings.failed_retention_ms) };
        (terms.completed.is_some() || terms.failed.is_some()).then_some(terms)
    }

    /// Completed and failed jobs that have not changed since are to be removed; `None`: no such job is.
    pub fn cutoffs(&self, now: i64) -> [Option<i64>; 2] {
        [self.completed, self.failed].map(|age| age.map(|age| now.saturating_sub(age)))
    }

    fn of_status(&self, status: Option<Status>) -> Option<i64> {
        match status {
            Some(Status::Completed) => self.completed,
            Some(Status::Failed) => self.failed,
            _ => None,
        }
    }

    /// No job that ends from now on is old before this has passed.
    fn least(&self) -> i64 {
        let least = self.completed.into_iter().chain(self.failed).min();
        least.unwrap_or(LONGEST_REST)
    }

    /// Judges rows as they were met, as long as no more than `room` have something to be done with them. `rest`: how long
    /// their stretch rests.
    pub fn judge(&self, met: &[Aged], room: usize, rest: i64, now: i64) -> Found {
        let mut found = Found::default();
        for row in met {
            let age = self.of_status(row.status);
            let asked = found.old.len() + found.undated.len();
            let is_old = |since: i64, age: i64| since <= now.saturating_sub(age);
            let again_at = match (age, row.updated_at) {
                (Some(age), Some(since)) if !is_old(since, age) => Some(since.saturating_add(age)),
                (Some(_), _) if asked == room => return found,
                (Some(_), Some(_)) => {
                    found.old.push(row.id);
                    None
                }
                (Some(_), None) => {
                    found.undated.push(row.id);
                    None
                }
                (None, _) if is_open(row.status) => Some(now + self.least().max(rest.min(LONGEST_FOR_OPEN))),
                (None, _) => Some(now + self.least().max(FOR_KEPT)),
            };
            found.again_at = found.again_at.into_iter().chain(again_at).min();
            found.rows += 1;
            found.cut_at = Some(row.id);
        }
        found.cut_at = None;
        found
    }

    /// When a stretch is worth a look again. `did`: how much of what was found was done; what others had locked, or a
    /// trigger kept, is tried again after `rest`. A transaction that did something may still fail to commit: soon then.
    pub fn again_at(&self, found: &Found, did: usize, span: Span, rest: i64, now: i64) -> i64 {
        let asked = found.old.len() + found.undated.len();
        let others = found.again_at.map(|at| at.saturating_sub(now));
        let wait = match (asked, others) {
            _ if did > 0 => SHORTEST_REST,
            (0, None) => self.least().max(FOR_KEPT),
            (0, Some(others)) => others,
            (_, others) => rest.min(others.unwrap_or(rest)),
        };
        let longest = if span.to == i64::MAX {
            self.least().max(rest.min(LONGEST_FOR_OPEN)).min(LONGEST_AT_END)
        } else {
            LONGEST_REST
        };
        now + wait.min(longest).max(SHORTEST_REST)
    }
}

fn is_open(status: Option<Status>) -> bool {
    matches!(status, Some(Status::Pending | Status::InProgress))
}
