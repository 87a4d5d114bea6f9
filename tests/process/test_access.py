"""Direct heap access leaves tables and indexes as the executor would: looked at by amcheck and by logical decoding."""
import os
import random
import re
import signal
import threading

import pytest

from jobs import FORK, ack, at_most, fetch, load, processes, requeue, sized, statuses, until

PATHS = {"direct": "on", "executor": "off"}


def reached(db, path):
    """Sessions to come reach jobs by this path."""
    db.execute(f"ALTER DATABASE {db.name} SET qflow.direct_access = {PATHS[path]}")
    db.execute(f"ALTER DATABASE {db.name} SET qflow.sweep = off")


def checked(db, *tables):
    """Every row of the tables is in each of their indexes, every entry leads to a row, and heap and TOAST are sound."""
    if not (db.server.bindir / "pg_amcheck").exists():
        pytest.skip("not run: this PostgreSQL has no pg_amcheck")
    db.execute("CREATE EXTENSION IF NOT EXISTS amcheck")
    for option in ("--heapallindexed", "--parent-check"):
        only = [argument for table in tables for argument in ("-t", table)]
        said = db.server.run("pg_amcheck", "-h", db.server.dir, "-d", db.name, option, *only)
        assert said.strip() == "", said


def is_direct(db, queue="jobs"):
    return db.execute(f"SELECT detail FROM qflow.verify('{queue}') WHERE check_name = 'access'") == [("direct",)]


def work(db, number):
    """Acks, requeues and failures in one transaction with their effects, until killed."""
    rng = random.Random(number)
    with db.connect() as c:
        while True:
            rows = fetch(c, "jobs", rng.randint(1, 40))
            if not rows:
                until(lambda: c.execute("SELECT 1 FROM jobs WHERE status = 'pending' LIMIT 1").fetchone(), 600)
                continue
            some = len(rows) * 3 // 4
            with c.transaction():
                for row in rows[:some]:
                    c.execute("INSERT INTO effects VALUES (%s)", (row.id,))
                ack(c, "jobs", rows[:some], strict=True)
                requeue(c, "jobs", rows[some:], "again")
                c.execute("SELECT qflow.enqueue_batch('jobs', ARRAY[jsonb_build_object('pad', repeat('y', %s))])", (number * 40,))


@pytest.mark.every_version
def test_tables_are_sound_after_consumers_were_killed(db):
    """Full pages, so that changed rows move to others; retries; kills at any moment."""
    db.execute("SELECT qflow.create_queue('jobs', timeout_ms => 500, retries => 1000000)")
    db.execute("SELECT qflow.alter_workflow('jobs', retry_delay_ms => 0)")
    db.execute("ALTER TABLE jobs SET (fillfactor = 100)")
    db.execute("ALTER TABLE jobs ADD COLUMN kind text DEFAULT 'a'")
    db.execute("CREATE INDEX jobs_kind ON jobs (kind, id)")
    db.execute("CREATE INDEX jobs_data ON jobs USING gin (data)")
    db.execute("CREATE TABLE effects (id bigint PRIMARY KEY)")
    reached(db, "direct")
    assert is_direct(db)
    rng = random.Random(5)
    number, consumers = 0, []

    def start():
        nonlocal number
        number += 1
        process = FORK.Process(target=work, args=(db, number), daemon=True)
        process.start()
        return process

    def effects(c):
        return c.execute("SELECT count(*) FROM effects").fetchone()[0]

    try:
        with db.connect() as c:
            consumers = [start() for _ in range(4)]
            for _ in range(sized(25, 250)):
                load(c, "jobs", 200)
                done = effects(c) + rng.randint(1, 150)
                until(lambda: effects(c) >= done, 60, "the consumers got on")
                at = rng.randrange(4)
                assert consumers[at].is_alive(), f"a consumer ended by itself: {consumers[at].exitcode}"
                os.kill(consumers[at].pid, signal.SIGKILL)
                consumers[at].join()
                consumers[at] = start()
    finally:
        for process in consumers:
            process.kill()
            process.join()
    with db.connect() as c:
        others = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND backend_type = 'client backend' AND pid <> pg_backend_pid()"
        until(lambda: c.execute(others).fetchone()[0] == 0, 60, "the sessions of the killed ended")
        checked(db, "jobs", "qflow.lease")
        assert c.execute("SELECT count(*) FROM jobs WHERE status = 'completed'").fetchone()[0] == effects(c)
        again, moved = c.execute("SELECT count(*) FILTER (WHERE attempt > 1), count(DISTINCT (ctid::text::point)[0]) FROM jobs").fetchone()
        assert again > 0
        with at_most(60, "until what was left was done"):
            def rest():
                rows = fetch(c, "jobs", 500)
                ack(c, "jobs", rows, strict=True)
                return not rows and set(statuses(c, "jobs")) == {"completed"}
            until(rest, 60, "all jobs completed")
        print(f"{number - 4} killed, {again} jobs claimed more than once, {moved} pages")
    checked(db, "jobs", "qflow.lease")


