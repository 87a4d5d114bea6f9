//! Inserting jobs, many at a time.

use super::Direct;
use crate::host::heap::fill::Defaults;
use crate::host::heap::write::Writer;
use crate::host::value::{self, Arg};
use crate::host::xact;

/// Rows that are written together.
const AT_ONCE: usize = 500;

/// New jobs: payload as datums, unread.
pub struct NewRows<'a> {
    /// Their ids.
    pub ids: &'a [i64],
    /// `data` of each.
    pub data: &'a [Arg],
    /// `metadata` of each.
    pub metadata: &'a [Arg],
    /// `priority` of all.
    pub priority: Arg,
    /// `available_at` of all.
    pub available_at: Arg,
}

impl Direct<'_> {
    /// Inserts jobs as the current user, who has the right to. Whoever calls counts them: the default of `enqueued_xid`,
    /// which does it otherwise, is not evaluated.
    pub fn insert(&self, new: &NewRows) {
        let columns = self.columns;
        let given =
            [columns.id, columns.data, columns.metadata, columns.priority, columns.available_at, columns.enqueued_xid];
        let mut writer = Writer::begin(&self.heap);
        let defaults = Defaults::of(&self.heap, &given);
        let enqueued_xid = Some(pgrx::pg_sys::Datum::from(xact::assign_xid() as usize));
        let row = |at: usize| {
            let mut row = defaults.next();
            let id = if columns.id_is_int { value::int(new.ids[at] as i32) } else { value::bigint(new.ids[at]) };
            let values = [id, new.data[at], new.metadata[at], new.priority, new.available_at, enqueued_xid];
            given.iter().zip(values).for_each(|(column, value)| row[column - 1] = value);
            row
        };
        let places: Vec<usize> = (0..new.ids.len()).collect();
        for some in places.chunks(AT_ONCE) {
            writer.insert_many(some.iter().map(|at| row(*at)));
        }
    }
}
