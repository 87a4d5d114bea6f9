//! Whether a queue is sound. Reports only.

mod jobs;
mod schema;

use super::cache::{self, Purpose};
use super::check::Check;
use super::registry::QueueRow;
use crate::error::Result;

/// Looks at everything: what the table is made of first, and, where jobs can be read at all, at the jobs.
pub fn verify(row: &QueueRow) -> Result<Vec<Check>> {
    let mut checks = schema::checks(row, true)?;
    if let Ok(Some(queue)) = cache::queue_of(row.table, Purpose::Look) {
        checks.extend(jobs::checks(&queue)?);
    }
    Ok(checks)
}

/// What is wrong with what the table is made of, without a look at its rows.
pub fn schema_gaps(row: &QueueRow) -> Result<Vec<Check>> {
    Ok(schema::checks(row, false)?.into_iter().filter(|check| !check.ok).collect())
}
