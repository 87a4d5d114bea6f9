//! Who waits for a resource, and whose turn it is: the first come first, as far as two want the same. The line is in shared
//! memory; without it there is none, and whoever looks first gets what is free.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use super::at_end;
use super::want::Want;
use crate::guc;
use crate::host::value;
use crate::host::xact;
use crate::shmem::line::{Line, Waiting};

/// Who waited keeps his place for this long when he comes back, microseconds, though nobody waits for him meanwhile.
const REMEMBERED: i64 = 1_000_000;
/// For this long a turn stays with whom a `wait` has promised it, microseconds.
const TURN: i64 = 250_000;
/// Who stands in a `wait` is seen so long after his last look, microseconds: he looks every second, unless he is stopped.
const SEEN: i64 = 2_500_000;

/// A consumer in line: its workflow and worker, or without a worker's name its session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Me(u64);

impl Me {
    /// Who that is.
    pub fn of(workflow: &str, worker: Option<&str>) -> Self {
        let mut hasher = DefaultHasher::new();
        workflow.hash(&mut hasher);
        match worker {
            Some(worker) => worker.hash(&mut hasher),
            None => (xact::backend_pid(), xact::backend_start()).hash(&mut hasher),
        }
        Self(hasher.finish())
    }
}

fn line_of(want: &Want) -> Line {
    Line::of(&want.resource.name)
}

/// The lines in which one has to stand: for what can run out.
fn lines(wants: &[Want]) -> impl Iterator<Item = (&Want, Line)> {
    wants.iter().filter(|want| want.resource.capacity.is_some()).map(|want| (want, line_of(want)))
}

/// Whether others who want the same come first.
pub fn is_behind(want: &Want, me: Me) -> bool {
    let now = value::now();
    line_of(want).any_before(me.0, |other| other.until > now && want.meets(other.slots))
}

/// Whether others who want the same have waited for longer than a turn.
pub fn is_overdue(want: &Want, me: Me) -> bool {
    let now = value::now();
    let longest = guc::slot_turn_ms().saturating_mul(1_000);
    let is_overdue = |other: &Waiting| other.until > now && now - other.since > longest && want.meets(other.slots);
    line_of(want).any_other(me.0, is_overdue)
}

/// Stands in line for at most `rest`, keeping the place that one has. Seen: from now on others let one go first.
pub fn stand(wants: &[Want], me: Me, rest: Duration) {
    let rest = i64::try_from(rest.as_micros()).unwrap_or(i64::MAX).min(SEEN);
    let now = value::now();
    lines(wants).for_each(|(want, line)| line.stand(me.0, want.slot_mask(), now, now + rest, now - REMEMBERED));
}

/// Stands in line between two looks of a `wait`.
pub fn stand_on(wants: &[Want], me: Me) {
    stand(wants, me, Duration::from_micros(SEEN.unsigned_abs()));
}

/// Leaves with the turn: the next fetch of the same consumer, if it comes soon, goes first.
pub fn promise(wants: &[Want], me: Me) {
    let now = value::now();
    lines(wants).for_each(|(want, line)| line.stand(me.0, want.slot_mask(), now, now + TURN, now - REMEMBERED));
}

/// Leaves with what one wanted.
pub fn leave(wants: &[Want], me: Me) {
    for (_, line) in lines(wants) {
        line.leave(me.0, value::now());
        line.wake(value::now());
    }
}

/// Leaves without: who comes back soon has his place again, but nobody waits for him.
pub fn give_up(wants: &[Want], me: Me, has_waited: bool) {
    for (_, line) in lines(wants) {
        line.step_aside(me.0, value::now(), has_waited);
        line.wake(value::now());
    }
}

/// Wakes those whose turn it is. Raises nothing.
pub fn wake(resource: &str) {
    Line::of(resource).wake(value::now());
}

/// The same once the transaction has committed.
pub fn wake_at_commit(resource: &str) {
    at_end::freed(resource);
}
