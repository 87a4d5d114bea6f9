"""What the floor and the leases must survive, with the sweep off: restart, crash, promotion, dump and restore, a copy of
the database, logical replication. Nothing is lost, nothing is done twice."""
import pytest

from conftest import Database
from jobs import ack, caught_up, drain, fetch, go_through, load, requeue, statuses, until

CONF = ("qflow.sweep = off", "autovacuum_naptime = 5s")
FRESH, DONE, HELD, RETURNED, FAILED = 600, 200, 30, 20, 5


def half_consumed(server, name="jobs"):
    """A database with a queue that is half consumed; answers it and the ids of the jobs that are still to be done."""
    db = server.create_database(name)
    db.execute("SELECT qflow.create_queue('jobs', timeout_ms => 1000)")
    db.execute("SELECT qflow.alter_workflow('jobs', retry_delay_ms => 0)")
    with db.connect() as c:
        early = db.connect(autocommit=False)
        early_ids = load(early, "jobs", 10)  # an early insert that is committed when the floor has passed it
        ids = load(c, "jobs", DONE + FAILED) + load(c, "jobs", HELD + RETURNED) + load(c, "jobs", FRESH)
        done = go_through(c, "jobs", 50, DONE)
        failed = fetch(c, "jobs", FAILED)
        arrays = [row.id for row in failed], [row.lease for row in failed]
        assert c.execute("SELECT qflow.fail('jobs', %s, %s, 'broken')", arrays).fetchone() == (FAILED,)
        held = fetch(c, "jobs", HELD)
        returned = fetch(c, "jobs", RETURNED)
        assert requeue(c, "jobs", returned, delay_ms=0) == RETURNED
        early.commit()
        early.close()
    gone = {row.id for row in done + failed}
    assert len(gone) == DONE + FAILED and len(held) == HELD
    return db, set(ids + early_ids) - gone


def all_done_once(db, expected):
    """Consumes the rest of the queue, and jobs that are inserted now."""
    with db.connect() as c:
        more = load(c, "jobs", 50) + load(c, "jobs", 50)
        rows = drain(c, "jobs", "jobs", seconds=25)
        ids = [row.id for row in rows]
        assert sorted(ids) == sorted(expected | set(more))
        assert len(set(ids)) == len(ids)
        assert set(statuses(c, "jobs")) <= {"completed", "failed"}
        assert c.execute("SELECT count(*) FROM qflow.lease").fetchone() == (0,)


def test_restart(make_server):
    server = make_server(*CONF)
    db, left = half_consumed(server)
    server.restart()
    all_done_once(db, left)


@pytest.mark.every_version
def test_crash(make_server):
    """Committed work stays; a fetch and an insert that were not committed have not been."""
    server = make_server(*CONF)
    db, left = half_consumed(server)
    fetcher, writer = db.connect(autocommit=False), db.connect(autocommit=False)
    assert len(fetch(fetcher, "jobs", 40)) == 40
    load(writer, "jobs", 7)
    with db.connect() as c:
        left -= {row.id for row in go_through(c, "jobs", 50, 100)}
    server.crash()
    server.start()
    all_done_once(db, left)


def test_promotion(make_server):
    primary = make_server(*CONF)
    standby = make_server(base=primary)
    db, left = half_consumed(primary)
    fetcher = db.connect(autocommit=False)
    assert len(fetch(fetcher, "jobs", 40)) == 40
    caught_up(primary, standby)
    primary.crash()
    standby.promote()
    promoted = Database(standby, db.name)
    standby.databases.append(promoted)
    all_done_once(promoted, left)


def burn(db, count):
    """Uses up transaction ids."""
    db.execute("CREATE TABLE burnt (i int)")
    db.execute(
        f"DO $$ BEGIN FOR i IN 1..{count} LOOP BEGIN INSERT INTO burnt VALUES (i);"
        " EXCEPTION WHEN division_by_zero THEN NULL; END; END LOOP; END $$"
    )


