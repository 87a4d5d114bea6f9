//! The text for Prometheus. Its names are a promise: docs/metrics.md. It counts no queue: what is not known is left out.

use std::sync::atomic::Ordering::Relaxed;

use super::depths::{self, Figures};
use super::exposition::{millionths, Kind, Page};
use super::resources;
use super::totals::totals;
use super::visible::visible;
use crate::error::Result;
use crate::host::value;
use crate::job::lease;
use crate::queue::registry;
use crate::queue::service::{service, Service};
use crate::shmem::acks::{Acks, Histogram, LATENCY, RUNTIME, SHARE};
use crate::shmem::database;
use crate::shmem::queue::{Slot, COUNTERS};

/// Names and meanings of the counters, in the order of `totals::ALL`.
const TOTALS: [(&str, &str); COUNTERS] = [
    ("qflow_jobs_enqueued_total", "Jobs inserted."),
    ("qflow_jobs_claimed_total", "Jobs fetched, retries included."),
    ("qflow_jobs_acked_total", "Jobs completed."),
    ("qflow_jobs_requeued_total", "Jobs that consumers returned for another attempt."),
    ("qflow_jobs_failed_total", "Jobs failed: by consumers, or for want of attempts."),
    ("qflow_jobs_released_total", "Jobs that consumers returned unstarted."),
    (
        "qflow_jobs_reaped_total",
        "Jobs taken back from leases that expired or whose session ended, failed ones included.",
    ),
    ("qflow_settles_stale_total", "Settles refused because the lease no longer held the job."),
];

/// What is shown of one queue.
struct Queue {
    name: String,
    paused: bool,
    figures: Option<Figures>,
    totals: Option<[i64; COUNTERS]>,
    noted: Option<Noted>,
}

/// What its notes in shared memory say.
struct Noted {
    acks: Acks,
    last_minute: i64,
    waiters: i64,
    failures: i64,
}

/// What is shown of one workflow.
struct Workflow {
    name: String,
    queue: String,
    leases: i64,
    fetched_at: Option<i64>,
}

/// The whole text, for the queues that the current user may see.
pub fn text() -> Result<String> {
    let registry = registry::table()?;
    let (mut queues, mut workflows) = (Vec::new(), Vec::new());
    let seen = visible()?;
    let leases = lease::overview()?;
    for row in registry::all_workflows()? {
        let Some((queue, name)) = seen.iter().find(|(queue, _)| queue.number == row.queue) else {
            continue;
        };
        let slot = Slot::known(registry, queue.number);
        let fetched_at =
            slot.read().and_then(|notes| notes.known.consumers.get(&row.name).map(|known| known.fetched_at));
        workflows.push(Workflow {
            leases: leases.iter().filter(|lease| lease.workflow == row.name).count() as i64,
            fetched_at: fetched_at.filter(|at| *at != 0),
            queue: name.clone(),
            name: row.name,
        });
    }
    for (row, name) in seen {
        let slot = Slot::known(registry, row.number);
        let (figures, totals) = (depths::known(&row, &slot), totals(&slot));
        let noted = totals.and_then(|_| noted(&slot));
        queues.push(Queue { name, paused: row.paused, figures, totals, noted });
    }
    let mut page = Page::default();
    service_figures(&mut page);
    queue_figures(&mut page, &queues);
    ack_figures(&mut page, &queues);
    workflow_figures(&mut page, &workflows);
    resources::figures(&mut page)?;
    Ok(page.into_text())
}

fn noted(slot: &Slot) -> Option<Noted> {
    let waiters = i64::from(slot.marks()?.waiting());
    let notes = slot.read()?;
    Some(Noted {
        acks: notes.known.acks,
        last_minute: notes.known.last_minute.jobs(value::now()),
        waiters,
        failures: i64::from(notes.trouble.failures),
    })
}

fn service_figures(page: &mut Page) {
    let service = service();
    let flag = |is: bool| if is { "1" } else { "0" };
    page.family("qflow_info", Kind::Gauge, "Version of the library.");
    page.figure("qflow_info", &[("version", env!("CARGO_PKG_VERSION"))], "1");
    page.family("qflow_worker_running", Kind::Gauge, "Whether this database has a background worker now.");
    page.figure("qflow_worker_running", &[], flag(matches!(service, Service::Running(_) | Service::Silent(..))));
    page.family("qflow_worker_late", Kind::Gauge, "Whether there is something to do that no worker does.");
    page.figure("qflow_worker_late", &[], flag(matches!(service, Service::Late(_) | Service::Silent(..))));
    let Some(database) = database::own(false) else {
        return;
    };
    let times = [
        ("qflow_worker_heartbeat_timestamp_seconds", "Last sign of life of a worker.", &database.heartbeat),
        (
            "qflow_worker_last_pass_timestamp_seconds",
            "When a worker last looked through all queues.",
            &database.last_pass,
        ),
    ];
    for (name, help, at) in times {
        let at = at.load(Relaxed);
        if at != 0 {
            page.family(name, Kind::Gauge, help);
            page.figure(name, &[], &millionths(since_1970(at)));
        }
    }
    page.family("qflow_worker_passes_total", Kind::Counter, "How often a worker has looked through all queues.");
    page.figure("qflow_worker_passes_total", &[], &database.passes.load(Relaxed).to_string());
}

