//! What a transaction did that others are to know once it has committed: what it counts, whom it wakes, when there is
//! something to do. Kept in the session until then; dropped with the transaction, or the part of it, that is rolled
//! back. Without shared memory nothing is kept.
//!
//! A prepared transaction tells its news when it is prepared, since another session will commit it: counts may so be of
//! what is rolled back later, and the worker looks from time to time while transactions are prepared. Jobs that it moved
//! from one status to another are counted anew once it has ended.

use std::cell::RefCell;
use std::rc::Rc;

use super::database;
use super::known::Change;
use super::queue::{Counter, Marks, Slot};
use crate::guc;
use crate::host::value;
use crate::host::xact::{self, Ending};

/// One piece of news.
enum News {
    /// Adds to a counter of a queue.
    Count(Rc<Slot>, Counter, i64),
    /// What was done to a queue's jobs.
    Change(Rc<Slot>, Box<Change>),
    /// A queue may have jobs for who waits.
    Wake(Rc<Slot>),
    /// Who was woken has fetched: there may be jobs left for the next.
    PassOn(Rc<Slot>),
    /// A job is to be fetched from a time on, microseconds.
    Due(Rc<Slot>, i64),
    /// The worker has something to do at a time, microseconds.
    WorkBy(i64),
}

struct Piece {
    /// The subtransaction that it belongs to.
    part: u32,
    news: News,
}

thread_local! {
    /// The queues of which this transaction has claimed jobs.
    static CLAIMING: RefCell<Vec<Rc<Slot>>> = const { RefCell::new(Vec::new()) };
    static PIECES: RefCell<Vec<Piece>> = const { RefCell::new(Vec::new()) };
}

/// This transaction is claiming jobs of a queue: others begin elsewhere until it has ended, one way or the other.
pub fn claiming(slot: &Rc<Slot>) {
    let Some(marks) = slot.marks() else {
        return;
    };
    let is_new = CLAIMING.with_borrow_mut(|slots| {
        let is_new = !slots.iter().any(|known| known.key() == slot.key());
        if is_new {
            slots.push(slot.clone());
        }
        is_new
    });
    if is_new {
        marks.begin_claim();
        xact::watch_endings(ended);
    }
}

/// Counts something that was done to a queue's jobs.
pub fn count(slot: &Rc<Slot>, counter: Counter, by: i64) {
    if by == 0 || !super::is_there() {
        return;
    }
    add(xact::part(), News::Count(slot.clone(), counter, by));
}

/// Notes what was done to a queue's jobs.
pub fn change(slot: &Rc<Slot>, note: impl FnOnce(&mut Change)) {
    if !super::is_there() {
        return;
    }
    let part = xact::part();
    let is_it = |piece: &&mut Piece| {
        piece.part == part && matches!(&piece.news, News::Change(known, _) if known.key() == slot.key())
    };
    PIECES.with_borrow_mut(|pieces| match pieces.iter_mut().find(is_it).map(|piece| &mut piece.news) {
        // A COPY comes here with every row.
        Some(News::Change(_, change)) => note(change),
        _ => {
            let mut change = Box::new(Change::default());
            note(&mut change);
            pieces.push(Piece { part, news: News::Change(slot.clone(), change) });
        }
    });
    xact::watch_endings(ended);
}

/// Wakes who waits next for the queue, after a claim. Listeners are not told: no job has come.
pub fn pass_on(slot: &Rc<Slot>) {
    if super::is_there() {
        add(xact::part(), News::PassOn(slot.clone()));
    }
}

/// Wakes who waits for the queue, and tells listeners: jobs became pending, now or at a time to come.
pub fn wake(slot: &Rc<Slot>) {
    if !super::is_there() {
        return;
    }
    add(xact::part(), News::Wake(slot.clone()));
}

/// Jobs are to be fetched from a time on, microseconds, or later. Wakes who waits for the queue.
pub fn due(slot: &Rc<Slot>, at: i64) {
    if !super::is_there() {
        return;
    }
    add(xact::part(), News::Due(slot.clone(), at));
    wake(slot);
}

/// The worker has something to do at a time, microseconds; 0: now.
pub fn work_by(at: i64) {
    if !super::is_there() {
        return;
    }
    add(xact::part(), News::WorkBy(at));
}

fn add(part: u32, news: News) {
    PIECES.with_borrow_mut(|pieces| put(pieces, part, news));
    xact::watch_endings(ended);
}

