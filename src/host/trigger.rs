//! Calls by trigger.

use pgrx::{pg_sys, FromDatum};

use super::call::Call;

/// The row that a trigger was called for.
pub struct TriggerRow {
    /// Its table.
    pub table: pg_sys::Oid,
    /// The value of its column `id`, an integer of whatever size.
    pub id: Option<i64>,
}

/// The table that a trigger was called for; `None` when the function was not called as one.
pub fn table(call: &Call) -> Option<pg_sys::Oid> {
    // SAFETY: the data is checked to be there and to be a trigger's.
    data(call).map(|data| unsafe { (*(*data).tg_relation).rd_id })
}

/// The new row of an insert or update; `None` when the function was not called as such a row trigger.
pub fn row(call: &Call) -> Option<TriggerRow> {
    let data = data(call)?;
    // SAFETY: `data` is a trigger's; for an update the new row stands in `tg_newtuple`, for an insert in `tg_trigtuple`.
    unsafe {
        let event = (*data).tg_event & pg_sys::TRIGGER_EVENT_OPMASK;
        let tuple = if event == pg_sys::TRIGGER_EVENT_UPDATE { (*data).tg_newtuple } else { (*data).tg_trigtuple };
        if tuple.is_null() {
            return None;
        }
        let relation = (*data).tg_relation;
        Some(TriggerRow { table: (*relation).rd_id, id: id_of(tuple, (*relation).rd_att) })
    }
}

unsafe fn id_of(tuple: pg_sys::HeapTuple, description: pg_sys::TupleDesc) -> Option<i64> {
    // SAFETY: the tuple is of this description; the column's type decides how the value is read.
    unsafe {
        let number = pg_sys::SPI_fnumber(description, c"id".as_ptr());
        if number <= 0 {
            return None;
        }
        let mut is_null = true;
        let value = pg_sys::SPI_getbinval(tuple, description, number, &mut is_null);
        match pg_sys::SPI_gettypeid(description, number) {
            pg_sys::INT8OID => i64::from_datum(value, is_null),
            pg_sys::INT4OID => i32::from_datum(value, is_null).map(i64::from),
            pg_sys::INT2OID => i16::from_datum(value, is_null).map(i64::from),
            _ => None,
        }
    }
}

fn data(call: &Call) -> Option<*mut pg_sys::TriggerData> {
    // SAFETY: the context is a node whose tag is checked before it is taken for a trigger's data.
    unsafe {
        let context = (*call.raw()).context;
        let is_trigger = !context.is_null() && (*context).type_ == pg_sys::NodeTag::T_TriggerData;
        is_trigger.then(|| context.cast())
    }
}