def settle_some(c):
    """One step of each kind: fetched and acked, fetched and requeued, inserted, fetched again."""
    rows = fetch(c, "jobs", 30)
    assert len(rows) == 30
    assert ack(c, "jobs", rows[:15]) == 15
    assert requeue(c, "jobs", rows[15:], "again") == 15
    c.execute("SELECT qflow.enqueue_batch('jobs', ARRAY['1', '2', '3']::jsonb[])")
    assert len(fetch(c, "jobs", 10)) == 10


@pytest.mark.every_version
@pytest.mark.parametrize("path", PATHS)
def test_an_index_made_concurrently_misses_nothing(db, path):
    """Held half-way twice: before it is filled, by a writer; and before it is valid, by an old snapshot."""
    db.execute("SELECT qflow.create_queue('jobs')")
    db.execute("SELECT qflow.alter_workflow('jobs', retry_delay_ms => 0)")
    db.execute("ALTER TABLE jobs SET (fillfactor = 100)")
    db.execute("ALTER TABLE jobs ADD COLUMN kind text DEFAULT 'a'")
    reached(db, path)
    phase = "SELECT phase FROM pg_stat_progress_create_index WHERE datname = current_database()"
    faults = []

    def create():
        try:
            db.execute("CREATE INDEX CONCURRENTLY jobs_kind ON jobs (kind, id)")
        except Exception as error:  # told to the test
            faults.append(error)

    with db.connect() as c, db.connect(autocommit=False) as writer, db.connect(autocommit=False) as reader:
        load(c, "jobs", 1000)
        settle_some(c)
        reader.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        reader.execute("SELECT count(*) FROM jobs")
        writer.execute("LOCK TABLE jobs IN ROW EXCLUSIVE MODE")
        maker = threading.Thread(target=create)
        maker.start()

        def stands_at(name):
            until(lambda: faults or c.execute(phase).fetchall() == [(name,)], 60, name)
            assert not faults, faults

        try:
            stands_at("waiting for writers before build")
            settle_some(c)
            writer.rollback()
            stands_at("waiting for old snapshots")
            assert c.execute("SELECT indisready, indisvalid FROM pg_index WHERE indexrelid = 'jobs_kind'::regclass").fetchone() == (True, False)
            settle_some(c)
        finally:
            writer.rollback()
            reader.rollback()
            maker.join(60)
        assert not faults, faults
        settle_some(c)
        assert is_direct(db)
        c.execute("SET enable_seqscan = off")
        by_index = c.execute("SELECT count(*) FROM jobs WHERE kind = 'a'").fetchone()[0]
        c.execute("RESET enable_seqscan")
        c.execute("SET enable_indexscan = off")
        c.execute("SET enable_indexonlyscan = off")
        c.execute("SET enable_bitmapscan = off")
        assert c.execute("SELECT count(*) FROM jobs WHERE kind = 'a'").fetchone()[0] == by_index == 1012
    checked(db, "jobs")


ROUNDS = 5


def reindex_or_consume(number, db):
    """The first one makes the indexes anew, time and again, and loads jobs before each; the others consume meanwhile."""
    with db.connect() as c:
        if number == 0:
            for _ in range(ROUNDS):
                for table in ("jobs", "qflow.lease"):
                    load(c, "jobs", 500)
                    c.execute(f"REINDEX TABLE CONCURRENTLY {table}")
            c.execute("INSERT INTO ended VALUES (true)")
            return 0
        done = 0
        while True:
            ended = c.execute("SELECT 1 FROM ended").fetchone()
            rows = fetch(c, "jobs", 20)
            with c.transaction():
                for row in rows:
                    c.execute("INSERT INTO effects VALUES (%s)", (row.id,))
                ack(c, "jobs", rows, strict=True)
            done += len(rows)
            if ended and not rows and set(statuses(c, "jobs")) == {"completed"}:
                return done


