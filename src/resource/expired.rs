//! Leases whose time is over, and which hold what a fetch wants: where no worker does, the fetch takes them back itself.

use std::cell::Cell;
use std::panic::AssertUnwindSafe;

use super::holder::{self, Holder, OnIt};
use super::line::{self, Me};
use super::want::Want;
use crate::error::Result;
use crate::host::subtransaction::attempt;
use crate::host::{value, xact};
use crate::job::reap::End;
use crate::job::upkeep;
use crate::queue::registry;
use crate::shmem::database::is_served;

/// Most leases that one fetch takes back on the way.
const MAX_ENDED: usize = 64;
/// A session does not count on that again for so long, microseconds: what it could not take back is locked.
const TRY_AGAIN: i64 = 1_000_000;

thread_local! {
    /// When this session last tried to take back what leases held.
    static TRIED: Cell<i64> = const { Cell::new(0) };
}

/// Takes back what leases hold whose time is over, where no worker does; true when there were some.
pub fn end(wants: &[Want]) -> Result<bool> {
    let now = value::now();
    if is_served(now) || !xact::is_read_committed() {
        return Ok(false);
    }
    let mut has_ended = false;
    for lease in leases(wants, now)? {
        TRIED.set(now);
        let queue = registry::queue_numbered(lease.queue)?;
        let done = attempt(AssertUnwindSafe(|| match &queue {
            Some(queue) => upkeep::end_lease(queue.table, lease.lease, End::Expired),
            // Its table is gone; nobody can settle what was fetched from it.
            None => registry::remove_orphans().map(|()| true),
        }));
        has_ended |= done.unwrap_or(false);
    }
    Ok(has_ended)
}

/// Whether a fetch of who comes first would now take back something that is wanted. Reads only.
pub fn fetch_would_end(wants: &[Want], me: Me) -> Result<bool> {
    let now = value::now();
    let has_just_tried = now >= TRIED.get() && now - TRIED.get() < TRY_AGAIN;
    if has_just_tried || is_served(now) || !xact::is_read_committed_by_default() {
        return Ok(false);
    }
    let is_first = !wants.iter().any(|want| line::is_behind(want, me));
    Ok(is_first && !leases(wants, now)?.is_empty())
}

/// Leases whose time is over, of those that hold what is wanted and can run out.
fn leases(wants: &[Want], now: i64) -> Result<Vec<OnIt>> {
    let is_wanted =
        |holder: &Holder| wants.iter().any(|w| w.resource.capacity.is_some() && w.resource.name == holder.resource);
    let held: Vec<i64> = holder::all()?.into_iter().filter(is_wanted).map(|holder| holder.id).collect();
    let mut leases = holder::leases(&held)?;
    leases.retain(|lease| lease.deadline <= now);
    leases.sort_by_key(|lease| lease.lease);
    leases.dedup_by_key(|lease| lease.lease);
    leases.truncate(MAX_ENDED);
    Ok(leases)
}
