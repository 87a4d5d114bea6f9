//! Where a fetch begins besides the floor. Fetchers at work together would all begin at the floor and walk over what the
//! others are just claiming; so while claims are open each begins where the newest ended, and only now and then at the
//! floor, where what was passed over is found: jobs of transactions that committed late, claims that were rolled back. A fetch that would
//! come back short looks from the floor on. What is learned here is a hint: wrong, it costs a look, or up to
//! `LOOK_EVERY` of a job's time.

use std::sync::atomic::Ordering::Relaxed;

use super::scan::fresh_place;
use crate::host::{cost, xact};
use crate::job::floor::{Floor, Key, Reason, Segment, PRIORITIES};
use crate::job::floor_store::is_turn;
use crate::job::table::{Candidate, Place};
use crate::queue::cache::Queue;

/// While others claim, one fetch in so many microseconds looks from the floor on.
const LOOK_EVERY: i64 = 20_000;
/// Where that is dear, one in so many microseconds looks for due jobs from the beginning.
const LOOK_FOR_DUE_EVERY: i64 = 1_000_000;
/// What is dear, in buffers, besides four for each job found: entries of jobs that were retried lie there, which nobody
/// could remove yet.
const DEAR: i64 = 64;

/// How a fetch looked.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// From where the newest claim ended.
    Ahead,
    /// From the floor on.
    Whole,
}

/// What to look through to begin with: from where the newest claim ended. Nothing where that is no help, or where it is
/// this fetch's turn to look from the floor on.
pub fn ahead(queue: &Queue, floor: &Floor, now: i64) -> Option<Vec<Segment>> {
    // Above READ COMMITTED the whole look is needed.
    if !xact::is_read_committed() {
        return None;
    }
    let marks = queue.slot.marks()?;
    if !marks.is_being_claimed() {
        return None;
    }
    let claimed_to = queue.slot.read()?.floor.claimed_to.map(|(xid, id)| Key { xid, id });
    let is_ahead = claimed_to.iter().zip(&floor.starts).any(|(claimed, start)| claimed > start);
    if !is_ahead || is_turn(&marks.looked_at, now, LOOK_EVERY) {
        return None;
    }
    let to = Key::before(xact::next_xid().saturating_add(1));
    let from = |priority: usize| claimed_to[priority].max(floor.starts[priority]).min(to);
    let segment = |priority| Segment { priority, from: from(priority), to, reason: Reason::Fresh };
    Some((0..PRIORITIES).map(segment).collect())
}

/// Notes where a claim ended, so that the next begins there: also behind where others did, when a look from the floor on
/// found jobs that were passed over.
pub fn claimed<'a>(queue: &Queue, how: How, segments: &[Segment], jobs: impl Iterator<Item = &'a Candidate>) {
    let mut ends = [Key::before(0); PRIORITIES];
    for (segment, key) in jobs.filter_map(fresh_place) {
        if let Some(end) = segments.get(segment).and_then(|segment| ends.get_mut(segment.priority)) {
            *end = key.next().max(*end);
        }
    }
    if let Some(mut notes) = queue.slot.write() {
        for (known, end) in notes.floor.claimed_to.iter_mut().zip(ends).filter(|(_, end)| *end > Key::before(0)) {
            *known = match how {
                How::Ahead => (end.xid, end.id).max(*known),
                How::Whole => (end.xid, end.id),
            };
        }
    }
}

/// From when on to look for due jobs.
#[derive(Clone, Copy)]
pub struct DueFrom {
    /// Microseconds; the smallest number: from the beginning.
    pub at: i64,
    version: Option<u64>,
    begun: i64,
}

impl DueFrom {
    /// The look begins: from here on its cost counts.
    pub fn begin(&mut self) {
        self.begun = cost::buffers();
    }
}

/// From when on there may be due jobs; asked before the snapshot is taken with which they are looked for. `is_clean`: this
/// transaction gave none back.
pub fn due_from(queue: &Queue, now: i64, is_clean: bool) -> DueFrom {
    let whole = DueFrom { at: i64::MIN, version: None, begun: 0 };
    let (Some(marks), Some(notes)) = (queue.slot.marks(), queue.slot.read()) else {
        return whole;
    };
    // What this transaction gave back itself is noted only when it commits; an old snapshot teaches nothing.
    // Nor does what row security leaves to be seen.
    if !is_clean || !xact::is_read_committed() || !queue.jobs.shows_everything() {
        return whole;
    }
    let version = Some(notes.floor.due_version);
    let is_cheap = marks.look_for_due_cost.load(Relaxed) < DEAR;
    match is_cheap || is_turn(&marks.looked_for_due_at, now, LOOK_FOR_DUE_EVERY) {
        true => DueFrom { version, ..whole },
        false => DueFrom { version, at: notes.floor.due_from, ..whole },
    }
}

/// Learns from the first look for due jobs: before the first one found, or before now, there is none, unless one was
/// given back meanwhile.
pub fn learn_due(queue: &Queue, from: DueFrom, found: &[Candidate], now: i64) {
    let first = match found.first().map(|candidate| candidate.place) {
        Some(Place::Due(at)) => at,
        _ => now,
    };
    if from.at == i64::MIN {
        let cost = cost::buffers() - from.begun - 4 * found.len() as i64;
        queue.slot.marks().into_iter().for_each(|marks| marks.look_for_due_cost.store(cost, Relaxed));
        // Where looking is cheap nobody asks, and a fetch need not wait for the lock.
        if cost < DEAR {
            return;
        }
    }
    if let (Some(version), Some(mut notes)) = (from.version, queue.slot.write()) {
        if notes.floor.due_version == version {
            notes.floor.due_from = first;
        }
    }
}
