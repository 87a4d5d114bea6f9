"""Expired leases: taken back by a fetch, a little at a time, and by reap(); what is locked is left for later."""
import time

import pytest

from jobs import ack, fetch, load, statuses, until


def expired(db, jobs, queue="jobs", timeout_ms=20):
    """A queue whose jobs all are in one expired lease."""
    db.execute("SELECT qflow.create_queue(%s)", (queue,))
    db.execute("SELECT qflow.alter_workflow(%s, retry_delay_ms => 0)", (queue,))
    with db.connect() as c:
        load(c, queue, jobs)
        rows = fetch(c, queue, jobs, hints={"timeout_ms": timeout_ms})
        assert len(rows) == jobs
        c.execute("SELECT pg_sleep(%s)", (timeout_ms / 1000 + 0.005,))
    return rows


def reap(c):
    """{queue: (returned, failed)}."""
    return {row[0]: row[1:] for row in c.execute("SELECT queue, returned, failed FROM qflow.reap()").fetchall()}


@pytest.mark.every_version
def test_a_fetch_takes_back_a_little_once_a_second(db):
    expired(db, 200)
    with db.connect() as c:
        begin = time.monotonic()
        sizes = [len(fetch(c, "jobs", 200))]
        while time.monotonic() - begin < 3.5:
            rows = fetch(c, "jobs", 200)
            if rows:
                assert {row.attempt for row in rows} == {2}
                sizes.append(len(rows))
        print(f"jobs that came back at a time: {sizes}")
        assert sum(sizes) == 200
        assert max(sizes) <= 64 and len(sizes) <= 5


def test_several_sessions_take_back_each_job_once(db):
    rows = expired(db, 300)
    sessions = [db.connect() for _ in range(4)]
    got = []

    def all_back():
        for session in sessions:
            got.extend(fetch(session, "jobs", 300))
        return len(got) >= 300

    until(all_back)
    assert sorted(row.id for row in got) == [row.id for row in rows]
    for session in sessions:
        session.close()


@pytest.mark.every_version
def test_reap_takes_back_all(db):
    old = expired(db, 200)
    with db.connect() as c:
        assert reap(c) == {"public.jobs": (200, 0)}
        assert reap(c) == {}
        assert c.execute("SELECT count(*) FROM qflow.lease").fetchone() == (0,)
        assert ack(c, "jobs", old) == 0, "the old token is stale"
        rows = fetch(c, "jobs", 200)
        assert len(rows) == 200 and {row.failure_reason for row in rows} == {"lease expired"}


def test_reap_fails_what_has_no_attempt_left(db):
    db.execute("SELECT qflow.create_queue('jobs', retries => 0)")
    with db.connect() as c:
        load(c, "jobs", 3)
        fetch(c, "jobs", 3, hints={"timeout_ms": 1})
        c.execute("SELECT pg_sleep(0.005)")
        assert reap(c) == {"public.jobs": (0, 3)}
        assert c.execute("SELECT DISTINCT status, failure_reason FROM jobs").fetchall() == [("failed", "lease expired")]


def test_a_locked_job_keeps_the_lease_and_comes_back_later(db):
    rows = expired(db, 5)
    with db.connect() as c, db.connect() as locker:
        locker.execute("BEGIN")
        locker.execute("SELECT FROM jobs WHERE id = %s FOR UPDATE", (rows[2].id,))
        assert reap(c) == {"public.jobs": (4, 0)}
        assert reap(c) == {}
        assert c.execute("SELECT id FROM qflow.lease").fetchall() == [(rows[0].lease,)]
        assert statuses(c, "jobs") == {"pending": 4, "in_progress": 1}
        locker.execute("ROLLBACK")
        assert reap(c) == {"public.jobs": (1, 0)}
        assert c.execute("SELECT count(*) FROM qflow.lease").fetchone() == (0,)
        assert sorted(row.id for row in fetch(c, "jobs", 10)) == [row.id for row in rows]


def test_a_locked_lease_is_left_for_later(db):
    """Somebody settles it at this moment."""
    rows = expired(db, 5)
    with db.connect() as c, db.connect() as consumer:
        consumer.execute("BEGIN")
        assert ack(consumer, "jobs", rows[:1]) == 1
        assert reap(c) == {}
        consumer.execute("COMMIT")
        assert reap(c) == {"public.jobs": (4, 0)}
        assert statuses(c, "jobs") == {"pending": 4, "completed": 1}


def test_one_broken_queue_does_not_hold_up_the_others(db):
    for queue in ("a", "b", "c"):
        expired(db, 3, queue)
    db.execute("ALTER TABLE b DROP COLUMN lease")
    with db.connect() as c:
        notices = []
        c.add_notice_handler(lambda notice: notices.append((notice.severity_nonlocalized, notice.message_primary)))
        assert reap(c) == {"public.a": (3, 0), "public.c": (3, 0)}
        assert [severity for severity, _ in notices] == ["WARNING"]
        assert "public.b" in notices[0][1] and "lease" in notices[0][1]
        assert len(fetch(c, "a", 3)) == 3 and len(fetch(c, "c", 3)) == 3
        with pytest.raises(Exception) as raised:
            fetch(c, "b")
        assert raised.value.sqlstate == "55000" and "lease" in str(raised.value)
        c.execute("DROP TABLE b")
        notices.clear()
        assert reap(c) == {} and notices == []


def test_a_dropped_tables_leases_are_forgotten(db):
    expired(db, 3)
    db.execute("DROP TABLE jobs")
    with db.connect() as c:
        assert reap(c) == {}
        assert c.execute("SELECT count(*) FROM qflow.lease").fetchone() == (0,)
        assert c.execute("SELECT count(*) FROM qflow.queue").fetchone() == (0,)
