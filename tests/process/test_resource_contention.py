"""Slots under contention: never more holders than slots, none lost, whoever is killed or stopped."""
import os
import random
import signal
import time

import pytest

from jobs import FORK, SOAK, ack, fetch, load, sized, statuses, until
from resources import a_database, assert_free, faults, locks, make, until_free

LEASE_MS = 700


def consume(db, number, hints):
    """Works on a slot for a moment, writes down from when to when, and acks; until killed."""
    rng, by_session = random.Random(number), hints["hold"] == "session"
    with db.connect() as c:
        while True:
            asked = dict(hints, timeout_ms=LEASE_MS, wait_ms=rng.choice([0, 50, 200]))
            if rng.random() < 0.5:
                asked["worker"] = f"w{number}"
            rows = fetch(c, "jobs", rng.randint(1, 4), hints=asked)
            if not rows:
                continue
            (slot,) = rows[0].resources["gpu"]
            c.execute("INSERT INTO used (slot, lease, worker, lease_until, consumer, by_session) VALUES (%s, %s, %s, %s, %s, %s)",
                      (slot, rows[0].lease, asked.get("worker"), rows[0].lease_until, f"c{number}", by_session))
            c.execute("SELECT pg_sleep(%s)", (rng.random() * 0.02,))
            c.execute("UPDATE used SET until = clock_timestamp() WHERE lease = %s", (rows[0].lease,))
            ack(c, "jobs", rows)


# Two uses of one slot by different consumers at one time: from when the fetch was through to when the ack began, or the
# lease ended. A worker's own leases share its slot.
OVERLAPS = """SELECT count(*) FROM used a JOIN used b ON a.slot = b.slot AND a.lease < b.lease
    WHERE (a.worker IS NULL OR a.worker IS DISTINCT FROM b.worker)
        AND a.since < least(coalesce(b.until, b.lease_until), b.lease_until)
        AND b.since < least(coalesce(a.until, a.lease_until), a.lease_until)"""


def kill(c, consumer, ended):
    """Notes when: its backend may still be writing down what it has just taken, so that is told to `used` at the end."""
    ended.append((c.execute("SELECT clock_timestamp()").fetchone()[0], consumer.name))
    consumer.kill()
    consumer.join()


def disturb(c, rng, consumers, start, ended):
    """Kills one, or stops it for a moment; answers which of the two. What a session keeps is free when it is gone."""
    at = rng.randrange(len(consumers))
    if rng.random() < 0.5:
        kill(c, consumers[at], ended)
        consumers[at] = start()
        return "killed"
    os.kill(consumers[at].pid, signal.SIGSTOP)
    time.sleep(rng.random() * 0.3)  # how long it is stopped
    os.kill(consumers[at].pid, signal.SIGCONT)
    return "stopped"


# Without preload slots that a session keeps are refused: tests/pg_regress/sql/preload.sql.
@pytest.mark.parametrize(("hold", "preload"), [("lease", True), ("lease", False), ("session", True)],
                         ids=["lease-preload", "lease-no-preload", "session-preload"])
@pytest.mark.parametrize("slots", [1, 2, 4] if SOAK else [2])
def test_holders_never_exceed_slots(make_server, slots, hold, preload):
    db = a_database(make_server, preload=preload, slots=slots)
    make(db)
    db.execute("""CREATE TABLE used (slot bigint, lease bigint PRIMARY KEY, worker text, lease_until timestamptz,
        since timestamptz DEFAULT clock_timestamp(), until timestamptz, consumer text, by_session boolean)""")
    rng, number, ended = random.Random(5), 0, []
    with db.connect() as c:
        count = len(load(c, "jobs", sized(20_000, 200_000)))

        def start():
            nonlocal number
            number += 1
            asked = {"gpu": 1, "hold": hold}
            process = FORK.Process(target=consume, args=(db, number, asked), name=f"c{number}", daemon=True)
            process.start()
            return process

        consumers = [start() for _ in range(8)]
        end, seen, deeds, most = time.monotonic() + sized(8, 60), 0, [], 0
        try:
            while time.monotonic() < end:
                taken = [slot for (slot,) in c.execute("SELECT slot FROM qflow.holder").fetchall()]
                assert all(0 <= slot < slots for slot in taken) and len(set(taken)) == len(taken), taken
                held = locks(c)
                assert len({number for _, number, _ in held}) <= slots, held
                most, seen = max(most, len(taken)), seen + 1
                if rng.random() < 0.2:
                    deeds.append(disturb(c, rng, consumers, start, ended))
                time.sleep(0.01)  # between two samples
                assert all(consumer.is_alive() for consumer in consumers), "a consumer ended by itself"
        finally:
            for consumer in consumers:
                kill(c, consumer, ended)

        # A backend whose client was killed may be in the midst of a fetch.
        others = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
        until(lambda: c.execute(others).fetchone() == (0,), 30, "all consumers' backends gone")

        def expired():
            c.execute("SELECT count(*) FROM qflow.reap()")
            return c.execute("SELECT count(*) FROM qflow.lease").fetchone() == (0,)

        until(expired, 30, "all leases over")
        until_free(c)
        for moment, name in ended:
            c.execute("UPDATE used SET until = %s WHERE consumer = %s AND by_session AND until IS NULL", (moment, name))
        uses = c.execute("SELECT count(*) FROM used").fetchone()[0]
        print(f"{uses} uses of {slots} slots, {seen} samples, at most {most} held; {deeds.count('killed')} killed, "
              f"{deeds.count('stopped')} stopped")
        assert most == slots and uses > 100
        assert c.execute(OVERLAPS).fetchone() == (0,)
        assert faults(c) == []
        # all jobs are accounted for, and all slots can be had
        assert sum(statuses(c, "jobs").values()) == count
        left = c.execute("SELECT j.id, j.lease, e.id FROM jobs j LEFT JOIN qflow.lease e ON e.id = j.lease "
                         "WHERE j.status NOT IN ('pending', 'completed')").fetchall()
        assert left == []
        assert fetch(c, "jobs", 1, hints={"gpu": slots})[0].resources["gpu"] == list(range(slots))
