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
use crate::shmem::at_commit;
use crate::shmem::floor::Stride;

/// While others claim, one fetch in so many microseconds looks from the floor on.
const LOOK_EVERY: i64 = 20_000;
/// Where that is dear, one in so many microseconds looks for due jobs from the beginning.
const LOOK_FOR_DUE_EVERY: i64 = 1_000_000;
/// From so many jobs on it is learned how far apart they lie.
const LEARN_FROM: usize = 8;
/// What is dear, in buffers, besides four for each job found: entries of jobs that were retried lie there, which nobody
/// could remove yet.
const DEAR: i64 = 64;

/// Where a fetch begins, beside the floor.
pub struct Start {
    /// Where the newest claim had ended, or is about to end, in each priority.
    claimed_to: [Key; PRIORITIES],
    /// Whether others are claiming, so that it is better to begin there.
    is_ahead: bool,
    /// Whether the last look ahead found enough.
    is_plenty: bool,
}

impl Start {
    /// Nothing known of others.
    fn alone() -> Self {
        Self { claimed_to: [Key::before(0); PRIORITIES], is_ahead: false, is_plenty: false }
    }

    /// Where this fetch begins; where fetchers are at work together the next begins behind the jobs that this one is about
    /// to claim. `is_clean`: nothing that this transaction did changes which jobs are pending.
    pub fn of(queue: &Queue, floor: &Floor, (wanted, now, is_clean): (usize, i64, bool)) -> Self {
        // Above READ COMMITTED the whole look is needed.
        let marks = queue.slot.marks().filter(|_| is_clean && xact::is_read_committed());
        let Some((marks, claimed_to)) = marks.zip(queue.slot.read().map(|notes| notes.floor.claimed_to)) else {
            return Self::alone();
        };
        let claimed_to = claimed_to.map(|(xid, id)| Key { xid, id });
        let is_beyond = claimed_to.iter().zip(&floor.starts).any(|(claimed, start)| claimed > start);
        let is_ahead = is_beyond && marks.is_being_claimed() && !is_turn(&marks.looked_at, now, LOOK_EVERY);
        let is_plenty = marks.is_plenty_ahead.load(Relaxed);
        let mut start = Self { claimed_to, is_ahead, is_plenty };
        if is_plenty {
            at_commit::claiming(&queue.slot);
            start.reserve(queue, floor, wanted);
        }
        start
    }

    /// Moves the start of those to come, never before jobs that are not there yet. What another has moved meanwhile counts
    /// for this one too.
    fn reserve(&mut self, queue: &Queue, floor: &Floor, wanted: usize) {
        let Some(mut notes) = queue.slot.write() else {
            return;
        };
        let Some(stride) = notes.floor.stride else {
            return;
        };
        let known = &mut notes.floor.claimed_to[stride.priority];
        let from = Key { xid: known.0, id: known.1 }.max(floor.starts[stride.priority]);
        self.claimed_to[stride.priority] = from;
        *known = stride.after((from.xid, from.id), wanted).min((xact::next_xid().saturating_add(1), i64::MIN));
    }

    /// What to look through to begin with: from where the newest claim ended. Nothing where that is no help, or where it
    /// is this fetch's turn to look from the floor on.
    pub fn ahead(&self, floor: &Floor) -> Option<Vec<Segment>> {
        let to = Key::before(xact::next_xid().saturating_add(1));
        let from = |priority: usize| self.claimed_to[priority].max(floor.starts[priority]).min(to);
        let segment = |priority| Segment { priority, from: from(priority), to, reason: Reason::Fresh };
        self.is_ahead.then(|| (0..PRIORITIES).map(segment).collect())
    }

    /// Whether jobs may be taken as they are found ahead, however many these are.
    pub fn is_plenty(&self) -> bool {
        self.is_plenty
    }

    /// Notes where a claim ended, so that the next begins there, if others have not claimed behind it. Where it was of jobs
    /// that had been passed over, before the place where it might have begun, there may be more of them: the next begins
    /// there too.
    pub fn claimed<'a>(&self, queue: &Queue, segments: &[Segment], jobs: impl Iterator<Item = &'a Candidate>) {
        let mut ends = [Key::before(0); PRIORITIES];
        for (segment, key) in jobs.filter_map(fresh_place) {
            if let Some(end) = segments.get(segment).and_then(|segment| ends.get_mut(segment.priority)) {
                *end = key.next().max(*end);
            }
        }
        if let Some(mut notes) = queue.slot.write() {
            let all = notes.floor.claimed_to.iter_mut().zip(ends).zip(&self.claimed_to);
            for ((known, end), begun) in all.filter(|((_, end), _)| *end > Key::before(0)) {
                *known = if end < *begun { (end.xid, end.id) } else { (end.xid, end.id).max(*known) };
            }
        }
    }
}

/// Notes whether a look ahead found enough.
pub fn note_ahead(queue: &Queue, is_enough: bool) {
    if let Some(marks) = queue.slot.marks().filter(|marks| marks.is_plenty_ahead.load(Relaxed) != is_enough) {
        marks.is_plenty_ahead.store(is_enough, Relaxed);
    }
}

/// Learns how far apart the jobs lie that a look ahead found, others' included.
pub fn learn_stride(queue: &Queue, segments: &[Segment], jobs: &[Candidate]) {
    let Some((segment, last)) = jobs.last().and_then(fresh_place) else { return };
    let of_one = jobs.iter().rev().map_while(|job| fresh_place(job).filter(|(same, _)| *same == segment));
    let (count, first) = of_one.fold((0, last), |(count, _), (_, key)| (count + 1, key));
    let Some(segment) = segments.get(segment).filter(|_| count >= LEARN_FROM) else { return };
    let found = Stride::between(segment.priority, (first.xid, first.id), (last.xid, last.id), count);
    let known = queue.slot.read().and_then(|notes| notes.floor.stride);
    let learned = Some(found.after_known(known));
    if learned == known {
        return;
    }
    if let Some(mut notes) = queue.slot.write() {
        notes.floor.stride = learned;
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