/// The server counts from 2000 on, everybody else from 1970.
fn since_1970(micros: i64) -> i64 {
    micros.saturating_add(946_684_800_000_000)
}

/// One figure a queue.
type Figure = fn(&Queue) -> Option<String>;

fn queue_figures(page: &mut Page, queues: &[Queue]) {
    let statuses: [(&str, Figure); 4] = [
        ("pending", |queue| Some(queue.figures.as_ref()?.depths.pending.to_string())),
        ("in_progress", |queue| Some(queue.figures.as_ref()?.depths.in_progress.to_string())),
        ("completed", |queue| Some(queue.figures.as_ref()?.depths.completed.to_string())),
        ("failed", |queue| Some(queue.figures.as_ref()?.depths.failed.to_string())),
    ];
    page.family("qflow_queue_jobs", Kind::Gauge, "Jobs in the table; pending ones include those that are delayed.");
    for queue in queues {
        for (status, figure) in statuses {
            if let Some(value) = figure(queue) {
                page.figure("qflow_queue_jobs", &[("queue", &queue.name), ("status", status)], &value);
            }
        }
    }
    let gauges: [(&str, &str, Figure); 6] = [
        ("qflow_queue_delayed_jobs", "Pending jobs that wait for their time, counted up to 10000.", |queue| {
            Some(queue.figures.as_ref()?.delayed?.to_string())
        }),
        ("qflow_queue_oldest_pending_seconds", "Age of the oldest pending job that could be fetched.", |queue| {
            Some(millionths(queue.figures.as_ref()?.oldest_pending_ms?.saturating_mul(1_000)))
        }),
        ("qflow_queue_paused", "Whether fetches return nothing.", |queue| Some(i32::from(queue.paused).to_string())),
        ("qflow_queue_waiters", "Sessions that wait for jobs.", |queue| {
            Some(queue.noted.as_ref()?.waiters.to_string())
        }),
        ("qflow_queue_failures", "How often in a row the worker could not look after the queue.", |queue| {
            Some(queue.noted.as_ref()?.failures.to_string())
        }),
        ("qflow_queue_completed_last_minute", "Jobs completed within the last 60 seconds.", |queue| {
            Some(queue.noted.as_ref()?.last_minute.to_string())
        }),
    ];
    for (name, help, figure) in gauges {
        page.family(name, Kind::Gauge, help);
        for queue in queues {
            if let Some(value) = figure(queue) {
                page.figure(name, &[("queue", &queue.name)], &value);
            }
        }
    }
    for (at, (name, help)) in TOTALS.iter().enumerate() {
        page.family(name, Kind::Counter, help);
        for queue in queues {
            if let Some(totals) = queue.totals {
                page.figure(name, &[("queue", &queue.name)], &totals[at].to_string());
            }
        }
    }
}

fn ack_figures(page: &mut Page, queues: &[Queue]) {
    let known = || queues.iter().filter_map(|queue| Some((queue.name.as_str(), queue.noted.as_ref()?)));
    page.family("qflow_job_latency_seconds", Kind::Histogram, "Time of acked jobs from insertion to ack.");
    known().for_each(|(name, noted)| histogram(page, "qflow_job_latency_seconds", name, &noted.acks.latency, &LATENCY));
    page.family("qflow_job_runtime_seconds", Kind::Histogram, "Time of acked jobs from fetch to ack.");
    known().for_each(|(name, noted)| histogram(page, "qflow_job_runtime_seconds", name, &noted.acks.runtime, &RUNTIME));
    page.family("qflow_job_lease_used_ratio", Kind::Histogram, "Runtime of acked jobs as a share of their lease time.");
    known().for_each(|(name, noted)| histogram(page, "qflow_job_lease_used_ratio", name, &noted.acks.share, &SHARE));
}

fn histogram<const N: usize>(page: &mut Page, name: &str, queue: &str, found: &Histogram<N>, bounds: &[i64; N]) {
    let bucket = format!("{name}_bucket");
    let mut below = 0;
    for (bound, count) in bounds.iter().zip(found.counts) {
        below += count;
        page.figure(&bucket, &[("queue", queue), ("le", &millionths(*bound))], &below.to_string());
    }
    page.figure(&bucket, &[("queue", queue), ("le", "+Inf")], &found.count().to_string());
    page.figure(&format!("{name}_sum"), &[("queue", queue)], &millionths(i64::try_from(found.sum).unwrap_or(i64::MAX)));
    page.figure(&format!("{name}_count"), &[("queue", queue)], &found.count().to_string());
}

fn workflow_figures(page: &mut Page, workflows: &[Workflow]) {
    page.family("qflow_workflow_leases", Kind::Gauge, "Fetches whose jobs are not all settled.");
    for workflow in workflows {
        let labels = [("workflow", workflow.name.as_str()), ("queue", workflow.queue.as_str())];
        page.figure("qflow_workflow_leases", &labels, &workflow.leases.to_string());
    }
    page.family("qflow_workflow_last_fetch_timestamp_seconds", Kind::Gauge, "When a fetch last ran.");
    for workflow in workflows {
        if let Some(at) = workflow.fetched_at {
            let labels = [("workflow", workflow.name.as_str()), ("queue", workflow.queue.as_str())];
            page.figure("qflow_workflow_last_fetch_timestamp_seconds", &labels, &millionths(since_1970(at)));
        }
    }
}
