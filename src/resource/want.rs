//! What a fetch wants, held against what there is.

use std::rc::Rc;

use super::catalog::{self, Kind, Resource};
use super::hints::{self, Ask, Hints, Hold};
use crate::error::{Error, Result};
use crate::job::binding;
use crate::queue::cache;

/// What is wanted of one resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Want {
    /// The resource.
    pub resource: Resource,
    /// So many slots or units, 1 or more.
    pub amount: i64,
    /// Of these slots, in this order; `None`: of any.
    pub among: Option<Vec<i64>>,
}

impl Want {
    /// The slots that would do, in the order in which they are tried. None for units.
    pub fn slots(&self) -> Vec<i64> {
        let all = || (0..self.resource.capacity.unwrap_or(0)).collect();
        match (self.resource.kind, &self.among) {
            (Kind::Units, _) => Vec::new(),
            (Kind::Slots, Some(among)) => among.clone(),
            (Kind::Slots, None) => all(),
        }
    }

    /// Whether two consumers who want these stand in each other's way.
    pub fn meets(&self, slot_mask: u64) -> bool {
        self.slot_mask() & slot_mask != 0
    }

    /// The slots that would do as bits, for a quick look; slots from 63 on share one.
    pub fn slot_mask(&self) -> u64 {
        match &self.among {
            None => u64::MAX,
            Some(among) => among.iter().fold(0, |mask, slot| mask | 1 << (*slot).clamp(0, 63)),
        }
    }
}

/// All that hints ask for, in the order of the resources' names. 42704 for a resource that there is not, 22023 for what can
/// never be given, 55000 where leases are to be bound to the session and qflow is not preloaded.
pub fn wants(hints: &Hints) -> Result<Vec<Want>> {
    if hints.binds_session() {
        binding::require_preload()?;
    }
    if hints.resources.is_empty() {
        return Ok(Vec::new());
    }
    hints::check_count(hints.resources.len())?; // those of the call and those of the workflow
    let known = cache::resources()?;
    let mut wants = Vec::new();
    for (name, ask) in &hints.resources {
        let resource = find(&known, name)?;
        wants.extend(want(resource, ask)?);
    }
    Ok(wants)
}

/// Whether slots that hints ask for are kept by the session too.
pub fn is_by_session(hints: &Hints) -> bool {
    hints.hold == Some(Hold::Session)
}

fn find<'a>(known: &'a Rc<Vec<Resource>>, name: &str) -> Result<&'a Resource> {
    known.iter().find(|resource| resource.name == name).ok_or_else(|| catalog::unknown(name))
}

fn want(resource: &Resource, ask: &Ask) -> Result<Option<Want>> {
    let of = |amount, among| Some(Want { resource: resource.clone(), amount, among });
    match ask {
        Ask::Nothing => Ok(None),
        Ask::Amount(amount) => match resource.capacity {
            Some(capacity) if *amount > capacity => Err(impossible(resource, *amount, capacity)),
            _ => Ok(of(*amount, None)),
        },
        Ask::Slots(_) if resource.kind == Kind::Units => {
            Err(Error::bad_value(format!("resource \"{}\" has no slots", resource.name))
                .hint("Ask for an amount: a number instead of a list."))
        }
        Ask::Slots(slots) => match slots.iter().find(|slot| **slot >= resource.capacity.unwrap_or(0)) {
            Some(slot) => Err(no_such_slot(resource, *slot)),
            None => Ok(of(1, Some(slots.clone()))),
        },
    }
}

fn impossible(resource: &Resource, amount: i64, capacity: i64) -> Error {
    let Resource { name, kind, .. } = resource;
    let kind = kind.as_str();
    Error::bad_value(format!("resource \"{name}\" can never give {amount} {kind}"))
        .detail(format!("Its capacity is {capacity}."))
        .hint("Ask for less, or raise the capacity with qflow.alter_resource.")
}

fn no_such_slot(resource: &Resource, slot: i64) -> Error {
    Error::bad_value(format!("resource \"{}\" has no slot {slot}", resource.name))
        .detail(format!("Slots are numbered from 0; its capacity is {}.", resource.capacity.unwrap_or(0)))
        .hint("Name other slots, or raise the capacity with qflow.alter_resource.")
}
