"""One queue that cannot be looked after, each kind of trouble beside healthy ones; and whose rights the worker has."""
import pytest

from jobs import fetch, until
from workers import lease_out, lines, make_jobs, preloaded, until_back, worker_of, workers

TIMEOUT = "qflow.worker_statement_timeout_ms = 1200"  # a lock is waited for a second
# How it is broken, how it is mended. The table belongs to `owner`, in his schema.
TROUBLES = {
    "gone": ("ALTER TABLE s.gone DROP COLUMN failure_reason", "ALTER TABLE s.gone ADD COLUMN failure_reason text"),
    "rights": ("REVOKE USAGE ON SCHEMA r FROM owner", "GRANT USAGE ON SCHEMA r TO owner"),
    "raises": ("CREATE TRIGGER t BEFORE UPDATE ON s.raises FOR EACH ROW EXECUTE FUNCTION s.raise()", "DROP TRIGGER t ON s.raises"),
    "sleeps": ("CREATE TRIGGER t BEFORE UPDATE ON s.sleeps FOR EACH ROW EXECUTE FUNCTION s.sleep()", "DROP TRIGGER t ON s.sleeps"),
    "locked": (None, None),
}
PREPARE = """
CREATE ROLE owner; CREATE SCHEMA s AUTHORIZATION owner; CREATE SCHEMA r; GRANT USAGE, CREATE ON SCHEMA r TO owner;
CREATE FUNCTION s.raise() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'not today' USING ERRCODE = 'Q0001'; END $$;
CREATE FUNCTION s.sleep() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(3600); RETURN new; END $$;
"""


def table(trouble):
    return f"{'r' if trouble == 'rights' else 's'}.{trouble}"


def test_troubled_queues_beside_healthy_ones(make_server):
    db = preloaded(make_server, TIMEOUT, queues=())
    db.execute(PREPARE)
    for trouble in TROUBLES:
        make_jobs(db, table(trouble))
        db.execute(f"ALTER TABLE {table(trouble)} OWNER TO owner")
    for queue in ("healthy1", "healthy2"):
        make_jobs(db, queue)
    with db.connect() as c, db.connect() as locker:
        for trouble in TROUBLES:
            lease_out(c, table(trouble), hints={"timeout_ms": 1_500})
        for broken, _ in TROUBLES.values():
            c.execute(broken or "SELECT 1")
        locker.execute("BEGIN; LOCK TABLE s.locked")

        def tries(trouble):
            return [line[line.index("next try"):] for line in lines(db.server, f"could not look after queue {table(trouble)}:")]

        # The healthy ones are served meanwhile.
        late = []
        while not all(len(tries(trouble)) >= 3 for trouble in TROUBLES):
            for queue in ("healthy1", "healthy2"):
                lease_out(c, queue)
                until_back(c, queue)
            late.append(c.execute("""SELECT (extract(epoch FROM max(updated_at) - max(inserted_at)) * 1000)::int - 300
                FROM healthy2 WHERE status = 'pending'""").fetchone()[0])
            c.execute("DELETE FROM healthy1; DELETE FROM healthy2")
            assert len(late) < 200, {trouble: tries(trouble) for trouble in TROUBLES}
        for trouble in TROUBLES:
            print(trouble, lines(db.server, f"queue {table(trouble)}:")[0].split("queue ", 1)[1])
            assert tries(trouble)[:3] == ["next try in 1 s", "next try in 2 s", "next try in 4 s"]
        print(f"healthy queues beside them: {len(late)} rounds, late by at most {max(late)} ms, median {sorted(late)[len(late) // 2]}")

        assert "statement timeout" in lines(db.server, f"queue {table('sleeps')}:")[0]

        pids = {worker_of(c)}
        for _, mended in TROUBLES.values():
            c.execute(mended or "SELECT 1")
        locker.execute("ROLLBACK")
        for trouble in TROUBLES:
            until_back(c, table(trouble), 60)
        assert {worker_of(c)} == pids, "one worker went through all of it"


def test_a_trigger_that_does_not_let_itself_be_cancelled(make_server):
    """The launcher ends the worker; the next one leaves the queue alone for a while."""
    db = preloaded(make_server, "qflow.worker_statement_timeout_ms = 500", queues=("stuck", "jobs"))
    with db.connect() as c:
        c.execute("""CREATE FUNCTION hold() RETURNS trigger LANGUAGE plpgsql AS $$
            BEGIN
                LOOP
                    BEGIN
                        PERFORM pg_sleep(3600);
                    EXCEPTION WHEN query_canceled THEN
                        NULL;
                    END;
                END LOOP;
            END $$;
            CREATE TRIGGER hold BEFORE UPDATE ON stuck FOR EACH ROW WHEN (new.status = 'pending') EXECUTE FUNCTION hold()""")
        with c.transaction():
            lease_out(c, "stuck")
            lease_out(c, "jobs")
        until_back(c)
        until(lambda: lines(db.server, "a worker ended while it worked on the queue"), 30, "a line about the queue")
        c.execute("DROP TRIGGER hold ON stuck")
        until_back(c, "stuck")


