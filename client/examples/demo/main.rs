//! The consumer of `make demo`: computes vectors of paragraphs, and stores and acknowledges them in one transaction.
//!
//! `DATABASE_URL=… cargo run --example demo -- NUMBER [HOLD_AT]`
//!
//! Works until SIGTERM, and says what the demo has to know in lines of JSON on standard output. With HOLD_AT it stops dead
//! in the midst of its HOLD_AT-th lease, holding jobs, with its vectors written and not committed, and waits to be killed.

mod features;
mod paragraph;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, Once};
use std::time::Duration;

use qflow_client::{
    Batch, BatchOutcome, Batcher, Claim, Client, ClientOptions, Failure, Hints, Message, Next, Pipeline, Processors,
};
use serde_json::json;
use tokio::signal::unix::{signal, SignalKind};

use features::features;
use paragraph::Paragraph;

/// The workflow of the demo asks for a GPU: each lease holds one, until the last of its jobs is settled.
const WORKFLOW: &str = "embedding_producer";
const DEMAND: usize = 64;
const BATCH_SIZE: usize = 16;
const GRACE: Duration = Duration::from_secs(20);

const STORE: &str = "INSERT INTO vectors (document, paragraph, features, consumer, gpu) \
     SELECT $1, $2, $3, $4, $5";

/// A paragraph with its vector, on its way into the table.
struct Embedded {
    paragraph: Paragraph,
    features: Vec<f32>,
    gpu: i32,
}

struct Consumer {
    client: Client,
    number: i32,
    hold_at: Option<usize>,
    leases: Mutex<BTreeSet<i64>>,
    first: Once,
}

impl Consumer {
    fn say(&self, event: &str, mut facts: serde_json::Value) {
        facts["event"] = event.into();
        facts["consumer"] = self.number.into();
        println!("{facts}");
    }

    /// The part of the work that needs no other job.
    fn embed(&self, message: Message<Paragraph>) -> Result<Next<Embedded>, Failure> {
        self.first.call_once(|| self.say("working", json!({})));
        let gpu = message.job().slots("gpu")?.first().map_or(-1, |slot| *slot as i32); // what a model would run on
        let paragraph = message.into_payload();
        let features = features(&paragraph.text()?);
        Ok(Next::batch(Embedded { paragraph, features, gpu }))
    }

    /// The vectors of a batch and the acks of its jobs: both or nothing. With `strict` it fails when a job is no longer
    /// ours, and the vectors are gone with it.
    async fn store(&self, batch: Batch<Embedded>) -> Result<BatchOutcome, Failure> {
        let mut connection = self.client.pool().get().await?;
        let transaction = connection.transaction().await?;
        let statement = transaction.prepare_cached(STORE).await?;
        for message in batch.messages() {
            let Embedded { paragraph, features, gpu } = message.payload();
            transaction
                .execute(&statement, &[&paragraph.document, &paragraph.number, features, &self.number, gpu])
                .await?;
        }
        let claims: Vec<Claim> = batch.messages().iter().map(|message| message.job().claim()).collect();
        if self.is_to_hold(&claims) {
            let ids: Vec<i64> = claims.iter().map(|claim| claim.id).collect();
            self.say("holding", json!({"ids": ids, "lease": claims.first().map(|claim| claim.lease)}));
            std::future::pending::<()>().await;
        }
        Client::on(&transaction).ack(WORKFLOW, &claims, true).await?;
        transaction.commit().await?;
        Ok(BatchOutcome::Done) // acked once more, outside of the transaction: the database answers "already"
    }

    fn is_to_hold(&self, claims: &[Claim]) -> bool {
        let Ok(mut leases) = self.leases.lock() else { return false };
        leases.extend(claims.iter().map(|claim| claim.lease));
        self.hold_at.is_some_and(|hold_at| leases.len() >= hold_at)
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let number = arguments.next().ok_or("which number?")?.parse()?;
    let hold_at = arguments.next().map(|text| text.parse()).transpose()?;
    let mut terminated = signal(SignalKind::terminate())?;
    let _interrupted = signal(SignalKind::interrupt())?; // Ctrl-C is for the demo, which then stops its consumers

    let client = Client::open(&std::env::var("DATABASE_URL")?, ClientOptions::default())?;
    let (leases, first) = (Mutex::default(), Once::new());
    let consumer = Arc::new(Consumer { client: client.clone(), number, hold_at, leases, first });
    let (to_embed, to_store) = (consumer.clone(), consumer.clone());
    let hints = Hints { wait: Some(Duration::from_secs(1)), ..Hints::default() }; // for a GPU, beside the others
    let running = Pipeline::builder(WORKFLOW)
        .source(client)
        .producers(1) // a lease at a time: it holds one of two GPUs, for which four consumers take turns
        .hints(hints)
        .processors(Processors::new(4).max_demand(DEMAND / 4))
        .batcher(Batcher::new("store").size(BATCH_SIZE).timeout(Duration::from_millis(20)))
        .handle_message(move |message| {
            let consumer = to_embed.clone();
            async move { consumer.embed(message) }
        })
        .handle_batch(move |batch| {
            let consumer = to_store.clone();
            async move { consumer.store(batch).await }
        })
        .build()?
        .start()
        .await?;
    let told = async move {
        terminated.recv().await;
    };
    let report = running.run_until(told, GRACE).await;
    let facts = json!({"completed": report.completed, "requeued": report.requeued, "lost": report.lost});
    consumer.say("end", facts);
    Ok(())
}
