//! Random schedules: no row is lost whatever the order of things. A failure names its seed; with that in
//! `FLOOR_MODEL_SEED` in the environment only its schedule runs.

use super::*;

/// Schedules of one run; `FLOOR_MODEL_SCHEDULES` in the environment overrides it.
const SCHEDULES: u64 = 8_000;
/// What must have happened in a run, so that a change of the model cannot make it prove nothing.
const MUST_MEET: [&str; 14] = [
    "own transaction listed",
    "list of open transactions full",
    "list of skipped runs full",
    "prepared transaction listed",
    "ended transaction stays listed",
    "ended transaction leaves the list",
    "neighbours in different transactions joined",
    "evidence older than the floor",
    "evidence too old for a run",
    "scan stopped at its limit",
    "scan stopped inside a run",
    "newer snapshot showed rows of a transaction that ran",
    "own claims rolled back after the floor moved",
    "row claimed that the own transaction inserted",
];

impl World {
    fn step(&mut self) {
        let session = self.dice.below(self.style.sessions);
        if self.sessions[session].fetch.is_some() {
            if self.dice.one_in(2) {
                self.some_claims(session);
            }
            return;
        }
        match self.dice.below(20) {
            0..=5 => self.some_rows(session),
            6..=11 => self.some_fetch(session),
            12 | 13 => self.some_hold(session),
            14 => self.roll_back_to_savepoint(session),
            15 => {
                self.own(session);
            }
            16 if !self.prepared.is_empty() => self.some_prepared(),
            _ if self.dice.one_in(self.style.patience) => self.some_end(session),
            _ => {}
        }
    }

    fn some_rows(&mut self, session: usize) {
        let count = 1 + self.dice.below(self.style.rows);
        let usual = [0, 4, 9][self.dice.below(3)];
        for _ in 0..count {
            let priority = if self.dice.one_in(4) { self.dice.below(PRIORITIES) } else { usual };
            let id = self.id();
            self.insert(session, priority, id);
        }
        if self.dice.one_in(2) {
            self.some_end(session);
        }
    }

    fn some_hold(&mut self, session: usize) {
        let free: Vec<usize> = self.alive.iter().copied().filter(|row| self.is_free_for(session, *row)).collect();
        let kind = if self.dice.one_in(2) { Kind::Lock } else { Kind::Remove };
        let share = [1, 2, free.len().max(1)][self.dice.below(3)];
        for row in free {
            if self.dice.one_in(share) {
                self.hold(session, row, kind);
            }
        }
    }

    /// Visible to the session's newest snapshot, and held by nobody.
    fn is_free_for(&self, session: usize, row: usize) -> bool {
        let row = &self.rows[row];
        row.holder.is_none()
            && (!self.running.contains(&row.key.xid) || self.sessions[session].own == Some(row.key.xid))
    }

    fn some_end(&mut self, session: usize) {
        match self.dice.below(8) {
            0 | 1 => self.end(session, false),
            2 => self.prepare(session),
            _ => self.end(session, true),
        }
    }

    fn some_prepared(&mut self) {
        let at = self.dice.below(self.prepared.len());
        let commit = !self.dice.one_in(3);
        self.end_prepared(at, commit);
    }

    fn some_fetch(&mut self, session: usize) {
        let adopts = !self.saved.is_empty() && self.dice.one_in(4);
        let mut floor = self.sessions[session].floor.clone();
        let horizon = self.evidence(session);
        if adopts {
            let at = self.dice.below(self.saved.len());
            floor = self.saved[at].clone();
        }
        self.start_fetch(session, floor, horizon);
        if !self.dice.one_in(3) {
            self.some_claims(session);
        }
    }

    fn some_claims(&mut self, session: usize) {
        self.outrun(session);
        let demand = self.dice.below(self.style.limit + 1);
        let limit = 1 + self.dice.below(self.style.limit);
        self.finish_fetch(session, demand, limit, 6);
        if self.dice.one_in(4) {
            let floor = self.sessions[session].floor.clone();
            if self.saved.len() < 3 {
                self.saved.push(floor);
            } else {
                let at = self.dice.below(3);
                self.saved[at] = floor;
            }
        }
        if self.dice.one_in(2) {
            self.some_end(session);
        }
    }

    /// Now and then the floor comes from evidence that is newer than that of the fetch which uses it.
    fn outrun(&mut self, session: usize) {
        if self.saved.is_empty() || !self.dice.one_in(6) {
            return;
        }
        let at = self.dice.below(self.saved.len());
        let floor = self.saved[at].clone();
        let horizon = self.sessions[session].fetch.take().unwrap().horizon;
        self.start_fetch(session, floor, horizon);
    }

    fn run(&mut self) {
        for _ in 0..self.style.singles {
            let id = self.id();
            self.insert(0, 4, id);
            match self.dice.below(20) {
                0 => self.prepare(0),
                _ => self.end(0, true),
            }
        }
        for _ in 0..self.style.steps {
            self.step();
        }
        self.end_all();
        let session = self.dice.below(self.style.sessions);
        self.drain(session);
        self.check_claims();
    }

    fn end_all(&mut self) {
        for session in 0..self.style.sessions {
            if self.sessions[session].fetch.is_some() {
                self.some_claims(session);
            }
            let commit = !self.dice.one_in(3);
            self.end(session, commit);
        }
        while !self.prepared.is_empty() {
            self.some_prepared();
        }
    }

    fn drain(&mut self, session: usize) {
        let demand = 1 + self.dice.below(2 * self.style.limit);
        while self.fetch(session, demand, demand) > 0 {
            self.end(session, true);
        }
        self.end(session, true);
    }
}

fn style(seed: u64) -> Style {
    let mut dice = Dice::new(!seed);
    let steps = 60 + dice.below(80);
    let limit = [2, 5, 40][dice.below(3)];
    let patience = 1 + dice.below(6);
    let usual =
        Style { sessions: 2 + dice.below(5), steps, patience, rows: 4, limit, id_step: 1 + dice.below(12), singles: 0 };
    match seed % 500 {
        // More open transactions than a floor may pass.
        0 => Style { sessions: 2 * MAX_OPEN, steps: 8 * MAX_OPEN, patience: 60, rows: 2, ..usual },
        // More runs of skipped rows than a floor may keep, far apart and close together.
        100 => Style { rows: MAX_SKIPPED, limit: 3 * MAX_SKIPPED, id_step: 40, ..usual },
        at if at % 100 == 50 => {
            Style { singles: CROWDED + dice.below(MAX_SKIPPED), limit: MAX_SKIPPED, id_step: 1, ..usual }
        }
        _ => usual,
    }
}

fn from_environment(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[test]
fn no_schedule_loses_a_row() {
    let run = |seed: u64| {
        let mut world = World::new(seed, style(seed));
        world.run();
        world.met
    };
    if let Some(seed) = from_environment("FLOOR_MODEL_SEED") {
        run(seed);
        return;
    }
    let schedules = from_environment("FLOOR_MODEL_SCHEDULES").unwrap_or(SCHEDULES);
    let met: BTreeSet<&str> = (0..schedules).flat_map(run).collect();
    let missed: Vec<&str> = MUST_MEET.into_iter().filter(|note| !met.contains(note)).collect();
    assert!(missed.is_empty(), "never happened: {missed:?}");
}
