//! Taking candidates: claimed at once, where the table is reached directly; else locked one round after the other, and
//! claimed together.

use std::cell::Cell;

use super::Demand;
use crate::error::Result;
use crate::host::spi::Spi;
use crate::ids::{IdMap, IdSet};
use crate::job::direct::Direct;
use crate::job::lease;
use crate::job::table::{Candidate, Claimed};
use crate::shmem::at_commit;

/// What one fetch has taken so far.
pub struct Taking<'a> {
    demand: &'a Demand<'a>,
    direct: Option<&'a Direct<'a>>,
    now: i64,
    lease: Cell<Option<i64>>,
    /// What was claimed, in the order in which it was picked.
    claimed: Vec<Claimed>,
}

impl<'a> Taking<'a> {
    /// Nothing yet.
    pub fn begin(demand: &'a Demand, direct: Option<&'a Direct>, now: i64) -> Self {
        Self { demand, direct, now, lease: Cell::new(None), claimed: Vec::new() }
    }

    /// Takes at most `limit` of the candidates, none of which is waited for; answers which.
    pub fn take(&mut self, spi: &Spi, candidates: &[Candidate], limit: usize) -> Result<IdSet> {
        if candidates.is_empty() {
            return Ok(IdSet::default());
        }
        let Some(direct) = self.direct else {
            let ids: Vec<i64> = candidates.iter().map(|candidate| candidate.id).collect();
            let jobs = &self.demand.workflow.queue.jobs;
            return Ok(jobs.lock_pending(spi, &ids, limit, self.now)?.into_iter().collect());
        };
        let claimed = direct.claim(candidates, limit, self.now, || self.lease())?;
        let ids = claimed.iter().map(|job| job.id).collect();
        self.claimed.extend(claimed);
        Ok(ids)
    }

    /// The fencing token, drawn when it is first needed.
    fn lease(&self) -> Result<i64> {
        if let Some(drawn) = self.lease.get() {
            return Ok(drawn);
        }
        at_commit::claiming(&self.demand.workflow.queue.slot);
        let drawn = lease::next_id()?;
        self.lease.set(Some(drawn));
        Ok(drawn)
    }

    /// All that was taken, in the order of `ids`, claimed, and under which lease.
    pub fn finish(mut self, spi: &Spi, ids: &[i64]) -> Result<Option<(i64, Vec<Claimed>)>> {
        if ids.is_empty() {
            return Ok(None);
        }
        let lease = self.lease()?;
        if self.direct.is_none() {
            let claimed = self.demand.workflow.queue.jobs.claim(spi, ids, lease, self.now)?;
            let mut by_id: IdMap<Claimed> = claimed.into_iter().map(|job| (job.id, job)).collect();
            self.claimed = ids.iter().filter_map(|id| by_id.remove(id)).collect();
        }
        Ok((!self.claimed.is_empty()).then_some((lease, self.claimed)))
    }
}
