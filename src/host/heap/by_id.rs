//! Rows by their ids, ascending.

use pgrx::pg_sys::Datum;

use super::index::{Index, Range, Scan, To};
use super::row::Row;
use super::write::{Met, Writer};
use super::Heap;
use crate::host::snapshot::Latest;

/// Ids with smaller gaps between them are looked up in one go: reading a few rows of others costs less than going down the
/// index again.
const GAP: i64 = 8;

/// A table with an index on its ids.
#[derive(Clone, Copy)]
pub struct ById<'h> {
    /// The table.
    pub heap: &'h Heap,
    /// The index.
    pub index: &'h Index,
    /// The column of the ids.
    pub column: usize,
    /// Whether they are integers, not bigints.
    pub is_int: bool,
}

impl ById<'_> {
    /// The id of a row.
    pub fn id_of(&self, row: &Row) -> i64 {
        match self.is_int {
            true => row.int(self.column).map(i64::from),
            false => row.bigint(self.column),
        }
        .unwrap_or_default()
    }

    /// Goes through those of `ids` (ascending, each once) that the active snapshot shows, until `visit` has enough.
    pub fn each(&self, ids: &[i64], mut visit: impl FnMut(i64, &Row) -> bool) {
        let mut scan: Option<Scan> = None;
        for (first, last) in runs(ids) {
            let from = [Datum::from(first)];
            let range = Range { equal: &[], from: &from, after: false, to: Some(To::With(Datum::from(last))) };
            match &mut scan {
                Some(begun) => begun.look_for(&range),
                None => scan = Some(Scan::begin(self.heap, self.index, &range)),
            }
            while let Some(row) = scan.as_mut().and_then(Scan::next) {
                let id = self.id_of(row);
                if ids.binary_search(&id).is_ok() && !visit(id, row) {
                    return;
                }
            }
        }
    }

    /// Does something with each of `ids`, in ascending order, as one command. What has changed since the snapshot was taken is looked
    /// at again with a newer one, as the executor would follow it to its newest version.
    pub fn until_settled(&self, ids: &[i64], mut act: impl FnMut(&mut Writer, i64, &Row) -> Met) {
        let mut left = ascending(ids);
        while !left.is_empty() {
            let _snapshot = Latest::take();
            let mut writer = Writer::begin(self.heap);
            let mut changed = None;
            self.each(&left, |id, row| {
                changed = (act(&mut writer, id, row) == Met::Changed).then_some(id);
                changed.is_none()
            });
            // From there on, not behind what comes after it: whoever locks in another order can deadlock.
            left = changed.map_or_else(Vec::new, |from| left.split_off(left.partition_point(|id| *id < from)));
        }
    }
}

/// Ids in ascending order, each once.
pub fn ascending(ids: &[i64]) -> Vec<i64> {
    let mut ids = ids.to_vec();
    ids.sort_unstable();
    ids.dedup();
    ids
}

/// Ascending ids as runs with small gaps, first and last of each.
fn runs(ids: &[i64]) -> Vec<(i64, i64)> {
    let mut runs: Vec<(i64, i64)> = Vec::new();
    for id in ids {
        match runs.last_mut() {
            Some((_, last)) if id.saturating_sub(*last) <= GAP => *last = *id,
            _ => runs.push((*id, *id)),
        }
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_near_each_other_are_one_run() {
        let runs = |ids: &[i64]| runs(&ascending(ids));
        assert_eq!(runs(&[]), []);
        assert_eq!(runs(&[3, 1, 2]), [(1, 3)]);
        assert_eq!(runs(&[1, 1 + GAP, 2 + 2 * GAP]), [(1, 1 + GAP), (2 + 2 * GAP, 2 + 2 * GAP)]);
        assert_eq!(runs(&[i64::MIN, i64::MAX]), [(i64::MIN, i64::MIN), (i64::MAX, i64::MAX)]);
    }
}
