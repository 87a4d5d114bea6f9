//! Looking rows up through a B-tree, with the active snapshot.

use pgrx::pg_sys;

use super::row::Row;
use super::Heap;
use crate::compat;

/// Most columns of an index that a look-up can compare.
const MOST: usize = 4;
/// Number of the B-tree support function that orders.
const ORDER: i16 = 1;
const LESS: usize = pg_sys::BTLessStrategyNumber as usize;
const LESS_OR_EQUAL: usize = pg_sys::BTLessEqualStrategyNumber as usize;
const EQUAL: usize = pg_sys::BTEqualStrategyNumber as usize;
const GREATER_OR_EQUAL: usize = pg_sys::BTGreaterEqualStrategyNumber as usize;
const GREATER: usize = pg_sys::BTGreaterStrategyNumber as usize;

/// A B-tree whose columns can be compared with values of given types.
#[derive(Debug, Clone)]
pub struct Index {
    oid: pg_sys::Oid,
    columns: Vec<Column>,
}

/// How a column of it is compared.
#[derive(Debug, Clone, Copy)]
struct Column {
    /// The type of the values.
    with: pg_sys::Oid,
    /// Function by strategy number.
    compare: [pg_sys::Oid; GREATER + 1],
    /// The one that orders.
    order: pg_sys::Oid,
}

impl Index {
    /// An index by its oid, and the types of the values with which its first columns are compared. `None` where it cannot
    /// be used: it is not valid, or not yet for the snapshots that there are, or the server does not know how to compare.
    pub fn usable(oid: pg_sys::Oid, types: &[pg_sys::Oid]) -> Option<Self> {
        // SAFETY: the table is locked, so that its index opens without waiting, if it is there.
        unsafe {
            let relation = pg_sys::try_relation_open(oid, pg_sys::AccessShareLock as i32);
            if relation.is_null() {
                return None;
            }
            let found = if is_usable(relation) { Self::of(relation, types) } else { None };
            pg_sys::relation_close(relation, pg_sys::AccessShareLock as i32);
            found
        }
    }

    /// Its number in the catalog.
    pub fn oid(&self) -> pg_sys::Oid {
        self.oid
    }

    fn of(relation: pg_sys::Relation, types: &[pg_sys::Oid]) -> Option<Self> {
        let column = |(at, with): (usize, &pg_sys::Oid)| {
            // SAFETY: the index is open and has at least so many key columns; the look-ups answer InvalidOid for none.
            unsafe {
                let (family, own) = (*(*relation).rd_opfamily.add(at), *(*relation).rd_opcintype.add(at));
                let mut compare = [pg_sys::InvalidOid; GREATER + 1];
                for (strategy, function) in compare.iter_mut().enumerate().skip(LESS) {
                    *function = pg_sys::get_opcode(pg_sys::get_opfamily_member(family, own, *with, strategy as i16));
                }
                let order = pg_sys::get_opfamily_proc(family, own, *with, ORDER);
                let is_known = order != pg_sys::InvalidOid && !compare[LESS..].contains(&pg_sys::InvalidOid);
                is_known.then_some(Column { with: *with, compare, order })
            }
        };
        // SAFETY: the index is open, and so is its row in the catalog.
        let (oid, keys) = unsafe { ((*relation).rd_id, (*(*relation).rd_index).indnkeyatts as usize) };
        if types.len() > keys.min(MOST) {
            return None;
        }
        let columns: Option<Vec<Column>> = types.iter().enumerate().map(column).collect();
        columns.map(|columns| Self { oid, columns })
    }
}

/// Whether it may be read now, as the planner decides it.
unsafe fn is_usable(relation: pg_sys::Relation) -> bool {
    // SAFETY: an open index has its row in the catalog at hand.
    unsafe {
        let index = (*relation).rd_index;
        if index.is_null() || !((*index).indisvalid && (*index).indisready && (*index).indislive) {
            return false;
        }
        let made_by = pg_sys::htup::HeapTupleHeaderGetXmin((*(*relation).rd_indextuple).t_data);
        !(*index).indcheckxmin || pg_sys::TransactionIdPrecedes(made_by, pg_sys::TransactionXmin)
    }
}

/// What is looked for: rows whose first columns are `equal`, from a position in the ones that follow, to an end in the
/// first of these.
#[derive(Clone, Copy)]
pub struct Range<'a> {
    /// Values of the first columns.
    pub equal: &'a [pg_sys::Datum],
    /// The position in the columns after these: one or two values.
    pub from: &'a [pg_sys::Datum],
    /// Whether rows at the position itself are left out.
    pub after: bool,
    /// The end, in the first column after the equal ones.
    pub to: Option<To>,
}

/// Where a range ends.
#[derive(Clone, Copy)]
pub enum To {
    /// Before this value.
    Before(pg_sys::Datum),
    /// With this value.
    With(pg_sys::Datum),
}

/// Keys in the server's form. They point to each other: made anew, where they lie, for each look-up.
struct Keys {
    keys: [pg_sys::ScanKeyData; MOST + 1],
    parts: [pg_sys::ScanKeyData; 2],
    count: usize,
}

impl Keys {
    fn none() -> Self {
        // SAFETY: plain data; zeroes are a valid value of it.
        unsafe { Self { keys: std::mem::zeroed(), parts: std::mem::zeroed(), count: 0 } }
    }

