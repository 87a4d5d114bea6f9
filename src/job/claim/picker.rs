//! Which candidates to try next: due jobs first, but at most half of the demand while fresh jobs wait; never more bytes
//! than a fetch may carry, but always at least one job.

use crate::ids::IdSet;
use crate::job::table::Candidate;

/// Most candidates that are tried at once where all before were refused.
const MOST_AT_ONCE: usize = 1_024;

/// Picks candidates round by round until enough of them are locked.
pub struct Picker {
    /// At most this many.
    pub wanted: usize,
    max_bytes: usize,
    bytes: usize,
    due_at: usize,
    fresh_at: usize,
    due_locked: usize,
    has_hit_cap: bool,
    /// How many to try at once: grows while others hold all that is tried, so that a few jobs are found quickly behind
    /// thousands that an open transaction holds.
    at_once: usize,
    /// What was picked and tried.
    pub tried: IdSet,
    /// What was tried and not to be had.
    pub refused: IdSet,
    /// Those that were locked, in the order of claiming.
    pub locked: Vec<i64>,
}

/// What may be picked from.
pub struct Choice<'a> {
    /// Due jobs in order.
    pub due: &'a [Candidate],
    /// Fresh jobs in order.
    pub fresh: &'a [Candidate],
    /// Whether there are no more fresh jobs than these.
    pub fresh_complete: bool,
}

/// What is to be tried next.
pub struct Pick {
    /// The candidates: due ones, then fresh ones.
    pub candidates: Vec<Candidate>,
    of_due: usize,
    /// How many of them may be locked. Where it is less than all, they are in the order of their ids.
    pub limit: usize,
}

impl Picker {
    /// For at most `wanted` jobs of together `max_bytes`.
    pub fn new(wanted: usize, max_bytes: usize) -> Self {
        Self {
            wanted,
            max_bytes,
            bytes: 0,
            due_at: 0,
            fresh_at: 0,
            due_locked: 0,
            has_hit_cap: false,
            at_once: 0,
            tried: IdSet::default(),
            refused: IdSet::default(),
            locked: Vec::new(),
        }
    }

    /// What was locked, to go on with other candidates. Those that were not to be had may be tried again.
    pub fn begun_anew(self) -> Self {
        let tried = self.locked.iter().copied().collect();
        Self {
            bytes: self.bytes,
            due_locked: self.due_locked,
            tried,
            locked: self.locked,
            ..Self::new(self.wanted, self.max_bytes)
        }
    }

    /// How many are still missing.
    pub fn missing(&self) -> usize {
        self.wanted.saturating_sub(self.locked.len())
    }

    /// How many more candidates to look for.
    pub fn appetite(&self) -> usize {
        self.missing().max(self.at_once)
    }

    /// Whether nothing more may be picked.
    pub fn is_full(&self) -> bool {
        self.missing() == 0 || self.has_hit_cap && !self.locked.is_empty()
    }

    /// The next to try: due ones, then fresh ones.
    pub fn pick(&mut self, choice: &Choice) -> Pick {
        if self.is_full() {
            return Pick { candidates: Vec::new(), of_due: 0, limit: 0 };
        }
        let missing = self.missing();
        let waiting = choice.fresh.len() - self.fresh_at;
        let share = self.wanted.div_ceil(2).saturating_sub(self.due_locked);
        let spare = if choice.fresh_complete { missing.saturating_sub(waiting) } else { 0 };
        let due = (choice.due.len() - self.due_at).min(share.max(spare)).min(missing);
        let fresh = waiting.min(missing - due);
        let next = choice.due[self.due_at..self.due_at + due].iter();
        let next = next.chain(&choice.fresh[self.fresh_at..self.fresh_at + fresh]);
        let mut candidates = self.within_bytes(next.copied().collect());
        let (limit, of_due) = (candidates.len(), candidates.len().min(due));
        if of_due == 0 && limit > 0 {
            self.reach_on(&mut candidates, &choice.fresh[self.fresh_at + limit..]);
        }
        Pick { candidates, of_due, limit }
    }

    /// Adds further ones, as long as their order is that of their ids, in which they will be locked, and as long as
    /// nothing else limits how many can be.
    fn reach_on(&self, candidates: &mut Vec<Candidate>, further: &[Candidate]) {
        let is_ascending = candidates.windows(2).all(|pair| pair[0].id < pair[1].id);
        let mut bytes = candidates.iter().fold(self.bytes, |sum, candidate| sum.saturating_add(candidate.bytes));
        for candidate in further {
            bytes = bytes.saturating_add(candidate.bytes);
            let is_next = candidates.last().is_some_and(|last| last.id < candidate.id);
            if !is_ascending || !is_next || bytes > self.max_bytes || candidates.len() >= self.at_once {
                return;
            }
            candidates.push(*candidate);
        }
    }

