//! The claim floor: where in the index `(priority, enqueued_xid, id)` a fetch starts to look, and what it must look up
//! below. Pure arithmetic on keys; the invariant that everything rests on:
//!
//! *a pending row whose `available_at` is NULL lies at or above the floor of its priority, in a skipped run, or was
//! inserted by an open transaction.*
//!
//! A floor moves only by evidence: what a snapshot without anything of the own transaction shows. A row that the
//! snapshot shows as pending is passed only as part of a skipped run; a transaction that the snapshot shows as running
//! (the own one included) is passed only as an open transaction. Both lists are bounded; when one is full the floor
//! stops. See `docs/architecture.md`.

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
            None => Self::before(self.xid + 1),
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

/// Where to look in a transaction that was running when the floor passed it: rows of it below (priority, id) are done.
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
    /// What a fetch has to look at, in the order in which jobs are to be claimed. `horizon` says which open
    /// transactions have ended; `limit` is the first position that no scan needs to reach (above every visible row).
    pub fn segments(&self, horizon: &Horizon, limit: u64) -> Vec<Segment> {
        let mut segments = Vec::new();
        for priority in 0..PRIORITIES {
            self.below(priority, horizon, &mut segments);
            segments.push(Segment {
                priority,
                from: self.starts[priority],
                to: Key::before(limit),
                reason: Reason::Fresh,
            });
        }
        segments
    }

    fn below(&self, priority: usize, horizon: &Horizon, segments: &mut Vec<Segment>) {
        let begin = segments.len();
        for (at, run) in self.skipped.iter().enumerate() {
            if run.priority == priority {
                segments.push(Segment { priority, from: run.first, to: run.last.next(), reason: Reason::Skipped(at) });
            }
        }
        for (&xid, &(from_priority, from_id)) in &self.open {
            let hidden = is_running(horizon, xid) && horizon.own != Some(xid);
            if hidden || priority < from_priority {
                continue;
            }
            let id = if priority == from_priority { from_id } else { i64::MIN };
            let to = Key::before(xid + 1).min(self.starts[priority]);
            let from = Key { xid, id };
            if from < to {
                segments.push(Segment { priority, from, to, reason: Reason::Open(xid) });
            }
        }
        segments[begin..].sort_by_key(|segment| segment.from);
    }

    /// The floor after a scan with `horizon` as its evidence. `seen` has an entry for each of `segments`, in order.
    pub fn advanced(&self, horizon: &Horizon, segments: &[Segment], seen: &[Seen]) -> Self {
        let mut next = self.clone();
        next.evidence_end = next.evidence_end.max(horizon.end);
        next.skipped = self.shrunk_runs(segments, seen);
        next.open = self.narrowed_open(horizon, segments, seen);
        for (segment, seen) in segments.iter().zip(seen) {
            if segment.reason == Reason::Fresh {
                next.rise(horizon, segment, seen);
            }
        }
        next
    }

    /// Skipped runs cut down to what is still pending in them.
    fn shrunk_runs(&self, segments: &[Segment], seen: &[Seen]) -> Vec<Run> {
        let mut runs: Vec<Option<Run>> = self.skipped.iter().copied().map(Some).collect();
        for (segment, seen) in segments.iter().zip(seen) {
            let Reason::Skipped(at) = segment.reason else {
                continue;
            };
            let Some(Some(run)) = runs.get_mut(at) else {
                continue;
            };
            match (seen.rows.first(), seen.rows.last()) {
                (Some((first, _)), Some((last, _))) => {
                    run.first = *first;
                    if seen.complete {
                        run.last = *last;
                    }
                }
                _ if seen.complete => runs[at] = None,
                _ => {}
            }
        }
        runs.into_iter().flatten().collect()
    }

    /// Open transactions that have ended: dropped when nothing of theirs is pending, else narrowed to what is.
    fn narrowed_open(&self, horizon: &Horizon, segments: &[Segment], seen: &[Seen]) -> BTreeMap<u64, OpenFrom> {
        let mut open = BTreeMap::new();
        for (&xid, &from) in &self.open {
            if is_running(horizon, xid) {
                open.insert(xid, from);
            } else if let Some(pending) = first_pending_of(xid, segments, seen) {
                open.insert(xid, pending.max(from));
            }
        }
        open
    }

    /// Moves the start of one priority up to the first row that may not be passed.
    fn rise(&mut self, horizon: &Horizon, segment: &Segment, seen: &Seen) {
        let (runs, reached) = self.passable(segment.priority, seen);
        let target = reached.unwrap_or_else(|| end_of(horizon, segment, seen));
        let start = self.pass_running(horizon, segment.from, target);
        self.starts[segment.priority] = start;
        self.keep_runs_below(start, runs);
    }

    /// The runs that stuck rows form, up to the first row that may not be passed, and that row.
    fn passable(&self, priority: usize, seen: &Seen) -> (Vec<Run>, Option<Key>) {
        let room = MAX_SKIPPED - self.skipped.len().min(MAX_SKIPPED);
        let mut runs: Vec<Run> = Vec::new();
        for &(key, stuck) in &seen.rows {
            if !stuck {
                return (runs, Some(key));
            }
            let has_room = runs.len() < room;
            match runs.last_mut() {
                Some(run) if is_next_to(run.last, key) => run.last = key,
                _ if has_room => runs.push(Run { priority, first: key, last: key }),
                _ => return (runs, Some(key)),
            }
        }
        (runs, None)
    }

    /// Lists the running transactions between `from` and `target`; answers how far the list allowed to go.
    fn pass_running(&mut self, horizon: &Horizon, from: Key, target: Key) -> Key {
        if target <= from {
            return from;
        }
        let passed: Vec<u64> = horizon.running.range(from.xid..=target.xid).copied().collect();
        for xid in passed {
            if Key::before(xid) >= target || self.open.contains_key(&xid) {
                continue;
            }
            if self.open.len() >= MAX_OPEN {
                return Key::before(xid).max(from);
            }
            self.open.insert(xid, (0, i64::MIN));
        }
        target
    }

    fn keep_runs_below(&mut self, start: Key, runs: Vec<Run>) {
        for mut run in runs {
            if run.first >= start {
                break;
            }
            // A start in the middle of a run was set back by the list of open transactions: the rest is above it.
            if run.last >= start {
                run.last = Key { xid: start.xid, id: start.id.saturating_sub(1) };
            }
            self.skipped.push(run);
        }
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
        let reach = |floor: &Self| floor.starts.iter().fold(0u64, |sum, key| sum.saturating_add(key.xid));
        (self.evidence_end, reach(self)) > (other.evidence_end, reach(other))
    }
}

/// Where a scan that met nothing it may not pass has come to.
fn end_of(horizon: &Horizon, segment: &Segment, seen: &Seen) -> Key {
    if seen.complete {
        return Key::before(horizon.end).max(segment.from);
    }
    seen.rows.last().map_or(segment.from, |(key, _)| key.next())
}

fn is_next_to(last: Key, key: Key) -> bool {
    (1..=MAX_GAP).contains(&key.id.saturating_sub(last.id))
}

fn first_pending_of(xid: u64, segments: &[Segment], seen: &[Seen]) -> Option<OpenFrom> {
    for (segment, seen) in segments.iter().zip(seen) {
        if segment.reason != Reason::Open(xid) {
            continue;
        }
        if let Some((key, _)) = seen.rows.first() {
            return Some((segment.priority, key.id));
        }
        if !seen.complete {
            return Some((segment.priority, segment.from.id));
        }
    }
    None
}

fn is_running(horizon: &Horizon, xid: u64) -> bool {
    xid >= horizon.end || horizon.running.contains(&xid)
}
