//! What a process remembers of a queue that it removes old jobs from: stretches of ids, and when each is worth a look
//! again. The stretches cover all ids without a gap; each begins where the one before it ends.

use std::collections::BTreeMap;

/// Shortest time between two looks at a stretch, microseconds.
pub const SHORTEST_REST: i64 = 1_000_000;
/// Longest time between two looks at a stretch, microseconds. What no look could foresee (a changed `updated_at`, rows
/// inserted at lower ids) is found after this at the latest.
pub const LONGEST_REST: i64 = 86_400_000_000;
/// Rows in neighbouring stretches that become one.
const GRAIN: usize = 1_000;
/// Stretches remembered; when there are more, larger ones are made.
const MOST: usize = 8_192;

/// Ids from `from` to `to`, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// The first.
    pub from: i64,
    /// The last.
    pub to: i64,
}

#[derive(Debug, Clone, Copy)]
struct Stretch {
    /// When it is worth a look, microseconds.
    again_at: i64,
    /// How long it rests after a look that comes to nothing, microseconds.
    rest: i64,
    /// Rows met there at the last look; not less.
    rows: usize,
    /// The step that looked last.
    seen_in: u64,
}

/// The stretches of one queue.
#[derive(Debug)]
pub struct Walk {
    stretches: BTreeMap<i64, Stretch>,
    /// Where the next step begins.
    cursor: i64,
    grain: usize,
    step: u64,
}

impl Walk {
    /// A walk that knows nothing yet, and begins at an id.
    pub fn starting_at(start: i64) -> Self {
        let unseen = Stretch { again_at: i64::MIN, rest: SHORTEST_REST, rows: usize::MAX, seen_in: 0 };
        Self { stretches: [(i64::MIN, unseen), (start, unseen)].into(), cursor: start, grain: GRAIN, step: 0 }
    }

    /// Begins a step, in which each stretch is looked at once at most.
    pub fn begin(&mut self) {
        self.step += 1;
    }

    /// The next stretch that is worth a look at `until`, from where the last look ended, and round to the beginning.
    pub fn next(&self, until: i64) -> Option<Span> {
        let wanted = |(_, stretch): &(&i64, &Stretch)| self.is_wanted(stretch, until);
        let ahead = self.stretches.range(self.cursor..).find(wanted);
        let found = ahead.or_else(|| self.stretches.range(..self.cursor).find(wanted));
        found.map(|(from, _)| Span { from: *from, to: self.end_of(*from) })
    }

    /// When the first stretch is worth a look, microseconds.
    pub fn next_at(&self) -> i64 {
        self.stretches.values().map(|stretch| stretch.again_at).min().unwrap_or(i64::MIN)
    }

    /// How long the stretch that begins at an id rests after a look that comes to nothing, microseconds.
    pub fn rest(&self, from: i64) -> i64 {
        self.stretches.get(&from).map_or(SHORTEST_REST, |stretch| stretch.rest)
    }

    /// Notes that the rows of a stretch were read, up to the end of `seen`, before anything is done with them: whatever
    /// that comes to, the walk goes on behind them. The rest of the stretch stays as it was.
    pub fn pass(&mut self, seen: Span, rows: usize, now: i64) {
        let Some(stretch) = self.stretches.get(&seen.from).copied() else {
            return;
        };
        if seen.to < self.end_of(seen.from) {
            self.stretches.insert(seen.to + 1, stretch);
        }
        let rest = stretch.rest.saturating_mul(2).min(LONGEST_REST);
        let again_at = now.saturating_add(stretch.rest);
        self.stretches.insert(seen.from, Stretch { again_at, rest, rows, seen_in: self.step });
        self.cursor = seen.to.checked_add(1).unwrap_or(i64::MIN);
    }

    /// Notes when a stretch that was passed is worth a look again, and whether anything was done there.
    pub fn settle(&mut self, from: i64, again_at: i64, is_progress: bool, until: i64) {
        if let Some(stretch) = self.stretches.get_mut(&from) {
            stretch.again_at = again_at;
            if is_progress {
                stretch.rest = SHORTEST_REST;
            }
        }
        self.join_left(from, until);
        while self.stretches.len() > MOST {
            self.grain = self.grain.saturating_mul(2);
            for from in self.stretches.keys().copied().collect::<Vec<_>>() {
                self.join_left(from, until);
            }
        }
    }

    fn is_wanted(&self, stretch: &Stretch, until: i64) -> bool {
        stretch.again_at <= until && stretch.seen_in != self.step
    }

    fn end_of(&self, from: i64) -> i64 {
        let next = from.checked_add(1).and_then(|next| self.stretches.range(next..).next());
        next.map_or(i64::MAX, |(next, _)| next - 1)
    }

    /// Makes a stretch part of the one before it, where both together are small and neither waits for this step's look.
    fn join_left(&mut self, from: i64, until: i64) {
        let left = self.stretches.range(..from).next_back().map(|(at, stretch)| (*at, *stretch));
        let (Some((at, left)), Some(right)) = (left, self.stretches.get(&from).copied()) else {
            return;
        };
        let rows = left.rows.saturating_add(right.rows);
        if rows > self.grain || self.is_wanted(&left, until) || self.is_wanted(&right, until) {
            return;
        }
        self.stretches.remove(&from);
        let (again_at, rest) = (left.again_at.min(right.again_at), left.rest.min(right.rest));
        self.stretches.insert(at, Stretch { again_at, rest, rows, seen_in: left.seen_in.max(right.seen_in) });
    }
}

#[cfg(test)]
impl Walk {
    /// How many stretches are remembered.
    pub fn len(&self) -> usize {
        self.stretches.len()
    }
}
