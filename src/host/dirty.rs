//! Rows as they are at this moment, those included that other transactions have written and not committed, and those
//! that they have deleted and not committed. For small tables, in which a row of somebody else's open transaction counts.

use pgrx::pg_sys;

use super::value::Arg;

/// One row, while the scan stands on it; columns count from 1.
pub struct DirtyRow {
    values: Vec<pg_sys::Datum>,
    nulls: Vec<bool>,
}

impl DirtyRow {
    /// The raw value; it points into the table's page.
    pub fn datum(&self, column: usize) -> Arg {
        let at = column.checked_sub(1)?;
        (!*self.nulls.get(at)?).then(|| self.values.get(at).copied()).flatten()
    }
}

/// Reads all rows of a table; `of` takes from each what it needs, as a copy. Nothing that commits meanwhile is missed
/// that was written before the call.
pub fn rows<T>(table: pg_sys::Oid, mut of: impl FnMut(&DirtyRow) -> T) -> Vec<T> {
    let mut found = Vec::new();
    // SAFETY: the relation stays open and locked through the scan; the snapshot outlives it; the arrays have room for all
    // columns, and what they point to is copied by `of` before the scan goes on. An error in between ends in an abort,
    // which closes all of it.
    unsafe {
        pg_sys::CommandCounterIncrement();
        let relation = pg_sys::table_open(table, pg_sys::AccessShareLock as i32);
        let columns = (*(*relation).rd_att).natts.max(0) as usize;
        let mut snapshot: pg_sys::SnapshotData = std::mem::zeroed();
        snapshot.snapshot_type = pg_sys::SnapshotType::SNAPSHOT_DIRTY;
        let (no_index, no_keys) = (pg_sys::InvalidOid, std::ptr::null_mut());
        let scan = pg_sys::systable_beginscan(relation, no_index, false, &mut snapshot, 0, no_keys);
        let mut row = DirtyRow { values: vec![pg_sys::Datum::from(0usize); columns], nulls: vec![true; columns] };
        loop {
            let tuple = pg_sys::systable_getnext(scan);
            if tuple.is_null() {
                break;
            }
            let (values, nulls) = (row.values.as_mut_ptr(), row.nulls.as_mut_ptr());
            pg_sys::heap_deform_tuple(tuple, (*relation).rd_att, values, nulls);
            found.push(of(&row));
        }
        pg_sys::systable_endscan(scan);
        pg_sys::table_close(relation, pg_sys::AccessShareLock as i32);
    }
    found
}
