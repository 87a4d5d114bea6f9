//! What is checked after each change, and what is noted, so that a test can ask whether it was met.

use super::*;

impl World {
    pub(super) fn check_row(&self, row: usize) {
        for (session, holder) in self.sessions.iter().enumerate() {
            self.check(&holder.floor, row, session);
            if let Some(fetch) = &holder.fetch {
                self.check(&fetch.floor, row, session);
            }
        }
        for floor in &self.saved {
            self.check(floor, row, usize::MAX);
        }
    }

    fn check(&self, floor: &Floor, row: usize, session: usize) {
        let Row { priority, key, .. } = self.rows[row];
        assert!(
            floor.covers(priority, key),
            "seed {}: a pending row is below the floor: {key:?} of priority {priority}, session {session}, {floor:?}",
            self.seed,
        );
    }

    pub(super) fn check_next(&self, fetch: &Fetch, next: &Floor) {
        for row in &self.alive {
            self.check(next, *row, usize::MAX);
        }
        assert!(next.open.len() <= MAX_OPEN, "seed {}: {} open transactions", self.seed, next.open.len());
        assert!(next.skipped.len() <= MAX_SKIPPED, "seed {}: {} skipped runs", self.seed, next.skipped.len());
        for (before, after) in fetch.floor.starts.iter().zip(&next.starts) {
            assert!(before <= after, "seed {}: a floor fell from {before:?} to {after:?}", self.seed);
        }
    }

    /// Every row that is still pending and that the evidence shows lies in one segment, none in two.
    pub(super) fn check_reach(&self, fetch: &Fetch) {
        let places: Vec<_> = fetch.shown.iter().flatten().map(|row| self.place(*row)).collect();
        for pair in places.windows(2) {
            assert!(
                pair[0] != pair[1],
                "seed {}: a row is in two segments: {:?} of {:?}",
                self.seed,
                pair,
                fetch.floor
            );
            assert!(
                pair[0] < pair[1],
                "seed {}: not in the order of claims: {:?} of {:?}",
                self.seed,
                pair,
                fetch.floor
            );
        }
        for row in &self.alive {
            let found = places.binary_search(&self.place(*row)).is_ok() || !self.shows(&fetch.horizon, *row);
            let key = self.rows[*row].key;
            assert!(found, "seed {}: a pending row is in no segment: {key:?} of {:?}", self.seed, fetch.floor);
        }
    }

    fn place(&self, row: usize) -> (usize, Key) {
        (self.rows[row].priority, self.rows[row].key)
    }

    pub(super) fn check_once(&self, fetch: &Fetch, row: usize) {
        let (priority, key) = self.place(row);
        let holds = |segment: &&Segment| segment.priority == priority && segment.from <= key && key < segment.to;
        let times = fetch.segments.iter().filter(holds).count();
        assert_eq!(times, 1, "seed {}: segments that hold the own row {key:?} of {:?}", self.seed, fetch.floor);
    }

    pub(super) fn check_claims(&self) {
        for row in self.index.values().map(|row| &self.rows[*row]) {
            let removed = row.gone_by.is_some() && row.claims == 0;
            assert!(removed || row.claims == 1, "seed {}: {:?} claimed {} times", self.seed, row.key, row.claims);
        }
        assert!(self.alive.is_empty(), "seed {}: left over: {:?}", self.seed, self.alive);
    }

    // What is noted, so that `MUST_MEET` can be.

    pub(super) fn note_undone(&mut self, session: usize, acts: &[Act]) {
        let claimed = |act: &Act| match act {
            Act::Hold(row) => self.rows[*row].holder.is_some_and(|(_, kind)| kind == Kind::Claim),
            Act::Insert(_) => false,
        };
        if self.sessions[session].moved && acts.iter().any(claimed) {
            self.met.insert("own claims rolled back after the floor moved");
        }
    }

    pub(super) fn note_moved(&mut self, fetch: &Fetch, next: &Floor) {
        let Fetch { floor, horizon, .. } = fetch;
        let entered = |xid: &u64| next.open.contains_key(xid) && !floor.open.contains_key(xid);
        let ended = |xid: &&u64| !is_running(horizon, **xid);
        let crosses = |run: &Run| run.first.xid < run.last.xid;
        let unknown = |run: &Run| hides_any(horizon, run.first.xid, run.last.xid);
        let notes = [
            ("own transaction listed", horizon.own.is_some_and(|own| entered(&own))),
            ("list of open transactions full", next.open.len() == MAX_OPEN),
            ("list of skipped runs full", next.skipped.len() == MAX_SKIPPED),
            ("prepared transaction listed", self.prepared.iter().any(|(xid, _)| entered(xid))),
            ("ended transaction stays listed", next.open.keys().any(|xid| ended(&xid))),
            (
                "ended transaction leaves the list",
                floor.open.keys().filter(ended).any(|xid| !next.open.contains_key(xid)),
            ),
            ("neighbours in different transactions joined", next.skipped.iter().any(crosses)),
            ("evidence older than the floor", horizon.end < floor.evidence_end),
            ("evidence too old for a run", floor.skipped.iter().any(unknown)),
        ];
        self.met.extend(notes.into_iter().filter_map(|(note, met)| met.then_some(note)));
    }
}
