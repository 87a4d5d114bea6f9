//! Inserting jobs. As the caller and without RETURNING, so that the right to insert is enough: ids are drawn first.

use pgrx::pg_sys;

use crate::error::{Error, Result};
use crate::guc;
use crate::host::spi::{connected, once};
use crate::host::value::{self, Arg};
use crate::queue::cache::Queue;
use crate::queue::create::id_expression;
use crate::queue::settings::MAX_MS;

const DRAW_IDS: &str = "SELECT ({id})::pg_catalog.int8 FROM pg_catalog.generate_series(1, $1)";

const INSERT: &str = "INSERT INTO {q} (id, data, metadata, priority, available_at) OVERRIDING SYSTEM VALUE
    SELECT u.id, u.data, u.metadata, $4, $5
    FROM ROWS FROM (pg_catalog.unnest($1), pg_catalog.unnest($2), pg_catalog.unnest($3)) AS u (id, data, metadata)";

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
    let ids = draw_ids(queue, jobs.data.len())?;
    let available_at = value::now().saturating_add(jobs.delay_ms.saturating_mul(1_000));
    let args = [
        (pg_sys::INT8ARRAYOID, value::bigints(&ids)),
        (pg_sys::JSONBARRAYOID, value::jsonb_array(&jobs.data)),
        (pg_sys::JSONBARRAYOID, value::jsonb_array(&jobs.metadata)),
        (pg_sys::INT2OID, value::smallint(jobs.priority as i16)),
        (pg_sys::TIMESTAMPTZOID, (jobs.delay_ms > 0).then(|| value::timestamp(available_at)).flatten()),
    ];
    let sql = INSERT.replace("{q}", &queue.name);
    connected(|spi| once(spi, &sql, &args).map(|_| ()))?;
    Ok(ids)
}

fn draw_ids(queue: &Queue, count: usize) -> Result<Vec<i64>> {
    let sql = DRAW_IDS.replace("{id}", &id_expression(queue.row.table)?);
    connected(|spi| {
        let rows = once(spi, &sql, &[(pg_sys::INT4OID, value::int(count as i32))])?;
        let ids: Vec<i64> = rows.iter().filter_map(|row| row.bigint(1)).collect();
        Ok(ids)
    })
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