    /// Cuts a choice where it would be too much to carry. A job that was tried already is passed over by `note`.
    fn within_bytes(&mut self, next: Vec<Candidate>) -> Vec<Candidate> {
        let mut sum = self.bytes;
        let mut picked = Vec::with_capacity(next.len());
        for candidate in next {
            sum = sum.saturating_add(candidate.bytes);
            let is_first = picked.is_empty() && self.locked.is_empty();
            if sum > self.max_bytes && !is_first {
                self.has_hit_cap = true;
                break;
            }
            picked.push(candidate);
        }
        picked
    }

    /// Notes which of the picked ones were locked. A job found in two places counts once; one behind the last that could
    /// be locked was not tried.
    pub fn note(&mut self, pick: &Pick, due: impl Fn(&Candidate) -> bool, locked: &IdSet) {
        // What was refused leaves room.
        self.has_hit_cap = self.has_hit_cap && locked.len() >= pick.candidates.len();
        let is_reached = |candidate: &&Candidate| {
            locked.len() < pick.limit
                || pick.candidates.len() == pick.limit
                || locked.iter().any(|id| *id >= candidate.id)
        };
        let reached: Vec<&Candidate> = pick.candidates.iter().filter(is_reached).collect();
        self.due_at += pick.of_due;
        self.fresh_at += reached.len() - pick.of_due;
        self.at_once = match locked.is_empty() {
            true => at_once_after(reached.len()),
            false => 0,
        };
        for candidate in reached {
            if !self.tried.insert(candidate.id) {
                continue;
            }
            if !locked.contains(&candidate.id) {
                self.refused.insert(candidate.id);
                continue;
            }
            self.bytes = self.bytes.saturating_add(candidate.bytes);
            self.due_locked += usize::from(due(candidate));
            self.locked.push(candidate.id);
        }
    }

    /// Whether the next fresh candidate may be tried in its turn, without being picked: no due job is to be had.
    pub fn may_try(&mut self, candidate: &Candidate) -> bool {
        let fits = self.locked.is_empty() || self.bytes.saturating_add(candidate.bytes) <= self.max_bytes;
        self.has_hit_cap |= !fits;
        fits
    }

    /// Notes what became of it.
    pub fn note_tried(&mut self, candidate: &Candidate, is_taken: bool) {
        self.fresh_at += 1;
        if is_taken {
            self.bytes = self.bytes.saturating_add(candidate.bytes);
            self.locked.push(candidate.id);
        } else {
            self.refused.insert(candidate.id);
        }
        self.at_once = if self.locked.is_empty() { at_once_after(self.refused.len()) } else { 0 };
    }

    /// Whether so much was refused that it is better to go on with a newer snapshot, in growing rounds.
    pub fn is_refused(&self) -> bool {
        self.refused.len() >= self.wanted
    }

    /// The fresh candidates that were taken, of those that there were to be picked from.
    pub fn taken<'a>(&'a self, fresh: &'a [Candidate]) -> impl Iterator<Item = &'a Candidate> {
        fresh.iter().take(self.fresh_at).filter(|candidate| !self.refused.contains(&candidate.id))
    }
}

