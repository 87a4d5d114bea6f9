"""Slots that the session keeps: what ends them, and what is said where the session is not what it was."""
import time

import psycopg
import pytest

from jobs import ack, fetch, load, until
from resources import HOLDER, SLOT, a_database, assert_free, holders, locks, make, until_free
from workers import consumer, held, kill, lines, until_back

BY_SESSION = {"gpu": 1, "hold": "session"}


@pytest.fixture
def db(make_server):
    db = a_database(make_server)
    make(db)
    with db.connect() as c:
        load(c, "jobs", 100)
    return db


def test_a_lock_for_each_holder(db):
    """Visible in pg_locks, of the whole cluster, held by the session that fetched; gone with the last job."""
    with db.connect() as c, db.connect() as other:
        rows = fetch(c, "jobs", 2, hints={**BY_SESSION, "memory_gb": 16})
        assert sorted((kind, mode) for kind, mode in c.execute(
            "SELECT objsubid, mode FROM pg_locks WHERE locktype = 'advisory' AND pid = %s", (c.info.backend_pid,)
        ).fetchall()) == [(SLOT, "ExclusiveLock"), (HOLDER, "ExclusiveLock")]
        assert fetch(other, "jobs", 1) == [] == fetch(other, "jobs", 1, hints=BY_SESSION)
        assert ack(c, "jobs", rows[:1]) == 1
        assert len(locks(other)) == 2
        assert ack(c, "jobs", rows[1:]) == 1
        assert_free(other)


@pytest.mark.every_version
def test_a_session_that_ends(db):
    """However it ends: its jobs are pending, its slot is free."""
    for how in ("closed", "terminated", "killed client", "killed before its lease was reaped"):
        with db.connect() as c:
            with consumer(db, BY_SESSION) as (process, pid, ids):
                assert [slot for slot, _ in holders(c)] == [0]
                if how == "terminated":
                    c.execute("SELECT pg_terminate_backend(%s)", (pid,))
                elif how.startswith("killed"):
                    kill(process.pid)
                else:
                    process.terminate()
                until_back(c)
                until_free(c)
        print(how, "jobs and slot are back")


def test_a_lease_reaped_while_its_session_lives(db):
    """The jobs go back, the slot stays: the session may be at work on it. Its next call lets go first."""
    with db.connect() as c, db.connect() as other:
        rows = fetch(c, "jobs", 2, hints={**BY_SESSION, "timeout_ms": 200})
        until(lambda: held(other) == 0, 30, "jobs back")
        until(lambda: holders(other) == [(0, 0)], 30, "no lease on the slot")
        status = other.execute(
            "SELECT slot, lease, pid, lease_until FROM qflow.resource_status WHERE resource = 'gpu'"
        ).fetchall()
        assert status == [(0, None, c.info.backend_pid, None)]
        seen = "SELECT pid, workflow FROM qflow.resource_status WHERE resource = 'gpu'"
        assert other.execute(seen).fetchall() == [(c.info.backend_pid, "jobs")]
        other.execute("CREATE ROLE a_stranger")
        other.execute("SET ROLE a_stranger")
        assert other.execute(seen).fetchall() == [(c.info.backend_pid, None)], "the queue is not his"
        other.execute("RESET ROLE")
        other.execute("DROP ROLE a_stranger")
        assert fetch(other, "jobs", 1) == []
        assert ack(c, "jobs", rows) == 0, "its lease is over"
        assert_free(other)
        assert len(fetch(other, "jobs", 1)) == 1


def test_wait_lets_go_first(db):
    """A `wait` is a call as well: who waits for the slot that it keeps itself would wait for ever."""
    with db.connect() as c, db.connect() as other:
        fetch(c, "jobs", 2, hints={**BY_SESSION, "timeout_ms": 200})
        until(lambda: holders(other) == [(0, 0)], 30, "no lease on the slot")
        begin = time.monotonic()
        c.execute("CALL qflow.wait('jobs', 60000)")
        took = time.monotonic() - begin
        print(f"the wait returned after {took * 1_000:.0f} ms")
        assert took < 30
        assert_free(other)


