//! Taking all that a fetch wants, or nothing.
//!
//! A slot is taken under its advisory lock, held until the transaction ends: whoever is taking it now, committed or not,
//! keeps others from it. With the lock in hand the holders' rows are read as they are at that moment; they are the truth
//! beyond the transaction. Units are counted under one lock for each resource, held until the call has written its row:
//! rows of open transactions count, so that nobody has to wait for their end.

use std::time::{Duration, Instant};

use super::at_end;
use super::catalog::Kind;
use super::expired;
use super::holder::{self, Holder};
use super::line::{self, Me};
use super::want::Want;
use crate::error::Result;
use crate::host::lock::ResourceLock;
use crate::host::{latch, value, xact};

/// How often slots that looked free are tried, when others were faster.
const ROUNDS: usize = 3;
/// How long a fetch waits for others that are counting units, milliseconds, in steps of one.
const COUNTING_MS: usize = 100;
/// How often who is first in line looks by himself, milliseconds.
const LOOK_MS: u64 = 50;

/// Who wants it.
#[derive(Debug, Clone, Copy)]
pub struct Claimant<'a> {
    /// The workflow that fetches.
    pub workflow: &'a str,
    /// The worker's name, if it gave one.
    pub worker: Option<&'a str>,
    /// Whether the session keeps what it takes, by locks.
    pub by_session: bool,
}

impl Claimant<'_> {
    /// Whether a holder is this one already: known by its worker's name, without one never.
    fn is(&self, holder: &Holder) -> bool {
        self.worker.is_some()
            && holder.worker.as_deref() == self.worker
            && holder.workflow == self.workflow
            && holder.by_session == self.by_session
            && (!self.by_session || holder.session == holder::own_session())
    }

    /// How it is known in line.
    pub fn me(&self) -> Me {
        Me::of(self.workflow, self.worker)
    }
}

/// What came of it.
pub enum Outcome {
    /// All of it is this fetch's, if it finds jobs.
    Granted(Grant),
    /// Some of it is not to be had: of this resource.
    Busy(String),
}

/// Something that a fetch takes.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Part {
    resource: String,
    slot: Option<i64>,
    units: i64,
    /// The holder that it shares with earlier fetches of its worker.
    holder: Option<i64>,
}

/// What a fetch has taken and nobody knows of yet: it becomes rows when there are jobs (`keep`), or is given back.
#[derive(Default)]
pub struct Grant {
    parts: Vec<Part>,
    slots: Vec<ResourceLock>,
    counting: Vec<ResourceLock>,
    /// Whether rows that came with a copy of the database may be in the way.
    over_copies: bool,
}

impl Grant {
    /// Gives back what was taken: nothing of it was written.
    pub fn give_back(self) {
        self.slots.iter().chain(&self.counting).for_each(|lock| lock.give_back());
    }

    /// What the consumer is told: `{"gpu": [0], "memory_gb": 16}`.
    pub fn as_json(&self) -> String {
        let mut fields: Vec<String> = Vec::new();
        let mut rest = self.parts.as_slice();
        while let Some(first) = rest.first() {
            let count = rest.iter().take_while(|part| part.resource == first.resource).count();
            let (same, others) = rest.split_at(count);
            let name = serde_json::to_string(&first.resource).unwrap_or_default();
            fields.push(format!("{name}: {}", amounts(same)));
            rest = others;
        }
        format!("{{{}}}", fields.join(", "))
    }

    /// Writes down who holds what under a lease that was just written.
    pub fn keep(self, claimant: &Claimant, lease: i64) -> Result<()> {
        for part in &self.parts {
            let id = match part.holder {
                Some(known) => known,
                None => add(claimant, part, self.over_copies)?,
            };
            if part.holder.is_some() && part.slot.is_none() {
                holder::raise(id, part.units)?;
            }
            holder::attach(lease, id)?;
            at_end::took(&part.resource);
        }
        self.counting.iter().for_each(|lock| lock.give_back());
        Ok(())
    }
}

/// The slots as a list, or the units as a number.
fn amounts(parts: &[Part]) -> String {
    let mut slots: Vec<i64> = parts.iter().filter_map(|part| part.slot).collect();
    slots.sort_unstable();
    match slots.is_empty() {
        true => parts.iter().map(|part| part.units).sum::<i64>().to_string(),
        false => format!("[{}]", slots.iter().map(i64::to_string).collect::<Vec<_>>().join(", ")),
    }
}

