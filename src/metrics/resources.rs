//! What is shown of resources: how much there is, how much is held, and how long it is waited for.

use std::sync::atomic::Ordering::Relaxed;

use super::exposition::{millionths, Kind, Page};
use crate::error::Result;
use crate::host::value;
use crate::resource::catalog;
use crate::resource::holder;
use crate::shmem::line::{Line, Marks};

struct Shown {
    name: String,
    capacity: Option<i64>,
    /// Wide: amounts without a limit may be anything.
    held: i128,
    holders: usize,
    line: Line,
}

/// Adds the figures of all resources.
pub fn figures(page: &mut Page) -> Result<()> {
    let holders = holder::all()?;
    let shown: Vec<Shown> = catalog::read()?
        .into_iter()
        .map(|resource| {
            let own = || holders.iter().filter(|holder| holder.resource == resource.name);
            Shown {
                capacity: resource.capacity,
                held: own().map(|holder| if holder.slot.is_some() { 1 } else { i128::from(holder.units) }).sum(),
                holders: own().count(),
                line: Line::of(&resource.name),
                name: resource.name,
            }
        })
        .collect();
    page.family("qflow_resource_capacity", Kind::Gauge, "Slots or units that there are; absent without a limit.");
    for resource in shown.iter() {
        if let Some(capacity) = resource.capacity {
            page.figure("qflow_resource_capacity", &[("resource", &resource.name)], &capacity.to_string());
        }
    }
    let gauge = |page: &mut Page, name, help, of: fn(&Shown) -> String| {
        page.family(name, Kind::Gauge, help);
        shown.iter().for_each(|resource| page.figure(name, &[("resource", &resource.name)], &of(resource)));
    };
    gauge(page, "qflow_resource_held", "Slots or units that consumers hold.", |resource| resource.held.to_string());
    gauge(page, "qflow_resource_holders", "Consumers that hold some of it: one for each slot.", |resource| {
        resource.holders.to_string()
    });
    gauge(page, "qflow_resource_waiters", "Consumers that wait for it with a job to do.", |resource| {
        resource.line.waiting(value::now()).to_string()
    });
    let counter = |page: &mut Page, name, help, of: fn(&Marks) -> String| {
        page.family(name, Kind::Counter, help);
        for resource in &shown {
            if let Some(marks) = resource.line.marks() {
                page.figure(name, &[("resource", &resource.name)], &of(marks));
            }
        }
    };
    counter(page, "qflow_resource_waits_total", "Waits that ended with it.", |marks| {
        marks.served.load(Relaxed).to_string()
    });
    counter(page, "qflow_resource_wait_timeouts_total", "Waits that ended without it.", |marks| {
        marks.timeouts.load(Relaxed).to_string()
    });
    counter(page, "qflow_resource_wait_seconds_total", "Time of the waits that ended with it.", |marks| {
        millionths(marks.waited_us.load(Relaxed))
    });
    Ok(())
}
