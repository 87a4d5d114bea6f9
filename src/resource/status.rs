//! Who holds what, for the view `resource_status`.

use super::catalog::{self, Kind, Resource};
use super::holder::{self, Holder, OnIt};
use crate::error::Result;
use crate::queue::registry;

/// A row of the view: a slot and a lease on it, or a holder of units and its first lease. Without lease and process id it
/// is free; with a process id alone a session keeps it whose lease was taken back.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StatusLine {
    /// The resource.
    pub resource: String,
    /// How it is counted.
    pub kind: Kind,
    /// How much there is; `None`: without limit.
    pub capacity: Option<i64>,
    /// The slot.
    pub slot: Option<i64>,
    /// How many units are held.
    pub units: Option<i64>,
    /// A lease on it.
    pub lease: Option<i64>,
    /// Number of the queue from which that came; without a lease that of the workflow.
    pub queue: Option<i64>,
    /// Whose fetch took it.
    pub workflow: Option<String>,
    /// The worker's name, if it gave one.
    pub worker: Option<String>,
    /// Process id of the backend that took it.
    pub pid: Option<i32>,
    /// Since when, microseconds.
    pub since: Option<i64>,
    /// When the lease ends, microseconds.
    pub deadline: Option<i64>,
}

/// All lines, by resource and slot.
pub fn lines() -> Result<Vec<StatusLine>> {
    let holders = holder::all()?;
    let leases = holder::leases(&holders.iter().map(|holder| holder.id).collect::<Vec<_>>())?;
    let mut lines = Vec::new();
    for resource in catalog::read()? {
        let mut own: Vec<&Holder> = holders.iter().filter(|holder| holder.resource == resource.name).collect();
        own.sort_by_key(|holder| (holder.slot, holder.since, holder.id));
        match resource.kind {
            Kind::Slots => lines.extend(slots(&resource, &own, &leases)),
            Kind::Units => lines.extend(units(&resource, &own, &leases)),
        }
    }
    for line in lines.iter_mut().filter(|line| line.lease.is_none()) {
        line.queue = queue_of(line)?;
    }
    Ok(lines)
}

/// The queue of what is held without a lease: who may see that one sees by whom.
fn queue_of(line: &StatusLine) -> Result<Option<i64>> {
    let workflow = line.workflow.as_deref().map(registry::workflow).transpose()?;
    Ok(workflow.flatten().map(|row| row.queue))
}

/// All slots there are, and those that are held although there are fewer by now.
fn slots(resource: &Resource, holders: &[&Holder], leases: &[OnIt]) -> Vec<StatusLine> {
    let beyond = holders.iter().filter_map(|holder| holder.slot.map(|slot| slot + 1)).max().unwrap_or(0);
    let count = resource.capacity.unwrap_or(0);
    let mut lines = Vec::new();
    for slot in 0..count.max(beyond) {
        match holders.iter().find(|holder| holder.slot == Some(slot)) {
            Some(holder) => lines.extend(on_holder(resource, holder, leases)),
            None if slot < count => lines.push(StatusLine { slot: Some(slot), ..free(resource) }),
            None => {}
        }
    }
    lines
}

fn units(resource: &Resource, holders: &[&Holder], leases: &[OnIt]) -> Vec<StatusLine> {
    let lines = holders.iter().filter_map(|holder| on_holder(resource, holder, leases).into_iter().next());
    let lines: Vec<StatusLine> = lines.collect();
    match lines.is_empty() {
        true => vec![StatusLine { units: Some(0), ..free(resource) }],
        false => lines,
    }
}

fn free(resource: &Resource) -> StatusLine {
    StatusLine {
        resource: resource.name.clone(),
        kind: resource.kind,
        capacity: resource.capacity,
        ..StatusLine::default()
    }
}

/// One line for each lease, or one without.
fn on_holder(resource: &Resource, holder: &Holder, leases: &[OnIt]) -> Vec<StatusLine> {
    let held = StatusLine {
        slot: holder.slot,
        units: Some(holder.units).filter(|_| holder.kind() == Kind::Units),
        workflow: Some(holder.workflow.clone()),
        worker: holder.worker.clone(),
        pid: Some(holder.session.pid),
        since: Some(holder.since),
        ..free(resource)
    };
    let own = leases.iter().filter(|on| on.holder == holder.id).map(|on| StatusLine {
        lease: Some(on.lease),
        queue: Some(on.queue),
        deadline: Some(on.deadline),
        ..held.clone()
    });
    let lines: Vec<StatusLine> = own.collect();
    match lines.is_empty() {
        true => vec![held],
        false => lines,
    }
}