def test_kept_over_a_new_extension(db):
    """What a session kept is known by its table too: in a new one the numbers begin anew, and mean others."""
    with db.connect() as c, db.connect() as other:
        rows = fetch(c, "jobs", 1, hints=BY_SESSION)
        (number,) = c.execute("SELECT id FROM qflow.holder").fetchone()
        assert rows
        other.execute("DROP EXTENSION qflow CASCADE")
        other.execute("CREATE EXTENSION qflow")
        assert len(locks(other)) == 1, "the session may be at work on it"
        make(db, "again", hints="{}")
        load(other, "again", 10)
        while True:
            theirs = fetch(other, "again", 1, hints={"memory_gb": 1, "hold": "session"})
            (at,) = other.execute("SELECT id FROM qflow.holder").fetchone()
            if at >= number:
                break
            ack(other, "again", theirs)
        assert at == number
        assert c.execute("SELECT id FROM qflow.fetch('again', 1, hints => '{\"gpu\": 0}')").fetchone()
        assert other.execute("SELECT id FROM qflow.holder").fetchone() == (number,), "another session's"
        assert [pid for _, _, pid in locks(other)] == [other.info.backend_pid], "the lock of the former table is let go"


def test_a_session_that_ends_after_its_lease(db):
    """The same where that session ends without another call."""
    with db.connect() as watch:
        with db.connect() as c:
            fetch(c, "jobs", 2, hints={**BY_SESSION, "timeout_ms": 200})
            until(lambda: holders(watch) == [(0, 0)], 30, "no lease on the slot")
        until_free(watch)


@pytest.mark.parametrize("how", ["restart", "power cut"])
def test_what_a_session_kept_over_a_restart(db, how):
    """Its lease was reaped, and it ends with the server: the new worker knows nothing of it and finds its slot."""
    with db.connect() as c:
        fetch(c, "jobs", 2, hints={**BY_SESSION, "timeout_ms": 200})
        until(lambda: holders(c) == [(0, 0)], 30, "no lease on the slot")
        if how == "power cut":
            db.server.crash()
            db.server.start()
        else:
            db.server.restart()
    with db.connect() as c:
        until_free(c)


def test_what_a_session_kept_and_another_has_locked(db):
    """The worker looks again: no further call, no other session that ends."""
    with db.connect() as watch, db.connect() as other:
        with db.connect() as c:
            fetch(c, "jobs", 2, hints={**BY_SESSION, "timeout_ms": 200})
            until(lambda: holders(watch) == [(0, 0)], 30, "no lease on the slot")
            with other.transaction():
                other.execute("SELECT FROM qflow.holder FOR UPDATE")
                c.close()
                until(lambda: locks(watch) == [], 30, "the session's lock gone")
                seen = passes(watch)
                until(lambda: passes(watch) >= seen + 2, 30, "the worker has looked, and again")
                assert holders(watch) == [(0, 0)]
        until_free(watch)


def passes(c):
    """How often the worker has looked for work."""
    page = c.execute("SELECT qflow.prometheus()").fetchone()[0]
    return int(next(line.split()[-1] for line in page.splitlines() if line.startswith("qflow_worker_passes_total")))


def test_let_go_once_in_a_transaction(db):
    """What was reaped is let go by the first call; the lock of what the second one takes stays."""
    with db.connect() as c, db.connect() as other:
        rows = fetch(c, "jobs", 2, hints={**BY_SESSION, "timeout_ms": 200})
        until(lambda: holders(other) == [(0, 0)], 30, "no lease on the slot")
        with c.transaction():
            assert ack(c, "jobs", rows) == 0, "its lease is over"
            with c.transaction():
                rows = fetch(c, "jobs", 1, hints=BY_SESSION)
        assert holders(other) == [(0, 1)]
        assert len(locks(other)) == 1
        assert ack(c, "jobs", rows, strict=True) == 1
        assert_free(other)


