//! Changing jobs. Each function is one command: it sees what the transaction did before, and what comes after sees it.

use std::collections::BTreeMap;

use super::layout::Columns;
use super::Direct;
use crate::host::heap::row::{Patch, Row};
use crate::host::heap::write::{Met, Strength, Wait, Writer};
use crate::host::value::{self, Arg};
use crate::job::state::{JobState, Status};
use crate::job::table::{Candidate, Change, Claimed, Place};

/// The word of a status as a datum.
fn word(status: Status) -> Arg {
    value::text(status.as_str())
}

/// What a claim writes.
#[derive(Clone, Copy)]
struct Mark {
    now: i64,
    status: Arg,
    updated_at: Arg,
}

impl Mark {
    /// What becomes of a row, and which attempt it is then.
    fn patch(&self, columns: &Columns, row: &Row, lease: i64) -> (Patch, i32) {
        let attempt = row.int(columns.attempt).unwrap_or_default().min(i32::MAX - 1) + 1;
        let patch = Patch::default()
            .with(columns.status, self.status)
            .with(columns.lease, value::bigint(lease))
            .with(columns.updated_at, self.updated_at)
            .with(columns.available_at, None)
            .with(columns.attempt, value::int(attempt));
        (patch, attempt)
    }
}

/// Claims jobs one after the other, as one command; never waits.
pub struct Claimer<'d, 'l> {
    direct: &'d Direct<'l>,
    writer: Writer<'d>,
    row: Row,
    mark: Mark,
    /// Whether the next one is to be looked at before a fencing token is drawn and a new version is made of it: before
    /// the first is claimed, and after one that was not to be had.
    is_wary: bool,
}

impl<'d, 'l> Claimer<'d, 'l> {
    /// Begins.
    pub fn begin(direct: &'d Direct<'l>, now: i64) -> Self {
        let mark = Mark { now, status: word(Status::InProgress), updated_at: direct.columns.updated_at(now) };
        let (writer, row) = (Writer::begin(&direct.heap), Row::of(&direct.heap));
        Self { direct, writer, row, mark, is_wary: true }
    }

    /// Claims the candidate that a scan stands on, if it is free. `lease` gives the fencing token; `emit` gets the job,
    /// whose values stay as long as that call lasts.
    pub fn here<E>(
        &mut self,
        (candidate, row): (&Candidate, &Row),
        lease: impl FnOnce() -> Result<i64, E>,
        emit: impl FnOnce(&Claimed),
    ) -> Result<bool, E> {
        if self.is_wary {
            return self.at_its_place(candidate, lease, emit);
        }
        let (patch, attempt) = self.mark.patch(self.direct.columns, row, lease()?);
        let is_claimed = self.writer.update_at_once(row, &patch) == Met::Done;
        self.is_wary = !is_claimed;
        if is_claimed {
            emit(&self.direct.claimed(row, attempt));
        }
        Ok(is_claimed)
    }

    /// The same where a candidate was found before. A token is drawn only for a job that is free.
    pub fn at_its_place<E>(
        &mut self,
        candidate: &Candidate,
        lease: impl FnOnce() -> Result<i64, E>,
        emit: impl FnOnce(&Claimed),
    ) -> Result<bool, E> {
        let Self { direct, writer, row, mark, is_wary } = self;
        *is_wary = true;
        let found = candidate.tid.and_then(|tid| writer.version(tid, row));
        let Some(mut version) = found.filter(|found| direct.is_claimable(found.row(), candidate, mark.now)) else {
            return Ok(false);
        };
        let Some(wait) = writer.secure(&mut version) else {
            return Ok(false);
        };
        let (patch, attempt) = mark.patch(direct.columns, version.row(), lease()?);
        if writer.update(version.row(), &patch, wait) != Met::Done {
            return Ok(false);
        }
        *is_wary = false;
        emit(&direct.claimed(version.row(), attempt));
        Ok(true)
    }
}

