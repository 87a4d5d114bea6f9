//! Whether a queue is sound. Reports only. Rows are read as the table's owner, restricted, whoever asks: planning a query
//! runs what the owner put into his indexes.

mod jobs;
mod schema;

use std::panic::AssertUnwindSafe;

use super::cache::{self, Purpose};
use super::check::Check;
use super::registry::QueueRow;
use crate::error::Result;
use crate::host::subtransaction::{attempt, Caught};
use crate::host::{identity, relation};
use schema::Depth;

/// Looks at everything: what the table is made of first, and, where jobs can be read at all, at the jobs.
pub fn verify(row: &QueueRow) -> Result<Vec<Check>> {
    // Asked as the caller: the owner sees all rows, and what stands in them is not to be told to whom a policy hides it.
    let names = !relation::hides_rows(row.table);
    let mut failures: Vec<Caught> = Vec::new();
    let mut checks = match attempt(AssertUnwindSafe(|| schema::checks(row, Depth::Rows { names }))) {
        Ok(checks) => checks,
        Err(caught) => {
            failures.push(caught);
            schema::checks(row, Depth::Catalog)?
        }
    };
    if let Ok(Some(queue)) = cache::queue_of(row.table, Purpose::Look) {
        let look = || identity::restricted_as(queue.owner, || jobs::checks(&queue, names));
        match attempt(AssertUnwindSafe(look)) {
            Ok(found) => checks.extend(found),
            Err(caught) => failures.push(caught),
        }
    }
    failures.dedup_by(|one, other| one.message == other.message);
    checks.extend(failures.iter().map(|caught| unreadable(caught, names)));
    Ok(checks)
}

const INSUFFICIENT_PRIVILEGE: &str = "42501";

/// The finding about a table that its owner cannot look through. A message may quote a row.
fn unreadable(caught: &Caught, names: bool) -> Check {
    let message = if names { caught.message.as_str() } else { "an error" };
    let detail = format!("the table's owner cannot read it: {message} ({})", caught.sqlstate);
    let remedy = match caught.sqlstate.as_str() {
        INSUFFICIENT_PRIVILEGE => "Give the owner his rights on the table and its schema again: qflow acts as him.",
        _ => "Mend what raises this: until then nothing is known of the rows.",
    };
    Check::gap("owner", detail, remedy)
}

/// What is wrong with what the table is made of, without a look at its rows.
pub fn schema_gaps(row: &QueueRow) -> Result<Vec<Check>> {
    Ok(schema::checks(row, Depth::Catalog)?.into_iter().filter(|check| !check.ok).collect())
}
