//! What a transaction took and gave back, until it ends: then the session's locks follow, and who waits is woken.
//!
//! A slot that the session keeps is locked for the transaction first, for the session just before the commit, and let go
//! again when the commit fails after that. What is given back is unlocked once it is committed.

use std::cell::RefCell;

use pgrx::pg_sys;

use super::holder::{self, Holder};
use super::line;
use crate::error::{Error, Result};
use crate::host::lock::ResourceLock;
use crate::host::xact::{self, Closing, Ending};

/// One thing that was done.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Deed {
    /// Something of a resource was taken.
    Took(String),
    /// Something of a resource came free.
    Freed(String),
    /// A resource was dropped.
    Dropped(String),
    /// The session is to keep a holder's lock; whether it has it already.
    Keep(Kept, bool),
    /// The session is to let go of it.
    LetGo(Kept),
}

/// What a session keeps by its lock: a holder, known by its table and its number there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Kept {
    table: pg_sys::Oid,
    holder: i64,
    lock: ResourceLock,
}

impl Kept {
    fn of(holder: &Holder) -> Result<Self> {
        Ok(Self { table: holder::table()?, holder: holder.id, lock: holder.lock() })
    }

    /// Whether that is its row, in its table of today.
    fn is(&self, table: pg_sys::Oid, row: &Holder) -> bool {
        self.table == table && self.holder == row.id && row.session == holder::own_session()
    }
}

struct Note {
    /// The subtransaction that it belongs to.
    part: u32,
    deed: Deed,
}

thread_local! {
    static NOTES: RefCell<Vec<Note>> = const { RefCell::new(Vec::new()) };
    /// What this session keeps, committed.
    static KEPT: RefCell<Vec<Kept>> = const { RefCell::new(Vec::new()) };
}

/// Something of a resource was taken.
pub fn took(resource: &str) {
    note(Deed::Took(resource.to_owned()));
}

/// Something of a resource came free, or there is more of it.
pub fn freed(resource: &str) {
    note(Deed::Freed(resource.to_owned()));
}

/// A resource was dropped.
pub fn dropped(resource: &str) {
    note(Deed::Dropped(resource.to_owned()));
}

/// The session keeps a holder's lock from the commit on.
pub fn keep(holder: &Holder) -> Result<()> {
    note(Deed::Keep(Kept::of(holder)?, false));
    Ok(())
}

/// The session lets go of a holder's lock at the commit.
pub fn let_go(holder: &Holder) -> Result<()> {
    note(Deed::LetGo(Kept::of(holder)?));
    Ok(())
}

fn note(deed: Deed) {
    let part = xact::part();
    NOTES.with_borrow_mut(|notes| {
        if !notes.iter().any(|known| known.part == part && known.deed == deed) {
            notes.push(Note { part, deed });
        }
    });
    xact::watch_endings(ended);
    xact::watch_closing(closing);
}

/// Whether a deed was noted in any part of the transaction that has not been rolled back.
fn is_noted(deed: &Deed) -> bool {
    NOTES.with_borrow(|notes| notes.iter().any(|note| note.deed == *deed))
}

/// Whether this session keeps anything by its locks.
pub fn keeps_any() -> bool {
    KEPT.with_borrow(|kept| !kept.is_empty())
}

/// Lets go of what this session keeps without a lease: its leases were taken back while it was away. Every call of a
/// consumer begins with it.
pub fn let_go_of_reaped() -> Result<()> {
    let mut kept = KEPT.with_borrow(Vec::clone);
    // An earlier call of the transaction, or of a part of it that goes on, may have let go already.
    kept.retain(|known| !is_noted(&Deed::LetGo(*known)));
    if kept.is_empty() {
        return Ok(());
    }
    let table = holder::table()?;
    // What was kept of another table than today's has neither lease nor row any more.
    let own: Vec<i64> = kept.iter().filter(|known| known.table == table).map(|known| known.holder).collect();
    let leases = holder::leases(&own)?;
    kept.retain(|known| known.table != table || !leases.iter().any(|lease| lease.holder == known.holder));
    if kept.is_empty() {
        return Ok(());
    }
    let mut rows = holder::all()?;
    rows.retain(|row| kept.iter().any(|known| known.is(table, row)));
    holder::remove(&rows.iter().map(|row| row.id).collect::<Vec<_>>())?;
    rows.iter().for_each(|row| freed(&row.resource));
    kept.into_iter().for_each(|known| note(Deed::LetGo(known)));
    Ok(())
}

/// Before the commit: what fails here rolls it back.
fn closing(closing: Closing) -> Result<()> {
    let is_any = |of: fn(&Deed) -> bool| NOTES.with_borrow(|notes| notes.iter().any(|note| of(&note.deed)));
    match closing {
        Closing::Prepare if is_any(|deed| !matches!(deed, Deed::Freed(_) | Deed::Dropped(_))) => {
            Err(Error::not_supported("cannot PREPARE a transaction that has taken resources")
                .hint("Commit the fetch first, or leave resources out of its hints."))
        }
        Closing::Prepare => Ok(()),
        Closing::Commit => keep_all(),
    }
}

fn keep_all() -> Result<()> {
    NOTES.with_borrow_mut(|notes| {
        for note in notes {
            if let Deed::Keep(known, is_kept) = &mut note.deed {
                *is_kept = known.lock.keep();
                if !*is_kept {
                    return Err(Error::internal("the lock of a slot was lost before the commit"));
                }
            }
        }
        Ok(())
    })
}

/// Called at the end of a transaction or a part of it. Must not raise.
fn ended(ending: Ending) {
    match ending {
        Ending::Committed => {
            let mut notes = NOTES.take();
            // Who is woken must find what there is to be found.
            notes.sort_by_key(|note| matches!(note.deed, Deed::Freed(_)));
            notes.into_iter().for_each(|note| committed(note.deed));
        }
        Ending::Aborted => NOTES.take().into_iter().for_each(|note| undone(note.deed)),
        Ending::PartAborted(part) => {
            let gone = NOTES.with_borrow_mut(|notes| {
                let (gone, left) = std::mem::take(notes).into_iter().partition(|note| note.part >= part);
                *notes = left;
                let gone: Vec<Note> = gone;
                gone
            });
            gone.into_iter().for_each(|note| undone(note.deed));
        }
        Ending::PartCommitted(part, parent) => NOTES.with_borrow_mut(|notes| {
            notes.iter_mut().filter(|note| note.part >= part).for_each(|note| note.part = parent);
        }),
        Ending::Prepared => NOTES.with_borrow_mut(Vec::clear),
    }
}

fn committed(deed: Deed) {
    match deed {
        Deed::Took(_) => {}
        Deed::Freed(resource) => line::wake(&resource),
        Deed::Dropped(resource) => line::forget(&resource),
        Deed::Keep(known, _) => KEPT.with_borrow_mut(|kept| kept.push(known)),
        Deed::LetGo(gone) => {
            KEPT.with_borrow_mut(|kept| kept.retain(|known| *known != gone));
            gone.lock.let_go();
        }
    }
}

fn undone(deed: Deed) {
    match deed {
        Deed::Took(resource) => line::wake(&resource),
        Deed::Keep(known, true) => known.lock.let_go(),
        _ => {}
    }
}