/// Adds news to what is known of the same part, so that there is one piece of a kind and part, however many rows.
fn put(pieces: &mut Vec<Piece>, part: u32, news: News) {
    let mut news = news;
    for piece in pieces.iter_mut().rev().take_while(|piece| piece.part >= part).filter(|piece| piece.part == part) {
        match (&mut piece.news, &mut news) {
            (News::Count(slot, counter, sum), News::Count(other, kind, by))
                if *counter == *kind && slot.key() == other.key() =>
            {
                *sum = sum.saturating_add(*by);
                return;
            }
            (News::Change(slot, change), News::Change(other, later)) if slot.key() == other.key() => {
                change.add(std::mem::take(later));
                return;
            }
            (News::PassOn(slot), News::PassOn(other)) if slot.key() == other.key() => return,
            (News::Wake(slot), News::Wake(other)) if slot.key() == other.key() => return,
            (News::Due(slot, known), News::Due(other, at)) if slot.key() == other.key() => {
                *known = *at.min(known);
                return;
            }
            (News::WorkBy(known), News::WorkBy(at)) => {
                *known = *at.min(known);
                return;
            }
            _ => {}
        }
    }
    pieces.push(Piece { part, news });
}

/// What a part brought belongs to the part around it from now on: a transaction of many parts has no more pieces than
/// one without.
fn hand_up(pieces: &mut Vec<Piece>, part: u32, parent: u32) {
    // Parts within it were handed up before: its own pieces are the last that are left of it.
    let (own, others): (Vec<Piece>, Vec<Piece>) = pieces.drain(..).partition(|piece| piece.part >= part);
    *pieces = others;
    own.into_iter().for_each(|piece| put(pieces, parent, piece.news));
}

/// Called at the end of a transaction or a part of it. Must not raise.
fn ended(ending: Ending) {
    if !matches!(ending, Ending::PartAborted(_) | Ending::PartCommitted(..)) {
        CLAIMING.take().iter().filter_map(|slot| slot.marks()).for_each(Marks::end_claim);
    }
    match ending {
        Ending::Aborted => PIECES.with_borrow_mut(Vec::clear),
        Ending::PartAborted(part) => PIECES.with_borrow_mut(|pieces| pieces.retain(|piece| piece.part < part)),
        Ending::PartCommitted(part, parent) => PIECES.with_borrow_mut(|pieces| {
            if pieces.iter().any(|piece| piece.part >= part) {
                hand_up(pieces, part, parent);
            }
        }),
        Ending::Committed => tell(ending),
        Ending::Prepared => {
            let is_news = PIECES.with_borrow(|pieces| !pieces.is_empty());
            tell(ending);
            if is_news {
                database::note_prepared();
            }
        }
    }
}

fn tell(ending: Ending) {
    let mut pieces = PIECES.take();
    // Who is woken must find what there is to be found.
    pieces.sort_by_key(|piece| matches!(piece.news, News::Wake(_) | News::PassOn(_)));
    for piece in &pieces {
        match &piece.news {
            News::Count(slot, counter, by) => tell_count(slot, *counter, *by),
            News::Change(slot, change) => tell_change(slot, change, ending),
            News::Wake(slot) => tell_wake(slot),
            News::PassOn(slot) => slot.wake_first(),
            News::Due(slot, at) => slot.look_for_due_from(*at),
            News::WorkBy(at) => work_now_by(*at),
        }
    }
}

fn tell_count(slot: &Slot, counter: Counter, by: i64) {
    if let Some(marks) = slot.marks() {
        marks.add(counter, by);
        marks.last_activity.store(value::now(), std::sync::atomic::Ordering::Relaxed);
    }
}

fn tell_change(slot: &Slot, change: &Change, ending: Ending) {
    let (xid, now) = (xact::own_xid(), value::now());
    if let Some(mut notes) = slot.write() {
        match ending {
            Ending::Prepared => notes.known.prepared(xid, change, now),
            _ => notes.known.committed(xid, change, now),
        }
    }
}

fn tell_wake(slot: &Slot) {
    slot.wake_first();
    let interval_ms = guc::notify_interval_ms();
    let is_first = || slot.marks().is_some_and(|marks| !marks.is_news.swap(true, std::sync::atomic::Ordering::SeqCst));
    if interval_ms > 0 && is_first() && !database::notify_own_by(value::now().saturating_add(interval_ms * 1_000)) {
        slot.marks().into_iter().for_each(|marks| marks.is_news.store(false, std::sync::atomic::Ordering::SeqCst));
    }
}

/// The same as `work_by` for what no transaction has to commit first.
pub fn work_now_by(at: i64) {
    database::wake_own_by(at);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shmem::queue::Key;
    use pgrx::pg_sys::Oid;

    fn slot(number: i64) -> Rc<Slot> {
        Rc::new(Slot::of(Key { database: Oid::INVALID, registry: Oid::INVALID, number }))
    }

    #[test]
    fn many_parts_leave_few_pieces() {
        let mut pieces = Vec::new();
        for part in 2..1_000 {
            put(&mut pieces, part, News::Count(slot(1), Counter::Enqueued, 1));
            put(&mut pieces, part, News::Wake(slot(1)));
            put(&mut pieces, part, News::WorkBy(i64::from(part)));
            hand_up(&mut pieces, part, 1);
        }
        put(&mut pieces, 1, News::Count(slot(2), Counter::Enqueued, 1));
        assert_eq!(pieces.len(), 4);
        assert!(matches!(pieces[0].news, News::Count(_, _, 998)));
        assert!(matches!(pieces[2].news, News::WorkBy(2)));
    }
}
