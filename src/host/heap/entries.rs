//! Index entries of rows that were written, made by the executor's own code: whatever an index is like, its expressions,
//! its predicate and what it has to be unique for are seen to.

use pgrx::pg_sys;

use super::Heap;
use crate::compat;

/// Which indexes need an entry for a row that was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// None: the new version is reached through the old one's entries.
    None,
    /// Those that only summarise pages.
    Summaries,
    /// All.
    All,
}

/// The open indexes of a table.
pub struct Entries {
    state: *mut pg_sys::EState,
    target: *mut pg_sys::ResultRelInfo,
    slot: *mut pg_sys::TupleTableSlot,
}

impl Entries {
    /// Opens them. What is allocated belongs to the current memory.
    pub fn open(heap: &Heap) -> Self {
        // SAFETY: the table is open and locked; the node is made as `makeNode` would; all of it is closed by `drop`.
        unsafe {
            let state = pg_sys::CreateExecutorState();
            let target = pg_sys::palloc0(std::mem::size_of::<pg_sys::ResultRelInfo>()).cast::<pg_sys::ResultRelInfo>();
            (*target).type_ = pg_sys::NodeTag::T_ResultRelInfo;
            pg_sys::InitResultRelInfo(target, heap.raw(), 0, std::ptr::null_mut(), 0);
            pg_sys::ExecOpenIndices(target, false);
            let slot = pg_sys::MakeSingleTupleTableSlot(heap.description(), &raw const pg_sys::TTSOpsHeapTuple);
            Self { state, target, slot }
        }
    }

    /// Raises where a row to be inserted has NULL in a column that refuses it, or does not pass a CHECK.
    ///
    /// # Safety
    /// `tuple` must be a row of the table.
    pub(super) unsafe fn check(&mut self, tuple: pg_sys::HeapTuple) {
        // SAFETY: as demanded; the slot only borrows the row, and is emptied before this ends.
        unsafe {
            if (*(*self.slot).tts_tupleDescriptor).constr.is_null() {
                return;
            }
            pg_sys::ExecStoreHeapTuple(tuple, self.slot, false);
            pg_sys::ExecConstraints(self.target, self.slot, self.state);
            pg_sys::ExecClearTuple(self.slot);
            self.reset();
        }
    }

    /// # Safety
    /// `slot` must hold a row of the table that was just inserted, with its place.
    pub(super) unsafe fn add_inserted(&mut self, slot: *mut pg_sys::TupleTableSlot) {
        // SAFETY: as demanded.
        unsafe {
            compat::insert_index_entries(self.target, slot, self.state, false, false);
            self.reset();
        }
    }

    /// # Safety
    /// Nothing that was evaluated may be in use any more.
    unsafe fn reset(&mut self) {
        // SAFETY: as demanded.
        unsafe {
            let context = (*self.state).es_per_tuple_exprcontext;
            if !context.is_null() {
                pg_sys::MemoryContextReset((*context).ecxt_per_tuple_memory);
            }
        }
    }

    /// # Safety
    /// `tuple` must be a row of the table that was just written, with its place in it.
    pub(super) unsafe fn add(&mut self, tuple: pg_sys::HeapTuple, wanted: Wanted, is_update: bool) {
        if wanted == Wanted::None {
            return;
        }
        // SAFETY: as demanded; the slot only borrows the row, and is emptied before this ends.
        unsafe {
            pg_sys::ExecStoreHeapTuple(tuple, self.slot, false);
            (*self.slot).tts_tid = (*tuple).t_self;
            compat::insert_index_entries(self.target, self.slot, self.state, is_update, wanted == Wanted::Summaries);
            pg_sys::ExecClearTuple(self.slot);
            self.reset();
        }
    }
}

impl Drop for Entries {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return; // the abort closes all of it
        }
        // SAFETY: closes what `open` opened.
        unsafe {
            pg_sys::ExecCloseIndices(self.target);
            pg_sys::ExecDropSingleTupleTableSlot(self.slot);
            pg_sys::FreeExecutorState(self.state);
        }
    }
}
