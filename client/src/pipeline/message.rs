//! What handlers are given.

use std::sync::Arc;

use crate::calls::Job;
use crate::consumer::Lease;

/// A job on its way through a pipeline: its payload at first, and then what `handle_message` made of it.
#[derive(Clone, Debug)]
pub struct Message<T> {
    payload: T,
    job: Arc<Job>,
    lease: Lease,
}

impl<T> Message<T> {
    pub(crate) fn new(payload: T, job: Arc<Job>, lease: Lease) -> Self {
        Message { payload, job, lease }
    }

    /// What it carries.
    pub fn payload(&self) -> &T {
        &self.payload
    }

    /// Takes what it carries.
    pub fn into_payload(self) -> T {
        self.payload
    }

    /// The job as it was fetched: id, attempt, metadata, resources.
    pub fn job(&self) -> &Job {
        &self.job
    }

    /// The hold on the job. A pipeline drops the handler of a lost one by itself; what the handler has started
    /// elsewhere can ask here.
    pub fn lease(&self) -> &Lease {
        &self.lease
    }
}

/// Messages of one batcher, and of one key where keys are given, in the order in which they came.
#[derive(Clone, Debug)]
pub struct Batch<T> {
    pub(crate) batcher: Arc<str>,
    pub(crate) key: Option<Arc<str>>,
    pub(crate) messages: Vec<Message<T>>,
}

impl<T> Batch<T> {
    /// The batcher's name.
    pub fn batcher(&self) -> &str {
        &self.batcher
    }

    /// The key that its messages share.
    pub fn key(&self) -> Option<&str> {
        self.key.as_deref()
    }

    /// The messages, at least one.
    pub fn messages(&self) -> &[Message<T>] {
        &self.messages
    }

    /// Takes the messages.
    pub fn into_messages(self) -> Vec<Message<T>> {
        self.messages
    }
}