/// How many to try at once where so many were refused and none was had.
fn at_once_after(refused: usize) -> usize {
    (refused * 4).min(MOST_AT_ONCE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::floor::Key;
    use crate::job::table::Place;

    fn due(id: i64) -> Candidate {
        Candidate { id, bytes: 10, place: Place::Due(id), tid: None }
    }

    fn fresh(id: i64) -> Candidate {
        Candidate { id, bytes: 10, place: Place::Fresh(0, Key { xid: 1, id }), tid: None }
    }

    fn is_due(candidate: &Candidate) -> bool {
        matches!(candidate.place, Place::Due(_))
    }

    /// Picks until nothing is left; what stands in `held` cannot be locked.
    fn run(wanted: usize, max_bytes: usize, due: &[Candidate], fresh: &[Candidate], held: &[i64]) -> Vec<i64> {
        let picked = pick_all(wanted, max_bytes, due, fresh, held);
        if due.is_empty() {
            assert_eq!(picked, try_in_turn(wanted, max_bytes, fresh, held), "one by one");
        }
        picked
    }

    fn try_in_turn(wanted: usize, max_bytes: usize, fresh: &[Candidate], held: &[i64]) -> Vec<i64> {
        let mut picker = Picker::new(wanted, max_bytes);
        for candidate in fresh {
            if picker.is_full() || !picker.may_try(candidate) {
                break;
            }
            picker.note_tried(candidate, !held.contains(&candidate.id));
        }
        let taken: Vec<i64> = picker.taken(fresh).map(|candidate| candidate.id).collect();
        assert_eq!(taken, picker.locked);
        picker.locked
    }

    fn pick_all(wanted: usize, max_bytes: usize, due: &[Candidate], fresh: &[Candidate], held: &[i64]) -> Vec<i64> {
        let mut picker = Picker::new(wanted, max_bytes);
        loop {
            let pick = picker.pick(&Choice { due, fresh, fresh_complete: true });
            if pick.candidates.is_empty() {
                return picker.locked;
            }
            let free = pick.candidates.iter().map(|c| c.id).filter(|id| !held.contains(id));
            let locked = free.take(pick.limit).collect();
            picker.note(&pick, is_due, &locked);
        }
    }

    #[test]
    fn due_jobs_come_first_and_take_at_most_half_rounded_up() {
        let due: Vec<_> = (1..=10).map(due).collect();
        let fresh: Vec<_> = (101..=110).map(fresh).collect();
        assert_eq!(run(5, 1_000, &due, &fresh, &[]), [1, 2, 3, 101, 102]);
        assert_eq!(run(1, 1_000, &due, &fresh, &[]), [1]);
        assert_eq!(run(8, 1_000, &due, &fresh[..1], &[]), [1, 2, 3, 4, 5, 6, 7, 101]);
        assert_eq!(run(4, 1_000, &[], &fresh, &[]), [101, 102, 103, 104]);
        assert_eq!(run(4, 1_000, &due, &[], &[]), [1, 2, 3, 4]);
    }

    #[test]
    fn what_others_hold_is_replaced() {
        let due: Vec<_> = (1..=10).map(due).collect();
        let fresh: Vec<_> = (101..=110).map(fresh).collect();
        assert_eq!(run(4, 1_000, &due, &fresh, &[1, 101]), [2, 102, 3, 103]);
        assert_eq!(run(30, 1_000, &due, &fresh, &[1]).len(), 19);
    }

    #[test]
    fn behind_thousands_that_others_hold_a_job_is_found_in_a_few_rounds() {
        let fresh: Vec<_> = (1..=5_000).map(fresh).collect();
        let held: Vec<i64> = (1..=4_000).collect();
        let mut picker = Picker::new(2, 1_000_000);
        let mut rounds = 0;
        while picker.missing() > 0 {
            let pick = picker.pick(&Choice { due: &[], fresh: &fresh, fresh_complete: true });
            let free = pick.candidates.iter().map(|c| c.id).filter(|id| !held.contains(id));
            picker.note(&pick, is_due, &free.take(pick.limit).collect());
            rounds += 1;
        }
        assert_eq!(picker.locked, [4_001, 4_002]);
        // What was not reached was not tried, so that it does not count as held.
        assert_eq!(picker.tried.len(), 4_002);
        assert!(rounds <= 9, "{rounds} rounds");
    }

    #[test]
    fn what_was_locked_is_kept_when_the_look_begins_anew() {
        let found: Vec<_> = (1..=4).map(fresh).collect();
        let mut picker = Picker::new(3, 35);
        let pick = picker.pick(&Choice { due: &[], fresh: &found[2..], fresh_complete: true });
        picker.note(&pick, is_due, &IdSet::from_iter([4]));
        let mut picker = picker.begun_anew();
        assert_eq!((picker.locked.as_slice(), picker.missing(), picker.bytes), ([4].as_slice(), 2, 10));
        // the one that was refused may be free by now; the one that is held counts once
        let pick = picker.pick(&Choice { due: &[], fresh: &found, fresh_complete: true });
        picker.note(&pick, is_due, &IdSet::from_iter([1, 2]));
        assert_eq!(picker.locked, [4, 1, 2]);
        assert!(picker.is_full() && !picker.tried.contains(&3));
    }

    #[test]
    fn further_ones_are_not_tried_out_of_order() {
        let fresh: Vec<_> = [9, 1, 2, 3, 8, 4].map(fresh).to_vec();
        assert_eq!(run(1, 1_000, &[], &fresh, &[9, 1, 2]), [3]);
        assert_eq!(run(1, 1_000, &[], &fresh, &[9, 1, 2, 3, 8]), [4]);
    }

    #[test]
    fn bytes_are_capped_but_one_job_always_comes() {
        let fresh: Vec<_> = (1..=9).map(fresh).collect();
        assert_eq!(run(9, 35, &[], &fresh, &[]), [1, 2, 3]);
        assert_eq!(run(9, 35, &[], &fresh, &[2]), [1, 3, 4]);
        assert_eq!(run(9, 5, &[], &fresh, &[]), [1]);
        assert_eq!(run(9, 5, &[], &fresh, &[1, 2]), [3]);
    }
}