@pytest.mark.every_version
def test_the_worker_is_nobody_but_the_tables_owner(make_server):
    """A trigger says who it runs as, and what it may. Settings of the database and of roles change nothing of it."""
    db = preloaded(make_server, queues=())
    with db.connect() as c:
        c.execute("""CREATE ROLE owner LOGIN; CREATE ROLE other; GRANT other TO owner;
            CREATE SCHEMA s AUTHORIZATION owner; GRANT CREATE ON DATABASE jobs TO owner""")
        make_jobs(db, "s.mail")
        c.execute("ALTER TABLE s.mail OWNER TO owner")
    with db.connect(user="owner") as c:
        c.execute("""
            CREATE TABLE s.seen (what text, told text);
            CREATE FUNCTION s.attempt(what text, statement text) RETURNS void LANGUAGE plpgsql AS $$
            BEGIN
                EXECUTE statement;
                INSERT INTO s.seen VALUES (what, 'done');
            EXCEPTION WHEN OTHERS THEN
                INSERT INTO s.seen VALUES (what, sqlstate);
            END $$;
            CREATE FUNCTION s.look() RETURNS trigger LANGUAGE plpgsql AS $$
            BEGIN
                IF new.status <> 'pending' OR old.status = 'pending' THEN RETURN new; END IF;
                INSERT INTO s.seen VALUES ('user', current_user);
                INSERT INTO s.seen VALUES ('is superuser', (SELECT rolsuper::text FROM pg_roles WHERE rolname = current_user));
                INSERT INTO s.seen VALUES ('isolation', current_setting('transaction_isolation')),
                    ('read only', current_setting('transaction_read_only')),
                    ('replication', current_setting('session_replication_role')),
                    ('path', current_setting('search_path'));
                PERFORM s.attempt('SET ROLE postgres', 'SET ROLE postgres');
                PERFORM s.attempt('RESET ROLE', 'RESET ROLE');
                PERFORM s.attempt('SET SESSION AUTHORIZATION', 'SET SESSION AUTHORIZATION postgres');
                PERFORM s.attempt('temporary table', 'CREATE TEMPORARY TABLE t ()');
                PERFORM s.attempt('superuser', 'CREATE ROLE mine SUPERUSER');
                PERFORM s.attempt('file', 'COPY s.seen TO ''/tmp/qflow_seen''');
                RETURN new;
            END $$;
            CREATE TRIGGER look BEFORE UPDATE ON s.mail FOR EACH ROW EXECUTE FUNCTION s.look();
            CREATE FUNCTION s.hostile(bigint, bigint) RETURNS boolean LANGUAGE plpgsql AS $$
            BEGIN INSERT INTO s.seen VALUES ('operator', current_user); RETURN $1 = $2; END $$;
            CREATE OPERATOR s.= (LEFTARG = bigint, RIGHTARG = bigint, FUNCTION = s.hostile)""")
    with db.connect() as c:
        for setting in ("session_replication_role = replica", "default_transaction_read_only = on",
                        "default_transaction_isolation = serializable", "search_path = s, pg_catalog",
                        "statement_timeout = '1ms'", "lock_timeout = '1ms'", "row_security = off", "role = other",
                        "default_transaction_deferrable = on", "idle_in_transaction_session_timeout = '1ms'"):
            for place in ("DATABASE jobs", "ROLE postgres", "ROLE postgres IN DATABASE jobs", "ROLE owner"):
                c.execute(f"ALTER {place} SET {setting}")
        lease_out(c, "s.mail", 1)
        old = workers(c).get("jobs")
        if old:  # it began before these settings
            c.execute("SELECT pg_terminate_backend(%s)", (old,))
        until_back(c, "s.mail")
        seen = dict(c.execute("SELECT what, told FROM s.seen").fetchall())
        print(seen)
        assert seen == {
            "user": "owner", "is superuser": "false", "isolation": "read committed", "read only": "off",
            "replication": "origin", "path": seen["path"], "SET ROLE postgres": "42501", "RESET ROLE": "42501",
            "SET SESSION AUTHORIZATION": "42501", "temporary table": "42501", "superuser": "42501", "file": "42501",
        }
        assert "s" not in seen["path"].split(", ")
        for place in ("DATABASE jobs", "ROLE postgres", "ROLE postgres IN DATABASE jobs", "ROLE owner"):
            c.execute(f"ALTER {place} RESET ALL")


