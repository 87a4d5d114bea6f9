"""Listeners on channel qflow: told of queues that got jobs, many commits at a time, and not for ever silent after a failure."""
import time

import pytest

from jobs import ack, fetch, load
from workers import preloaded, worker_of


def told(listener, seconds):
    """What comes in this time."""
    return [(n.channel, n.payload) for n in listener.notifies(timeout=seconds)]


@pytest.mark.every_version
def test_listeners_are_told_many_commits_at_a_time(make_server):
    db = preloaded(make_server, "qflow.notify_interval_ms = 200")
    with db.connect() as c, db.connect() as listener:
        listener.execute("LISTEN qflow")
        begin = time.monotonic()
        for _ in range(50):
            load(c, "jobs", 1)
        took = time.monotonic() - begin
        told = [(n.channel, n.payload) for n in listener.notifies(timeout=5, stop_after=1)]
        told += [(n.channel, n.payload) for n in listener.notifies(timeout=1)]
        print(f"{len(told)} notifications for 50 commits in {took:.2f} s")
        assert set(told) == {("qflow", "public.jobs")}
        assert len(told) <= took / 0.2 + 2


def test_a_claim_is_no_news(make_server):
    """Jobs come; they go without a word."""
    db = preloaded(make_server)
    with db.connect() as c, db.connect() as listener:
        listener.execute("LISTEN qflow")
        load(c, "jobs", 20)
        assert set(told(listener, 2)) == {("qflow", "public.jobs")}
        for _ in range(10):
            rows = fetch(c, "jobs", 2)
            assert ack(c, "jobs", rows) == 2
        assert told(listener, 2) == []


@pytest.mark.parametrize("how", ["locked out", "terminated"])
def test_what_could_not_be_sent_is_sent_later(make_server, how):
    """The worker cannot send, and ends perhaps: the news are told once it can."""
    db = preloaded(make_server, "qflow.notify_interval_ms = 1000", "qflow.sweep = off")
    with db.connect() as c, db.connect() as listener, db.connect(autocommit=False) as locker:
        listener.execute("LISTEN qflow")
        worker = worker_of(c)
        load(c, "jobs", 1)
        # Nobody but the server's own commands can lock an extension so: one that is rolled back.
        locker.execute("SET client_min_messages = error")
        locker.execute("DROP EXTENSION qflow CASCADE")
        blocked = "SELECT true FROM pg_stat_activity WHERE pid = %s AND wait_event_type = 'Lock' AND query = 'qflow: notifying'"
        while not c.execute(blocked, (worker,)).fetchone():
            assert not told(listener, 0.05), "told before it could be held up"
        if how == "terminated":
            c.execute("SELECT pg_terminate_backend(%s)", (worker,))
        else:
            time.sleep(1.5)  # longer than it waits for the lock
        locker.rollback()
        first = [n.payload for n in listener.notifies(timeout=30, stop_after=1)]
        assert first == ["public.jobs"]
        load(c, "jobs", 1)
        assert [n.payload for n in listener.notifies(timeout=30, stop_after=1)] == ["public.jobs"]
