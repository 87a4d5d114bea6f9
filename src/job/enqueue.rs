//! Inserting jobs. As the caller and without RETURNING, so that the right to insert is enough: ids are drawn first.

use crate::error::{Error, Result};
use crate::guc;
use crate::host::column_default;
use crate::host::spi::connected;
use crate::host::value::{self, Arg};
use crate::queue::cache::Queue;
use crate::queue::settings::MAX_MS;

/// Jobs about to be inserted: payload as datums, unread.
pub struct NewJobs {
    /// `data` of each.
    pub data: Vec<Arg>,
    /// `metadata` of each.
    pub metadata: Vec<Arg>,
    /// 0 (first) to 9.
    pub priority: i64,
    /// Delay before they can be fetched, milliseconds.
    pub delay_ms: i64,
}

/// Inserts jobs; answers their ids in order.
pub fn enqueue(queue: &Queue, jobs: &NewJobs) -> Result<Vec<i64>> {
    check(jobs)?;
    if jobs.data.is_empty() {
        return Ok(Vec::new());
    }
    let available_at = value::now().saturating_add(jobs.delay_ms.saturating_mul(1_000));
    let rest =
        [value::smallint(jobs.priority as i16), (jobs.delay_ms > 0).then(|| value::timestamp(available_at)).flatten()];
    let ids = draw_ids(queue, jobs.data.len())?;
    connected(|spi| {
        queue.jobs.insert(spi, &ids, &jobs.data, &jobs.metadata, rest)?;
        Ok(ids)
    })
}

/// New ids from the default of the column `id`, or its identity.
fn draw_ids(queue: &Queue, count: usize) -> Result<Vec<i64>> {
    let ids = column_default::draw(queue.row.table, c"id", count).ok_or_else(|| {
        Error::not_ready("the queue's column id has no default")
            .hint("Run qflow.verify on the queue: it says what to do.")
    })?;
    if ids.len() < count {
        return Err(Error::not_ready("the default of the queue's column id is null"));
    }
    Ok(ids)
}

fn check(jobs: &NewJobs) -> Result<()> {
    if !(0..=9).contains(&jobs.priority) {
        return Err(Error::bad_value("priority must be between 0 and 9")
            .detail(format!("The value given is {}.", jobs.priority))
            .hint("0 is fetched first, 4 is the default."));
    }
    if jobs.delay_ms > MAX_MS {
        return Err(Error::bad_value(format!("delay_ms must be at most {MAX_MS}")));
    }
    let cap = guc::max_payload_bytes();
    for (at, payload) in jobs.data.iter().chain(&jobs.metadata).enumerate() {
        let bytes = payload.map_or(0, value::raw_size) as i64;
        if bytes > cap {
            return Err(Error::over_cap(format!("payload is larger than {cap} bytes"))
                .detail(format!("Job {} of the call has {bytes}.", at % jobs.data.len().max(1) + 1))
                .hint("Store large values elsewhere and enqueue a reference, or raise qflow.max_payload_bytes before creating the queue."));
        }
    }
    Ok(())
}
