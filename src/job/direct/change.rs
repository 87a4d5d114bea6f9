//! Changing jobs. Each function is one command: it sees what the transaction did before, and what comes after sees it.

use std::collections::BTreeMap;

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

impl Direct<'_> {
    /// Claims those of the candidates that are still free, in their order, at most `limit`; never waits. `lease` gives the
    /// fencing token: it is asked for when there is a job to be claimed.
    pub fn claim<E>(
        &self,
        candidates: &[Candidate],
        limit: usize,
        now: i64,
        mut lease: impl FnMut() -> Result<i64, E>,
    ) -> Result<Vec<Claimed>, E> {
        let mut writer = Writer::begin(&self.heap);
        let mut row = Row::of(&self.heap);
        let (status, updated_at) = (word(Status::InProgress), self.columns.updated_at(now));
        let mut claimed: Vec<Claimed> = Vec::with_capacity(candidates.len());
        for candidate in candidates.iter().filter(|candidate| candidate.tid.is_some()) {
            if claimed.len() >= limit {
                break;
            }
            let found = candidate.tid.and_then(|tid| writer.version(tid, &mut row));
            let Some(mut version) = found.filter(|version| self.is_claimable(version.row(), candidate, now)) else {
                continue;
            };
            let Some(wait) = writer.secure(&mut version) else {
                continue;
            };
            let attempt = version.row().int(self.columns.attempt).unwrap_or_default().min(i32::MAX - 1) + 1;
            let patch = Patch::default()
                .with(self.columns.status, status)
                .with(self.columns.lease, value::bigint(lease()?))
                .with(self.columns.updated_at, updated_at)
                .with(self.columns.available_at, None)
                .with(self.columns.attempt, value::int(attempt));
            if let Some(written) = writer.replace(version, &patch, wait) {
                written.read(&self.heap, &mut row);
                claimed.push(self.claimed(&row));
            }
        }
        Ok(claimed)
    }

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

    fn claimed(&self, row: &Row) -> Claimed {
        let columns = self.columns;
        Claimed {
            id: self.by_id().id_of(row),
            data: row.datum(columns.data),
            metadata: row.datum(columns.metadata),
            attempt: row.datum(columns.attempt),
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
            let met = writer.update(row, &patch);
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
            let met = writer.update(row, &patch);
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
