//! What all sessions share of a queue's claim floor: the floor itself, packed; where the newest claim ended, so that
//! fetchers at work together do not walk over each other's jobs; and from when on there may be due jobs.

use crate::job::floor::{MAX_OPEN, MAX_SKIPPED, PRIORITIES};

/// Words of the longest floor, as `floor_store` packs it: its head, starts, open transactions, skipped runs.
const WORDS: usize = 4 + 2 * PRIORITIES + 3 * MAX_OPEN + 5 * MAX_SKIPPED;

/// A floor as numbers, and which of two is newer.
#[derive(Default)]
pub struct SharedFloor {
    words: heapless::Vec<i64, WORDS>,
    rank: (u64, u64),
    /// The table that it is of.
    table: u32,
    /// The last claim's end in each priority: transaction id and job id.
    pub claimed_to: [(u64, i64); PRIORITIES],
    /// How far apart jobs lie, where that is known.
    pub stride: Option<Stride>,
    /// Nothing is due before, microseconds, as far as is known.
    pub due_from: i64,
    /// Changes whenever a job was given a time to come: what was seen before says nothing about it.
    pub due_version: u64,
}

impl SharedFloor {
    /// The packed floor of a table, if there is one.
    pub fn get(&self, table: u32) -> Option<Vec<i64>> {
        (self.table == table && !self.words.is_empty()).then(|| self.words.to_vec())
    }

    /// Keeps a packed floor where it is of another table or of a higher rank; one that is too long is left.
    pub fn offer(&mut self, table: u32, rank: (u64, u64), words: &[i64]) {
        if self.table == table && self.rank >= rank || words.len() > WORDS {
            return;
        }
        if self.table != table {
            *self = Self::default();
        }
        self.words.clear();
        if self.words.extend_from_slice(words).is_ok() {
            (self.table, self.rank) = (table, rank);
        }
    }
}

/// How far apart the jobs lie that are about to be claimed, by transaction ids where each transaction brought a few, else by
/// job ids. A guess from what was claimed before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stride {
    /// Priority of the jobs.
    pub priority: usize,
    is_of_xids: bool,
    /// Of one job, in parts of `PARTS`.
    width: i128,
}

/// Parts of one in which widths are kept.
const PARTS: i128 = 256;

impl Stride {
    /// That of `count` jobs from a first to a last place, which are transaction id and job id.
    pub fn between(priority: usize, first: (u64, i64), last: (u64, i64), count: usize) -> Self {
        let is_of_xids = first.0 != last.0;
        let span = match is_of_xids {
            true => i128::from(last.0) - i128::from(first.0),
            false => i128::from(last.1) - i128::from(first.1),
        };
        let count = count.max(1) as i128;
        Self { priority, is_of_xids, width: ((span + 1).max(0) * PARTS + count - 1) / count }
    }

    /// The same, but hardly wider than what was known: jobs that were gone already may have lain between.
    pub fn after_known(self, known: Option<Self>) -> Self {
        let like = known.filter(|known| (known.priority, known.is_of_xids) == (self.priority, self.is_of_xids));
        let most = like.map_or(self.width, |known| known.width + known.width / 16 + 1);
        Self { width: self.width.min(most), ..self }
    }

    /// The place behind so many jobs from a place on.
    pub fn after(&self, from: (u64, i64), jobs: usize) -> (u64, i64) {
        let span = (self.width.saturating_mul(jobs as i128) / PARTS).clamp(0, i128::from(i64::MAX)) as i64;
        match self.is_of_xids {
            true => (from.0.saturating_add(span as u64), i64::MIN),
            false => (from.0, from.1.saturating_add(span)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stride_within_one_transaction() {
        let stride = Stride::between(4, (7, 100), (7, 199), 100);
        assert_eq!(stride.after((7, 200), 50), (7, 250));
        assert_eq!(Stride::between(4, (7, 1), (7, 199), 100).after((7, 200), 100), (7, 399));
    }

    #[test]
    fn a_stride_over_transactions() {
        let stride = Stride::between(4, (10, 1), (29, 20), 10);
        assert_eq!(stride.after((30, 21), 10), (50, i64::MIN));
    }

    #[test]
    fn a_stride_grows_slowly_and_shrinks_at_once() {
        let known = Stride::between(4, (7, 1), (7, 100), 100);
        let wide = Stride::between(4, (7, 1), (7, 5_000), 100).after_known(Some(known));
        assert_eq!(wide.after((7, 0), 100), (7, 106));
        assert_eq!(known.after_known(Some(wide)), known);
        let other = Stride::between(0, (7, 1), (7, 5_000), 100);
        assert_eq!(other.after_known(Some(known)), other);
    }

    #[test]
    fn no_number_is_too_large() {
        let stride = Stride::between(4, (0, i64::MIN), (0, i64::MAX), 1);
        assert_eq!(stride.after((u64::MAX, i64::MAX), usize::MAX), (u64::MAX, i64::MAX));
        let back = Stride::between(4, (7, 100), (7, 1), 10);
        assert_eq!(back.after((7, 5), 10), (7, 5));
    }
}