impl Direct<'_> {
    /// Whether what lies where a candidate was found still is that candidate, and pending.
    fn is_claimable(&self, row: &Row, candidate: &Candidate, now: i64) -> bool {
        let available_at = row.bigint(self.columns.available_at);
        self.by_id().id_of(row) == candidate.id
            && self.status(row) == Some(Status::Pending)
            && match candidate.place {
                Place::Fresh(..) => available_at.is_none(),
                Place::Due(_) => available_at.is_some_and(|at| at <= now),
            }
    }

    fn claimed(&self, row: &Row, attempt: i32) -> Claimed {
        let columns = self.columns;
        Claimed {
            id: self.by_id().id_of(row),
            data: row.datum(columns.data),
            metadata: row.datum(columns.metadata),
            attempt: value::int(attempt),
            inserted_at: columns.inserted_at_of(row).and_then(value::timestamp),
            failure_reason: row.datum(columns.failure_reason),
        }
    }

    /// Completes those of `ids` that are in progress under `lease`, in ascending order, waiting for who has them locked;
    /// answers which, and when each was inserted, microseconds.
    pub fn complete(&self, ids: &[i64], lease: i64, now: i64) -> Vec<(i64, Option<i64>)> {
        let patch = Patch::default()
            .with(self.columns.status, word(Status::Completed))
            .with(self.columns.updated_at, self.columns.updated_at(now));
        let mut done = Vec::with_capacity(ids.len());
        self.by_id().until_settled(ids, |writer, id, row| {
            if !self.is_held(row, lease) {
                return Met::Done;
            }
            let met = writer.update(row, &patch, Wait::Yes);
            if met == Met::Done {
                done.push((id, self.columns.inserted_at_of(row)));
            }
            met
        });
        done
    }

    /// Changes jobs that this transaction has locked; answers which.
    pub fn apply(&self, changes: &[Change], now: i64) -> Vec<i64> {
        let by_id: BTreeMap<i64, &Change> = changes.iter().map(|change| (change.id, change)).collect();
        let updated_at = self.columns.updated_at(now);
        let mut done = Vec::with_capacity(changes.len());
        self.by_id().until_settled(&by_id.keys().copied().collect::<Vec<i64>>(), |writer, id, row| {
            let Some(change) = by_id.get(&id) else {
                return Met::Done;
            };
            let mut patch = Patch::default()
                .with(self.columns.status, word(change.status))
                .with(self.columns.available_at, change.available_at.and_then(value::timestamp))
                .with(self.columns.updated_at, updated_at);
            if change.refund != 0 {
                let attempt = row.int(self.columns.attempt).unwrap_or_default().saturating_sub(change.refund as i32);
                patch = patch.with(self.columns.attempt, value::int(attempt));
            }
            if change.reason.is_some() {
                patch = patch.with(self.columns.failure_reason, change.reason);
            }
            let met = writer.update(row, &patch, Wait::Yes);
            if met == Met::Done {
                done.push(id);
            }
            met
        });
        done
    }

    /// Locks jobs in ascending order, waiting for whoever holds them; how they stand, and when each was inserted,
    /// microseconds. A job that does not exist is left out.
    pub fn lock_states(&self, ids: &[i64]) -> Vec<(i64, JobState, Option<i64>)> {
        let mut locked = Vec::with_capacity(ids.len());
        self.by_id().until_settled(ids, |writer, id, row| {
            let met = writer.lock(row.tid(), Strength::NoKeyUpdate, Wait::Yes);
            if met == Met::Done {
                locked.push((id, self.state(row), self.columns.inserted_at_of(row)));
            }
            met
        });
        locked
    }

    /// Locks at most `limit` of `ids` that are in progress under `lease`; what others hold is left out.
    pub fn lock_held(&self, ids: &[i64], lease: i64, limit: usize) -> Vec<(i64, JobState)> {
        let mut locked = Vec::new();
        self.by_id().until_settled(ids, |writer, id, row| {
            if locked.len() >= limit || !self.is_held(row, lease) {
                return Met::Done;
            }
            let met = writer.lock(row.tid(), Strength::NoKeyUpdate, Wait::No);
            if met == Met::Done {
                locked.push((id, self.state(row)));
            }
            met
        });
        locked
    }
}