def test_a_queue_of_qflows_own_that_is_locked(make_server):
    """An idle LOCK TABLE on the registry: the worker can do nothing, says so less and less often, and goes on after."""
    db = preloaded(make_server)
    with db.connect() as c, db.connect() as locker:
        lease_out(c)
        locker.execute("BEGIN; LOCK TABLE qflow.lease")
        until(lambda: len(lines(db.server, "lock timeout")) >= 2, 60, "two tries")
        tries = lines(db.server, "lock timeout")
        assert ["next try in 1 s", "next try in 2 s"] == [line[line.index("next try"):] for line in tries[:2]]
        locker.execute("ROLLBACK")
        until_back(c)


def test_a_removal_that_does_not_let_itself_be_cancelled(make_server):
    """One queue's retention takes every worker down with it: those of the others get their leases back all the same."""
    db = preloaded(make_server, "qflow.worker_statement_timeout_ms = 300", queues=("stuck", "jobs"))
    with db.connect() as c:
        c.execute("""CREATE FUNCTION hold() RETURNS trigger LANGUAGE plpgsql AS $$
            BEGIN
                LOOP
                    BEGIN
                        PERFORM pg_sleep(3600);
                    EXCEPTION WHEN query_canceled THEN
                        NULL;
                    END;
                END LOOP;
            END $$;
            CREATE TRIGGER hold BEFORE DELETE ON stuck FOR EACH ROW EXECUTE FUNCTION hold();
            INSERT INTO stuck (data, status, updated_at) VALUES ('{}', 'completed', now() - interval '1 day')""")
        c.execute("SELECT qflow.alter_queue('stuck', retention_ms => 1000)")
        for _ in range(3):
            lease_out(c, "jobs")
            until_back(c)
        until(lambda: lines(db.server, "a worker ended while it worked on the queue"), 30, "the queue rests")
        c.execute("DROP TRIGGER hold ON stuck")
        until(lambda: c.execute("SELECT count(*) FROM stuck").fetchone() == (0,), 120, "the old job is removed")


def test_an_owner_who_locks_himself_out_in_the_midst(make_server):
    """A trigger revokes the right that lets the worker act as the owner: what follows in the same transaction must not run
    as the worker, who is a superuser."""
    db = preloaded(make_server, queues=())
    with db.connect() as c:
        c.execute("CREATE ROLE evil LOGIN; GRANT CREATE ON DATABASE jobs TO evil; CREATE TABLE public.seen (who text)")
        c.execute("GRANT INSERT ON public.seen TO PUBLIC")
        with db.connect(user="evil") as owner:
            owner.execute("""CREATE SCHEMA s;
                CREATE FUNCTION s.trap() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                    INSERT INTO public.seen VALUES (current_user);
                    REVOKE USAGE ON SCHEMA s FROM evil;
                    RETURN new; END $$""")
            owner.execute("SELECT qflow.create_queue('s.jobs', retries => 100, workflow => 'jobs')")
            owner.execute("""INSERT INTO s.jobs (data) SELECT '{}' FROM generate_series(1, 4);
                CREATE TRIGGER trap BEFORE UPDATE ON s.jobs FOR EACH ROW WHEN (new.status = 'pending')
                    EXECUTE FUNCTION s.trap()""")
            for _ in range(2):
                assert len(fetch(owner, "jobs", 2)) == 2
        # The two leases end together, so that one transaction of the worker meets both; pausing has it look.
        c.execute("UPDATE qflow.lease SET deadline = now()")
        c.execute("SELECT qflow.pause_queue('s.jobs')")
        tried = "SELECT count(*) FROM qflow.health() WHERE check_name = 'queue' AND NOT ok"
        until(lambda: "could not look after queue s.jobs" in db.server.log(), 30, "the worker has failed at it")
        c.execute("SELECT * FROM qflow.reap()")
        # What it noted was rolled back with what failed.
        assert c.execute("SELECT DISTINCT who FROM public.seen").fetchall() == []
        assert c.execute(tried).fetchone() == (1,)
        # as its owner gets in again, all is taken back
        c.execute("GRANT USAGE ON SCHEMA s TO evil; DROP FUNCTION s.trap() CASCADE")
        until(lambda: c.execute("SELECT count(*) FROM s.jobs WHERE status = 'pending'").fetchone() == (4,), 60, "all back")
