//! A model of everything that happens around a floor: sessions that insert, claim, lock, delete, commit late, roll back,
//! prepare; snapshots; scans that stop at a limit; floors that sessions keep or take over from each other. After each
//! change of a floor and each insert the invariant at the head of `floor.rs` is checked for every floor and every row that
//! is pending in any possible future.
//!
//! Here is the world; what its sessions do is in `transactions` and `fetches`, what must hold in `checks`. The tests are
//! in `schedules` and `streams`.

mod checks;
mod fetches;
mod schedules;
mod streams;
mod transactions;

use std::collections::BTreeSet;

use super::*;

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
}