fn add(claimant: &Claimant, part: &Part, over_copies: bool) -> Result<i64> {
    if let (Some(slot), true) = (part.slot, over_copies) {
        holder::remove_copy(&part.resource, slot, xact::database())?;
    }
    let mut new = Holder {
        id: 0,
        since: value::now(),
        session: holder::own_session(),
        database: xact::database(),
        by_session: claimant.by_session,
        resource: part.resource.clone(),
        slot: part.slot,
        units: part.units,
        workflow: claimant.workflow.to_owned(),
        worker: claimant.worker.map(str::to_owned),
    };
    new.id = holder::add(&new)?;
    if claimant.by_session {
        at_end::keep(&new)?;
    }
    Ok(new.id)
}

/// Takes what is wanted, waiting for it until `deadline`.
pub fn acquire(wants: &[Want], claimant: &Claimant, deadline: Instant) -> Result<Outcome> {
    let mut outcome = take(wants, claimant, Depth::Claim)?;
    if matches!(outcome, Outcome::Busy(_)) && expired::end(wants)? {
        outcome = take(wants, claimant, Depth::Claim)?;
    }
    let has_to_wait = matches!(outcome, Outcome::Busy(_)) && Instant::now() < deadline;
    if has_to_wait {
        line::stand(wants, claimant.me(), deadline.saturating_duration_since(Instant::now()));
        if let Some(gates) = line::pass_gates(wants, deadline) {
            outcome = take_in_time(wants, claimant, deadline)?;
            gates.give_back();
        }
    }
    match &outcome {
        Outcome::Granted(_) => line::leave(wants, claimant.me()),
        Outcome::Busy(_) => line::give_up(wants, claimant.me(), has_to_wait),
    }
    Ok(outcome)
}

/// Looks again whenever something comes free; who is first in line, from time to time besides.
fn take_in_time(wants: &[Want], claimant: &Claimant, deadline: Instant) -> Result<Outcome> {
    loop {
        let outcome = take(wants, claimant, Depth::Claim)?;
        let rest = deadline.saturating_duration_since(Instant::now());
        if matches!(outcome, Outcome::Granted(_)) || rest.is_zero() {
            return Ok(outcome);
        }
        let sleep = line::sleeps(wants, claimant.me()).unwrap_or(Duration::from_millis(LOOK_MS)).min(rest);
        latch::sleep(Some(sleep.as_millis().max(1) as i64));
    }
}

/// Whether what is wanted could be taken now. Takes nothing that outlives the (sub)transaction, writes nothing.
pub fn is_free(wants: &[Want], claimant: &Claimant) -> Result<bool> {
    match take(wants, claimant, Depth::Look)? {
        Outcome::Granted(grant) => {
            grant.give_back();
            Ok(true)
        }
        Outcome::Busy(_) => Ok(false),
    }
}

/// How far taking goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Depth {
    /// To be kept.
    Claim,
    /// To see whether it could be: locks no row, and does not sleep.
    Look,
}

fn take(wants: &[Want], claimant: &Claimant, depth: Depth) -> Result<Outcome> {
    for _ in 0..ROUNDS {
        let seen = holder::all()?;
        let mut taken = Grant::default();
        if let Some(busy) = wants.iter().find(|want| !take_one(want, claimant, depth, &seen, &mut taken)) {
            taken.give_back();
            return Ok(Outcome::Busy(busy.resource.name.clone()));
        }
        // With the locks in hand nobody else can add what would be in the way.
        let (now, has_copies) = holder::all_and_copies()?;
        taken.over_copies = has_copies;
        if taken.parts.iter().any(|part| is_taken_since(part, &now)) {
            taken.give_back();
            continue;
        }
        if let Some(short) = wants.iter().find(|want| !has_units(want, claimant, &now)) {
            taken.give_back();
            return Ok(Outcome::Busy(short.resource.name.clone()));
        }
        return match depth == Depth::Look || lock_shared(wants, &mut taken)? {
            true => Ok(Outcome::Granted(taken)),
            false => {
                let name = taken.parts.iter().find(|part| part.holder.is_some()).map(|part| part.resource.clone());
                taken.give_back();
                Ok(Outcome::Busy(name.unwrap_or_default()))
            }
        };
    }
    Ok(Outcome::Busy(wants.first().map(|want| want.resource.name.clone()).unwrap_or_default()))
}

/// Takes the locks for one want; false when it is not to be had.
fn take_one(want: &Want, claimant: &Claimant, depth: Depth, seen: &[Holder], taken: &mut Grant) -> bool {
    match want.resource.kind {
        Kind::Slots => take_slots(want, claimant, seen, taken),
        Kind::Units => take_units(want, claimant, depth, seen, taken),
    }
}

