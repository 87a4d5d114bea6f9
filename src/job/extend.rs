//! Extending leases: the heartbeat of a consumer that needs longer.

use std::collections::BTreeSet;

use super::lease;
use super::settle::is_any_held;
use crate::error::Result;
use crate::host::spi::connected;
use crate::host::value;
use crate::queue::cache::Workflow;
use crate::shmem::at_commit;

/// Sets the deadline of this workflow's leases to `timeout_ms` (else the lease's own time) from now. Answers the leases
/// that are held, with their deadlines in microseconds; one that is not among them is lost. Waits for the lease rows.
pub fn extend(workflow: &Workflow, leases: &[i64], timeout_ms: Option<i64>) -> Result<Vec<(i64, i64)>> {
    let wanted: BTreeSet<i64> = leases.iter().copied().collect();
    let wanted: Vec<i64> = wanted.into_iter().collect();
    if wanted.is_empty() {
        return Ok(Vec::new());
    }
    let queue = &workflow.queue;
    let mut extended = Vec::new();
    for lease in lease::lock(queue.row.number, &wanted)? {
        let is_ours = lease.workflow == workflow.name;
        if !is_ours || !connected(|spi| is_any_held(spi, queue, &lease))? {
            continue;
        }
        let timeout_ms = timeout_ms.unwrap_or(lease.timeout_ms);
        let deadline = value::now().saturating_add(timeout_ms.saturating_mul(1_000));
        lease::set_deadline(lease.id, deadline)?;
        at_commit::work_by(deadline);
        extended.push((lease.id, deadline));
    }
    Ok(extended)
}
