//! Which resources there are: three that every database has, and those that users made. A row stands only for what users
//! made or changed, so that a restored dump meets none.

use pgrx::pg_sys;

use super::hints::RESERVED;
use super::{holder, line};
use crate::error::{Error, Result};
use crate::host::spi::{connected, once, once_latest, Row};
use crate::host::value;
use crate::queue::name;
use crate::queue::registry::as_owner;

/// Most slots of one resource: each that is taken is a lock while it is claimed.
const MAX_SLOTS: i64 = 1_000;

/// How a resource is counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Kind {
    /// Numbered from 0, each held by one consumer.
    #[default]
    Slots,
    /// An amount that consumers share.
    Units,
}

impl Kind {
    /// As users write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Slots => "slots",
            Self::Units => "units",
        }
    }

    /// Reads it; 22023 for another word.
    pub fn parse(word: &str) -> Result<Self> {
        match word {
            "slots" => Ok(Self::Slots),
            "units" => Ok(Self::Units),
            _ => Err(Error::bad_value("invalid kind of resource").detail("It is 'slots' or 'units'.")),
        }
    }
}

/// A resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resource {
    /// Its name.
    pub name: String,
    /// How it is counted.
    pub kind: Kind,
    /// How much there is; `None`: units without limit.
    pub capacity: Option<i64>,
}

fn built_in() -> [Resource; 3] {
    let of = |name: &str, kind, capacity| Resource { name: name.to_owned(), kind, capacity };
    [of("cpu_cores", Kind::Units, None), of("gpu", Kind::Slots, Some(1)), of("memory_gb", Kind::Units, None)]
}

const ALL: &str = "SELECT resource, kind, capacity FROM qflow.resource";

const SET: &str = "INSERT INTO qflow.resource AS r (resource, kind, capacity) VALUES ($1, $2, $3)
    ON CONFLICT (resource) DO UPDATE SET capacity = EXCLUDED.capacity
        WHERE r.capacity IS DISTINCT FROM EXCLUDED.capacity";

const ADD: &str = "INSERT INTO qflow.resource (resource, kind, capacity) VALUES ($1, $2, $3)
    ON CONFLICT (resource) DO NOTHING";

const REMOVE: &str = "DELETE FROM qflow.resource WHERE resource OPERATOR(pg_catalog.=) $1";

/// All resources, in the order of their names.
pub fn read() -> Result<Vec<Resource>> {
    let mut all = as_owner(|| {
        connected(|spi| {
            let read: Result<Vec<Resource>> = once_latest(spi, ALL, &[])?.iter().map(|row| of(&row)).collect();
            read
        })
    })?;
    let missing = |known: &Resource| !all.iter().any(|resource| resource.name == known.name);
    let missing: Vec<Resource> = built_in().into_iter().filter(missing).collect();
    all.extend(missing);
    all.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(all)
}

fn of(row: &Row) -> Result<Resource> {
    Ok(Resource {
        name: row.text(1)?.unwrap_or_default(),
        kind: Kind::parse(&row.text(2)?.unwrap_or_default())?,
        capacity: row.bigint(3),
    })
}

/// The resource with a name; 42704 when there is none.
pub fn named(name: &str) -> Result<Resource> {
    read()?.into_iter().find(|resource| resource.name == name).ok_or_else(|| unknown(name))
}

/// 42704 for a resource.
pub fn unknown(name: &str) -> Error {
    Error::unknown(format!("resource \"{name}\" does not exist"))
        .hint("Correct the name in the hints, or make the resource with qflow.create_resource.")
}

/// Makes a resource. 42710 when the name is taken, 22023 for a reserved one, 22004 for slots without a number.
pub fn create(name: &str, kind: Kind, capacity: Option<i64>) -> Result<()> {
    name::check_plain(name, "resource")?;
    if RESERVED.contains(&name) {
        return Err(Error::bad_value(format!("\"{name}\" is a reserved word of hints"))
            .hint("Choose another name for the resource."));
    }
    check_capacity(kind, capacity)?;
    if built_in().iter().any(|resource| resource.name == name) {
        return Err(exists(name));
    }
    match change(ADD, name, kind, capacity)? {
        true => Ok(()),
        false => Err(exists(name)),
    }
}

fn exists(name: &str) -> Error {
    Error::exists(format!("resource \"{name}\" already exists"))
        .hint("Change its capacity with qflow.alter_resource, or choose another name.")
}

/// Sets how much of a resource there is; true when that changed. Who holds more than that keeps it. 42704, 22004.
pub fn alter(name: &str, capacity: Option<i64>) -> Result<bool> {
    let known = named(name)?;
    check_capacity(known.kind, capacity)?;
    if known.capacity == capacity {
        return Ok(false);
    }
    let is_changed = change(SET, name, known.kind, capacity)?;
    line::wake_at_commit(name);
    Ok(is_changed)
}

/// Removes a resource, or what was changed of a built-in one. 42704 when there is none, 55000 while somebody holds it.
pub fn remove(name: &str) -> Result<()> {
    named(name)?;
    if held(name)? {
        return Err(Error::not_ready(format!("resource \"{name}\" is in use")).hint(
            "qflow.resource_status shows by whom. Wait until the leases end, or end them with qflow.break_lease.",
        ));
    }
    let args = [(pg_sys::TEXTOID, value::text(name))];
    let removed = as_owner(|| connected(|spi| Ok(once(spi, REMOVE, &args)?.count())))?;
    if removed == 0 {
        return Err(Error::not_ready(format!("resource \"{name}\" is built in"))
            .hint("Workflows that must not use it leave it out of their hints, or set it to false."));
    }
    match built_in().iter().any(|resource| resource.name == name) {
        true => line::wake_at_commit(name), // it is there again, as it was
        false => line::forget_at_commit(name),
    }
    Ok(())
}

/// Also by a fetch that is not committed.
fn held(name: &str) -> Result<bool> {
    Ok(holder::all()?.iter().any(|holder| holder.resource == name))
}

fn change(sql: &'static str, name: &str, kind: Kind, capacity: Option<i64>) -> Result<bool> {
    let args = [
        (pg_sys::TEXTOID, value::text(name)),
        (pg_sys::TEXTOID, value::text(kind.as_str())),
        (pg_sys::INT8OID, capacity.and_then(value::bigint)),
    ];
    as_owner(|| connected(|spi| Ok(once(spi, sql, &args)?.count() > 0)))
}

fn check_capacity(kind: Kind, capacity: Option<i64>) -> Result<()> {
    match (kind, capacity) {
        (Kind::Slots, None) => Err(Error::null_value("capacity must not be null for slots")
            .hint("Say how many there are; only units can be without limit.")),
        (Kind::Slots, Some(slots)) if slots > MAX_SLOTS => {
            Err(Error::over_cap(format!("a resource has at most {MAX_SLOTS} slots"))
                .detail(format!("The value given is {slots}."))
                .hint("Make it a resource of kind 'units' if it only has to be counted."))
        }
        _ => Ok(()),
    }
}
