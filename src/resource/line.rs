//! Who waits for a resource, and whose turn it is: the first come first, as far as two want the same. The line is in shared
//! memory. Without it, those who wait within a fetch queue up for a lock, the gate; who has it is first in line.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::{Duration, Instant};

use super::at_end;
use super::want::Want;
use crate::guc;
use crate::host::latch::Latch;
use crate::host::lock::ResourceLock;
use crate::host::value;
use crate::host::xact;
use crate::shmem;
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

/// The gates that one passes for what can run out: one for each resource, or for each group of consumers who name the same
/// first slot.
fn gates(wants: &[Want]) -> impl Iterator<Item = ResourceLock> + '_ {
    wants.iter().filter(|want| want.resource.capacity.is_some()).map(gate)
}

fn gate(want: &Want) -> ResourceLock {
    let first = want.among.as_ref().and_then(|slots| slots.first()).map_or(u32::MAX, |slot| *slot as u32);
    ResourceLock::gate(&want.resource.name, first)
}

/// Waits for its turn where there is no line to stand in; the gates that it holds then. None when `deadline` came first.
pub fn pass_gates(wants: &[Want], deadline: Instant) -> Option<Gates> {
    let mut passed = Gates::default();
    if shmem::is_there() {
        return Some(passed);
    }
    for gate in gates(wants) {
        let rest = deadline.saturating_duration_since(Instant::now()).as_millis();
        if !gate.wait_for(i64::try_from(rest).unwrap_or(i64::MAX).max(1)) {
            passed.give_back();
            return None;
        }
        passed.0.push(gate);
    }
    Some(passed)
}

/// Gates that are held.
#[derive(Default)]
pub struct Gates(Vec<ResourceLock>);

impl Gates {
    /// Lets the next one pass.
    pub fn give_back(self) {
        self.0.into_iter().for_each(ResourceLock::give_back);
    }
}

/// Whether others who want the same come first.
pub fn is_behind(want: &Want, me: Me) -> bool {
    if !shmem::is_there() {
        return gate(want).is_wanted();
    }
    let now = value::now();
    line_of(want).before(me.0).iter().any(|other| stands_before(want, other, now))
}

/// For how long one can sleep until it is woken, because others are before it, who wake it when they leave: until the first
/// of them has left without a word. None for who is first, or has no place: not all that comes free is told.
pub fn sleeps(wants: &[Want], me: Me) -> Option<Duration> {
    let now = value::now();
    let end = |(want, line): (&Want, Line)| {
        line.since(me.0)?;
        line.before(me.0).into_iter().filter(|other| stands_before(want, other, now)).map(|other| other.until).min()
    };
    let first = lines(wants).filter_map(end).min()?;
    Some(Duration::from_micros((first - now).max(0).unsigned_abs()))
}

fn stands_before(want: &Want, other: &Waiting, now: i64) -> bool {
    other.until > now && want.meets(other.slots)
}

/// Whether others who want the same have waited for longer than a turn, or, where nobody knows since when they wait, the
/// holder has had it for that long, microseconds.
pub fn is_overdue(want: &Want, me: Me, held_since: i64) -> bool {
    let now = value::now();
    let longest = guc::slot_turn_ms().saturating_mul(1_000);
    if !shmem::is_there() {
        return now - held_since > longest && gate(want).is_wanted();
    }
    let is_overdue = |other: &Waiting| other.until > now && now - other.since > longest && want.meets(other.slots);
    line_of(want).any_other(me.0, is_overdue)
}

/// Stands in line for at most `rest`, keeping the place that one has. Seen: from now on others let one go first.
pub fn stand(wants: &[Want], me: Me, rest: Duration) {
    stand_for(wants, me, i64::try_from(rest.as_micros()).unwrap_or(i64::MAX).min(SEEN));
}

/// Stands in line between two looks of a `wait`.
pub fn stand_on(wants: &[Want], me: Me) {
    stand(wants, me, Duration::from_micros(SEEN.unsigned_abs()));
}

/// Leaves with the turn: the next fetch of the same consumer, if it comes soon, goes first.
pub fn promise(wants: &[Want], me: Me) {
    stand_for(wants, me, TURN);
}

/// For so many microseconds. A consumer has one place in all its lines, since the same moment: two who ask for the same
/// resources would otherwise each be before the other in one of them, and wait for each other. So who asks for one more has
/// a new place in all of them. Whose line is full has none in it.
fn stand_for(wants: &[Want], me: Me, time: i64) {
    let now = value::now();
    let lines = lines(wants).map(|(want, mut line)| (line.make_room(me.0, now - REMEMBERED), want, line));
    let lines: Vec<(&Want, Line)> =
        lines.filter(|(has_room, ..)| *has_room).map(|(_, want, line)| (want, line)).collect();
    let places: Vec<Option<i64>> = lines.iter().map(|(_, line)| line.since(me.0)).collect();
    let kept = places.first().copied().flatten().filter(|since| places.iter().all(|place| *place == Some(*since)));
    let has_lost_its_place = kept.is_none() && places.iter().any(Option::is_some);
    let own = Waiting { who: me.0, latch: Latch::own(), slots: 0, since: kept.unwrap_or(now), until: now + time };
    for (want, line) in lines {
        line.stand(Waiting { slots: want.slot_mask(), ..own });
        if has_lost_its_place {
            line.wake(now); // who was behind is before it now
        }
    }
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

/// Frees the line of a resource that is gone, once the transaction has committed; those in it are woken, and see that.
pub fn forget_at_commit(resource: &str) {
    at_end::dropped(resource);
}

/// Does that. Raises nothing.
pub fn forget(resource: &str) {
    wake(resource);
    Line::of(resource).forget();
}
