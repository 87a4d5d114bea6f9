//! Puts a pipeline together, and says everything that is wrong with it at once.

use std::future::Future;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use serde::de::DeserializeOwned;

use super::batcher::Batcher;
use super::failure::{FailedJob, Failure, OnFailure};
use super::handler::{BatchOutcome, Handler, Handlers, Next};
use super::message::{Batch, Message};
use super::processors::Processors;
use super::settings::Settings;
use super::stages::Complete;
use super::Pipeline;
use crate::client::Client;
use crate::consumer::Rate;
use crate::environment::Environment;
use crate::error::{Error, Result};
use crate::hints::Hints;
use crate::source::Source;

/// A [`Pipeline`] being put together.
///
/// `In` is what payloads are read as, `Out` what goes from `handle_message` to `handle_batch`; both follow from the
/// handlers. What the builder sets beats [environment variables](Environment), and those beat the workflow's settings.
pub struct Builder<In, Out> {
    settings: Settings,
    handlers: Handlers<In, Out>,
    source: Option<Source>,
    environment: Option<Environment>,
}

impl<In, Out> Builder<In, Out> {
    pub(crate) fn new(workflow: &str) -> Self {
        Builder { settings: Settings::new(workflow), handlers: Handlers::default(), source: None, environment: None }
    }

    fn with(mut self, change: impl FnOnce(&mut Settings)) -> Self {
        change(&mut self.settings);
        self
    }

    /// Where jobs come from: a [`Client`], or in tests memory. Default: [`Client::from_env`].
    pub fn source(mut self, source: impl Into<Source>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// Variables to use instead of the process's.
    pub fn environment(mut self, environment: Environment) -> Self {
        self.environment = Some(environment);
        self
    }

    /// Makes the queue and the workflow at the start where they do not exist. Without it both have to.
    pub fn queue(self, queue: &str) -> Self {
        self.with(|settings| settings.queue = Some(queue.to_owned()))
    }

    /// How long a lease holds, more than zero: at registration, and for each fetch. Heartbeats renew it, so it is how
    /// long a job of a dead program is missed, not how long a handler may take.
    pub fn timeout(self, timeout: Duration) -> Self {
        self.with(|settings| settings.timeout = Some(timeout))
    }

    /// How often a job is tried again. Set at registration only: a workflow that exists keeps its own, with a warning.
    pub fn retries(self, retries: u32) -> Self {
        self.with(|settings| settings.retries = Some(retries))
    }

    /// Sent with each fetch: the resources that the jobs need.
    pub fn hints(self, hints: Hints) -> Self {
        self.with(|settings| settings.hints = hints)
    }

    /// Most leases at a time, 1 or more; each fetch is one, and asks for all that can be started. Default: the
    /// workflow's `concurrency`.
    pub fn producers(self, producers: usize) -> Self {
        self.with(|settings| settings.producers = Some(producers))
    }

    /// How jobs are handed to `handle_message`. Default: as many at a time as there are producers.
    pub fn processors(self, processors: Processors) -> Self {
        self.with(|settings| settings.processors = processors)
    }

    /// Adds a batcher. `handle_message` sends to it by its name, or without a name to the first.
    pub fn batcher(self, batcher: Batcher) -> Self {
        self.with(|settings| settings.batchers.push(batcher))
    }

    /// What follows when an attempt fails and the failure does not say. Default: tried again.
    pub fn on_failure(self, policy: OnFailure) -> Self {
        self.with(|settings| settings.on_failure = policy)
    }

    /// How long one call of a handler may take, more than zero. Then it is dropped, and its attempt has failed. Default:
    /// as long as it likes.
    pub fn handler_timeout(self, timeout: Duration) -> Self {
        self.with(|settings| settings.handler_timeout = Some(timeout))
    }

    /// Fetches no more than this: no leased job is held back.
    pub fn rate_limit(self, rate: Rate) -> Self {
        self.with(|settings| settings.rate_limit = Some(rate))
    }

    /// How long one wait for jobs takes at most, more than zero. Default 5 s.
    pub fn wait_timeout(self, timeout: Duration) -> Self {
        self.with(|settings| settings.wait_timeout = timeout)
    }

    /// How often to look where the database cannot wait, more than zero. Default 250 ms.
    pub fn poll_interval(self, interval: Duration) -> Self {
        self.with(|settings| settings.poll_interval = interval)
    }

    /// How long a settle is repeated while the database is away; then the job is left to the end of its lease. Default
    /// five minutes.
    pub fn settle_timeout(self, timeout: Duration) -> Self {
        self.with(|settings| settings.settle_timeout = timeout)
    }
}

impl<In: DeserializeOwned + Send + 'static, Out: Send + 'static> Builder<In, Out> {
    /// All handlers as one type.
    pub fn handler(mut self, handler: impl Handler<Input = In, Output = Out>) -> Self {
        self.handlers.set(handler);
        self
    }

