//! The search of one fetch: candidates found and locked, and what the floor can learn from what was seen.

use super::picker::{Choice, Picker};
use super::scan::{fresh_place, Scan};
use super::spread::{self, DueFrom, How};
use super::taking::Taking;
use crate::error::Result;
use crate::guc;
use crate::host::snapshot::{Evidence, Horizon};
use crate::host::spi::{Mode, Spi};
use crate::host::xact;
use crate::ids::IdSet;
use crate::job::floor::Floor;
use crate::job::table::{Candidate, Place};
use crate::queue::cache::Queue;

/// Rounds in which one fetch looks past stuck jobs for the sake of its floor.
const MAX_ROUNDS: usize = 64;

/// A search for claimable jobs.
pub struct Search {
    now: i64,
    how: How,
    floor: Floor,
    horizon: Horizon,
    fresh: Scan,
    /// The evidence snapshot, kept where candidates are looked for with another one.
    evidence: Option<Evidence>,
    may_learn: bool,
    due: Vec<Candidate>,
    due_from: DueFrom,
    due_complete: bool,
    picker: Picker,
}

impl Search {
    /// Looks for `wanted` candidates. The floor must be older than this call: its evidence is taken here.
    /// `is_clean`: nothing that this transaction did changes which jobs are pending. `taking`: what is found may be taken
    /// while the scan stands on it.
    pub fn begin(
        spi: &Spi,
        queue: &Queue,
        floor: Floor,
        (wanted, now, is_clean): (usize, i64, bool),
        taking: Option<&mut Taking>,
    ) -> Result<Self> {
        let due_from = spread::due_from(queue, now, is_clean);
        let snapshot = Evidence::take();
        let horizon = snapshot.horizon.clone();
        // Then, at READ COMMITTED, the evidence shows just what can be claimed: one scan serves both.
        let serves_both = is_clean && xact::is_read_committed();
        let limit = if serves_both { horizon.end } else { xact::next_xid() + 1 };
        let mut search = Self {
            now,
            how: How::Whole,
            fresh: Scan::new(floor.segments(&horizon, limit)),
            floor,
            horizon,
            evidence: None,
            may_learn: queue.jobs.shows_everything(),
            due: Vec::new(),
            due_from,
            due_complete: false,
            picker: Picker::new(wanted, guc::max_fetch_bytes()),
        };
        if serves_both {
            search.more_due(spi, queue, wanted, Mode::Read)?;
            // Where none is due the order of the scan is that of claiming.
            match taking.filter(|_| search.due.is_empty() && search.due_complete) {
                Some(taking) => search.take_in_turn(spi, queue, taking)?,
                None => search.fresh.go_on(spi, &queue.jobs, wanted, Mode::Read)?,
            }
        } else {
            search.evidence = Some(snapshot);
            search.look_further(spi, queue, wanted)?;
        }
        Ok(search)
    }

    /// Fresh jobs with the active snapshot: taken as they are found, where that can be done.
    fn take_in_turn(&mut self, spi: &Spi, queue: &Queue, taking: &mut Taking) -> Result<()> {
        let picker = &mut self.picker;
        let Some((direct, mut claiming)) = taking.in_turn().filter(|_| !picker.is_full()) else {
            return self.fresh.go_on(spi, &queue.jobs, picker.wanted, Mode::Read);
        };
        self.fresh.visit(direct, |candidate, row| {
            if !picker.may_try(candidate) {
                return Ok(true);
            }
            let is_taken = claiming.take(candidate, row)?;
            picker.note_tried(candidate, is_taken);
            Ok(picker.is_full() || picker.is_refused())
        })
    }

    /// Looks ahead of the floor, for jobs that no other fetch is about to claim. Nothing where there are too few: then
    /// the whole look is wanted.
    pub fn ahead(spi: &Spi, queue: &Queue, floor: &Floor, wanted: usize, now: i64) -> Result<Option<Self>> {
        let Some(segments) = spread::ahead(queue, floor, now) else {
            return Ok(None);
        };
        let mut search = Self {
            now,
            how: How::Ahead,
            floor: Floor::default(),
            horizon: Horizon::default(),
            fresh: Scan::new(segments),
            evidence: None,
            may_learn: false,
            due: Vec::new(),
            due_from: spread::due_from(queue, now, true),
            due_complete: false,
            picker: Picker::new(wanted, guc::max_fetch_bytes()),
        };
        search.look_further(spi, queue, wanted)?;
        Ok(Some(search).filter(|search| search.found() >= wanted))
    }

    /// Goes on with what another look of the same fetch has locked.
    pub fn take_over(&mut self, other: Self) {
        self.picker = other.picker.begun_anew();
    }

    /// Whether nothing more can be had.
    pub fn is_full(&self) -> bool {
        self.picker.is_full()
    }

