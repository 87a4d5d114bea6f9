//! The examples, as programs of their own against a real server.

mod support;

use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use qflow_client::{EnqueueOptions, Hints, WorkflowSettings};
use serde_json::json;
use support::server::Server;
use support::{database, until, Database, Tested};

/// An example of this build, which `cargo test` has made; without one, says why the test is not run.
fn example(db: &Database, name: &str) -> Option<Command> {
    let mut path: PathBuf = std::env::current_exe().unwrap();
    path.pop();
    path.set_file_name("examples");
    path.push(name);
    if !path.exists() {
        eprintln!("not run: the example {name} was not built");
        return None;
    }
    let mut command = Command::new(path);
    command.env_clear().env("DATABASE_URL", &db.url).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    Some(command)
}

fn shown(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn terminate(child: &std::process::Child) {
    assert!(Command::new("kill").arg(child.id().to_string()).status().unwrap().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_three_pipelines() -> Tested {
    let Some(db) = database().await else { return Ok(()) };
    let expected = [
        ("embedding", "embedding_jobs", "embedding_producer", (10, 16, 300)),
        ("complexity", "complexity_jobs", "complexity_training", (5, 8, 600)),
        ("architecture", "architecture_jobs", "architecture_learning", (3, 4, 900)),
    ];
    for (name, queue, workflow, settings) in expected {
        let Some(mut command) = example(&db, "pipelines") else { return Ok(()) };
        let child = command.arg(name).spawn()?;
        until("it has registered", || async {
            !db.client.workflow_status().await.unwrap().iter().all(|w| w.workflow != workflow)
        })
        .await;
        let status = db.client.workflow_status().await?;
        let registered = status.iter().find(|status| status.workflow == workflow).unwrap();
        assert_eq!((registered.concurrency, registered.batch_size, registered.timeout.as_secs() as i64), settings);
        let documents: Vec<_> = (0..20).map(|n| json!({"text": format!("Document {n}. It has words.")})).collect();
        db.client.enqueue_batch(queue, &documents, EnqueueOptions::default()).await?;
        until("all are done", || async { db.count(queue, "completed").await == 20 }).await;
        terminate(&child);
        assert!(shown(&child.wait_with_output()?).contains("20 completed, 0 requeued"));
        db.verify(queue).await;
    }
    assert_eq!(db.number("SELECT count(*) FROM qflow.holder").await, 0, "all GPUs are free");
    Ok(())
}

/// What `make demo` starts four times.
#[tokio::test(flavor = "multi_thread")]
async fn the_consumer_of_the_demo() -> Tested {
    let Some(db) = database().await else { return Ok(()) };
    let create =
        "CREATE TABLE vectors (document text, paragraph integer, features real[], consumer integer, gpu integer)";
    db.connect().await.batch_execute(create).await?;
    db.client.create_queue("paragraphs", &Default::default(), false, Some("embedding_producer")).await?;
    let gpu = WorkflowSettings { resource_hints: Some(Hints::default().amount("gpu", 1)), ..Default::default() };
    db.client.alter_workflow("embedding_producer", &gpu).await?;
    let paragraphs: Vec<_> = (0..40).map(|n| json!({"document": "a", "paragraph": n, "text": "some words"})).collect();
    db.client.enqueue_batch("paragraphs", &paragraphs, EnqueueOptions::default()).await?;
    let Some(mut command) = example(&db, "demo") else { return Ok(()) };
    let child = command.arg("7").spawn()?;
    until("all are done", || async { db.count("paragraphs", "completed").await == 40 }).await;
    terminate(&child);
    let said = shown(&child.wait_with_output()?);
    assert!(said.contains("\"completed\":40"), "{said}");
    assert_eq!(db.number("SELECT count(*) FROM vectors WHERE consumer = 7 AND gpu = 0").await, 40);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_measurement_of_throughput() -> Tested {
    let Some(db) = database().await else { return Ok(()) };
    let Some(mut command) = example(&db, "throughput") else { return Ok(()) };
    let said = shown(&command.arg("200").output()?);
    assert!(said.contains("100"), "{said}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn exactly_once_however_often_it_is_killed() -> Tested {
    let Some(db) = database().await else { return Ok(()) };
    let Some(mut command) = example(&db, "exactly_once") else { return Ok(()) };
    let mut child = command.arg("600").spawn()?;
    until("it has begun", || async {
        let queue = db.number("SELECT count(*) FROM pg_class WHERE relname = 'transfers'").await;
        queue == 1 && db.count("transfers", "completed").await > 0
    })
    .await;
    for _ in 0..3 {
        child.kill()?;
        child.wait()?;
        child = example(&db, "exactly_once").unwrap().spawn()?;
        let before = db.count("transfers", "completed").await;
        until("it goes on", || async { db.count("transfers", "completed").await.min(590) >= (before + 10).min(590) })
            .await;
    }
    shown(&child.wait_with_output()?);
    assert_eq!(db.count("transfers", "completed").await, 600);
    assert_eq!(db.number("SELECT sum(coins)::int8 FROM accounts").await, 600);
    assert_eq!(db.number("SELECT count(*) FROM accounts WHERE coins = 60").await, 10);
    Ok(())
}

/// The same where its server is killed too. What cannot bear that ends, and is started again.
#[tokio::test(flavor = "multi_thread")]
async fn exactly_once_however_often_the_server_is_killed() -> Tested {
    let Some(server) = Server::start().await else { return Ok(()) };
    let db = server.database().await;
    let Some(mut command) = example(&db, "exactly_once") else { return Ok(()) };
    let mut child = command.arg("600").spawn()?;
    let completed = || async {
        let done = "SELECT count(*) FROM transfers WHERE status = 'completed'";
        match db.client.pool().get().await {
            Ok(connection) => connection.query_one(done, &[]).await.map_or(0, |row| row.get::<_, i64>(0)),
            Err(_) => 0,
        }
    };
    for part in [20, 150, 300] {
        until("some are done", || async { completed().await > part }).await;
        server.kill();
        if part == 150 {
            child.kill()?;
        }
        server.up().await;
        until("it goes on", || {
            if child.try_wait().unwrap().is_some() {
                child = example(&db, "exactly_once").unwrap().spawn().unwrap();
            }
            let done = completed();
            async move { done.await > part + 10 }
        })
        .await;
    }
    until("all are done", || async { completed().await == 600 }).await;
    shown(&child.wait_with_output()?);
    assert_eq!(db.number("SELECT sum(coins)::int8 FROM accounts").await, 600);
    assert_eq!(db.number("SELECT count(*) FROM accounts WHERE coins = 60").await, 10);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_terminated_program_ends_well_whenever_it_is_told() -> Tested {
    let Some(db) = database().await else { return Ok(()) };
    db.queue("work", Default::default()).await;
    let runs = if std::env::var("QFLOW_SOAK").as_deref() == Ok("1") { 100 } else { 15 };
    for run in 0..runs {
        db.jobs("work", 30).await;
        let Some(mut command) = example(&db, "graceful_shutdown") else { return Ok(()) };
        let child = command.arg("work").spawn()?;
        let before = db.count("work", "completed").await;
        until("it works", || async { db.count("work", "completed").await > before }).await;
        tokio::time::sleep(Duration::from_micros(run * 1_931 % 40_000)).await; // the moment is what the test varies
        terminate(&child);
        let said = shown(&child.wait_with_output()?);
        assert!(said.contains("0 lost, 0 interrupted, 0 unsettled"), "{said}");
        assert_eq!(db.count("work", "in_progress").await, 0);
    }
    assert_eq!(db.number("SELECT count(*) FROM work WHERE status = 'pending' AND attempt <> 0").await, 0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_in_the_users_transaction() -> Tested {
    let Some(db) = database().await else { return Ok(()) };
    let Some(mut command) = example(&db, "enqueue_in_transaction") else { return Ok(()) };
    assert_eq!(shown(&command.output()?), "{\"order\": 1}\n");
    Ok(())
}