@pytest.mark.every_version
def test_locks_lost(db):
    """DISCARD ALL and pg_advisory_unlock_all() drop the session's locks: the next settle says so. Nobody else gets the
    slot before, in this database; `hold = "lease"` knows nothing of it."""
    for statement in ("DISCARD ALL", "SELECT pg_advisory_unlock_all()"):
        with db.connect() as c, db.connect() as other:
            notices = []
            c.add_notice_handler(lambda notice: notices.append(notice.message_primary))
            rows = fetch(c, "jobs", 2, hints=BY_SESSION)
            c.execute(statement, prepare=False)
            assert locks(other) == []
            assert fetch(other, "jobs", 1) == []
            with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState, match="lost its lock"):
                ack(c, "jobs", rows, strict=True)
            assert notices == []
            assert ack(c, "jobs", rows) == 2
            assert notices == ['the session has lost its lock on resource "gpu"']
            assert_free(other)
            rows = fetch(c, "jobs", 2)
            c.execute(statement, prepare=False)
            assert ack(c, "jobs", rows, strict=True) == 2
            assert len(notices) == 1
            assert_free(other)


def test_settled_from_another_session(db):
    """Refused, whatever the outcome; the lease is as it was."""
    with db.connect() as c, db.connect() as other:
        rows = fetch(c, "jobs", 1, hints=BY_SESSION)
        for outcome in ("ack", "requeue", "fail", "release"):
            with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState, match="by another session") as caught:
                other.execute(f"SELECT qflow.{outcome}('jobs', %s, %s)", ([rows[0].id], [rows[0].lease]))
            assert "hold = \"lease\"" in caught.value.diag.message_hint
        assert other.execute("SELECT count(*) FROM qflow.extend('jobs', %s)", ([rows[0].lease],)).fetchone() == (1,)
        assert ack(c, "jobs", rows) == 1
        assert_free(other)


def test_break_lease_ends_the_session(db):
    """Only that one ends: its process id and start are compared. Then its jobs and its slot are back."""
    with db.connect() as c, db.connect() as other:
        rows = fetch(c, "jobs", 2, hints=BY_SESSION)
        assert other.execute("SELECT qflow.break_lease(%s)", (rows[0].lease,)).fetchone() == (True,)
        until_back(other)
        until_free(other)
        with pytest.raises(psycopg.OperationalError):
            c.execute("SELECT 1")
        assert other.execute("SELECT qflow.break_lease(%s)", (rows[0].lease,)).fetchone() == (False,)


def test_break_lease_of_a_session_that_is_not_there(db):
    """Nobody is terminated, and what it kept is free."""
    with db.connect() as c, db.connect() as other:
        rows = fetch(c, "jobs", 2, hints=BY_SESSION)
        other.execute("UPDATE qflow.holder SET backend_start = backend_start - interval '1 second'")
        assert other.execute("SELECT qflow.break_lease(%s)", (rows[0].lease,)).fetchone() == (True,)
        assert (held(other), holders(other)) == (0, [])
        assert c.execute("SELECT 1").fetchone() == (1,)


def test_two_databases_one_gpu(db):
    """Of one cluster: by their sessions at most one holder in both; by leases one in each, as documented."""
    second = db.server.create_database("second")
    make(second)
    with db.connect() as one, second.connect() as two:
        load(two, "jobs", 100)
        rows = fetch(one, "jobs", 1, hints=BY_SESSION)
        assert fetch(two, "jobs", 1, hints=BY_SESSION) == []
        assert fetch(two, "jobs", 1) == [], "nor by a lease, while a session has it"
        ack(one, "jobs", rows)
        rows = fetch(two, "jobs", 1, hints=BY_SESSION)
        assert fetch(one, "jobs", 1, hints=BY_SESSION) == []
        ack(two, "jobs", rows)
        assert len(fetch(one, "jobs", 1)) == len(fetch(two, "jobs", 1)) == 1
        (found,) = one.execute(
            "SELECT ok, detail FROM qflow.readiness('jobs') WHERE check_name = 'resources'"
        ).fetchall()
        assert "another database" in found[1]


def test_the_applications_own_locks(db):
    """With the same numbers: no interference, either way."""
    with db.connect() as c, db.connect() as app:
        rows = fetch(c, "jobs", 1, hints=BY_SESSION)
        ((name, number, _),) = locks(app)
        app.execute("SELECT pg_advisory_lock(%s::bigint::bit(32)::int, %s)", (name, number))
        app.execute("SELECT pg_advisory_lock((%s::bigint << 32) | %s)", (name, number))
        assert ack(c, "jobs", rows) == 1
        assert len(fetch(c, "jobs", 1, hints=BY_SESSION)) == 1
        app.execute("SELECT pg_advisory_unlock_all()")
        assert len(locks(app)) == 1