    /// Notes for other fetches where this one's jobs were.
    pub fn note_claimed(&self, queue: &Queue) {
        spread::claimed(queue, self.how, self.fresh.segments(), self.picker.taken(&self.fresh.found));
    }

    /// Candidates so far.
    pub fn found(&self) -> usize {
        self.due.len() + self.fresh.found.len()
    }

    /// Takes candidates until there are enough or none is left; answers them in the order of claiming.
    pub fn take_candidates(&mut self, spi: &Spi, queue: &Queue, taking: &mut Taking) -> Result<Vec<i64>> {
        loop {
            let choice = Choice { due: &self.due, fresh: &self.fresh.found, fresh_complete: self.fresh.is_complete() };
            let pick = self.picker.pick(&choice);
            if !pick.candidates.is_empty() {
                // What was tried before may be free by now: it would be taken and not be counted.
                let is_new = |candidate: &&Candidate| !self.picker.tried.contains(&candidate.id);
                let untried: Vec<Candidate> = pick.candidates.iter().filter(is_new).copied().collect();
                let locked = taking.take(spi, &untried, pick.limit)?;
                self.picker.note(&pick, |candidate| matches!(candidate.place, Place::Due(_)), &locked);
            } else if self.picker.is_full() || self.due_complete && self.fresh.is_complete() {
                return Ok(self.picker.locked.clone());
            } else {
                self.look_further(spi, queue, self.picker.appetite())?;
            }
        }
    }

    /// More candidates, with a snapshot of their own: newer than the evidence and, since this call has changed no row
    /// yet, no less of one for what it shows as taken by others.
    fn look_further(&mut self, spi: &Spi, queue: &Queue, limit: usize) -> Result<()> {
        if !self.due_complete {
            self.more_due(spi, queue, limit, Mode::Write)?;
        }
        self.fresh.go_on(spi, &queue.jobs, limit, Mode::Write)
    }

    fn more_due(&mut self, spi: &Spi, queue: &Queue, limit: usize, mode: Mode) -> Result<()> {
        let after = match self.due.last() {
            Some(Candidate { id, place: Place::Due(at), .. }) => (*at, *id),
            _ => (self.due_from.at, i64::MIN),
        };
        self.due_from.begin();
        let more = queue.jobs.due(spi, self.now, after, limit, mode)?;
        if self.due.is_empty() && queue.jobs.shows_everything() {
            spread::learn_due(queue, self.due_from, &more, self.now);
        }
        self.due_complete = more.len() < limit;
        self.due.extend(more);
        Ok(())
    }

    /// The floor that follows from what was seen; `None` where nothing may be learned.
    pub fn learned(mut self, spi: &Spi, queue: &Queue) -> Result<Option<Floor>> {
        let evidence = self.evidence.take();
        if !self.may_learn {
            return Ok(None);
        }
        let refused = |id: i64| self.picker.refused.contains(&id);
        let (segments, seen) = match evidence {
            None => (self.fresh.segments(), self.fresh.seen(refused)),
            Some(_active) => {
                let offered: IdSet = self.fresh.found.iter().map(|candidate| candidate.id).collect();
                let is_stuck = |shown: &Candidate| refused(shown.id) || self.is_hidden(shown, &offered);
                let shown = self.shown_by_evidence(spi, queue, is_stuck)?;
                let stuck: IdSet = shown.found.iter().filter(|c| is_stuck(c)).map(|c| c.id).collect();
                (self.fresh.segments(), shown.seen(|id| stuck.contains(&id)))
            }
        };
        Ok(Some(self.floor.advanced(&self.horizon, segments, &seen)))
    }

    /// What the evidence snapshot, which is active, shows: past all that is stuck, however much, to as many others as
    /// are wanted.
    fn shown_by_evidence(&self, spi: &Spi, queue: &Queue, is_stuck: impl Fn(&Candidate) -> bool) -> Result<Scan> {
        let mut shown = Scan::new(self.fresh.segments().to_vec());
        for _ in 0..MAX_ROUNDS {
            shown.go_on(spi, &queue.jobs, self.picker.wanted, Mode::Read)?;
            let free = shown.found.iter().filter(|candidate| !is_stuck(candidate)).count();
            if shown.is_complete() || free >= self.picker.wanted {
                break;
            }
        }
        Ok(shown)
    }

    /// Whether a job that the evidence shows as pending is hidden from the snapshot with which jobs are claimed, although
    /// its scan went past the place: claimed earlier by this transaction, or changed since.
    fn is_hidden(&self, shown: &Candidate, offered: &IdSet) -> bool {
        let has_passed = |(at, key)| self.fresh.has_passed(at, key);
        !offered.contains(&shown.id) && fresh_place(shown).is_some_and(has_passed)
    }
}