@pytest.mark.parametrize("path", PATHS)
def test_indexes_made_anew_while_jobs_run(db, path):
    """Not one job is lost, and a job done twice would violate the key of `effects`."""
    db.execute("SELECT qflow.create_queue('jobs')")
    db.execute("CREATE TABLE effects (id bigint PRIMARY KEY)")
    db.execute("CREATE TABLE ended (so boolean)")
    reached(db, path)
    done = processes(4, reindex_or_consume, db, seconds=120)
    assert sum(done) == ROUNDS * 2 * 500
    assert db.execute("SELECT (SELECT count(*) FROM effects), (SELECT count(*) FROM jobs WHERE attempt = 1), (SELECT count(*) FROM qflow.lease)") == [
        (sum(done), sum(done), 0)
    ]
    checked(db, "jobs", "qflow.lease")


def script(c):
    """Each way to change jobs, large ones too, and an id of each kind of outcome."""
    c.execute("SELECT qflow.enqueue_batch('jobs', ARRAY['1', '2', '3', '4', '5', '6']::jsonb[], priority => 2)")
    c.execute("SELECT qflow.enqueue_batch('jobs', ARRAY[(SELECT to_jsonb(string_agg(md5(n::text), '')) FROM generate_series(1, 200) n)])")
    rows = fetch(c, "jobs", 7)
    assert len(rows) == 7
    ack(c, "jobs", rows[:2])
    requeue(c, "jobs", rows[2:4], "again")
    c.execute("SELECT qflow.fail('jobs', %s, %s, 'never')", ([rows[4].id], [rows[4].lease]))
    c.execute("SELECT qflow.release('jobs', %s, %s)", ([rows[5].id], [rows[5].lease]))
    requeue(c, "jobs", rows[6:], "large")
    rows = fetch(c, "jobs", 4)
    assert len(rows) == 4
    with c.transaction():
        ack(c, "jobs", rows[:1])
        ack(c, "jobs", fetch(c, "jobs", 1))
    with pytest.raises(ZeroDivisionError), c.transaction():
        ack(c, "jobs", rows[1:2])
        raise ZeroDivisionError
    c.execute("UPDATE qflow.lease SET deadline = clock_timestamp() - interval '1 hour'")
    c.execute("SELECT * FROM qflow.reap()")


def decoded(c):
    """What test_decoding makes of the script, without what differs from run to run."""
    c.execute("SELECT pg_create_logical_replication_slot('slot', 'test_decoding')")
    try:
        script(c)
        changes = c.execute("SELECT data FROM pg_logical_slot_get_changes('slot', NULL, NULL, 'include-xids', '0')")
        lines = [line for (line,) in changes]
    finally:
        c.execute("SELECT pg_drop_replication_slot('slot')")
    wanted = [line for line in lines if line.startswith(("table public.jobs", "table qflow.lease:", "COMMIT"))]
    for what, instead in (
        (r"'\d{4}-\d\d-\d\d [^']*'", "TIME"),
        (r"(lease\[bigint\]|enqueued_xid\[xid8\]):'?\d+'?", r"\1:NUMBER"),
        (r"(table qflow\.lease: .*?\bid\[bigint\]):\d+", r"\1:NUMBER"),
        (r"((?:queue|pid)\[\w+\]):\d+", r"\1:NUMBER"),
    ):
        wanted = [re.sub(what, instead, line) for line in wanted]
    return wanted


@pytest.mark.every_version
def test_changes_are_decoded_alike(make_server):
    """Whoever follows the log sees the same on both paths: new rows, old keys or old rows, TOASTed values that stayed."""
    server = make_server("wal_level = logical", "max_replication_slots = 4", "autovacuum = off")
    plugin = server.run("pg_config", "--pkglibdir").strip() + "/test_decoding.so"
    if not os.path.exists(plugin):
        pytest.skip("not run: this PostgreSQL has no test_decoding")
    for identity in ("DEFAULT", "FULL"):
        seen = {}
        for path in PATHS:
            db = server.create_database(f"decoded_{identity}_{path}".lower())
            reached(db, path)
            with db.connect() as c:
                c.execute("SELECT qflow.create_queue('jobs')")
                c.execute("SELECT qflow.alter_workflow('jobs', retry_delay_ms => 0)")
                c.execute(f"ALTER TABLE jobs REPLICA IDENTITY {identity}")
                seen[path] = decoded(c)
        jobs = [line for line in seen["direct"] if line.startswith("table public.jobs")]
        print(f"{identity}: {len(seen['direct'])} lines, {len(jobs)} of jobs")
        assert len(jobs) > 25
        assert any("unchanged-toast-datum" in line for line in jobs)
        assert any("old-key" in line for line in jobs) == (identity == "FULL")
        assert seen["direct"] == seen["executor"]