    /// How many keys a range needs.
    fn needed(range: &Range) -> usize {
        range.equal.len() + usize::from(!range.from.is_empty()) + usize::from(range.to.is_some())
    }

    fn fill(&mut self, index: &Index, range: &Range) {
        self.count = 0;
        for (at, value) in range.equal.iter().enumerate() {
            self.add(index, at, EQUAL, *value);
        }
        let next = range.equal.len();
        let strategy = if range.after { GREATER } else { GREATER_OR_EQUAL };
        match range.from {
            [] => {}
            [value] => self.add(index, next, strategy, *value),
            [first, second, ..] => self.add_pair(index, next, strategy, [*first, *second]),
        }
        match range.to {
            None => {}
            Some(To::Before(value)) => self.add(index, next, LESS, value),
            Some(To::With(value)) => self.add(index, next, LESS_OR_EQUAL, value),
        }
    }

    fn add(&mut self, index: &Index, at: usize, strategy: usize, value: pg_sys::Datum) {
        let (Some(column), Some(key)) = (index.columns.get(at), self.keys.get_mut(self.count)) else {
            return;
        };
        initialise(key, 0, at, strategy, column, column.compare[strategy], value);
        self.count += 1;
    }

    /// A row comparison, in the form in which the executor gives it to a B-tree.
    fn add_pair(&mut self, index: &Index, at: usize, strategy: usize, values: [pg_sys::Datum; 2]) {
        let (Some(columns), Some(key)) = (index.columns.get(at..at + 2), self.keys.get_mut(self.count)) else {
            return;
        };
        let flags = [pg_sys::SK_ROW_MEMBER, pg_sys::SK_ROW_MEMBER | pg_sys::SK_ROW_END];
        for (part, place) in self.parts.iter_mut().enumerate() {
            initialise(place, flags[part], at + part, strategy, &columns[part], columns[part].order, values[part]);
        }
        *key = pg_sys::ScanKeyData::default();
        key.sk_flags = pg_sys::SK_ROW_HEADER as i32;
        key.sk_attno = at as i16 + 1;
        key.sk_strategy = strategy as u16;
        key.sk_argument = pg_sys::Datum::from(self.parts.as_mut_ptr());
        self.count += 1;
    }
}

fn initialise(
    key: &mut pg_sys::ScanKeyData,
    flags: u32,
    at: usize,
    strategy: usize,
    column: &Column,
    function: pg_sys::Oid,
    value: pg_sys::Datum,
) {
    // SAFETY: fills the key that it is given; the function exists, as `Index::of` saw to.
    unsafe {
        let (attribute, none) = (at as i16 + 1, pg_sys::InvalidOid);
        pg_sys::ScanKeyEntryInitialize(
            key,
            flags as i32,
            attribute,
            strategy as u16,
            column.with,
            none,
            function,
            value,
        );
    }
}

/// A way through an index. The snapshot that was active when it began must stay active until it ends.
pub struct Scan<'h> {
    heap: &'h Heap,
    index: &'h Index,
    relation: pg_sys::Relation,
    scan: pg_sys::IndexScanDesc,
    slot: *mut pg_sys::TupleTableSlot,
    keys: Box<Keys>,
    row: Row,
}

impl<'h> Scan<'h> {
    /// Opens the index, for ranges with as many keys as this one.
    pub fn begin(heap: &'h Heap, index: &'h Index, range: &Range) -> Self {
        // SAFETY: the table is locked, so that its index is there; the active snapshot stays until the scan ends.
        unsafe {
            let relation = pg_sys::index_open(index.oid, pg_sys::AccessShareLock as i32);
            let count = Keys::needed(range) as i32;
            let scan = compat::index_beginscan(heap.raw(), relation, pg_sys::GetActiveSnapshot(), count);
            let slot = pg_sys::table_slot_create(heap.raw(), std::ptr::null_mut());
            let mut begun =
                Self { heap, index, relation, scan, slot, keys: Box::new(Keys::none()), row: Row::of(heap) };
            begun.look_for(range);
            begun
        }
    }

    /// Begins anew, for another range.
    pub fn look_for(&mut self, range: &Range) {
        self.keys.fill(self.index, range);
        // SAFETY: the scan is open and takes so many keys; they lie in a box and are copied.
        unsafe {
            let (keys, count) = (self.keys.keys.as_mut_ptr(), self.keys.count as i32);
            pg_sys::index_rescan(self.scan, keys, count, std::ptr::null_mut(), 0);
        }
    }

    /// The next row that the snapshot shows; it stays until the next call.
    pub fn next(&mut self) -> Option<&Row> {
        pgrx::check_for_interrupts!();
        // SAFETY: scan and slot are open; the slot keeps the row's page pinned until the next call or its end.
        unsafe {
            if !pg_sys::index_getnext_slot(self.scan, pg_sys::ScanDirection::ForwardScanDirection, self.slot) {
                return None;
            }
            let tuple = pg_sys::ExecFetchSlotHeapTuple(self.slot, false, std::ptr::null_mut());
            self.row.take_apart(self.heap, tuple);
        }
        Some(&self.row)
    }
}

impl Drop for Scan<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return; // the abort closes all of it
        }
        // SAFETY: closes what `begin` opened; the lock on the index stays until the transaction ends, as the executor's.
        unsafe {
            pg_sys::index_endscan(self.scan);
            pg_sys::ExecDropSingleTupleTableSlot(self.slot);
            pg_sys::index_close(self.relation, pg_sys::NoLock as i32);
        }
    }
}
