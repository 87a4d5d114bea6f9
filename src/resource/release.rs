//! Giving back: when the last lease on a holder has ended, it is gone.

use super::at_end;
use super::holder::{self, Holder};
use crate::error::{self, Error, Result};
use crate::shmem::database::Session;

/// Why leases have ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// Their jobs were settled by the session that runs.
    Settled,
    /// They were taken back; their session may be at work still.
    Reaped,
    /// Their session has ended.
    SessionEnded,
}

/// Locks what leases hold that are about to end; false when they are to be left for later. Who settles waits: he has to
/// come to an end. Who takes back comes again, and must not be held up by an open fetch.
pub fn lock(leases: &[i64], why: Why) -> Result<bool> {
    match why {
        Why::Settled => Ok(true),
        Why::Reaped | Why::SessionEnded => holder::try_lock_of_leases(leases),
    }
}

/// Gives back what leases held that have ended and whose rows are locked. Waits for the rows of their holders, unless
/// `lock` has locked them. A slot that a session keeps stays its own while it lives and has not settled: it may still use
/// it.
pub fn leases_ended(leases: &[i64], why: Why) -> Result<()> {
    if leases.is_empty() {
        return Ok(());
    }
    let holders = holder::lock_of_leases(leases)?;
    holder::detach(leases)?;
    let ids: Vec<i64> = holders.iter().map(|holder| holder.id).collect();
    let free = holder::without_lease(&ids)?;
    let mut over = Vec::new();
    for holder in holders.iter().filter(|holder| free.contains(&holder.id)) {
        if !holder.by_session || is_over(holder, why)? {
            over.push(holder.id);
            at_end::freed(&holder.resource);
        }
        if holder.by_session && holder.session == holder::own_session() && why == Why::Settled {
            at_end::let_go(holder)?;
        }
    }
    holder::remove(&over)
}

fn is_over(holder: &Holder, why: Why) -> Result<bool> {
    match why {
        Why::Settled => Ok(holder.session == holder::own_session()),
        Why::Reaped => Ok(!holder::is_live(holder.session)?),
        Why::SessionEnded => Ok(true),
    }
}

/// The sessions that keep something by their locks.
pub fn keeping_sessions() -> Result<Vec<Session>> {
    let held = holder::all()?.into_iter().filter(|holder| holder.by_session);
    Ok(held.map(|holder| holder.session).collect())
}

/// Gives back what sessions kept without a lease that have ended; true when something of theirs is left, because others
/// have it locked.
pub fn sessions_ended(sessions: impl Fn(&Session) -> bool) -> Result<bool> {
    let held: Vec<Holder> =
        holder::all()?.into_iter().filter(|holder| holder.by_session && sessions(&holder.session)).collect();
    let ids: Vec<i64> = held.iter().map(|holder| holder.id).collect();
    let locked = holder::lock_free(&ids)?;
    let over = holder::without_lease(&locked)?;
    held.iter().filter(|holder| over.contains(&holder.id)).for_each(|holder| at_end::freed(&holder.resource));
    holder::remove(&over)?;
    Ok(locked.len() < ids.len())
}

/// Before a settle of leases that hold something by their session: 55000 from another one. What the session has lost is
/// said; under `strict` it is 55000.
pub fn check_session(leases: &[i64], strict: bool) -> Result<()> {
    for holder in holder::by_session_of(leases)? {
        if holder.session != holder::own_session() {
            return Err(Error::not_ready("the lease holds its resources by another session")
                .detail(format!(
                    "It was fetched with hold = \"session\" by the backend with pid {}.",
                    holder.session.pid
                ))
                .hint(
                    "Settle on the connection that fetched. Behind a pooler in transaction mode use hold = \"lease\".",
                ));
        }
        if !holder.lock().is_held() {
            let message = format!("the session has lost its lock on resource \"{}\"", holder.resource);
            let hint = "DISCARD ALL or pg_advisory_unlock_all() dropped it: another consumer may use the resource now.";
            match strict {
                true => return Err(Error::not_ready(message).hint(hint)),
                false => error::warn(message, hint),
            }
        }
    }
    Ok(())
}
