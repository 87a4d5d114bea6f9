"""Standbys, prepared transactions, restored databases, pg_upgrade, single-user mode."""
import subprocess

import psycopg
import pytest

from conftest import AS_SERVER_USER, Database
from jobs import ack, caught_up, fetch, load, statuses, until
from workers import PRELOAD, SHORT, held, lease_out, lines, make_jobs, preloaded, until_back, workers

BOUND = {"bind": "session"}


@pytest.mark.every_version
def test_a_standby_reaps_once_it_is_promoted(make_server):
    db = preloaded(make_server)
    standby = make_server(PRELOAD, base=db.server)
    other = Database(standby, "jobs")
    with db.connect() as c, other.connect() as s:
        lease_out(c, hints={"timeout_ms": 600_000})
        lease_out(c, hints=BOUND | {"timeout_ms": 600_000})
        caught_up(db.server, standby)
        assert workers(s) == {} and workers(s, "launcher") == {}
        assert s.execute("SELECT pending, in_progress FROM qflow.queue_stats").fetchone() == (0, 10)
        assert s.execute("SELECT count(*) FROM qflow.lease_status").fetchone() == (2,)
        for call in ("qflow.reap()", "qflow.fetch('jobs')"):
            with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
                s.execute(f"SELECT * FROM {call}")
        db.server.crash()
        c.close()
    standby.promote()
    standby.databases.append(other)
    with other.connect() as s:
        # Nobody calls qflow. The session of the bound lease is one of another server.
        until(lambda: statuses(s, "jobs") == {"in_progress": 5, "pending": 5}, 30, "the bound lease's jobs back")
        s.execute("UPDATE qflow.lease SET deadline = now()")
        lease_out(s)
        until_back(s)


@pytest.mark.every_version
def test_a_prepared_fetch(make_server):
    """Committed by another session, whose callbacks know nothing of it."""
    db = preloaded(make_server)
    with db.connect() as c, db.connect() as other:
        load(c, "jobs", 10)
        until(lambda: workers(c), what="a worker")
        with db.connect() as p:
            p.execute("BEGIN")
            assert len(fetch(p, "jobs", 5, hints=SHORT)) == 5
            p.execute("PREPARE TRANSACTION 'one'")
            p.execute("BEGIN")
            assert len(fetch(p, "jobs", 5, hints=BOUND)) == 5
            p.execute("PREPARE TRANSACTION 'bound'")
        assert statuses(c, "jobs") == {"pending": 10}
        other.execute("COMMIT PREPARED 'one'")
        other.execute("COMMIT PREPARED 'bound'")
        # That of a session that has ended, too: it ended before its lease was there.
        until_back(c)
        assert c.execute("SELECT count(*) FROM jobs WHERE attempt = 1").fetchone() == (10,)


def test_a_restored_database_is_looked_through(make_server):
    db = preloaded(make_server)
    with db.connect() as c:
        lease_out(c, hints={"timeout_ms": 3_600_000})
        c.execute("SELECT qflow.alter_queue('jobs', timeout_ms => 1000)")
        load(c, "jobs", 3)
    server = db.server
    server.run("pg_dump", "-F", "c", "-f", server.dir / "dump", "jobs")
    restored = server.create_database("restored", extension=False)
    server.run("pg_restore", "-e", "-d", "restored", server.dir / "dump")
    with restored.connect() as c:
        until(lambda: statuses(c, "jobs") == {"pending": 8}, 30, "jobs in progress back without a call")
        until(lambda: c.execute("SELECT ok FROM qflow.verify('jobs') WHERE check_name = 'floor'").fetchone() == (True,))
        rows = fetch(c, "jobs", 10)
        assert len(rows) == 8 and ack(c, "jobs", rows) == 8


@pytest.mark.every_version
def test_a_server_in_binary_upgrade_mode_has_no_worker(make_server):
    """As pg_upgrade starts it. (Only it may.)"""
    db = preloaded(make_server)
    with db.connect() as c:
        lease_out(c)
        until_back(c)
        lease_out(c, hints={"timeout_ms": 1_000_000})
    db.server.stop()
    server = db.server
    command = [*AS_SERVER_USER, server.bindir / "pg_ctl", "-D", server.data, "-l", server.dir / "server.log", "-w", "-s"]
    subprocess.run([*command, "-o", "-b", "start"], cwd=server.dir, check=True, stdin=subprocess.DEVNULL,
                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    with server.connect() as c:
        assert workers(c) == {} and workers(c, "launcher") == {}
    server.restart()
    with db.connect() as c:
        until(lambda: workers(c, "launcher"), what="a launcher")
        assert held(c) == 5


def test_single_user_mode(make_server):
    """Shared memory, but no worker: fetches do all."""
    db = preloaded(make_server)
    with db.connect() as c:
        rows = lease_out(c, hints={"timeout_ms": 1})
        until_back(c)
        lease_out(c, count=2, hints={"timeout_ms": 3_600_000})
        c.execute("UPDATE qflow.lease SET deadline = now()")
    server = db.server
    server.stop()
    said = subprocess.run(
        [*AS_SERVER_USER, server.bindir / "postgres", "--single", "-D", server.data, "jobs"], cwd=server.dir, text=True,
        input="SELECT count(*) AS fetched FROM qflow.fetch('jobs', 100)\n", stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    ).stdout
    assert "fetched = \"7\"" in said, said
    server.start()
    assert len(rows) == 5 and not lines(server, "PANIC")
    make_jobs(db, "more")
