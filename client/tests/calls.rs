//! Each SQL function through the client, against a real server.

mod support;

use std::time::Duration;

use qflow_client::{
    Claim, Client, EnqueueOptions, FetchOptions, Hints, Job, Json, OnBusy, OnComplete, Outcome, QueueSettings,
    ResourceKind, Verdict, WorkflowSettings,
};
use serde_json::json;
use support::{database, soon, Tested};

fn demand(demand: usize) -> FetchOptions {
    FetchOptions { demand: Some(demand), ..FetchOptions::default() }
}

#[tokio::test]
async fn every_function_has_its_call() -> Tested {
    let Some(db) = database().await else { return Ok(()) };
    let sources: String = ["queues", "workflows", "produce", "consume", "settle", "rights", "resources", "watch"]
        .iter()
        .map(|name| std::fs::read_to_string(format!("{}/src/calls/{name}.rs", env!("CARGO_MANIFEST_DIR"))).unwrap())
        .collect();
    let rows = db
        .connect()
        .await
        .query(
            "SELECT DISTINCT proname::text FROM pg_proc WHERE pronamespace = 'qflow'::regnamespace
             AND proname !~ '_rows$' AND proname NOT IN ('enqueued_xid', 'return_job', 'registry_changed')",
            &[],
        )
        .await?;
    assert!(rows.len() > 20);
    for row in rows {
        let name: String = row.get(0);
        assert!(sources.contains(&format!("qflow.{name}(")), "no call for qflow.{name}");
    }
    Ok(())
}

#[tokio::test]
async fn queues_and_workflows_are_made_and_changed() -> Tested {
    let Some(db) = database().await else { return Ok(()) };
    let client = &db.client;
    let settings = QueueSettings {
        timeout: Some(Duration::from_secs(60)),
        retries: Some(2),
        on_complete: Some(OnComplete::Keep),
        ..QueueSettings::default()
    };
    assert_eq!(client.create_queue("mail", &settings, false, Some("post")).await?, "public.mail");
    assert_eq!(client.create_queue("mail", &settings, true, None).await?, "public.mail");
    assert!(client.alter_queue("mail", &QueueSettings { batch_size: Some(5), ..QueueSettings::default() }).await?);
    let asked = WorkflowSettings {
        timeout: Some(Duration::from_millis(1500)),
        concurrency: Some(3),
        retry_delay: Some(Duration::from_secs(2)),
        ..WorkflowSettings::default()
    };
    assert!(client.create_workflow("letters", "mail", &asked, true).await?);
    assert!(!client.create_workflow("letters", "mail", &asked, true).await?);
    assert!(
        client.alter_workflow("letters", &WorkflowSettings { retries: Some(7), ..WorkflowSettings::default() }).await?
    );
    assert!(client.pause_workflow("letters").await?);
    let workflows = client.workflow_status().await?;
    let letters = workflows.iter().find(|workflow| workflow.workflow == "letters").expect("it is listed");
    assert!(letters.paused && letters.retries == 7 && letters.concurrency == 3 && letters.batch_size == 5);
    assert_eq!(letters.timeout, Duration::from_millis(1500));
    assert!(client.resume_workflow("letters").await?);
    assert!(
        client.pause_queue("mail").await? && !client.pause_queue("mail").await? && client.resume_queue("mail").await?
    );
    assert!(client.drop_workflow("letters").await?);
    assert_eq!(client.create_queue("mail", &settings, false, None).await.unwrap_err().code(), Some("42710"));
    assert!(client.drop_queue("mail", false).await?);
    Ok(())
}

