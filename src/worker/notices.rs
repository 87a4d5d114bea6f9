//! Notifications: queues that got jobs are named on channel `qflow`, many commits at a time, and never in a producer's
//! transaction, which would make producers wait for each other.

use std::sync::atomic::Ordering::SeqCst;

use pgrx::pg_sys;

use super::pass::transaction;
use crate::error::Result;
use crate::guc;
use crate::host::spi::{connected, once};
use crate::host::{relation, value};
use crate::queue::registry;
use crate::shmem::queue::Slot;

const NOTIFY: &str = "SELECT pg_catalog.pg_notify('qflow', $1)";

/// Names the queues that have news; false where that did not succeed, and is to be tried again.
pub fn send() -> bool {
    let told = transaction(c"qflow: notifying", || {
        if !relation::lock_extension(c"qflow") {
            return Ok(());
        }
        let registry = registry::table()?;
        let is_news =
            |number: i64| Slot::known(registry, number).marks().is_some_and(|marks| marks.is_news.swap(false, SeqCst));
        for row in registry::all_queues()? {
            if is_news(row.number) && guc::notify_interval_ms() > 0 {
                tell(&relation::display_name(row.table))?;
            }
        }
        Ok(())
    });
    told.is_ok()
}

fn tell(name: &str) -> Result<()> {
    connected(|spi| once(spi, NOTIFY, &[(pg_sys::TEXTOID, value::text_for_people(name))]).map(|_| ()))
}
