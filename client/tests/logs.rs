//! What gets into logs: neither payload nor password.

mod support;

use std::fmt::{Debug, Write};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use qflow_client::{Client, ClientOptions, EnqueueOptions, Environment, Message, Next, Pipeline, QueueSettings};
use support::{database, until, Tested};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

/// Everything that anybody logs in this process, at every level.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<String>>);

impl Visit for Log {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let _never_fails = write!(self.0.lock().unwrap(), "{}={value:?} ", field.name());
    }
}

impl Subscriber for Log {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }
    fn new_span(&self, span: &Attributes<'_>) -> Id {
        let _never_fails = write!(self.0.lock().unwrap(), "{}: ", span.metadata().name());
        span.record(&mut self.clone());
        Id::from_u64(1)
    }
    fn record(&self, _: &Id, values: &Record<'_>) {
        values.record(&mut self.clone());
    }
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn event(&self, event: &Event<'_>) {
        event.record(&mut self.clone());
    }
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

#[tokio::test(flavor = "multi_thread")]
async fn neither_payload_nor_password() -> Tested {
    let Some(db) = database().await else { return Ok(()) };
    let log = Log::default();
    tracing::subscriber::set_global_default(log.clone())?;
    let url = format!("{} password=hunter2", db.url);
    let client = Client::open(&url, ClientOptions::default())?;
    db.queue("work", QueueSettings { retries: Some(1), ..QueueSettings::default() }).await;
    client.enqueue("work", "a private matter", EnqueueOptions::default()).await?;
    client.enqueue("work", &1, EnqueueOptions::default()).await?;
    let running = Pipeline::builder::<u32, ()>("work")
        .source(&client)
        .environment(Environment::from_lookup(|name| (name == "GPU_LOCK_TABLE").then(|| "locks".to_owned()))?)
        .retries(7)
        .handle_message(|message: Message<u32>| async move {
            match message.job().attempt {
                1 => panic!("for the log"),
                _ => Ok(Next::Done),
            }
        })
        .build()?
        .start()
        .await?;
    until("both have ended", || async { db.count("work", "completed").await + db.count("work", "failed").await == 2 })
        .await;
    let cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
               WHERE datname = current_database() AND application_name = 'qflow-client'";
    let logged = |text: &str| log.0.lock().unwrap().contains(text);
    until("the cut connection is logged", || async {
        db.connect().await.query(cut, &[]).await.unwrap();
        logged("fetching again")
    })
    .await;
    running.shutdown(Duration::from_secs(60)).await;
    for expected in ["qflow.message: ", "GPU_LOCK_TABLE is not used", "keeps the retries", "an attempt failed", "Panic"]
    {
        assert!(logged(expected), "{expected} in {}", log.0.lock().unwrap());
    }
    for secret in ["hunter2", "private"] {
        assert!(!logged(secret), "{secret} in {}", log.0.lock().unwrap());
    }
    Ok(())
}
