//! Tests that run inside a server: the ground that everything stands on (`host`), and one job's way through.

#[pgrx::pg_schema]
mod tests {
    use std::panic::AssertUnwindSafe;

    use pgrx::pg_sys;
    use pgrx::prelude::*;

    use crate::error::Error;
    use crate::host::snapshot::{Evidence, Latest};
    use crate::host::spi::{connected, once, Mode, Plan};
    use crate::host::subtransaction::attempt;
    use crate::host::{identity, value, xact};
    use crate::job::floor::Key;
    use crate::job::{floor_store, lease, retention};
    use crate::queue::cache;

    fn number(sql: &str) -> i64 {
        Spi::get_one::<i64>(sql).unwrap().unwrap()
    }

    fn search_path() -> String {
        Spi::get_one::<String>("SELECT current_setting('search_path')").unwrap().unwrap()
    }

    #[pg_test]
    fn a_job_goes_through() {
        Spi::run("SELECT qflow.create_queue('jobs')").unwrap();
        Spi::run("INSERT INTO jobs (data) SELECT to_jsonb(n) FROM generate_series(1, 3) n").unwrap();
        let acked =
            number("SELECT sum(qflow.ack('jobs', ARRAY[id], ARRAY[lease]))::bigint FROM qflow.fetch('jobs', 10)");
        assert_eq!(acked, 3);
        assert_eq!(number("SELECT count(*) FROM jobs WHERE status <> 'completed'"), 0);
        assert_eq!(number("SELECT count(*) FROM qflow.lease"), 0);
    }

    /// Identity and settings are back after success, after an error of ours, and after an error of the server's.
    #[pg_test]
    fn restriction_ends_on_every_way_out() {
        Spi::run("CREATE ROLE somebody; SET LOCAL search_path = pg_catalog, public").unwrap();
        let before = (identity::current_user(), search_path());
        let role = Spi::get_one::<pg_sys::Oid>("SELECT oid FROM pg_roles WHERE rolname = 'somebody'").unwrap().unwrap();
        let inside = identity::restricted_as(role, || Ok((identity::current_user(), search_path()))).unwrap();
        assert_eq!(inside, (role, "pg_catalog, pg_temp".to_owned()));
        assert!(identity::restricted_as::<()>(role, || Err(Error::bad_value("ours"))).is_err());
        let theirs = attempt(AssertUnwindSafe(|| {
            identity::restricted_as(role, || connected(|spi| once(spi, "SELECT 1 / 0", &[]).map(|_| ())))
        }));
        assert_eq!(theirs.unwrap_err().sqlstate, "22012");
        assert_eq!((identity::current_user(), search_path()), before);
    }

    #[pg_test]
    fn an_attempt_that_fails_leaves_nothing() {
        Spi::run("CREATE TABLE t (n int)").unwrap();
        let write = |then: &str| {
            connected(|spi| {
                once(spi, "INSERT INTO t VALUES (1)", &[])?;
                once(spi, then, &[]).map(|_| ())
            })
        };
        let failed = attempt(AssertUnwindSafe(|| write("SELECT 1 / 0"))).unwrap_err();
        assert_eq!((failed.sqlstate.as_str(), failed.message.as_str()), ("22012", "division by zero"));
        assert_eq!(number("SELECT count(*) FROM t"), 0);
        assert!(attempt(AssertUnwindSafe(|| write("SELECT 1"))).is_ok());
        assert_eq!(number("SELECT count(*) FROM t"), 1);
    }

    /// The evidence snapshot shows nothing of the own transaction, not even that it changed something; the newest
    /// snapshot shows all of it.
    #[pg_test]
    fn evidence_is_blind_to_the_own_transaction() {
        Spi::run("CREATE TABLE t (n int); INSERT INTO t VALUES (1)").unwrap();
        let own = xact::own_xid().unwrap();
        let count = || {
            connected(|spi| {
                let plan = Plan::prepare(spi, "SELECT count(*) FROM t", &[])?;
                let rows = plan.run(spi, &[], Mode::Read)?;
                Ok(rows.first().and_then(|row| row.bigint(1)))
            })
        };
        {
            let evidence = Evidence::take();
            assert!(evidence.horizon.running.contains(&own) && evidence.horizon.own == Some(own));
            assert!(evidence.horizon.end <= xact::next_xid());
            assert_eq!(count().unwrap(), Some(0));
        }
        let _latest = Latest::take();
        assert_eq!(count().unwrap(), Some(1));
    }

    #[pg_test]
    fn transaction_ids_are_wide() {
        let own = xact::assign_xid();
        assert_eq!(number("SELECT pg_current_xact_id()::text::bigint") as u64, own);
        assert!(xact::next_xid() > own);
    }

