//! A model of everything that happens around a floor: sessions that insert, claim, lock, delete, commit late, roll back,
//! prepare; snapshots; scans that stop at a limit; floors that sessions keep or take over from each other. Random
//! schedules; after each change of a floor and each insert the invariant at the head of `floor.rs` is checked for every
//! floor and every row that is pending in any possible future. A failure names its seed; with that in `FLOOR_MODEL_SEED`
//! in the environment only its schedule runs.

use std::collections::BTreeSet;

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

struct Dice(u64);

impl Dice {
    fn new(seed: u64) -> Self {
        Self(seed.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    fn below(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        ((self.0 >> 11) % sides as u64) as usize
    }

    fn one_in(&mut self, sides: usize) -> bool {
        self.below(sides) == 0
    }
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Kind {
    /// Locked or changed, still pending whatever happens.
    Lock,
    /// Claimed by a fetch, if that commits.
    Claim,
    /// Deleted, or given an `available_at`, by somebody's own statement, if that commits.
    Remove,
}

struct Row {
    priority: usize,
    key: Key,
    holder: Option<(u64, Kind)>,
    /// The committed transaction that ended its being pending and fresh.
    gone_by: Option<u64>,
    claims: u32,
}

enum Act {
    Insert(usize),
    Hold(usize),
}

#[derive(Default)]
struct Session {
    floor: Floor,
    own: Option<u64>,
    log: Vec<Act>,
    fetch: Option<Fetch>,
    /// The floor moved in this transaction.
    moved: bool,
}

/// A fetch between its evidence and its claims: anything may happen elsewhere in between.
struct Fetch {
    floor: Floor,
    horizon: Horizon,
    segments: Vec<Segment>,
    /// Rows that the evidence shows as pending, by segment.
    shown: Vec<Vec<usize>>,
}

/// What a schedule is like.
#[derive(Clone, Copy)]
struct Style {
    sessions: usize,
    steps: usize,
    /// Transactions end once in so many turns of their session.
    patience: usize,
    /// Most rows of one insert.
    rows: usize,
    /// Most that a scan returns.
    limit: usize,
    /// Largest distance of one id from the next.
    id_step: usize,
    /// Rows that are there at the start, each of its own transaction.
    singles: usize,
}

struct World {
    seed: u64,
    dice: Dice,
    style: Style,
    next_xid: u64,
    /// One above the newest transaction that has ended.
    end: u64,
    running: BTreeSet<u64>,
    prepared: Vec<(u64, Vec<Act>)>,
    rows: Vec<Row>,
    /// Every entry, also of rows that are done; those of rolled back inserts are taken out.
    index: BTreeMap<(usize, Key), usize>,
    /// Rows that are pending in some possible future.
    alive: BTreeSet<usize>,
    next_id: i64,
    /// Ids drawn long ago and not used yet.
    drawn: Vec<i64>,
    sessions: Vec<Session>,
    saved: Vec<Floor>,
    /// Index entries that the last fetch walked over, if that is to be counted.
    walked: Option<usize>,
    met: BTreeSet<&'static str>,
}

impl World {
    fn new(seed: u64, style: Style) -> Self {
        let mut dice = Dice::new(seed);
        let next_xid = if dice.one_in(4) { (1 << 32) - 20 } else { 3 };
        let drawn = if dice.one_in(8) { vec![i64::MIN, i64::MAX] } else { Vec::new() };
        Self {
            seed,
            dice,
            style,
            next_xid,
            end: next_xid,
            running: BTreeSet::new(),
            prepared: Vec::new(),
            rows: Vec::new(),
            index: BTreeMap::new(),
            alive: BTreeSet::new(),
            next_id: 1,
            drawn,
            sessions: (0..style.sessions).map(|_| Session::default()).collect(),
            saved: Vec::new(),
            walked: None,
            met: BTreeSet::new(),
        }
    }

    // What transactions do.

    fn own(&mut self, session: usize) -> u64 {
        if let Some(own) = self.sessions[session].own {
            return own;
        }
        let own = self.next_xid;
        self.next_xid += 1;
        self.running.insert(own);
        self.sessions[session].own = Some(own);
        own
    }

    fn id(&mut self) -> i64 {
        if !self.drawn.is_empty() && self.dice.one_in(3) {
            let at = self.dice.below(self.drawn.len());
            return self.drawn.swap_remove(at);
        }
        self.next_id += 1 + self.dice.below(self.style.id_step) as i64;
        if self.dice.one_in(6) {
            self.drawn.push(self.next_id);
            self.next_id += 1;
        }
        self.next_id
    }

    fn insert(&mut self, session: usize, priority: usize, id: i64) -> usize {
        let key = Key { xid: self.own(session), id };
        let row = self.rows.len();
        self.rows.push(Row { priority, key, holder: None, gone_by: None, claims: 0 });
        self.index.insert((priority, key), row);
        self.alive.insert(row);
        self.sessions[session].log.push(Act::Insert(row));
        self.check_row(row);
        row
    }

    fn hold(&mut self, session: usize, row: usize, kind: Kind) {
        let own = self.own(session);
        assert_eq!(self.rows[row].holder, None);
        self.rows[row].holder = Some((own, kind));
        self.sessions[session].log.push(Act::Hold(row));
    }

    fn undo(&mut self, acts: Vec<Act>) {
        for act in acts.into_iter().rev() {
            match act {
                Act::Hold(row) => self.rows[row].holder = None,
                Act::Insert(row) => {
                    self.index.remove(&(self.rows[row].priority, self.rows[row].key));
                    self.alive.remove(&row);
                }
            }
        }
    }

    fn make_true(&mut self, acts: Vec<Act>) {
        for act in acts {
            let Act::Hold(row) = act else { continue };
            let (xid, kind) = self.rows[row].holder.take().unwrap();
            if kind != Kind::Lock {
                self.rows[row].gone_by = Some(xid);
                self.rows[row].claims += u32::from(kind == Kind::Claim);
                self.alive.remove(&row);
            }
        }
    }

    fn finish(&mut self, xid: u64, acts: Vec<Act>, commit: bool) {
        self.running.remove(&xid);
        self.end = self.end.max(xid + 1);
        if commit {
            self.make_true(acts);
        } else {
            self.undo(acts);
        }
    }

    fn end(&mut self, session: usize, commit: bool) {
        let acts = std::mem::take(&mut self.sessions[session].log);
        if let Some(xid) = self.sessions[session].own.take() {
            self.note_undone(session, if commit { &[] } else { &acts });
            self.finish(xid, acts, commit);
        }
        self.sessions[session].moved = false;
    }

    fn prepare(&mut self, session: usize) {
        let acts = std::mem::take(&mut self.sessions[session].log);
        if let Some(xid) = self.sessions[session].own.take() {
            self.prepared.push((xid, acts));
        }
        self.sessions[session].moved = false;
    }

    fn end_prepared(&mut self, at: usize, commit: bool) {
        let (xid, acts) = self.prepared.swap_remove(at);
        self.finish(xid, acts, commit);
    }

    fn roll_back_to_savepoint(&mut self, session: usize) {
        let keep = self.dice.below(self.sessions[session].log.len() + 1);
        let acts = self.sessions[session].log.split_off(keep);
        self.note_undone(session, &acts);
        self.undo(acts);
    }

    // What a fetch does.

    fn evidence(&self, session: usize) -> Horizon {
        let own = self.sessions[session].own;
        let running = self.running.iter().copied().filter(|xid| *xid < self.end || Some(*xid) == own).collect();
        Horizon { end: self.end, running, own }
    }

    fn shows(&self, horizon: &Horizon, row: usize) -> bool {
        let row = &self.rows[row];
        !is_running(horizon, row.key.xid) && row.gone_by.is_none_or(|xid| is_running(horizon, xid))
    }

    fn shown(&self, horizon: &Horizon, segment: &Segment, from: Key) -> Vec<usize> {
        let Segment { priority, to, .. } = *segment;
        assert!(from <= to, "seed {}: a segment ends before it begins: {segment:?}", self.seed);
        let rows = self.index.range((priority, from)..(priority, to)).map(|(_, row)| *row);
        rows.filter(|row| self.shows(horizon, *row)).collect()
    }

    /// What lies behind row number `reached` of a scan is looked at with a newer snapshot.
    fn look_again(&mut self, session: usize, fetch: &mut Fetch, reached: usize) {
        let newer = self.evidence(session);
        let mut left = reached;
        for (segment, shown) in fetch.segments.iter().zip(&mut fetch.shown) {
            let kept = shown.len().min(left);
            if kept == left {
                shown.truncate(kept);
                let from = shown.last().map_or(segment.from, |row| self.rows[*row].key.next());
                shown.extend(self.shown(&newer, segment, from));
                if shown.iter().any(|row| is_running(&fetch.horizon, self.rows[*row].key.xid)) {
                    self.met.insert("newer snapshot showed rows of a transaction that ran");
                }
            }
            left -= kept;
        }
    }

    fn start_fetch(&mut self, session: usize, floor: Floor, horizon: Horizon) {
        let limit = horizon.own.map_or(horizon.end, |_| self.next_xid + 1);
        let segments = floor.segments(&horizon, limit);
        let shown = segments.iter().map(|segment| self.shown(&horizon, segment, segment.from)).collect();
        let fetch = Fetch { floor, horizon, segments, shown };
        self.check_reach(&fetch);
        self.sessions[session].fetch = Some(fetch);
    }

    /// What a scan returns that ends with its row number `limit`.
    fn scan(&mut self, fetch: &Fetch, limit: usize) -> Vec<Seen> {
        let mut left = limit;
        let mut seen = Vec::new();
        for (segment, shown) in fetch.segments.iter().zip(&fetch.shown) {
            let rows: Vec<(Key, bool)> = shown.iter().take(left).map(|row| (self.rows[*row].key, false)).collect();
            let complete = rows.len() < left;
            left -= rows.len();
            if !complete && !rows.is_empty() {
                self.met.insert("scan stopped at its limit");
                if matches!(segment.reason, Reason::Skipped(_)) {
                    self.met.insert("scan stopped inside a run");
                }
            }
            seen.push(Seen { rows, complete });
        }
        seen
    }

    /// Index entries, those of done rows included, from the start of each segment to where the scan came.
    fn entries(&self, fetch: &Fetch, seen: &[Seen]) -> usize {
        let walked = |(segment, seen): (&Segment, &Seen)| {
            let last = seen.rows.last().map_or(segment.from, |(key, _)| key.next());
            let to = if seen.complete { segment.to } else { last };
            self.index.range((segment.priority, segment.from)..(segment.priority, to)).count()
        };
        fetch.segments.iter().zip(seen).map(walked).sum()
    }

    /// Claims of what the scan returned; what was tried in vain is stuck. A row may also be out of reach for reasons
    /// that the model does not know, such as a statement's older snapshot.
    fn claim_seen(&mut self, session: usize, fetch: &Fetch, seen: &mut [Seen], demand: usize, blind: usize) -> usize {
        let mut claimed = 0;
        for (shown, seen) in fetch.shown.iter().zip(seen) {
            for (row, (_, stuck)) in shown.iter().zip(&mut seen.rows) {
                if claimed == demand {
                    return claimed;
                }
                let free = self.rows[*row].holder.is_none() && self.rows[*row].gone_by.is_none();
                if free && (blind == 0 || !self.dice.one_in(blind)) {
                    self.hold(session, *row, Kind::Claim);
                    claimed += 1;
                } else {
                    *stuck = true;
                }
            }
        }
        claimed
    }

    fn claim_inserted(&mut self, session: usize, fetch: &Fetch, demand: usize) -> usize {
        let Some(own) = self.sessions[session].own else { return 0 };
        let mut claimed = 0;
        let inserted: Vec<usize> = self.alive.iter().copied().filter(|row| self.rows[*row].key.xid == own).collect();
        for row in inserted {
            self.check_once(fetch, row);
            if claimed < demand && self.rows[row].holder.is_none() {
                self.hold(session, row, Kind::Claim);
                self.met.insert("row claimed that the own transaction inserted");
                claimed += 1;
            }
        }
        claimed
    }

    fn finish_fetch(&mut self, session: usize, demand: usize, limit: usize, blind: usize) -> usize {
        let mut fetch = self.sessions[session].fetch.take().unwrap();
        if fetch.horizon.own.is_none() && self.dice.one_in(2) {
            let reached = self.dice.below(limit);
            self.look_again(session, &mut fetch, reached);
        }
        let mut seen = self.scan(&fetch, limit);
        self.walked = self.walked.map(|_| self.entries(&fetch, &seen));
        let mut claimed = self.claim_seen(session, &fetch, &mut seen, demand, blind);
        claimed += self.claim_inserted(session, &fetch, demand - claimed);
        if self.dice.one_in(4) {
            let reached = seen.iter().rposition(|seen| seen.complete || !seen.rows.is_empty()).map_or(0, |at| at + 1);
            seen.truncate(reached);
        }
        let next = fetch.floor.advanced(&fetch.horizon, &fetch.segments, &seen);
        self.check_next(&fetch, &next);
        self.note_moved(&fetch, &next);
        self.sessions[session].moved |= next != fetch.floor;
        self.sessions[session].floor = next;
        claimed
    }

    // What is checked.

    fn check_row(&self, row: usize) {
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

    fn check_next(&self, fetch: &Fetch, next: &Floor) {
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
    fn check_reach(&self, fetch: &Fetch) {
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

    fn check_once(&self, fetch: &Fetch, row: usize) {
        let (priority, key) = self.place(row);
        let holds = |segment: &&Segment| segment.priority == priority && segment.from <= key && key < segment.to;
        let times = fetch.segments.iter().filter(holds).count();
        assert_eq!(times, 1, "seed {}: segments that hold the own row {key:?} of {:?}", self.seed, fetch.floor);
    }

    // What is noted, so that `MUST_MEET` can be.

    fn note_undone(&mut self, session: usize, acts: &[Act]) {
        let claimed = |act: &Act| match act {
            Act::Hold(row) => self.rows[*row].holder.is_some_and(|(_, kind)| kind == Kind::Claim),
            Act::Insert(_) => false,
        };
        if self.sessions[session].moved && acts.iter().any(claimed) {
            self.met.insert("own claims rolled back after the floor moved");
        }
    }

    fn note_moved(&mut self, fetch: &Fetch, next: &Floor) {
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

    // A random schedule.

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

    fn fetch(&mut self, session: usize, demand: usize, limit: usize) -> usize {
        let horizon = self.evidence(session);
        let floor = self.sessions[session].floor.clone();
        self.start_fetch(session, floor, horizon);
        self.finish_fetch(session, demand, limit, 0)
    }

    fn drain(&mut self, session: usize) {
        let demand = 1 + self.dice.below(2 * self.style.limit);
        while self.fetch(session, demand, demand) > 0 {
            self.end(session, true);
        }
        self.end(session, true);
    }

    fn check_claims(&self) {
        for row in self.index.values().map(|row| &self.rows[*row]) {
            let removed = row.gone_by.is_some() && row.claims == 0;
            assert!(removed || row.claims == 1, "seed {}: {:?} claimed {} times", self.seed, row.key, row.claims);
        }
        assert!(self.alive.is_empty(), "seed {}: left over: {:?}", self.seed, self.alive);
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

// How much a fetch reads while rows pass.

/// Rows that pass in each of the tests below.
const PASSING: usize = 50_000;
/// Rows that wait in the tests with a backlog.
const BACKLOG: usize = 5_000;
/// Rows inserted, and taken, at a time.
const BATCH: usize = 50;
const PRODUCER: usize = 0;
const CONSUMER: usize = 1;
/// Whoever is in the way.
const OTHER: usize = 2;
const ANOTHER: usize = 3;

fn flow(id_step: usize) -> World {
    let style = Style { sessions: 4, steps: 0, patience: 1, rows: 0, limit: 0, id_step, singles: 0 };
    World { walked: Some(0), next_xid: 3, end: 3, drawn: Vec::new(), ..World::new(0, style) }
}

impl World {
    fn produce(&mut self, session: usize, rows: usize) -> usize {
        for _ in 0..rows {
            self.next_id += self.style.id_step as i64;
            self.insert(session, 4, self.next_id);
        }
        self.rows.len() - rows
    }

    fn produce_singly(&mut self, rows: usize) {
        for _ in 0..rows {
            self.produce(PRODUCER, 1);
            self.end(PRODUCER, true);
        }
    }

    /// Takes a batch; what is stuck does not count against the limit.
    fn consume(&mut self, session: usize, demand: usize) -> usize {
        self.fetch(session, demand, 4 * MAX_SKIPPED + demand)
    }

    /// The most that a fetch walked over while rows passed, `singly` or a batch in a transaction.
    fn pass(&mut self, singly: bool) -> usize {
        let mut most = 0;
        for _ in 0..PASSING / BATCH {
            if singly {
                self.produce_singly(BATCH);
            } else {
                self.produce(PRODUCER, BATCH);
                self.end(PRODUCER, true);
            }
            assert_eq!(self.consume(CONSUMER, BATCH), BATCH);
            most = most.max(self.walked.unwrap());
            self.end(CONSUMER, true);
        }
        most
    }
}

/// What the tests below allow: the last batch, the next one, and all that a run may hold beside each stuck row.
fn bound(stuck: usize) -> usize {
    2 * BATCH + stuck * (MAX_GAP as usize + 1)
}

#[test]
fn a_stuck_row_costs_nothing_later() {
    for singly in [true, false] {
        let mut world = flow(1);
        let row = world.produce(PRODUCER, 1);
        world.end(PRODUCER, true);
        world.hold(OTHER, row, Kind::Lock);
        let most = world.pass(singly);
        assert!(most <= bound(1), "walked over {most} entries");
    }
}

#[test]
fn an_open_transaction_costs_nothing_later() {
    let mut world = flow(1);
    world.produce(OTHER, BATCH);
    let most = world.pass(true);
    assert!(most <= bound(0), "walked over {most} entries");
    world.end(OTHER, true);
    assert_eq!(world.consume(CONSUMER, 2 * BATCH), BATCH);
    assert!(world.walked.unwrap() <= bound(0), "walked over {:?} entries", world.walked);
}

#[test]
fn an_uncommitted_claim_costs_nothing_later() {
    for (id_step, singly) in [(1, true), (1, false), (MAX_GAP as usize + 1, true), (MAX_GAP as usize + 1, false)] {
        let mut world = flow(id_step);
        world.produce(PRODUCER, 100);
        world.end(PRODUCER, true);
        assert_eq!(world.consume(OTHER, 100), 100);
        let most = world.pass(singly);
        assert!(most <= bound(100), "walked over {most} entries, ids {id_step} apart");
    }
}

#[test]
fn a_claim_of_more_transactions_than_there_are_runs_costs_nothing_later() {
    let mut world = flow(1);
    world.produce_singly(3 * MAX_SKIPPED);
    assert_eq!(world.consume(OTHER, 3 * MAX_SKIPPED), 3 * MAX_SKIPPED);
    let most = world.pass(true);
    assert!(most <= bound(3 * MAX_SKIPPED), "walked over {most} entries");
    world.end(OTHER, false);
    assert_eq!(world.consume(CONSUMER, PASSING), 3 * MAX_SKIPPED);
}

#[test]
fn a_stuck_row_of_a_transaction_that_was_passed_costs_nothing_later() {
    let mut world = flow(1);
    let most_urgent: Vec<usize> = (1..=10 * BATCH as i64).map(|id| world.insert(OTHER, 0, -id)).collect();
    let first = world.produce(OTHER, BACKLOG);
    world.produce_singly(1);
    assert_eq!(world.consume(CONSUMER, 1), 1);
    world.end(CONSUMER, true);
    world.end(OTHER, true);
    let stuck = [most_urgent[9], first, first + 10 * MAX_GAP as usize];
    for row in stuck {
        world.hold(OTHER, row, Kind::Lock);
    }
    let mut most = 0;
    for _ in 1..(most_urgent.len() + BACKLOG) / BATCH {
        // Only what is needed: a scan that goes on to the end of the backlog would have to walk over it.
        assert_eq!(world.fetch(CONSUMER, BATCH, BATCH + stuck.len()), BATCH);
        most = most.max(world.walked.unwrap());
        world.end(CONSUMER, true);
    }
    assert!(most <= bound(stuck.len()), "walked over {most} entries");
}

/// Claims of two others overlap in time and lie close together, so that something is always pending beside the end of
/// the run that begins with the stuck row.
#[test]
fn a_run_does_not_grow_with_what_is_claimed_beside_it() {
    const FEW: usize = 3;
    let mut world = flow(1);
    let first = world.produce(PRODUCER, BACKLOG);
    world.end(PRODUCER, true);
    world.hold(OTHER, first, Kind::Lock);
    let mut most = 0;
    for round in 1..BACKLOG / FEW / 3 {
        let another = if round % 2 == 0 { ANOTHER } else { PRODUCER };
        world.end(another, true);
        assert_eq!(world.fetch(another, FEW, 4 * FEW), FEW);
        // The second time what the first one passed is tidied.
        for _ in 0..2 {
            assert_eq!(world.fetch(CONSUMER, FEW, 4 * FEW), FEW);
            most = most.max(world.walked.unwrap());
            world.end(CONSUMER, true);
        }
    }
    assert!(most <= bound(2 * FEW), "walked over {most} entries");
}

#[test]
fn a_run_that_falls_apart_stays_within_the_list() {
    let apart = MAX_GAP as usize + 1;
    let mut world = flow(1);
    let first = world.produce(PRODUCER, 2 * MAX_SKIPPED * apart);
    world.end(PRODUCER, true);
    for row in (first..world.rows.len()).step_by(apart) {
        world.hold(OTHER, row, Kind::Lock);
    }
    // Both calls are checked for the length of the list.
    while world.fetch(ANOTHER, PASSING, PASSING) > 0 {}
    assert_eq!(world.fetch(CONSUMER, PASSING, PASSING), 0);
    assert_eq!(world.sessions[CONSUMER].floor.skipped.len(), 1);
    world.end(ANOTHER, true);
    assert_eq!(world.fetch(CONSUMER, PASSING, PASSING), 0);
    world.end(OTHER, false);
    assert_eq!(world.fetch(CONSUMER, PASSING, PASSING), 2 * MAX_SKIPPED);
}

#[test]
fn a_stuck_row_above_where_a_full_list_stopped_the_floor_is_read_once() {
    let mut world = flow(1);
    for _ in 0..=MAX_OPEN {
        world.produce(OTHER, 1);
        world.prepare(OTHER);
    }
    let row = world.produce(PRODUCER, 1);
    world.end(PRODUCER, true);
    world.hold(ANOTHER, row, Kind::Lock);
    for _ in 0..2 {
        assert_eq!(world.consume(CONSUMER, BATCH), 0);
    }
    let floor = &world.sessions[CONSUMER].floor;
    assert_eq!((floor.open.len(), floor.skipped.len()), (MAX_OPEN, 0));
    while !world.prepared.is_empty() {
        world.end_prepared(0, true);
    }
    assert_eq!(world.consume(CONSUMER, 2 * MAX_OPEN), MAX_OPEN + 1);
}

#[test]
fn neighbours_by_id_with_a_mass_of_rows_between_are_two_runs() {
    let mut world = flow(2);
    world.produce(PRODUCER, BACKLOG / 2);
    world.next_id = 2;
    let second = world.produce(OTHER, BACKLOG / 2);
    world.end(PRODUCER, true);
    world.end(OTHER, true);
    let (last, near) = (second - 1, world.rows.len() - 1);
    assert!(is_near(world.rows[last].key, world.rows[near].key));
    world.hold(OTHER, last, Kind::Lock);
    world.hold(OTHER, near, Kind::Lock);
    while world.consume(ANOTHER, BACKLOG) > 0 {
        world.end(ANOTHER, true);
    }
    assert_eq!(world.consume(CONSUMER, 1), 0);
    let most = world.pass(true);
    assert!(most <= bound(2), "walked over {most} entries");
}
