//! Waiting for jobs: register as waiter, look, sleep; and again. Between two looks nothing is held, so however long
//! somebody waits, he keeps nobody's dead rows.

mod promise;
mod turn;
mod waking;

use std::rc::Rc;
use std::time::{Duration, Instant};

pub use self::promise::fetched;
use self::turn::Turn;
use self::waking::Seat;
use super::{claim, reap};
use crate::error::Result;
use crate::host::portions::Portions;
use crate::host::{client, latch, value};
use crate::queue::cache::Workflow;
use crate::resource::at_end;
use crate::resource::want::Want;

/// What a fetch would look for.
pub struct Sought {
    /// Jobs of this workflow.
    pub workflow: Rc<Workflow>,
    /// And these resources.
    pub wants: Vec<Want>,
    /// The worker's name, if it gave one.
    pub worker: Option<String>,
    /// Whether the session is to keep the resources.
    pub by_session: bool,
}

/// What a look found.
enum Look {
    /// A fetch would probably bring rows.
    Rows,
    /// None yet; when the next job with a delay is due, microseconds.
    NotYet(Option<i64>),
}

/// Returns when a fetch by workflow `name` would probably bring rows, or after `timeout_ms`. `find` looks up the
/// workflow and checks what the caller may and asks for, at every look.
pub fn wait(portions: &Portions, name: &str, timeout_ms: i64, find: impl Fn() -> Result<Sought>) -> Result<()> {
    let deadline = Instant::now() + Duration::from_millis(timeout_ms.unsigned_abs());
    let mut rest = promise::rest(name);
    let mut seat: Option<Seat> = None;
    let mut turn = Turn::default();
    loop {
        client::require();
        if at_end::keeps_any() {
            portions.write(at_end::let_go_of_reaped)?; // else it would wait for its own slot
        }
        let next_due = match portions.run(|| look(&find, &mut seat, &mut turn))? {
            Some(Look::Rows) if rest.is_none_or(|end| end <= Instant::now()) => {
                promise::give(name);
                turn.take_along();
                seat.into_iter().for_each(Seat::leave_for_fetch);
                return Ok(());
            }
            Some(Look::NotYet(next_due)) => next_due,
            // Broken a moment ago, or the table is locked.
            Some(Look::Rows) | None => {
                turn.step_aside();
                None
            }
        };
        if deadline <= Instant::now() {
            return Ok(());
        }
        let again =
            turn.sleeps().map_or(waking::look_again_ms(seat.is_some()), |sleep| ms(sleep).min(waking::LOOK_AGAIN_MS));
        if latch::sleep(Some(sleep_ms(deadline, rest, next_due, again))) {
            rest = None;
        }
    }
}

fn look(find: impl Fn() -> Result<Sought>, seat: &mut Option<Seat>, turn: &mut Turn) -> Result<Look> {
    let sought = find()?;
    let workflow = &sought.workflow;
    if workflow.paused {
        *seat = None; // who can take nothing would be woken in the place of another
        turn.step_aside();
        return Ok(Look::NotYet(None));
    }
    // First a waiter, then a look: what comes between is seen by the one, what comes later wakes the other.
    Seat::take(seat, &workflow.queue.slot);
    let found = claim::probe(&workflow.queue, 1)?;
    if found.waiting == 0 && !reap::fetch_would_help(&workflow.queue, value::now())? {
        turn.step_aside(); // who has no job does not keep others from the resources
        return Ok(Look::NotYet(found.next_due));
    }
    if turn.has_come(&sought)? {
        return Ok(Look::Rows);
    }
    *seat = None; // as above
    Ok(Look::NotYet(None))
}

/// Until the first of what ends a sleep, in milliseconds, rounded up.
fn sleep_ms(deadline: Instant, rest: Option<Instant>, next_due: Option<i64>, again_ms: i64) -> i64 {
    let now = Instant::now();
    let until = |end: Instant| ms(end.saturating_duration_since(now));
    // A time that has passed says nothing: the look has seen that job, and it cannot be fetched.
    let due = next_due.map(|at| at.saturating_sub(value::now())).filter(|us| *us > 0);
    let due = due.map(|us| ms(Duration::from_micros(us.unsigned_abs())));
    let ends = [Some(until(deadline)), rest.map(until).filter(|ms| *ms > 0), due];
    ends.into_iter().flatten().fold(again_ms, i64::min).max(1)
}

fn ms(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros().div_ceil(1_000)).unwrap_or(i64::MAX)
}
