"""A fetch that finds nothing writes nothing: no transaction id, no log, no lease id."""
import contextlib
import time

import pytest

from jobs import fetch, go_through, load

QUIET = ("autovacuum = off", "checkpoint_timeout = 1h", "wal_level = minimal", "max_wal_senders = 0")


@pytest.fixture(scope="module")
def quiet_server(request):
    from conftest import Server

    server = Server(*QUIET)
    request.addfinalizer(server.drop)
    server.start()
    return server


@pytest.fixture
def quiet(quiet_server):
    from conftest import verify

    db = quiet_server.create_database("quiet")
    db.execute("SELECT qflow.create_queue('jobs')")
    yield db
    verify([db])
    with quiet_server.connect() as c:
        c.execute("DROP DATABASE quiet WITH (FORCE)")


def state(c):
    """Where log, transaction ids and lease ids stand."""
    return c.execute(
        "SELECT pg_current_wal_insert_lsn()::text, pg_snapshot_xmax(pg_current_snapshot())::text,"
        " (SELECT last_value FROM qflow.lease_id), (SELECT is_called FROM qflow.lease_id),"
        " (SELECT count(*) FROM qflow.lease)"
    ).fetchone()


def assert_quiet(db):
    with db.connect() as other:
        # Hint bits and pruning of what tests did before; not the fetch's doing.
        other.execute("VACUUM")
        other.execute("CHECKPOINT")
        assert fetch(other, "jobs", 100) == []
        with db.connect() as c:
            before = state(other)
            assert fetch(c, "jobs", 100) == []
            assert state(other) == before, "the first fetch of a session"
            for _ in range(20):
                assert fetch(c, "jobs", 100) == []
            assert state(other) == before, "the next fetches"
            time.sleep(1.1)  # reaping and sweeping fall due again
            for _ in range(3):
                assert fetch(c, "jobs", 100) == []
            assert state(other) == before, "a fetch a second later"
            with c.transaction():
                assert fetch(c, "jobs", 100) == []
                assert c.execute("SELECT pg_current_xact_id_if_assigned()").fetchone()[0] is None
            assert state(other) == before


def test_an_empty_queue(quiet):
    assert_quiet(quiet)


@pytest.mark.every_version
def test_a_queue_all_done(quiet):
    with quiet.connect() as c:
        load(c, "jobs", 2_000)
        go_through(c, "jobs")
    assert_quiet(quiet)


def test_jobs_are_delayed(quiet):
    with quiet.connect() as c:
        for _ in range(100):
            c.execute("SELECT qflow.enqueue('jobs', '{}', delay_ms => 3600000)")
    assert_quiet(quiet)


def test_jobs_are_in_progress(quiet):
    with quiet.connect() as c:
        load(c, "jobs", 100)
        assert len(fetch(c, "jobs", 100)) == 100
    assert_quiet(quiet)


def test_the_workflow_is_paused(quiet):
    with quiet.connect() as c:
        load(c, "jobs", 100)
        c.execute("SELECT qflow.pause_workflow('jobs')")
    assert_quiet(quiet)


def test_the_queue_is_paused(quiet):
    with quiet.connect() as c:
        load(c, "jobs", 100)
        c.execute("SELECT qflow.pause_queue('jobs')")
    assert_quiet(quiet)


def test_all_jobs_are_locked(quiet):
    with quiet.connect() as c:
        load(c, "jobs", 3)
    with quiet.connect() as locker, contextlib.closing(locker):
        with quiet.connect() as c:
            c.execute("VACUUM")
        locker.execute("BEGIN")
        locker.execute("SELECT id FROM jobs FOR UPDATE")
        with quiet.connect() as c, quiet.connect() as other:
            fetch(c, "jobs")
            before = state(other)
            for _ in range(3):
                assert fetch(c, "jobs", 100) == []
            assert state(other) == before
        locker.execute("ROLLBACK")