#[tokio::test]
async fn payloads_come_back_as_they_went_in() -> Tested {
    let Some(db) = database().await else { return Ok(()) };
    db.queue("odd", QueueSettings::default()).await;
    let metadata = Some(Json::encode(&json!({"by": "a test"}))?);
    let options = EnqueueOptions { metadata, priority: Some(0), delay: None };
    let id = db.client.enqueue("odd", &json!({"text": "ünï\u{1F600}", "list": [1, null]}), options).await?;
    db.connect()
        .await
        .batch_execute(r#"INSERT INTO odd (data) VALUES ('{"n": 123456789012345678901234567890.10}')"#)
        .await?;
    let jobs = db.client.fetch("odd", &demand(2)).await?;
    assert_eq!((jobs[0].id, jobs[0].attempt, jobs[0].max_attempts, jobs[0].batch_no), (id, 1, 4, 1));
    assert_eq!(jobs[0].data.decode::<serde_json::Value>()?, json!({"text": "ünï\u{1F600}", "list": [1, null]}));
    assert_eq!(jobs[0].metadata.as_ref().unwrap().text(), r#"{"by": "a test"}"#);
    assert_eq!(jobs[1].data.text(), r#"{"n": 123456789012345678901234567890.10}"#);
    assert!(jobs[0].lease_left > Duration::from_secs(200) && jobs[0].lease_left <= Duration::from_secs(300));
    assert!(jobs[0].resources.is_none() && jobs[0].failure_reason.is_none() && jobs[0].inserted_at.is_some());
    Ok(())
}

#[tokio::test]
async fn jobs_end_in_each_way() -> Tested {
    let Some(db) = database().await else { return Ok(()) };
    let client = &db.client;
    db.queue("ends", QueueSettings::default()).await;
    db.jobs("ends", 8).await;
    let claims: Vec<Claim> = client.fetch("ends", &demand(8)).await?.iter().map(Job::claim).collect();
    assert_eq!(client.ack("ends", &claims[..1], true).await?, 1);
    assert_eq!(client.requeue("ends", &claims[1..2], Some("later\0"), Some(Duration::from_secs(3600))).await?, 1);
    assert_eq!(client.fail("ends", &claims[2..3], Some("never")).await?, 1);
    assert_eq!(client.release("ends", &claims[3..4]).await?, 1);
    let outcomes = [
        (claims[4], Outcome::Ack),
        (claims[5], Outcome::Requeue { reason: Some("busy".into()), delay: None }),
        (claims[6], Outcome::Fail { reason: None }),
        (claims[7], Outcome::Release),
        (claims[0], Outcome::Ack),
        (claims[1], Outcome::Ack),
        (Claim { id: 999, lease: claims[0].lease }, Outcome::Ack),
    ];
    let settled = client.settle("ends", &outcomes, false).await?;
    let verdict = |claim: Claim| settled.iter().find(|line| line.claim == claim).map(|line| line.verdict);
    let expected = [
        Verdict::Acked,
        Verdict::Requeued,
        Verdict::Failed,
        Verdict::Released,
        Verdict::Already,
        Verdict::Stale,
        Verdict::Unknown,
    ];
    for ((claim, _), expected) in outcomes.iter().zip(expected) {
        assert_eq!(verdict(*claim), Some(expected));
    }
    assert_eq!(client.settle("ends", &outcomes, true).await.unwrap_err().code(), Some("55000"));
    assert_eq!(client.retry_failed("ends", None).await?, 2);
    assert_eq!(client.purge_queue("ends", Some("completed"), Some(Duration::ZERO)).await?, 2);
    db.verify("ends").await;
    Ok(())
}

#[tokio::test]
async fn jobs_are_acked_and_others_fetched_in_one_call() -> Tested {
    let Some(db) = database().await else { return Ok(()) };
    let client = &db.client;
    db.queue("turns", QueueSettings::default()).await;
    db.jobs("turns", 5).await;
    let claims = |jobs: Vec<Job>| jobs.iter().map(Job::claim).collect::<Vec<Claim>>();
    let first = claims(client.ack_and_fetch("turns", &[], &demand(2)).await?);
    let second = claims(client.ack_and_fetch("turns", &first, &demand(2)).await?);
    assert_eq!((first.len(), second.len(), db.count("turns", "completed").await), (2, 2, 2));
    let stale = [second[0], Claim { lease: second[1].lease + 1000, ..second[1] }];
    assert_eq!(client.ack_and_fetch("turns", &stale, &demand(2)).await.unwrap_err().code(), Some("55000"));
    assert_eq!((db.count("turns", "completed").await, db.count("turns", "pending").await), (2, 1));
    let third = client.ack_and_fetch("turns", &second, &demand(2)).await?;
    assert_eq!((third.len(), third[0].attempt), (1, 1));
    assert!(third[0].lease_left > Duration::from_secs(200) && third[0].lease_left <= Duration::from_secs(300));
    // The answer to that one got lost: said again, it is accepted.
    assert!(client.ack_and_fetch("turns", &second, &demand(2)).await?.is_empty());
    assert!(client.ack_and_fetch("turns", &claims(third), &demand(2)).await?.is_empty());
    assert_eq!(db.count("turns", "completed").await, 5);
    db.verify("turns").await;
    Ok(())
}

#[tokio::test]
async fn a_lease_that_has_ended_is_not_in_the_answer() -> Tested {
    let Some(db) = database().await else { return Ok(()) };
    let client = &db.client;
    db.queue("held", QueueSettings::default()).await;
    db.jobs("held", 2).await;
    let first = client.fetch("held", &demand(1)).await?[0].claim();
    let second = client.fetch("held", &demand(1)).await?[0].claim();
    client.ack("held", &[second], true).await?;
    let held = client.extend("held", &[first.lease, second.lease], Some(Duration::from_secs(900))).await?;
    assert_eq!(held.len(), 1);
    assert_eq!(held[0].lease, first.lease);
    assert!(held[0].lease_left > Duration::from_secs(600));
    assert_eq!(client.lease_status().await?.len(), 1);
    Ok(())
}

#[tokio::test]
async fn what_a_job_did_and_its_ack_commit_together() -> Tested {
    let Some(db) = database().await else { return Ok(()) };
    db.queue("effects", QueueSettings::default()).await;
    db.jobs("effects", 1).await;
    let mut connection = db.connect().await;
    connection.batch_execute("CREATE TABLE done (id bigint PRIMARY KEY)").await?;
    let claim = db.client.fetch("effects", &demand(1)).await?[0].claim();
    let stale = Claim { lease: claim.lease + 1, ..claim };
    for (claim, commits) in [(stale, false), (claim, true)] {
        let transaction = connection.transaction().await?;
        transaction.execute("INSERT INTO done VALUES ($1)", &[&claim.id]).await?;
        let acked = Client::on(&transaction).ack("effects", &[claim], true).await;
        assert_eq!(acked.is_ok(), commits);
        match acked {
            Ok(_) => transaction.commit().await?,
            Err(error) => assert_eq!(error.code(), Some("55000")),
        }
        assert_eq!(db.number("SELECT count(*) FROM done").await, i64::from(commits));
    }
    assert_eq!(db.count("effects", "completed").await, 1);
    let mut pooled = db.client.pool().get().await?;
    let transaction = pooled.transaction().await?;
    Client::on(&transaction).enqueue("effects", "never", EnqueueOptions::default()).await?;
    transaction.rollback().await?;
    assert!(Client::on(&pooled).enqueue("effects", "one more", EnqueueOptions::default()).await? > 0);
    assert_eq!(db.count("effects", "pending").await, 1);
    Ok(())
}

#[tokio::test]
async fn a_wait_ends_when_a_job_comes() -> Tested {
    let Some(db) = database().await else { return Ok(()) };
    db.queue("calls", QueueSettings::default()).await;
    let long = Some(Duration::from_secs(50));
    let hints = Hints::default();
    let (waited, enqueued) = tokio::join!(
        soon("the wait", db.client.wait("calls", long, &hints)),
        db.client.enqueue("calls", &1, EnqueueOptions::default()),
    );
    waited?;
    enqueued?;
    let mut connection = db.connect().await;
    let transaction = connection.transaction().await?;
    transaction.batch_execute("CREATE TABLE t ()").await?;
    let refused = Client::on(&transaction).wait("calls", long, &Hints::default()).await;
    assert_eq!(refused.unwrap_err().code(), Some("25001"));
    Ok(())
}

#[tokio::test]
async fn what_watches_and_who_may() -> Tested {
    let Some(db) = database().await else { return Ok(()) };
    let client = &db.client;
    db.queue("seen", QueueSettings::default()).await;
    db.jobs("seen", 3).await;
    let role = format!("role_{}", std::process::id());
    db.connect().await.batch_execute(&format!("CREATE ROLE {role}")).await?;
    client.grant_producer("seen", &role).await?;
    client.grant_consumer("seen", &role).await?;
    client.grant_monitor("seen", &role).await?;
    client.revoke_monitor("seen", &role).await?;
    client.revoke_consumer("seen", &role).await?;
    client.revoke_producer("seen", &role).await?;
    let stats = client.queue_stats().await?;
    assert_eq!((stats[0].queue.as_str(), stats[0].pending), ("public.seen", Some(3)));
    let all_is_well = || async { client.readiness("seen").await.unwrap().iter().all(|check| check.ok) };
    support::until("the worker serves this database", all_is_well).await;
    assert!(client.readiness("unseen").await?.iter().any(|check| !check.ok && check.remedy.is_some()));
    assert!(client.health().await?.iter().any(|check| check.name == "version" && check.ok));
    assert!(client.prometheus().await?.contains("qflow"));
    assert!(client.reap().await?.is_empty());
    Ok(())
}

#[tokio::test]
async fn errors_say_whether_to_try_again_and_nothing_secret() -> Tested {
    let Some(db) = database().await else { return Ok(()) };
    let unknown = db.client.fetch("nowhere", &demand(1)).await.unwrap_err();
    assert_eq!((unknown.code(), unknown.is_retryable()), (Some("42704"), false));
    let nobody = Client::open("postgres://u:secret@127.0.0.1:1/d", qflow_client::ClientOptions::default())?;
    let refused = nobody.health().await.unwrap_err();
    assert!(refused.is_retryable() && refused.code().is_none());
    let bad = Client::open("postgres://u:secret@h/d?secret=1", qflow_client::ClientOptions::default()).unwrap_err();
    for shown in [format!("{refused} {refused:?}"), format!("{bad} {bad:?}"), format!("{nobody:?}")] {
        assert!(!shown.contains("secret"), "{shown}");
    }
    Ok(())
}

#[tokio::test]
async fn behind_a_pooler_nothing_is_prepared_by_name() -> Tested {
    let Some(db) = database().await else { return Ok(()) };
    let one = |behind_pooler| qflow_client::ClientOptions { pool_size: 1, behind_pooler, ..Default::default() };
    for (behind_pooler, expected) in [(true, 0), (false, 2)] {
        let client = Client::open(&db.url, one(behind_pooler))?;
        client.health().await?;
        client.reap().await?;
        let connection = client.pool().get().await?;
        let rows = connection.query_typed("SELECT count(*) FROM pg_prepared_statements", &[]).await?;
        assert_eq!(rows[0].get::<_, i64>(0), expected);
    }
    Ok(())
}

#[tokio::test]
async fn resources_are_made_held_and_given_back() -> Tested {
    let Some(db) = database().await else { return Ok(()) };
    let client = &db.client;
    client.create_resource("disk", Some(10), ResourceKind::Units).await?;
    client.create_resource("lab", Some(2), ResourceKind::Slots).await?;
    assert!(client.alter_resource("gpu", Some(2)).await?);
    db.queue("work", QueueSettings::default()).await;
    db.jobs("work", 10).await;
    let hints = Hints { worker: Some("w".to_owned()), ..Hints::default() };
    let hints = hints.amount("gpu", 2).one_of("lab", [1]).amount("disk", 4);
    let jobs = client.fetch("work", &FetchOptions { hints: hints.clone(), ..demand(2) }).await?;
    assert_eq!(jobs.len(), 2);
    assert_eq!((jobs[0].slots("gpu")?, jobs[1].slots("lab")?), (vec![0, 1], vec![1]));
    assert_eq!((jobs[0].slots("disk")?, jobs[0].slots("memory_gb")?), (vec![], vec![]));
    let held = client.resource_status().await?;
    let of = |resource: &str| held.iter().filter(|line| line.resource == resource && line.lease.is_some()).count();
    assert_eq!((of("gpu"), of("lab"), of("disk")), (2, 1, 1));
    let disk = held.iter().find(|line| line.resource == "disk").unwrap();
    assert_eq!((disk.kind, disk.capacity, disk.units), (ResourceKind::Units, Some(10), Some(4)));
    assert_eq!((disk.workflow.as_deref(), disk.worker.as_deref()), (Some("work"), Some("w")));

    let busy = FetchOptions { hints: Hints { on_busy: Some(OnBusy::Error), ..Hints::default() }, ..demand(1) };
    let busy = FetchOptions { hints: busy.hints.clone().amount("gpu", 1), ..busy };
    let refused = client.fetch("work", &busy).await.unwrap_err();
    assert_eq!(refused.code(), Some("55P03"));
    assert!(client.drop_resource("lab").await.is_err());
    assert!(client.break_lease(jobs[0].lease).await?);
    assert!(!client.break_lease(jobs[0].lease).await?);
    client.drop_resource("lab").await?;
    assert!(client.resource_status().await?.iter().all(|line| line.lease.is_none()));
    Ok(())
}