@pytest.mark.parametrize(("form", "ahead"), [
    pytest.param("plain", "old", marks=pytest.mark.every_version),
    ("custom", "old"),
    ("plain", "new"),
    pytest.param("custom", "new", marks=pytest.mark.every_version),
])
def test_dump_and_restore_into_a_fresh_cluster(make_server, form, ahead):
    """With transaction ids that the new cluster has not reached yet, and with ids that it has passed."""
    old, new = make_server(*CONF), make_server(*CONF)
    for server, side in ((old, "old"), (new, "new")):
        if side == ahead:
            burn(server.create_database("burn", extension=False), 5_000)
            server.databases.pop()
    db, left = half_consumed(old)
    file = old.dir / "dump"
    old.run("pg_dump", "-F", form[0], "-f", file, db.name)
    old.stop()
    restored = new.create_database("restored", extension=False)
    if form == "plain":
        new.run("psql", "-XAtq", "-v", "ON_ERROR_STOP=1", "-h", new.dir, "-d", "restored", "-f", file)
    else:
        new.run("pg_restore", "-e", "-h", new.dir, "-d", "restored", file)
    with restored.connect() as c:
        # Jobs that were in progress have no lease here. First their time is not over, however slow the restore was.
        c.execute("SELECT qflow.alter_queue('jobs', timeout_ms => 3600000)")
        early = {row.id for row in go_through(c, "jobs")}
        assert statuses(c, "jobs").get("in_progress") == HELD and early < left
        c.execute("SELECT qflow.alter_queue('jobs', timeout_ms => 1000)")
    all_done_once(restored, left - early)


def test_create_database_template(make_server):
    """Original and copy go on independently."""
    server = make_server(*CONF)
    db, left = half_consumed(server, "original")
    with server.connect() as c:
        until(
            lambda: not c.execute("SELECT FROM pg_stat_activity WHERE datname = 'original'").fetchall(),
            what="nobody is connected",
        )
        c.execute("CREATE DATABASE copied TEMPLATE original")
    copied = Database(server, "copied")
    server.databases.append(copied)
    all_done_once(copied, set(left))
    all_done_once(db, left)


@pytest.mark.every_version
def test_logical_apply(make_server):
    """The publisher inserts, the subscriber consumes. Its transaction ids are far ahead of the publisher's."""
    publisher, subscriber = make_server("wal_level = logical", *CONF), make_server("wal_level = logical", *CONF)
    source, target = publisher.create_database("source"), subscriber.create_database("target")
    burn(target, 5_000)
    for db in (source, target):
        db.execute("SELECT qflow.create_queue('jobs')")
    source.execute("CREATE PUBLICATION jobs FOR TABLE jobs WITH (publish = 'insert')")
    with source.connect() as p, target.connect() as s:
        ids = load(p, "jobs", 100)  # copied when the subscription begins
        own = [row[0] for row in s.execute(
            "INSERT INTO jobs (id, data) SELECT i, '{}' FROM generate_series(1000001, 1000100) i RETURNING id")]
        assert len(go_through(s, "jobs", 10)) == 100  # the floor has come up to here
        s.execute(f"CREATE SUBSCRIPTION jobs CONNECTION 'host={publisher.dir} user=postgres dbname=source' PUBLICATION jobs")
        got = []

        def all_there():
            got.extend(row.id for row in go_through(s, "jobs", 30))
            return len(got) >= len(ids)

        until(all_there, what="the first copy arrived")
        early = source.connect(autocommit=False)
        early_ids = load(early, "jobs", 10)
        for _ in range(20):
            ids += load(p, "jobs", 10)
            got.extend(row.id for row in go_through(s, "jobs", 30))
        early.commit()
        early.close()
        ids += early_ids
        until(all_there, what="all inserts arrived")
        assert sorted(got) == sorted(ids)
        assert statuses(s, "jobs") == {"completed": len(ids) + len(own)}
        s.execute("DROP SUBSCRIPTION jobs")
