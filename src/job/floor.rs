//! The claim floor: where in the index `(priority, enqueued_xid, id)` a fetch starts to look, and what it must look up
//! below. Pure arithmetic on keys; the invariant that everything rests on:
//!
//! *a pending row whose `available_at` is NULL lies at or above the floor of its priority, in a skipped run, or was
//! inserted by an open transaction.*
//!
//! A floor moves only by evidence: what a snapshot without anything of the own transaction shows. A row that the
//! snapshot shows as pending is passed only as part of a skipped run; a transaction that the snapshot shows as running
//! (the own one included) is passed only as an open transaction. Both lists are bounded; when one is full the floor
//! stops. Evidence need not be newer than the floor: what it cannot know yet stays listed. See `docs/architecture.md`.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use crate::host::snapshot::Horizon;

/// Number of priorities: 0 (first) to 9.
pub const PRIORITIES: usize = 10;
/// Most open transactions that a floor may have passed.
pub const MAX_OPEN: usize = 64;
/// Most runs of skipped rows that a floor may have passed.
pub const MAX_SKIPPED: usize = 256;
/// Two skipped rows whose ids are further apart are two runs: what lies between them is not to be read at every fetch.
const MAX_GAP: i64 = 16;
/// From so many runs on, neighbours in different transactions become one where their ids suggest that little lies
/// between. Only then, because transactions that share a stretch of ids can have any number of rows in between.
const CROWDED: usize = MAX_SKIPPED / 2;

/// A position within one priority: rows are ordered by transaction, then id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    /// The row's `enqueued_xid`.
    pub xid: u64,
    /// The row's `id`.
    pub id: i64,
}

impl Key {
    /// Before all rows of a transaction.
    pub const fn before(xid: u64) -> Self {
        Self { xid, id: i64::MIN }
    }

    /// The next position after this one.
    pub fn next(self) -> Self {
        match self.id.checked_add(1) {
            Some(id) => Self { xid: self.xid, id },
            None => Self::before(self.xid.saturating_add(1)),
        }
    }
}

/// A run of rows, ends included, that a snapshot showed as pending although none could be claimed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    /// Priority of its rows.
    pub priority: usize,
    /// First row.
    pub first: Key,
    /// Last row.
    pub last: Key,
}

/// Where to look in a transaction that was running when the floor passed it: what is pending of it below (priority, id)
/// lies in skipped runs.
pub type OpenFrom = (usize, i64);

/// The claim floor of one queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Floor {
    /// `end` of the newest evidence used: tells which of two floors is newer.
    pub evidence_end: u64,
    /// Where each priority's scan starts.
    pub starts: [Key; PRIORITIES],
    /// Transactions that were passed while they ran, by id.
    pub open: BTreeMap<u64, OpenFrom>,
    /// Runs of rows that were passed while they could not be claimed.
    pub skipped: Vec<Run>,
}

impl Default for Floor {
    fn default() -> Self {
        Self { evidence_end: 0, starts: [Key::before(0); PRIORITIES], open: BTreeMap::new(), skipped: Vec::new() }
    }
}

/// Why a stretch of the index is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// A skipped run, by its position in the list.
    Skipped(usize),
    /// An open transaction that has ended since, by its id.
    Open(u64),
    /// From the floor up.
    Fresh,
}

/// A stretch `[from, to)` of one priority.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment {
    /// Priority of its rows.
    pub priority: usize,
    /// First position in it.
    pub from: Key,
    /// First position after it.
    pub to: Key,
    /// Why it is looked at.
    pub reason: Reason,
}

/// What a scan saw of one segment.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// Keys of rows shown as pending with `available_at` NULL, ascending, each with whether it is stuck: tried by this
    /// call and not to be had. A row that this call claimed, or did not try, is not stuck.
    pub rows: Vec<(Key, bool)>,
    /// True when the scan reached the segment's end.
    pub complete: bool,
}

impl Floor {
    /// What a fetch has to look at, in the order in which jobs are to be claimed; no position is in two segments.
    /// `horizon` says which open transactions have ended; `limit` is the first transaction that no scan needs to reach
    /// (above every visible row).
    pub fn segments(&self, horizon: &Horizon, limit: u64) -> Vec<Segment> {
        let mut segments = Vec::new();
        for (priority, &from) in self.starts.iter().enumerate() {
            self.below(priority, horizon, &mut segments);
            let to = Key::before(limit).max(from);
            segments.push(Segment { priority, from, to, reason: Reason::Fresh });
        }
        segments
    }

    fn below(&self, priority: usize, horizon: &Horizon, segments: &mut Vec<Segment>) {
        let mut found: Vec<Segment> = self.skipped.iter().enumerate().filter_map(run_of(priority)).collect();
        found.sort_by_key(|segment| segment.from);
        let runs = found.len();
        for (&xid, &from) in &self.open {
            if is_running(horizon, xid) && horizon.own != Some(xid) {
                continue;
            }
            let (from, to) = self.rest_of(xid, from, priority);
            let reason = Reason::Open(xid);
            let gaps = between(from, to, &found[..runs]);
            found.extend(gaps.into_iter().map(|(from, to)| Segment { priority, from, to, reason }));
        }
        found.sort_by_key(|segment| segment.from);
        segments.append(&mut found);
    }

