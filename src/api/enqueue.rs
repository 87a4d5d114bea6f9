//! `enqueue` and `enqueue_batch`. Payload stays a datum from the argument to the row.

use pgrx::pg_sys;

use crate::error::{Error, Result};
use crate::guc;
use crate::host::call::{Call, Name};
use crate::host::value::{self, Arg};
use crate::host::xact;
use crate::job::enqueue::{self as jobs, NewJobs};
use crate::queue::cache;

const QUEUE: Name = (0, "queue");
const DATA: Name = (1, "data");
const METADATA: Name = (2, "metadata");
const DEFAULT_PRIORITY: i64 = 4;

crate::entry_points! {
    qflow_enqueue, pg_finfo_qflow_enqueue => enqueue;
    qflow_enqueue_batch, pg_finfo_qflow_enqueue_batch => enqueue_batch;
}

fn enqueue(call: &Call) -> Result<Arg> {
    xact::require_writable(c"qflow.enqueue()");
    let queue = call.text(QUEUE)?;
    let data = call.required(DATA)?;
    let metadata = call.datum(METADATA).or_else(value::empty_object);
    let new = new_jobs(call, vec![Some(data)], vec![metadata])?;
    let ids = jobs::enqueue(&*cache::queue_named(&queue)?, &new)?;
    Ok(ids.first().and_then(|id| value::bigint(*id)))
}

fn enqueue_batch(call: &Call) -> Result<Arg> {
    xact::require_writable(c"qflow.enqueue_batch()");
    let queue = call.text(QUEUE)?;
    let data = elements(call, DATA)?;
    let metadata = match call.datum(METADATA) {
        None => vec![value::empty_object(); data.len()],
        Some(_) => elements(call, METADATA)?,
    };
    if metadata.len() != data.len() {
        return Err(Error::bad_value("metadata must have as many elements as data").detail(format!(
            "They have {} and {}.",
            metadata.len(),
            data.len()
        )));
    }
    let new = new_jobs(call, data, metadata)?;
    Ok(value::bigints(&jobs::enqueue(&*cache::queue_named(&queue)?, &new)?))
}

fn elements(call: &Call, name: Name) -> Result<Vec<Arg>> {
    let elements = call.elements(name, pg_sys::JSONBOID, guc::max_ids())?;
    if elements.iter().any(Option::is_none) {
        return Err(Error::null_value(format!("{} must not contain nulls", name.1)));
    }
    Ok(elements)
}

fn new_jobs(call: &Call, data: Vec<Arg>, metadata: Vec<Arg>) -> Result<NewJobs> {
    Ok(NewJobs {
        data,
        metadata,
        priority: call.opt_bigint((3, "priority"), 0)?.unwrap_or(DEFAULT_PRIORITY),
        delay_ms: call.opt_bigint((4, "delay_ms"), 0)?.unwrap_or(0),
    })
}
