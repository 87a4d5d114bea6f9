//! Whether a queue is sound. Reports only. Rows are read as the table's owner, restricted, whoever asks: planning a query
//! runs what the owner put into his indexes.

mod jobs;
mod schema;

use std::panic::AssertUnwindSafe;

use super::cache::{self, Purpose};
use super::check::Check;
use super::registry::QueueRow;
use crate::error::Result;
use crate::host::identity;
use crate::host::subtransaction::{attempt, Caught};

/// Looks at everything: what the table is made of first, and, where jobs can be read at all, at the jobs.
pub fn verify(row: &QueueRow) -> Result<Vec<Check>> {
    let mut checks = match attempt(AssertUnwindSafe(|| schema::checks(row, true))) {
        Ok(checks) => checks,
        Err(_) => schema::checks(row, false)?,
    };
    if let Ok(Some(queue)) = cache::queue_of(row.table, Purpose::Look) {
        let look = || identity::restricted_as(queue.owner, || jobs::checks(&queue));
        checks.extend(attempt(AssertUnwindSafe(look)).unwrap_or_else(|caught| vec![unreadable(&caught)]));
    }
    Ok(checks)
}

/// The one finding about a table that its owner cannot look through.
fn unreadable(caught: &Caught) -> Check {
    Check::gap(
        "owner",
        format!("the table's owner cannot read it: {} ({})", caught.message, caught.sqlstate),
        "Give the owner his rights on the table and its schema again: qflow acts as him.",
    )
}

/// What is wrong with what the table is made of, without a look at its rows.
pub fn schema_gaps(row: &QueueRow) -> Result<Vec<Check>> {
    Ok(schema::checks(row, false)?.into_iter().filter(|check| !check.ok).collect())
}