    /// Where rows of a listed transaction may be below the start of a priority.
    fn rest_of(&self, xid: u64, (from_priority, from_id): OpenFrom, priority: usize) -> (Key, Key) {
        let end = Key::before(xid.saturating_add(1));
        let from = match priority.cmp(&from_priority) {
            Ordering::Less => end,
            Ordering::Equal => Key { xid, id: from_id },
            Ordering::Greater => Key::before(xid),
        };
        (from, end.min(self.starts[priority]))
    }

    /// The floor after a scan with `horizon` as its evidence. `segments` are this floor's with that horizon; `seen` has
    /// an entry for each, in order (what is missing counts as not reached). The scan may have gone on with newer
    /// snapshots: they show all that is still pending, and rows of listed transactions besides.
    pub fn advanced(&self, horizon: &Horizon, segments: &[Segment], seen: &[Seen]) -> Self {
        let unseen = Seen::default();
        let scanned = || segments.iter().zip(seen.iter().chain(std::iter::repeat(&unseen)));
        let mut next = Self {
            evidence_end: self.evidence_end.max(horizon.end),
            starts: self.starts,
            open: self.open.iter().filter(|(xid, _)| is_running(horizon, **xid)).map(|(xid, at)| (*xid, *at)).collect(),
            skipped: self.still_skipped(horizon, scanned()),
        };
        // First what may free a place in the lists, or keeps one; then what needs new ones.
        for (segment, seen) in scanned() {
            if let Reason::Open(xid) = segment.reason {
                next.narrow(xid, segment, seen);
            }
        }
        for (segment, seen) in scanned() {
            if segment.reason == Reason::Fresh {
                next.rise(horizon, segment, seen);
            }
        }
        next
    }

    /// The skipped runs, cut down to what is still pending in them.
    fn still_skipped<'a>(&self, horizon: &Horizon, scanned: impl Iterator<Item = (&'a Segment, &'a Seen)>) -> Vec<Run> {
        let (mut pieces, mut whole) = (Vec::new(), Vec::new());
        for (segment, seen) in scanned {
            let Reason::Skipped(at) = segment.reason else {
                continue;
            };
            let Some(run) = self.skipped.get(at) else {
                continue;
            };
            let left = left_of(horizon, run, seen);
            whole.extend(spanned(&left));
            pieces.extend(left);
        }
        let pieces = self.tidied(pieces);
        if pieces.len() <= MAX_SKIPPED {
            pieces
        } else {
            self.tidied(whole)
        }
    }

    /// Runs in order, neighbours joined.
    fn tidied(&self, mut runs: Vec<Run>) -> Vec<Run> {
        runs.sort_by_key(|run| (run.priority, run.first));
        let runs = joined(runs, |run, next| run.last.xid == next.first.xid && is_near(run.last, next.first));
        if runs.len() < CROWDED {
            return runs;
        }
        // Not over a listed transaction: its rows become runs of their own, and those must not lie in another.
        let is_listed = |run: &Run, next: &Run| self.open.range(run.last.xid..=next.first.xid).next().is_some();
        joined(runs, |run, next| is_near(run.last, next.first) && !is_listed(run, next))
    }

    /// An open transaction that has ended stays listed from its first row on that may not be passed. Its segments come
    /// in order: where the first one stops, the others are part of what stays.
    fn narrow(&mut self, xid: u64, segment: &Segment, seen: &Seen) {
        if self.open.contains_key(&xid) {
            return;
        }
        let (runs, stop) = self.passable(segment, seen);
        self.skipped.extend(runs);
        if let Some(key) = stop {
            self.open.insert(xid, (segment.priority, key.id));
        }
    }

    /// Moves the start of one priority up to the first row that may not be passed.
    fn rise(&mut self, horizon: &Horizon, segment: &Segment, seen: &Seen) {
        let (runs, stop) = self.passable(segment, seen);
        let target = stop.unwrap_or_else(|| Key::before(horizon.end).min(segment.to));
        let start = self.pass_running(horizon, segment.from, target);
        self.starts[segment.priority] = start;
        // No run lies on both sides: each is of one transaction, and the list stops before all rows of one.
        self.skipped.extend(runs.into_iter().take_while(|run| run.first < start));
    }

    /// The runs that stuck rows form, and where they may not be passed any more: none when the segment is all passable.
    fn passable(&self, segment: &Segment, seen: &Seen) -> (Vec<Run>, Option<Key>) {
        let room = MAX_SKIPPED.saturating_sub(self.skipped.len());
        let mut runs: Vec<Run> = Vec::new();
        for &(key, stuck) in &seen.rows {
            if !stuck || !strung(&mut runs, segment.priority, key, room) {
                return (runs, Some(key));
            }
        }
        let reached = seen.rows.last().map_or(segment.from, |(key, _)| key.next());
        (runs, (!seen.complete).then_some(reached))
    }

    /// Lists the running transactions between `from` and `target`; answers how far the list allowed to go.
    fn pass_running(&mut self, horizon: &Horizon, from: Key, target: Key) -> Key {
        if target <= from {
            return from;
        }
        let passed: Vec<u64> = horizon.running.range(from.xid..=target.xid).copied().collect();
        for xid in passed {
            if Key::before(xid) >= target {
                break;
            }
            if self.open.len() >= MAX_OPEN && !self.open.contains_key(&xid) {
                return Key::before(xid).max(from);
            }
            self.open.insert(xid, (0, i64::MIN));
        }
        target
    }

    /// Whether a scan with this floor would reach a pending row. `horizon` plays no part: an open transaction's rows
    /// are found as soon as it has ended.
    pub fn covers(&self, priority: usize, key: Key) -> bool {
        let Some(start) = self.starts.get(priority) else {
            return false;
        };
        key >= *start
            || self.open.get(&key.xid).is_some_and(|from| (priority, key.id) >= *from)
            || self.skipped.iter().any(|run| run.priority == priority && run.first <= key && key <= run.last)
    }

    /// Which of two floors saves more: any is correct.
    pub fn is_ahead_of(&self, other: &Self) -> bool {
        self.rank() > other.rank()
    }

    /// By what one is ahead of another.
    pub fn rank(&self) -> (u64, u64) {
        (self.evidence_end, self.starts.iter().fold(0u64, |sum, key| sum.saturating_add(key.xid)))
    }
}

