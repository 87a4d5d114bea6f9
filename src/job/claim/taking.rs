//! Taking candidates: claimed at once, where the table is reached directly; else locked one round after the other, and
//! claimed together.

use std::cell::{Cell, RefCell};

use super::{Demand, Ticket};
use crate::error::Result;
use crate::host::heap::row::Row;
use crate::host::spi::Spi;
use crate::ids::{IdMap, IdSet};
use crate::job::direct::change::Claimer;
use crate::job::direct::Direct;
use crate::job::lease;
use crate::job::table::{Candidate, Claimed};
use crate::shmem::at_commit;

/// Gets each job that was claimed, in the order of claiming.
pub type Emit<'a> = &'a mut dyn FnMut(&Ticket, &Claimed);

/// What one fetch takes.
pub struct Taking<'a> {
    demand: &'a Demand<'a>,
    direct: Option<&'a Direct<'a>>,
    now: i64,
    lease: Cell<Option<i64>>,
    emit: RefCell<Emit<'a>>,
}

impl<'a> Taking<'a> {
    /// Nothing yet.
    pub fn begin(demand: &'a Demand, direct: Option<&'a Direct>, now: i64, emit: Emit<'a>) -> Self {
        Self { demand, direct, now, lease: Cell::new(None), emit: RefCell::new(emit) }
    }

    /// Takes at most `limit` of the candidates, none of which is waited for; answers which.
    pub fn take(&mut self, spi: &Spi, candidates: &[Candidate], limit: usize) -> Result<IdSet> {
        if candidates.is_empty() {
            return Ok(IdSet::default());
        }
        let Some((_, mut claiming)) = self.in_turn() else {
            let ids: Vec<i64> = candidates.iter().map(|candidate| candidate.id).collect();
            let jobs = &self.demand.workflow.queue.jobs;
            return Ok(jobs.lock_pending(spi, &ids, limit, self.now)?.into_iter().collect());
        };
        let mut taken = IdSet::default();
        for candidate in candidates {
            if taken.len() >= limit {
                break;
            }
            if claiming.take_at_its_place(candidate)? {
                taken.insert(candidate.id);
            }
        }
        Ok(taken)
    }

    /// The table, open, and what claims its jobs one by one, where they are claimed at once.
    pub fn in_turn(&self) -> Option<(&'a Direct<'a>, InTurn<'_, 'a>)> {
        let direct = self.direct?;
        Some((direct, InTurn { taking: self, claimer: Claimer::begin(direct, self.now) }))
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

    fn hand_on(&self, job: &Claimed) {
        if let Some(lease) = self.lease.get() {
            (self.emit.borrow_mut())(&self.demand.ticket(lease, self.now), job);
        }
    }

    /// All that was taken, in the order of `ids`, claimed and handed on; which, and their ticket.
    pub fn finish(self, spi: &Spi, ids: Vec<i64>) -> Result<Option<(Ticket, Vec<i64>)>> {
        if ids.is_empty() {
            return Ok(None);
        }
        let ticket = self.demand.ticket(self.lease()?, self.now);
        if self.direct.is_some() {
            return Ok(Some((ticket, ids)));
        }
        let claimed = self.demand.workflow.queue.jobs.claim(spi, &ids, ticket.lease, self.now)?;
        let mut by_id: IdMap<Claimed> = claimed.into_iter().map(|job| (job.id, job)).collect();
        let claimed: Vec<Claimed> = ids.iter().filter_map(|id| by_id.remove(id)).collect();
        claimed.iter().for_each(|job| self.hand_on(job));
        Ok((!claimed.is_empty()).then(|| (ticket, claimed.iter().map(|job| job.id).collect())))
    }
}

/// Claims jobs one by one, and hands them on.
pub struct InTurn<'t, 'a> {
    taking: &'t Taking<'a>,
    claimer: Claimer<'a, 'a>,
}

impl InTurn<'_, '_> {
    /// Takes a candidate that a scan stands on; whether it was to be had.
    pub fn take(&mut self, candidate: &Candidate, row: &Row) -> Result<bool> {
        let taking = self.taking;
        self.claimer.here((candidate, row), || taking.lease(), |job| taking.hand_on(job))
    }

    /// Takes a candidate that was found before.
    fn take_at_its_place(&mut self, candidate: &Candidate) -> Result<bool> {
        let taking = self.taking;
        self.claimer.at_its_place(candidate, || taking.lease(), |job| taking.hand_on(job))
    }
}