    /// Does a job, or the part of it that needs no other.
    pub fn handle_message<F, R>(mut self, handler: F) -> Self
    where
        F: Fn(Message<In>) -> R + Send + Sync + 'static,
        R: Future<Output = Result<Next<Out>, Failure>> + Send + 'static,
    {
        self.handlers.message = Some(Arc::new(move |message| Box::pin(handler(message))));
        self
    }

    /// Does a batch.
    pub fn handle_batch<F, R>(mut self, handler: F) -> Self
    where
        F: Fn(Batch<Out>) -> R + Send + Sync + 'static,
        R: Future<Output = Result<BatchOutcome, Failure>> + Send + 'static,
    {
        self.handlers.batch = Some(Arc::new(move |batch| Box::pin(handler(batch))));
        self
    }

    /// Hears of each failed attempt before the database does.
    pub fn handle_failed<F, R>(mut self, handler: F) -> Self
    where
        F: Fn(FailedJob) -> R + Send + Sync + 'static,
        R: Future<Output = ()> + Send + 'static,
    {
        self.handlers.failed = Some(Arc::new(move |failed| Box::pin(handler(failed))));
        self
    }

    /// Lets one processor handle all messages of a key, one after the other, in the order in which they were fetched.
    /// A job that is tried again has lost its place. Other processes know nothing of the order.
    pub fn partition_by<K: Hash>(mut self, key: impl Fn(&Message<In>) -> K + Send + Sync + 'static) -> Self {
        self.handlers.partition_by = Some(Arc::new(move |message| {
            let mut hasher = DefaultHasher::new();
            key(message).hash(&mut hasher);
            hasher.finish()
        }));
        self
    }

    /// Checks everything.
    ///
    /// # Errors
    ///
    /// A [configuration](Error::problems) error with one sentence for each fault: values out of range, a handler that is
    /// missing, batches that can never fill, a pool that is too small, bad environment variables.
    pub fn build(self) -> Result<Pipeline> {
        let Builder { mut settings, mut handlers, source, environment } = self;
        let mut problems = Vec::new();
        match environment.map_or_else(Environment::read, Ok) {
            Ok(environment) => settings.lay_under(&environment),
            Err(error) => problems.extend_from_slice(error.problems()),
        }
        let source = source.map_or_else(|| Client::from_env().map(Source::from), Ok);
        if let Err(error) = &source {
            problems.extend(
                error.problems().iter().filter(|problem| !problems.contains(problem)).cloned().collect::<Vec<_>>(),
            );
        }
        let connections = source.as_ref().ok().and_then(|source| source.0.connections());
        problems.extend(settings.problems(connections));
        problems.extend(handlers.problems(&settings));
        match (source, handlers.message.take()) {
            (Ok(source), Some(message)) if problems.is_empty() => {
                Ok(Pipeline { source, settings, work: Arc::new(Complete { message, handlers }) })
            }
            _ => Err(Error::configuration(problems)),
        }
    }
}

impl<In, Out> Handlers<In, Out> {
    fn problems(&self, settings: &Settings) -> Vec<String> {
        let has_batchers = !settings.batchers.is_empty();
        let checks = [
            (self.message.is_none(), "there is no handle_message"),
            (has_batchers && self.batch.is_none(), "there are batchers, but no handle_batch"),
            (!has_batchers && self.batch.is_some() && !self.is_whole, "there is a handle_batch, but no batcher"),
        ];
        checks.into_iter().filter(|(wrong, _)| *wrong).map(|(_, problem)| problem.to_owned()).collect()
    }
}

impl<In, Out> std::fmt::Debug for Builder<In, Out> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Builder").field("settings", &self.settings).finish_non_exhaustive()
    }
}