    /// What is inserted and claimed in one transaction is no evidence: the floor stays below it.
    #[pg_test]
    fn the_floor_does_not_learn_from_its_own_transaction() {
        Spi::run("SELECT qflow.create_queue('jobs')").unwrap();
        Spi::run("INSERT INTO jobs (data) VALUES ('1'), ('2')").unwrap();
        assert_eq!(number("SELECT count(*) FROM qflow.fetch('jobs', 1)"), 1);
        let own = xact::own_xid().unwrap();
        let queue = cache::queue_named("jobs").unwrap();
        let floor = floor_store::current(&queue, value::now()).unwrap();
        for id in [1, 2] {
            assert!(floor.covers(4, Key { xid: own, id }), "job {id} is out of reach: {floor:?}");
        }
    }

    #[pg_test]
    fn lease_ids_rise_and_jump() {
        let first = lease::next_id().unwrap();
        assert!(lease::next_id().unwrap() > first);
        lease::jump(first + 1_000).unwrap();
        let after = lease::next_id().unwrap();
        assert!(after > first + 1_000 + (1 << 32), "{after}");
    }

    /// As its worker takes them: told when to come again, it reads nothing before.
    #[pg_test]
    fn retention_steps_when_something_is_due() {
        Spi::run("SELECT qflow.create_queue('jobs', retention_ms => 60000)").unwrap();
        let put = "INSERT INTO jobs (data, status, updated_at) SELECT '{}', 'completed', clock_timestamp() - n * interval '45 s'";
        Spi::run(&format!("{put} FROM generate_series(0, 2) n")).unwrap();
        let queue = cache::queue_named("jobs").unwrap();
        let now = value::now();
        let step = |at| retention::step(&queue, at, false).unwrap();
        let read = || number("SELECT pg_stat_get_xact_tuples_returned('jobs_pkey'::regclass)");
        let first = step(now);
        assert_eq!((first.removed, first.has_more, first.again_at), (1, false, Some(now + 1_000_000)));
        let second = step(now + 1_000_000);
        assert_eq!((second.removed, second.has_more), (0, false));
        let due = second.again_at.unwrap();
        assert!((now + 14_000_000..now + 15_000_000).contains(&due), "{}", due - now);
        let before = read();
        assert!(before > 0);
        assert_eq!(step(due - 1).again_at, Some(due));
        assert_eq!(read(), before);
        assert_eq!(step(due).removed, 1);
        Spi::run("SELECT qflow.create_queue('kept')").unwrap();
        let kept = cache::queue_named("kept").unwrap();
        assert_eq!(retention::step(&kept, now, true).unwrap().again_at, None);
    }

    /// Refused again and again it pauses, longer each time.
    #[pg_test]
    fn retention_pauses_where_all_is_refused() {
        Spi::run("SELECT qflow.create_queue('jobs', retention_ms => 1000)").unwrap();
        Spi::run("CREATE TABLE children (job bigint REFERENCES jobs)").unwrap();
        Spi::run("INSERT INTO jobs (data, status, updated_at) SELECT '{}', 'completed', '-infinity' FROM generate_series(1, 5000)").unwrap();
        Spi::run("INSERT INTO children SELECT id FROM jobs").unwrap();
        // Not rolled back with what is refused.
        Spi::run("CREATE SEQUENCE tries").unwrap();
        Spi::run("CREATE FUNCTION count_try() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM nextval('public.tries'); RETURN NULL; END $$").unwrap();
        Spi::run("CREATE TRIGGER count_try BEFORE DELETE ON jobs FOR EACH STATEMENT EXECUTE FUNCTION count_try()")
            .unwrap();
        let queue = cache::queue_named("jobs").unwrap();
        let mut now = value::now();
        let mut pauses = Vec::new();
        for at in 1..=8 {
            let outcome = retention::step(&queue, now, false).unwrap();
            assert_eq!(number("SELECT last_value FROM tries"), 16 * at);
            assert_eq!((outcome.removed, outcome.has_more), (0, false));
            assert_eq!(outcome.refused.unwrap().sqlstate, "23503");
            let next = outcome.again_at.unwrap();
            pauses.push((next - now) / 1_000_000);
            now = next;
        }
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60]);
        Spi::run("TRUNCATE children").unwrap();
        let outcome = retention::step(&queue, now, false).unwrap();
        assert!(outcome.removed > 100 && outcome.has_more && outcome.refused.is_none());
    }

    /// It never acts as its caller, who may be a superuser.
    #[pg_test]
    fn retention_needs_a_table_that_can_be_kept_up() {
        Spi::run("SELECT qflow.create_queue('jobs', retention_ms => 1000)").unwrap();
        Spi::run("CREATE TABLE parents (id bigint PRIMARY KEY)").unwrap();
        Spi::run("ALTER TABLE jobs ADD parent bigint REFERENCES parents DEFERRABLE INITIALLY DEFERRED").unwrap();
        let queue = cache::queue_named("jobs").unwrap();
        assert_eq!(retention::step(&queue, value::now(), true).unwrap_err().code(), "55000");
    }

    #[pg_test]
    fn text_is_cut_at_characters() {
        let cut =
            |text: &str, bytes| value::to_string(value::clip_text(value::text(text).unwrap(), bytes).unwrap()).unwrap();
        assert_eq!(cut("häß", 2), "h");
        assert_eq!(cut("häß", 3), "hä");
        assert_eq!(cut("häß", 99), "häß");
    }
}
