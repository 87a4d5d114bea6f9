//! A row taken apart, and what is to change in one.

use std::cell::RefCell;

use pgrx::{pg_sys, FromDatum};

use super::{Heap, Tid};
use crate::host::value::Arg;

/// The columns of one version of a row; they count from 1, dropped ones included. Columns added since the version was
/// written have what ADD COLUMN gave them.
pub struct Row {
    values: Vec<pg_sys::Datum>,
    nulls: Vec<bool>,
    tid: Tid,
    /// Room for a row like this one that is about to be made.
    other: RefCell<(Vec<pg_sys::Datum>, Vec<bool>)>,
}

impl Row {
    /// Room for rows of a table.
    pub fn of(heap: &Heap) -> Self {
        let columns = heap.columns();
        let (values, nulls) = (vec![pg_sys::Datum::from(0usize); columns], vec![true; columns]);
        Self { other: RefCell::new((values.clone(), nulls.clone())), values, nulls, tid: Tid::default() }
    }

    /// # Safety
    /// `tuple` must be a row of the table that this has room for, and stay (its page pinned) as long as it is read.
    pub(super) unsafe fn take_apart(&mut self, heap: &Heap, tuple: pg_sys::HeapTuple) {
        // SAFETY: as demanded; the arrays have an entry for each column.
        unsafe {
            self.tid = (*tuple).t_self;
            pg_sys::heap_deform_tuple(tuple, heap.description(), self.values.as_mut_ptr(), self.nulls.as_mut_ptr());
        }
    }

    /// Where it lies.
    pub fn tid(&self) -> Tid {
        self.tid
    }

    /// The raw value.
    pub fn datum(&self, column: usize) -> Arg {
        let at = column.checked_sub(1)?;
        (!*self.nulls.get(at)?).then(|| self.values.get(at).copied()).flatten()
    }

    /// A `bigint`, `timestamptz` or `xid8`.
    pub fn bigint(&self, column: usize) -> Option<i64> {
        // SAFETY: the column is of an 8-byte type, passed by value.
        self.datum(column).and_then(|datum| unsafe { i64::from_datum(datum, false) })
    }

    /// An `integer`.
    pub fn int(&self, column: usize) -> Option<i32> {
        // SAFETY: the column is an int4.
        self.datum(column).and_then(|datum| unsafe { i32::from_datum(datum, false) })
    }

    /// The bytes of a text, in the database's encoding.
    pub fn bytes(&self, column: usize) -> Option<&[u8]> {
        // SAFETY: the column is of a text type; a compressed value is expanded into the current memory, which outlives the
        // use of this row, any other stays where it is.
        self.datum(column).map(|datum| unsafe {
            let mut stored = datum.cast_mut_ptr::<pg_sys::varlena>();
            let is_plain = pgrx::varlena::varatt_is_4b_u(stored)
                || pgrx::varlena::varatt_is_1b(stored) && !pgrx::varlena::varatt_is_1b_e(stored);
            if !is_plain {
                stored = pg_sys::pg_detoast_datum_packed(stored);
            }
            pgrx::varlena::varlena_to_byte_slice(stored)
        })
    }
}

/// New values for some columns of a row: at most as many as a claim or a settle sets.
#[derive(Default)]
pub struct Patch(heapless::Vec<(usize, Arg), 8>);

impl Patch {
    /// The same with another column set.
    pub fn with(mut self, column: usize, value: Arg) -> Self {
        let kept = self.0.push((column, value));
        debug_assert!(kept.is_ok(), "a patch has room for 8 columns");
        self
    }
}

impl Row {
    /// A row of the table like this one, with a patch laid over it: a copy in the current memory.
    ///
    /// # Safety
    /// What was taken apart must still be there.
    pub(super) unsafe fn patched(&self, heap: &Heap, patch: &Patch) -> pg_sys::HeapTuple {
        let mut other = self.other.borrow_mut();
        let (values, nulls) = &mut *other;
        values.copy_from_slice(&self.values);
        nulls.copy_from_slice(&self.nulls);
        for (column, value) in &patch.0 {
            if let Some(at) = column.checked_sub(1).filter(|at| *at < values.len()) {
                values[at] = value.unwrap_or(pg_sys::Datum::from(0usize));
                nulls[at] = value.is_none();
            }
        }
        // SAFETY: the arrays have an entry for each column; what they point to is copied.
        unsafe { pg_sys::heap_form_tuple(heap.description(), values.as_mut_ptr(), nulls.as_mut_ptr()) }
    }
}
