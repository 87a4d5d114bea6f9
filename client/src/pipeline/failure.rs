//! How attempts fail, and what follows.

use std::sync::Arc;
use std::time::Duration;

use crate::calls::{Job, Outcome};

/// Why a handler could not do a job, and what is to happen with it.
///
/// Every error becomes one with `?`; then the pipeline's [`OnFailure`] decides. The reason is kept in the queue's
/// `failure_reason`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    pub(crate) reason: String,
    pub(crate) wish: Option<OnFailure>,
}

/// What follows when an attempt failed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnFailure {
    /// Tried again after the workflow's back-off, as long as attempts are left. The default.
    #[default]
    Retry,
    /// Tried again after this time, as long as attempts are left.
    RetryIn(Duration),
    /// Failed at once, whatever attempts are left.
    Fail,
}

impl Failure {
    /// A failure for which the pipeline's [`OnFailure`] decides.
    pub fn new(reason: impl Into<String>) -> Self {
        Failure { reason: reason.into(), wish: None }
    }

    /// To be tried again after `delay`.
    pub fn retry_in(reason: impl Into<String>, delay: Duration) -> Self {
        Failure { reason: reason.into(), wish: Some(OnFailure::RetryIn(delay)) }
    }

    /// Not to be tried again: no retry would mend it.
    pub fn permanent(reason: impl Into<String>) -> Self {
        Failure { reason: reason.into(), wish: Some(OnFailure::Fail) }
    }

    /// Why.
    pub fn reason(&self) -> &str {
        &self.reason
    }

    pub(crate) fn outcome(self, policy: OnFailure) -> Outcome {
        let reason = Some(self.reason);
        match self.wish.unwrap_or(policy) {
            OnFailure::Retry => Outcome::Requeue { reason, delay: None },
            OnFailure::RetryIn(delay) => Outcome::Requeue { reason, delay: Some(delay) },
            OnFailure::Fail => Outcome::Fail { reason },
        }
    }
}

/// The text of an error with what caused it.
impl<E: std::error::Error> From<E> for Failure {
    fn from(error: E) -> Self {
        let mut reason = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            reason = format!("{reason}: {cause}");
            source = cause.source();
        }
        Failure::new(reason)
    }
}

/// What made an attempt fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cause {
    /// The handler returned an error, or no result for the job.
    Error,
    /// The handler panicked.
    Panic,
    /// The handler took longer than `handler_timeout`.
    Timeout,
    /// The payload does not fit the handler's type.
    Payload,
}

/// A failed attempt, for `handle_failed`: to count it, to tell somebody, to put it elsewhere.
#[derive(Clone, Debug)]
pub struct FailedJob {
    pub(crate) job: Arc<Job>,
    pub(crate) cause: Cause,
    pub(crate) reason: String,
    pub(crate) is_final: bool,
}

impl FailedJob {
    /// The job as it was fetched.
    pub fn job(&self) -> &Job {
        &self.job
    }

    /// What made it fail.
    pub fn cause(&self) -> Cause {
        self.cause
    }

    /// What `failure_reason` will say.
    pub fn reason(&self) -> &str {
        &self.reason
    }

    /// Whether this was the last attempt.
    pub fn is_final(&self) -> bool {
        self.is_final
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wish_beats_the_policy_and_errors_have_none() {
        let error = "x".parse::<u8>().unwrap_err();
        let failure = Failure::from(error);
        assert_eq!(failure.clone().outcome(OnFailure::Fail), Outcome::Fail { reason: Some(failure.reason.clone()) });
        let later = Failure::retry_in("busy", Duration::from_secs(1)).outcome(OnFailure::Fail);
        assert_eq!(later, Outcome::Requeue { reason: Some("busy".into()), delay: Some(Duration::from_secs(1)) });
    }
}
