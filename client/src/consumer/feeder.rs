//! Fetches jobs while there is room for them.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc::UnboundedSender;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::delivery::Delivery;
use super::ledger::Ledger;
use super::rate::Allowance;
use super::settler::Settles;
use super::{ConsumerOptions, MAX_DEMAND};
use crate::backoff::{jittered, Backoff};
use crate::calls::{FetchOptions, Job};
use crate::error::{Error, Result};
use crate::hints::Hints;
use crate::source::Backend;
use crate::telemetry;

pub(super) struct Feeder {
    pub backend: Arc<dyn Backend>,
    pub ledger: Arc<Ledger>,
    pub settles: Settles,
    pub items: UnboundedSender<Result<Delivery>>,
    pub stop: CancellationToken,
    pub options: ConsumerOptions,
    /// Names for fetches; empty: fetches have the name in the hints.
    pub workers: Vec<String>,
}

/// What slows the feeder down.
struct Pace {
    allowance: Option<Allowance>,
    reconnects: Backoff,
    /// For waits that promised jobs which were not there.
    promises: Backoff,
    promised: bool,
    polls: bool,
}

impl Feeder {
    pub async fn run(self) {
        let mut pace = Pace {
            allowance: self.options.rate_limit.map(Allowance::new),
            reconnects: Backoff::for_reconnects(),
            promises: Backoff::new(Duration::from_millis(5), Duration::from_secs(1)),
            promised: false,
            polls: false,
        };
        while let Some(demand) = self.demand(&mut pace).await {
            let worker = self.free_worker();
            let done = self.fetch(demand, worker, &mut pace).await;
            match done {
                Ok(()) => pace.reconnects.reset(),
                Err(error) => self.trouble(error, &mut pace).await,
            }
        }
    }

    /// How many jobs to fetch, once that is allowed and there is room. `None`: no more.
    async fn demand(&self, pace: &mut Pace) -> Option<usize> {
        loop {
            let room = tokio::select! {
                biased;
                () = self.stop.cancelled() => return None,
                room = self.ledger.room(self.options.min_demand) => room.min(MAX_DEMAND),
            };
            match pace.allowance.as_mut().map_or(Ok(room), Allowance::now) {
                Ok(allowed) => return Some(room.min(allowed)),
                Err(until) => self.pause(until - Instant::now()).await,
            }
        }
    }

    /// Fetches, and waits where that brought less than there was room for. A fetch is never dropped half-way: the jobs
    /// would be claimed and nobody would know.
    async fn fetch(&self, demand: usize, worker: Option<usize>, pace: &mut Pace) -> Result<()> {
        let request = FetchOptions { demand: Some(demand), batch_size: None, hints: self.hints(worker) };
        let jobs = self.backend.fetch(&request).await?;
        let fetched = jobs.len();
        telemetry::fetched(self.ledger.workflow(), fetched);
        if let Some(allowance) = &mut pace.allowance {
            allowance.spend(fetched);
        }
        self.hand_out(jobs, worker);
        if fetched == demand {
            return Ok(());
        }
        if fetched > 0 || !pace.promised {
            pace.promises.reset();
        } else {
            self.pause(pace.promises.next()).await;
        }
        self.wait(&request.hints, pace).await
    }

    fn hand_out(&self, jobs: Vec<Job>, worker: Option<usize>) {
        let leases = self.ledger.admit(&jobs, worker);
        for (job, lease) in jobs.into_iter().zip(leases) {
            // Where nobody takes it, dropping it gives it back.
            let _stopped = self.items.send(Ok(Delivery::new(job, lease, self.settles.clone())));
        }
    }

    /// Waits in the database; where it cannot, for a moment.
    async fn wait(&self, hints: &Hints, pace: &mut Pace) -> Result<()> {
        pace.promised = false;
        if self.stop.is_cancelled() {
            return Ok(());
        }
        if pace.polls {
            self.pause(jittered(self.options.poll_interval)).await;
            return Ok(());
        }
        let start = Instant::now();
        match self.backend.wait(self.options.wait_timeout, hints, &self.stop).await {
            Err(error) if error.code() == Some("25001") => {
                tracing::warn!(workflow = %self.ledger.workflow(), %error, "the database cannot wait here: polling");
                pace.polls = true;
                Ok(())
            }
            waited => {
                pace.promised = start.elapsed() < self.options.wait_timeout;
                waited
            }
        }
    }

    /// What may pass is waited for; the rest is told, and tried again less often.
    async fn trouble(&self, error: Error, pace: &mut Pace) {
        let pause = pace.reconnects.next();
        telemetry::trouble(self.ledger.workflow());
        if error.is_retryable() {
            tracing::warn!(workflow = %self.ledger.workflow(), %error, ?pause, "fetching again");
        } else {
            tracing::error!(workflow = %self.ledger.workflow(), %error, "jobs cannot be fetched");
            let _stopped = self.items.send(Err(error));
        }
        self.pause(pause).await;
    }

    async fn pause(&self, pause: Duration) {
        tokio::select! {
            () = self.stop.cancelled() => {}
            () = tokio::time::sleep(pause) => {}
        }
    }

    fn free_worker(&self) -> Option<usize> {
        (!self.workers.is_empty()).then(|| self.ledger.free_worker() % self.workers.len())
    }

    fn hints(&self, worker: Option<usize>) -> Hints {
        let mut hints = self.options.hints.clone();
        if let Some(name) = worker.and_then(|number| self.workers.get(number)) {
            hints.worker = Some(name.clone());
        }
        hints
    }
}