fn take_slots(want: &Want, claimant: &Claimant, seen: &[Holder], taken: &mut Grant) -> bool {
    let name = &want.resource.name;
    let on = |slot: i64| seen.iter().find(|holder| holder.resource == *name && holder.slot == Some(slot));
    let slots = want.slots();
    let part = |slot, holder| Part { resource: name.clone(), slot: Some(slot), units: 0, holder };
    let own = slots
        .iter()
        .filter_map(|slot| on(*slot).filter(|holder| claimant.is(holder)).map(|own| part(*slot, Some(own.id))));
    let mut parts: Vec<Part> = own.take(want.amount as usize).collect();
    let is_whole = |parts: &Vec<Part>| parts.len() as i64 >= want.amount;
    let since = is_whole(&parts).then(|| held_since(seen, &parts));
    if is_held_up(want, claimant, since) {
        return false;
    }
    for slot in slots {
        if is_whole(&parts) {
            break;
        }
        let lock = ResourceLock::slot(name, slot);
        if on(slot).is_none() && lock.try_take() {
            taken.slots.push(lock);
            parts.push(part(slot, None));
        }
    }
    let is_enough = is_whole(&parts);
    taken.parts.extend(parts);
    is_enough
}

/// Since when the first of some parts is held, microseconds.
fn held_since(seen: &[Holder], parts: &[Part]) -> i64 {
    let is_it = |holder: &&Holder| parts.iter().any(|part| part.holder == Some(holder.id));
    seen.iter().filter(is_it).map(|holder| holder.since).min().unwrap_or(i64::MAX)
}

/// Whether others go first: those before it in line, or, where it goes on with what it holds since a time, those who have
/// waited for longer than a turn.
fn is_held_up(want: &Want, claimant: &Claimant, held_since: Option<i64>) -> bool {
    match held_since {
        Some(since) => line::is_overdue(want, claimant.me(), since),
        None => line::is_behind(want, claimant.me()),
    }
}

fn take_units(want: &Want, claimant: &Claimant, depth: Depth, seen: &[Holder], taken: &mut Grant) -> bool {
    let name = &want.resource.name;
    let own = seen.iter().find(|holder| holder.resource == *name && claimant.is(holder));
    let held_since = own.filter(|own| own.units >= want.amount).map(|own| own.since);
    if want.resource.capacity.is_some() {
        if is_held_up(want, claimant, held_since) {
            return false;
        }
        let lock = ResourceLock::counting(name);
        if !take_patiently(lock, depth) {
            return false;
        }
        taken.counting.push(lock);
    }
    let units = own.map_or(want.amount, |own| own.units.max(want.amount));
    taken.parts.push(Part { resource: name.clone(), slot: None, units, holder: own.map(|own| own.id) });
    true
}

/// Others hold this lock for the time of a call only, and do not wait while they do. Who only looks does not sleep for it:
/// he would miss what wakes him.
fn take_patiently(lock: ResourceLock, depth: Depth) -> bool {
    let tries = if depth == Depth::Look { 1 } else { COUNTING_MS };
    (0..tries).any(|at| {
        if at > 0 {
            latch::sleep(Some(1));
        }
        lock.try_take()
    })
}

fn is_taken_since(part: &Part, now: &[Holder]) -> bool {
    let is_there = |holder: &Holder| Some(holder.id) == part.holder;
    match part.holder {
        Some(_) => !now.iter().any(is_there),
        None => {
            part.slot.is_some() && now.iter().any(|other| other.resource == part.resource && other.slot == part.slot)
        }
    }
}

/// Whether there are units enough, what the claimant holds already included.
fn has_units(want: &Want, claimant: &Claimant, now: &[Holder]) -> bool {
    let Some(capacity) = want.resource.capacity.filter(|_| want.resource.kind == Kind::Units) else {
        return true;
    };
    let of_it = now.iter().filter(|holder| holder.resource == want.resource.name);
    let (own, others): (Vec<&Holder>, Vec<&Holder>) = of_it.partition(|holder| claimant.is(holder));
    let sum = |holders: &[&Holder]| holders.iter().fold(0i64, |sum, holder| sum.saturating_add(holder.units));
    sum(&others).saturating_add(sum(&own).max(want.amount)) <= capacity
}

/// Locks the holders that this fetch shares with earlier ones, so that no settle removes them; false when somebody has one
/// locked: its last lease is ending, or another fetch of the worker is under way. What has no limit is then held anew.
fn lock_shared(wants: &[Want], taken: &mut Grant) -> Result<bool> {
    let shared: Vec<i64> = taken.parts.iter().filter_map(|part| part.holder).collect();
    let locked = holder::lock_free(&shared)?;
    let of =
        |resource: &str| wants.iter().find(|want| want.resource.name == resource && want.resource.capacity.is_none());
    for part in &mut taken.parts {
        if let (false, Some(want)) = (part.holder.is_none_or(|id| locked.contains(&id)), of(&part.resource)) {
            (part.holder, part.units) = (None, want.amount);
        }
    }
    Ok(taken.parts.iter().filter_map(|part| part.holder).all(|id| locked.contains(&id)))
}