fn run_of(priority: usize) -> impl Fn((usize, &Run)) -> Option<Segment> {
    move |(at, run)| {
        let (from, to, reason) = (run.first, run.last.next(), Reason::Skipped(at));
        (run.priority == priority).then_some(Segment { priority, from, to, reason })
    }
}

/// What of `[from, to)` lies outside of `runs`, which are in order.
fn between(mut from: Key, to: Key, runs: &[Segment]) -> Vec<(Key, Key)> {
    let mut gaps = Vec::new();
    for run in runs {
        let end = run.from.min(to);
        if from < end {
            gaps.push((from, end));
        }
        from = from.max(run.to);
    }
    if from < to {
        gaps.push((from, to));
    }
    gaps
}

/// What is still pending of a run. Evidence too old to see all of the run's transactions says nothing about it.
fn left_of(horizon: &Horizon, run: &Run, seen: &Seen) -> Vec<Run> {
    if hides_any(horizon, run.first.xid, run.last.xid) {
        return vec![*run];
    }
    let mut left = Vec::new();
    for &(key, _) in &seen.rows {
        strung(&mut left, run.priority, key, usize::MAX);
    }
    match left.last_mut() {
        _ if seen.complete => {}
        Some(last) => last.last = run.last,
        None => left.push(*run),
    }
    left
}

/// One run over all of `pieces`, which are in order and of one priority.
fn spanned(pieces: &[Run]) -> Option<Run> {
    let (first, last) = (pieces.first()?, pieces.last()?);
    Some(Run { priority: first.priority, first: first.first, last: last.last })
}

/// Adds a row after the last of `runs`, or a run of it where there is room for one more.
fn strung(runs: &mut Vec<Run>, priority: usize, key: Key, room: usize) -> bool {
    if let Some(run) = runs.last_mut().filter(|run| run.last.xid == key.xid && is_near(run.last, key)) {
        run.last = key;
        return true;
    }
    let fits = runs.len() < room;
    if fits {
        runs.push(Run { priority, first: key, last: key });
    }
    fits
}

fn joined(runs: Vec<Run>, are_one: impl Fn(&Run, &Run) -> bool) -> Vec<Run> {
    let mut all: Vec<Run> = Vec::with_capacity(runs.len());
    for next in runs {
        match all.last_mut() {
            Some(run) if run.priority == next.priority && (next.first <= run.last || are_one(run, &next)) => {
                run.last = run.last.max(next.last);
            }
            _ => all.push(next),
        }
    }
    all
}

fn is_near(last: Key, key: Key) -> bool {
    (1..=MAX_GAP).contains(&key.id.saturating_sub(last.id))
}

/// Whether the snapshot leaves out one of the transactions `first..=last`.
fn hides_any(horizon: &Horizon, first: u64, last: u64) -> bool {
    last >= horizon.end || horizon.running.range(first..=last.max(first)).next().is_some()
}

fn is_running(horizon: &Horizon, xid: u64) -> bool {
    xid >= horizon.end || horizon.running.contains(&xid)
}

#[cfg(test)]
mod model;
