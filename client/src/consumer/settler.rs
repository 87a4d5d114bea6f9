//! Sends how jobs ended, many in one statement, until the database has confirmed it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc::{unbounded_channel, UnboundedReceiver, UnboundedSender};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::delivery::StageExit;
use super::ledger::Ledger;
use crate::backoff::Backoff;
use crate::calls::{Claim, Outcome, Settled, Verdict};
use crate::error::{Error, Result};
use crate::source::Backend;
use crate::telemetry;

/// Most settles in one statement. They gather while the one before runs.
const MAX_SETTLES: usize = 500;

type Confirmation = oneshot::Sender<Result<Verdict>>;
type Settlement = (Claim, Outcome);
type Awaited = (Claim, Confirmation);

struct Settle {
    claim: Claim,
    outcome: Outcome,
    stage: StageExit,
    confirmation: Confirmation,
}

/// The way to the task that settles. The task ends when nobody has one any more and all is sent.
#[derive(Clone)]
pub(crate) struct Settles {
    backend: Arc<dyn Backend>,
    ledger: Arc<Ledger>,
    sender: UnboundedSender<Settle>,
}

impl std::fmt::Debug for Settles {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Settles")
    }
}

impl Settles {
    pub(crate) fn start(backend: Arc<dyn Backend>, ledger: Arc<Ledger>, timeout: Duration) -> Self {
        let (sender, receiver) = unbounded_channel();
        let settler = Settler { backend: backend.clone(), ledger: ledger.clone(), timeout };
        tokio::spawn(settler.run(receiver));
        Settles { backend, ledger, sender }
    }

    pub(crate) fn ledger(&self) -> &Arc<Ledger> {
        &self.ledger
    }

    /// Moves a lease's deadline. False when it is lost.
    pub(crate) async fn extend(&self, lease: i64, timeout: Duration) -> Result<bool> {
        let held = self.backend.extend(&[lease], Some(timeout)).await?;
        self.ledger.renewed(&[lease], &held);
        Ok(!held.is_empty())
    }

    /// Hands in how a job ended. It is sent whether or not somebody waits for the confirmation.
    pub(crate) fn send(&self, claim: Claim, outcome: Outcome, stage: StageExit) -> oneshot::Receiver<Result<Verdict>> {
        let (confirmation, confirmed) = oneshot::channel();
        self.ledger.settling(claim);
        if self.sender.send(Settle { claim, outcome, stage, confirmation }).is_err() {
            self.ledger.settled([claim]); // the runtime is going down: nobody will settle it
        }
        confirmed
    }
}

struct Settler {
    backend: Arc<dyn Backend>,
    ledger: Arc<Ledger>,
    timeout: Duration,
}

impl Settler {
    async fn run(self, mut receiver: UnboundedReceiver<Settle>) {
        let mut batch = Vec::new();
        while receiver.recv_many(&mut batch, MAX_SETTLES).await > 0 {
            let stages: Vec<StageExit> = batch.iter().map(|settle| settle.stage.clone()).collect();
            let (outcomes, confirmations) = split(std::mem::take(&mut batch));
            let settled = self.settle(outcomes.clone()).await;
            // Before the rest, so that the next fetch asks for as much as there is room for.
            stages.iter().for_each(StageExit::leave);
            self.ledger.settled(outcomes.iter().map(|(claim, _)| *claim));
            confirm(self.ledger.workflow(), &outcomes, settled, confirmations);
        }
    }

    /// Repeats what may pass: a settle that was applied and whose answer got lost is `already` the second time.
    async fn settle(&self, mut outcomes: Vec<Settlement>) -> Result<Answers> {
        let (start, mut backoff) = (Instant::now(), Backoff::for_reconnects());
        loop {
            let error = match self.backend.settle(&outcomes).await {
                Ok(settled) => return Ok(Answers { settled, repeated: backoff.tries() > 0 }),
                Err(error) => error,
            };
            if is_about_text(&error) && make_plain(&mut outcomes) {
                continue;
            }
            let pause = backoff.next();
            if !error.is_retryable() || start.elapsed() + pause > self.timeout {
                tracing::error!(workflow = %self.ledger.workflow(), %error, jobs = outcomes.len(), "jobs could not be settled: they come back when their lease ends");
                return Err(error);
            }
            telemetry::settle_repeated(self.ledger.workflow());
            tracing::warn!(workflow = %self.ledger.workflow(), %error, jobs = outcomes.len(), "settling again");
            tokio::time::sleep(pause).await;
        }
    }
}

struct Answers {
    settled: Vec<Settled>,
    repeated: bool,
}

/// One outcome for each claim: a second one for a job that is on its way is not sent, but gets the same verdict.
fn split(batch: Vec<Settle>) -> (Vec<Settlement>, Vec<Awaited>) {
    let mut seen = HashMap::new();
    let mut confirmations = Vec::with_capacity(batch.len());
    for settle in batch {
        seen.entry(settle.claim).or_insert(settle.outcome);
        confirmations.push((settle.claim, settle.confirmation));
    }
    (seen.into_iter().collect(), confirmations)
}

fn confirm(workflow: &Arc<str>, outcomes: &[Settlement], answers: Result<Answers>, confirmations: Vec<Awaited>) {
    let answers = match answers {
        Ok(answers) => answers,
        Err(error) => {
            for (_, confirmation) in confirmations {
                let _nobody_waits = confirmation.send(Err(error.clone()));
            }
            return;
        }
    };
    let acks: std::collections::HashSet<Claim> =
        outcomes.iter().filter(|(_, outcome)| *outcome == Outcome::Ack).map(|(claim, _)| *claim).collect();
    let verdicts: HashMap<Claim, Verdict> = answers.settled.iter().map(|line| (line.claim, line.verdict)).collect();
    for (claim, confirmation) in confirmations {
        let verdict = match verdicts.get(&claim) {
            // It was deleted by the ack whose answer got lost.
            Some(Verdict::Unknown) if answers.repeated && acks.contains(&claim) => Ok(Verdict::Already),
            Some(verdict) if verdict.is_accepted() => Ok(*verdict),
            Some(verdict) => Err(Error::not_accepted(verdict.word())),
            None => Err(Error::not_accepted("no verdict")),
        };
        telemetry::settled(workflow, &verdict);
        let _nobody_waits = confirmation.send(verdict);
    }
}

/// A character that the database's encoding does not have.
fn is_about_text(error: &Error) -> bool {
    matches!(error.code(), Some("22P05" | "22021"))
}

/// Writes reasons in ASCII. False when there was nothing to change.
fn make_plain(outcomes: &mut [Settlement]) -> bool {
    let mut changed = false;
    for (_, outcome) in outcomes {
        let (Outcome::Requeue { reason: Some(reason), .. } | Outcome::Fail { reason: Some(reason) }) = outcome else {
            continue;
        };
        if !reason.is_ascii() {
            *reason = reason.escape_default().to_string();
            changed = true;
        }
    }
    changed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_that_the_database_cannot_write_becomes_ascii_once() {
        let mut outcomes = [(Claim { id: 1, lease: 1 }, Outcome::Fail { reason: Some("naïve".into()) })];
        assert!(make_plain(&mut outcomes));
        assert_eq!(outcomes[0].1, Outcome::Fail { reason: Some("na\\u{ef}ve".into()) });
        assert!(!make_plain(&mut outcomes));
    }
}
