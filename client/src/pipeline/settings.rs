//! What a builder collected, and what is wrong with it.

use std::collections::HashSet;
use std::time::Duration;

use super::batcher::Batcher;
use super::failure::OnFailure;
use super::processors::Processors;
use crate::consumer::{ConsumerOptions, Rate};
use crate::environment::Environment;
use crate::hints::Hints;

/// Producers, and so processors, where nobody says how many.
const CONCURRENCY: usize = 10;
const BATCH_SIZE: usize = 16;

/// Connections that a pipeline uses by itself: for fetches and waits, for settles, for heartbeats.
const CONNECTIONS: usize = 3;

#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub workflow: String,
    pub queue: Option<String>,
    pub timeout: Option<Duration>,
    pub retries: Option<u32>,
    pub hints: Hints,
    pub producers: Option<usize>,
    pub processors: Processors,
    pub batchers: Vec<Batcher>,
    pub on_failure: OnFailure,
    pub handler_timeout: Option<Duration>,
    pub rate_limit: Option<Rate>,
    pub wait_timeout: Duration,
    pub poll_interval: Duration,
    pub settle_timeout: Duration,
    pub warns_about_gpu_lock_table: bool,
}

impl Settings {
    pub(crate) fn new(workflow: &str) -> Self {
        let consumer = ConsumerOptions::default();
        Settings {
            workflow: workflow.to_owned(),
            queue: None,
            timeout: None,
            retries: None,
            hints: Hints::default(),
            producers: None,
            processors: Processors::default(),
            batchers: Vec::new(),
            on_failure: OnFailure::default(),
            handler_timeout: None,
            rate_limit: None,
            wait_timeout: consumer.wait_timeout,
            poll_interval: consumer.poll_interval,
            settle_timeout: consumer.settle_timeout,
            warns_about_gpu_lock_table: false,
        }
    }

    /// Fills in what the builder left open.
    pub(crate) fn lay_under(&mut self, environment: &Environment) {
        self.producers = self.producers.or(environment.producers);
        self.timeout = self.timeout.or(environment.timeout);
        self.retries = self.retries.or(environment.retries);
        for batcher in &mut self.batchers {
            batcher.size = batcher.size.or(environment.batch_size);
        }
        self.warns_about_gpu_lock_table = environment.gpu_lock_table;
    }

    /// Fills in what the workflow says.
    pub(crate) fn lay_under_workflow(&mut self, concurrency: Option<usize>) {
        self.producers = self.producers.or(concurrency);
    }

    pub(crate) fn producers(&self) -> usize {
        self.producers.unwrap_or(CONCURRENCY)
    }

    pub(crate) fn concurrency(&self) -> usize {
        self.processors.concurrency.unwrap_or_else(|| self.producers())
    }

    /// Most jobs that the processors may have.
    pub(crate) fn stage(&self) -> usize {
        self.concurrency().saturating_mul(self.processors.max_demand)
    }

    /// Most jobs at all: what the processors have, and what the batchers hold and run.
    pub(crate) fn capacity(&self) -> usize {
        self.batchers.iter().fold(self.stage(), |sum, batcher| sum.saturating_add(batcher.places()))
    }

    /// How much has to be free before jobs are fetched.
    pub(crate) fn least_demand(&self) -> usize {
        self.processors.max_demand.saturating_sub(self.processors.min_demand).max(1)
    }

    /// Everything that is wrong. `connections`: how many the source can have.
    pub(crate) fn problems(&self, connections: Option<usize>) -> Vec<String> {
        let mut problems = Vec::new();
        let mut wrong = |is_wrong: bool, problem: &str| {
            if is_wrong {
                problems.push(problem.to_owned());
            }
        };
        wrong(!is_name(&self.workflow), "a workflow's name has 1 to 63 bytes and no control characters");
        wrong(self.queue.as_ref().is_some_and(String::is_empty), "the queue's name is empty");
        wrong(self.timeout.is_some_and(|timeout| timeout.is_zero()), "timeout must be more than zero");
        wrong(self.producers == Some(0), "producers must be at least 1");
        wrong(self.handler_timeout.is_some_and(|timeout| timeout.is_zero()), "handler_timeout must be more than zero");
        wrong(self.rate_limit.is_some_and(Rate::is_never), "rate_limit must allow something");
        wrong(self.wait_timeout.is_zero(), "wait_timeout must be more than zero");
        wrong(self.poll_interval.is_zero(), "poll_interval must be more than zero");
        if connections.is_some_and(|connections| connections < CONNECTIONS) {
            problems.push(format!(
                "the pool needs at least {CONNECTIONS} connections: for fetches, settles and heartbeats"
            ));
        }
        problems.extend(self.processors.problems());
        let mut names = HashSet::new();
        for batcher in &self.batchers {
            problems.extend(batcher.problems());
            if !names.insert(&batcher.name) {
                problems.push(format!("two batchers are named {:?}", batcher.name));
            }
            problems.extend(self.never_full(batcher));
        }
        problems
    }

    /// Jobs come by fetches, and there are at most so many leases at a time: a batch that needs more can only time out.
    fn never_full(&self, batcher: &Batcher) -> Option<String> {
        let most = self.producers().saturating_mul(self.stage()).min(self.capacity());
        let known = self.producers.is_some() && self.stage() > 0;
        (known && most > 0 && batcher.batch_size() > most).then(|| {
            format!(
                "batcher {:?} waits for {} jobs, but {} producers never hold more than {most}: more producers, processors or max_demand",
                batcher.name, batcher.batch_size(), self.producers()
            )
        })
    }
}

impl Batcher {
    pub(crate) fn batch_size(&self) -> usize {
        self.size.unwrap_or(BATCH_SIZE)
    }

    /// One batch for each that runs, and one that fills.
    pub(crate) fn places(&self) -> usize {
        self.batch_size().saturating_mul(self.concurrency.saturating_add(1)).min(tokio::sync::Semaphore::MAX_PERMITS)
    }

    fn problems(&self) -> Vec<String> {
        let name = &self.name;
        let checks = [
            (name.is_empty(), "a batcher needs a name".to_owned()),
            (self.size == Some(0), format!("batcher {name:?}: size must be at least 1")),
            (self.concurrency == 0, format!("batcher {name:?}: concurrency must be at least 1")),
            (self.timeout.is_zero(), format!("batcher {name:?}: timeout must be more than zero")),
        ];
        checks.into_iter().filter(|(wrong, _)| *wrong).map(|(_, problem)| problem).collect()
    }
}

impl Processors {
    fn problems(&self) -> Vec<String> {
        let checks = [
            (self.concurrency == Some(0), "processors: concurrency must be at least 1"),
            (self.max_demand == 0, "processors: max_demand must be at least 1"),
            (
                self.max_demand > 0 && self.min_demand >= self.max_demand,
                "processors: min_demand must be less than max_demand",
            ),
        ];
        checks.into_iter().filter(|(wrong, _)| *wrong).map(|(_, problem)| problem.to_owned()).collect()
    }
}

fn is_name(name: &str) -> bool {
    (1..=63).contains(&name.len()) && !name.chars().any(char::is_control)
}
