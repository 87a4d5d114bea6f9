//! What consumers must not share beyond its capacity: GPUs, licences, memory.

use std::time::SystemTime;

use tokio_postgres::types::Type;
use tokio_postgres::Row;

use super::consume::Job;
use crate::client::{column, Client};
use crate::connection::Connection;
use crate::error::Result;

const CREATE: &str = "SELECT qflow.create_resource($1, $2, $3)";
const ALTER: &str = "SELECT qflow.alter_resource($1, $2)";
const DROP: &str = "SELECT qflow.drop_resource($1)";
const BREAK: &str = "SELECT qflow.break_lease($1)";
const STATUS: &str = "SELECT resource, kind, capacity, slot, units, lease, workflow, worker, pid, since, lease_until \
     FROM qflow.resource_status ORDER BY resource, slot, since, lease";

/// How a resource is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResourceKind {
    /// Numbered from 0, each for one consumer: a GPU.
    Slots,
    /// An amount, of which each consumer takes a part: gigabytes.
    Units,
}

impl ResourceKind {
    fn word(self) -> &'static str {
        match self {
            ResourceKind::Slots => "slots",
            ResourceKind::Units => "units",
        }
    }
}

/// A slot with a lease on it, a free slot, or units with who holds them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResourceStatus {
    /// The resource.
    pub resource: String,
    /// How it is counted.
    pub kind: ResourceKind,
    /// How much there is; `None` is no limit.
    pub capacity: Option<i64>,
    /// The slot.
    pub slot: Option<i64>,
    /// How many units are held.
    pub units: Option<i64>,
    /// The lease that holds it.
    pub lease: Option<i64>,
    /// Whose fetch took it; `None` also where this role may not see its queue.
    pub workflow: Option<String>,
    /// The name that the consumer gave itself.
    pub worker: Option<String>,
    /// The process of the server that took it; without a lease a session keeps it whose lease was taken back.
    pub pid: Option<i32>,
    /// Since when it is held, by the server's clock.
    pub since: Option<SystemTime>,
    /// When the lease ends, by the server's clock.
    pub lease_until: Option<SystemTime>,
}

impl Job {
    /// The slots of a resource that were taken with the job's fetch, ascending, as for CUDA_VISIBLE_DEVICES; none where
    /// none were asked for. All jobs of a fetch share them, until the last of these is settled.
    pub fn slots(&self, resource: &str) -> Result<Vec<u32>> {
        #[derive(serde::Deserialize)]
        #[serde(untagged)]
        enum Taken {
            Slots(Vec<u32>),
            Units(#[allow(dead_code)] i64),
        }
        let Some(taken) = &self.resources else {
            return Ok(Vec::new());
        };
        let mut taken: std::collections::HashMap<String, Taken> = taken.decode()?;
        match taken.remove(resource) {
            Some(Taken::Slots(slots)) => Ok(slots),
            Some(Taken::Units(_)) | None => Ok(Vec::new()),
        }
    }
}

impl<C: Connection> Client<C> {
    /// Makes a resource. Slots need a capacity, 0 to 1,000; units without one are counted and never refused. Not for
    /// everybody: 42501 unless a superuser has granted it.
    pub async fn create_resource(&self, resource: &str, capacity: Option<i64>, kind: ResourceKind) -> Result<()> {
        let kind = kind.word();
        self.rows(CREATE, &[(&resource, Type::TEXT), (&capacity, Type::INT8), (&kind, Type::TEXT)]).await.map(drop)
    }

    /// Sets how much of a resource there is; true when that changed. Who holds more keeps it until its lease ends.
    pub async fn alter_resource(&self, resource: &str, capacity: Option<i64>) -> Result<bool> {
        self.value(ALTER, &[(&resource, Type::TEXT), (&capacity, Type::INT8)]).await
    }

    /// Removes a resource that nobody holds.
    pub async fn drop_resource(&self, resource: &str) -> Result<()> {
        self.rows(DROP, &[(&resource, Type::TEXT)]).await.map(drop)
    }

    /// Ends a lease before its time: its jobs go back and what it holds is free. False when there is no such lease. Its
    /// consumer is not told; its settles are too late from then on.
    pub async fn break_lease(&self, lease: i64) -> Result<bool> {
        self.value(BREAK, &[(&lease, Type::INT8)]).await
    }

    /// Who holds what, and what is free, by resource and slot.
    pub async fn resource_status(&self) -> Result<Vec<ResourceStatus>> {
        self.rows(STATUS, &[]).await?.iter().map(ResourceStatus::from_row).collect()
    }
}

impl ResourceStatus {
    fn from_row(row: &Row) -> Result<Self> {
        let kind: String = column(row, 1)?;
        Ok(ResourceStatus {
            resource: column(row, 0)?,
            kind: if kind == ResourceKind::Slots.word() { ResourceKind::Slots } else { ResourceKind::Units },
            capacity: column(row, 2)?,
            slot: column(row, 3)?,
            units: column(row, 4)?,
            lease: column(row, 5)?,
            workflow: column(row, 6)?,
            worker: column(row, 7)?,
            pid: column(row, 8)?,
            since: column(row, 9)?,
            lease_until: column(row, 10)?,
        })
    }
}
