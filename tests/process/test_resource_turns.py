"""Waiting for a slot: how long it takes, in which order, and whose turn it is."""
import json
import statistics
import threading
import time

import psycopg
import pytest

from jobs import FORK, ack, at_most, fetch, load, processes, sized, until
from resources import a_database, assert_free, faults, make, until_free
from workers import until_back


def take(c, queue="jobs", **hints):
    """A fetch of one job with a GPU."""
    return fetch(c, queue, 1, hints={"gpu": 1, **hints})


@pytest.mark.parametrize("preload", [True, False], ids=["preload", "no-preload"])
def test_busy_for_a_bounded_time(make_server, preload):
    """No rows after `wait_ms`, and a transaction that goes on; what it was told of lock_timeout holds."""
    db = a_database(make_server, preload=preload)
    make(db)
    with db.connect() as c, db.connect() as other:
        load(c, "jobs", 10)
        rows = take(c)
        for wait_ms in (0, 100, 1_000):
            took = []
            for _ in range(sized(5, 20)):
                with other.transaction():
                    other.execute("SET LOCAL lock_timeout = '7s'")
                    begin = time.monotonic()
                    assert take(other, wait_ms=wait_ms) == []
                    took.append((time.monotonic() - begin) * 1_000)
                    assert other.execute("SHOW lock_timeout").fetchone() == ("7s",)
                    assert other.execute("SELECT pg_current_xact_id_if_assigned()").fetchone() == (None,)
                    other.execute("INSERT INTO jobs (data) VALUES ('1')")
                begin = time.monotonic()
                with pytest.raises(psycopg.errors.LockNotAvailable, match='resource "gpu" is busy'):
                    take(other, wait_ms=wait_ms, on_busy="error")
                took.append((time.monotonic() - begin) * 1_000)
            median = statistics.median(took)
            print(f"wait_ms {wait_ms}: median {median:.0f} ms, at most {max(took):.0f} ms")
            assert min(took) >= wait_ms - 1
            assert median <= wait_ms + 250 and max(took) <= wait_ms + 5_000
        ack(c, "jobs", rows)
        assert len(take(other)) == 1


def test_wait_ms_is_spent_once(make_server):
    """In a table that was adopted a fetch that finds nothing looks further and tries again; not where a slot is busy."""
    db = a_database(make_server)
    db.execute("CREATE TABLE jobs (id bigserial PRIMARY KEY, data jsonb, status text DEFAULT 'pending')")
    db.execute("INSERT INTO jobs (data) SELECT '1' FROM generate_series(1, 20000)")
    make(db)
    with db.connect() as c, db.connect() as other:
        rows = take(c)
        begin = time.monotonic()
        assert take(other, wait_ms=200) == []
        print(f"waited {(time.monotonic() - begin) * 1_000:.0f} ms")
        assert resource_metric(c, "wait_timeouts_total") == 1
        ack(c, "jobs", rows)

        def is_looked_through():
            c.execute("SELECT count(*) FROM qflow.reap()")
            return c.execute("SELECT count(*) FROM qflow.verify('jobs') WHERE NOT ok").fetchone() == (0,)

        until(is_looked_through, 60, "the table looked through")


def test_wait_returns_for_a_slot_whose_lease_is_over(db):
    """Without preload no worker takes it back: the fetch does, so the wait before it must not hold it up."""
    make(db)
    with db.connect() as c, db.connect() as other:
        load(c, "jobs", 10)
        take(c, timeout_ms=300)
        begin = time.monotonic()
        other.execute("CALL qflow.wait('jobs', 60000)")
        took = time.monotonic() - begin
        print(f"the wait returned after {took * 1_000:.0f} ms")
        assert len(take(other)) == 1
        assert took < 30


def test_idle_pollers_are_in_nobodys_way(make_server):
    """Who polls an empty queue takes no slot, for no moment: the consumer beside them never meets one that is busy."""
    db = a_database(make_server)
    make(db)
    make(db, "idle")
    stop = threading.Event()

    def poll():
        with db.connect() as c:
            while not stop.is_set():
                assert take(c, "idle") == []

    def wait():
        with db.connect() as c:
            while not stop.is_set():
                c.execute("CALL qflow.wait('idle', 50)")

    pollers = [threading.Thread(target=target) for target in (poll, poll, poll, wait, wait)]
    for poller in pollers:
        poller.start()
    try:
        with db.connect() as c:
            load(c, "jobs", 1_000)
            for _ in range(1_000):
                rows = take(c, on_busy="error")
                assert ack(c, "jobs", rows) == 1
    finally:
        stop.set()
        for poller in pollers:
            poller.join()


@pytest.mark.every_version
def test_first_come_first_served(make_server):
    """Ten wait, of both kinds, in an order that is known; the slot comes free ten times. Who does not wait gets nothing."""
    db = a_database(make_server)
    make(db)
    served, waiting = [], []

    def by_fetch(number):
        with db.connect() as c:
            while not (rows := take(c, wait_ms=1_000, worker=f"w{number}")):
                pass
            done(c, number, rows)

    def by_wait(number):
        with db.connect() as c:
            rows = []
            while not rows:
                c.execute("CALL qflow.wait('jobs', 60000, %s)", (f'{{"gpu": 1, "worker": "w{number}"}}',))
                rows = take(c, worker=f"w{number}")
            done(c, number, rows)

    def done(c, number, rows):
        served.append(number)
        with db.connect() as hasty:
            assert take(hasty) == [], "nobody overtakes those who wait"
        ack(c, "jobs", rows)

    with db.connect() as c:
        load(c, "jobs", 100)
        rows = take(c)
        for number in range(10):
            waiter = threading.Thread(target=by_wait if number % 2 else by_fetch, args=(number,))
            waiter.start()
            waiting.append(waiter)
            until(lambda: waiters(c) == number + 1, 30, f"{number + 1} in line")
        ack(c, "jobs", rows)
        with at_most(30, "ten turns"):
            for waiter in waiting:
                waiter.join(30)
        assert served == list(range(10))
        until_free(c)
        assert waiters(c) == 0


def test_only_the_first_in_line_looks_by_himself(make_server):
    """Those behind sleep until they are woken, or for a second; counted by how often their processes slept."""
    db = a_database(make_server)
    make(db)

    def slept(pid):
        text = open(f"/proc/{pid}/status").read()
        return int(next(line for line in text.splitlines() if line.startswith("voluntary_ctxt_switches")).split()[1])

    def wait(c):
        with c:
            c.execute("CALL qflow.wait('jobs', 60000)")
            ack(c, "jobs", take(c))

    waiting, pids = [], []
    with db.connect() as c:
        load(c, "jobs", 10)
        rows = take(c)
        for number in range(5):
            other = db.connect()
            pids.append(other.info.backend_pid)
            waiting.append(threading.Thread(target=wait, args=(other,)))
            waiting[-1].start()
            until(lambda: waiters(c) == number + 1, 30, "in line")
        before = [slept(pid) for pid in pids]
        until(lambda: slept(pids[0]) > before[0] + 50, 60, "the first has looked 50 times")
        first, *others = (slept(pid) - at for pid, at in zip(pids, before))
        print(f"the first slept {first} times, the others {others}")
        ack(c, "jobs", rows)
        for waiter in waiting:
            waiter.join(60)
        assert max(others) < first / 2
        until_free(c)


def test_one_place_in_all_lines(make_server):
    """Who waits for one resource and then for two has a new place in both lines: who stands in both goes first. With a
    place in each from another time, both would wait for the other."""
    db = a_database(make_server)
    make(db)
    db.execute("SELECT qflow.create_resource('disk', 1), qflow.create_resource('net', 1, 'units')")
    one, two = '{"gpu": 0, "disk": 1, "worker": "%s"}', '{"gpu": 0, "disk": 1, "net": 1, "worker": "%s"}'
    served = []

    def consume(name, first_ask=None):
        with db.connect() as c:
            if first_ask:
                c.execute("CALL qflow.wait('jobs', 500, %s)", (first_ask % name,))
            rows = []
            while not rows:
                c.execute("CALL qflow.wait('jobs', 60000, %s)", (two % name,))
                rows = fetch(c, "jobs", 1, hints=json.loads(two % name))
            served.append(name)
            ack(c, "jobs", rows)

    with db.connect() as c:
        load(c, "jobs", 10)
        rows = fetch(c, "jobs", 1, hints=json.loads(two % "holder"))
        changing = threading.Thread(target=consume, args=("changing", one))
        changing.start()
        until(lambda: waiters(c, "disk") == 1, 30, "one in line")
        steady = threading.Thread(target=consume, args=("steady",))
        steady.start()
        until(lambda: waiters(c, "net") == 1, 30, "the other in both lines")
        until(lambda: waiters(c, "net") == 2, 30, "both in both lines")
        ack(c, "jobs", rows)
        until(lambda: len(served) == 2, 30, "both served")
        changing.join()
        steady.join()
        assert served == ["steady", "changing"]
        until_free(c)


def test_first_come_first_served_without_preload(db):
    """There they queue up for a lock, for as long as a fetch may wait; a `wait` stands in no line."""
    make(db)
    with db.connect() as c:
        load(c, "jobs", 1_000)
        for _ in range(100):
            rows, served, waiting = take(c), [], []

            def consume(number):
                with db.connect() as other:
                    if rows := take(other, wait_ms=1_000):
                        served.append(number)
                        with db.connect() as hasty:
                            assert number == 3 or take(hasty) == [], "nobody overtakes those who wait"
                        ack(other, "jobs", rows)

            begin = time.monotonic()
            for number in range(4):
                waiting.append(threading.Thread(target=consume, args=(number,)))
                waiting[-1].start()
                until(lambda: at_gate(c) == number + 1 or time.monotonic() > begin + 0.5, 30, "in line")
            is_in_time = at_gate(c) == 4
            ack(c, "jobs", rows)
            for waiter in waiting:
                waiter.join(30)
            if is_in_time and len(served) == 4:
                break
        assert served == [0, 1, 2, 3]
        assert_free(c)


def at_gate(c):
    """How many wait at the gate, or have passed it."""
    return c.execute("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 1818").fetchone()[0]


def waiters(c, resource="gpu"):
    """How many wait for it."""
    return resource_metric(c, "waiters", resource)


def resource_metric(c, name, resource="gpu"):
    text = c.execute("SELECT qflow.prometheus()").fetchone()[0]
    line = f'qflow_resource_{name}{{resource="{resource}"}} '
    return int(next(found for found in text.splitlines() if found.startswith(line)).removeprefix(line))


def test_a_dropped_resource_leaves_its_line(make_server):
    """There is room for so many lines in shared memory: those of resources that are gone are used again."""
    db = a_database(make_server, None, "qflow.max_resources = 2")
    make(db)
    with db.connect() as c, db.connect() as other:
        load(c, "jobs", 10)
        for number in range(5):
            name = f"r{number}"
            c.execute("SELECT qflow.create_resource(%s, 1)", (name,))
            rows = fetch(c, "jobs", 1, hints={"gpu": 0, name: 1})
            assert fetch(other, "jobs", 1, hints={"gpu": 0, name: 1, "wait_ms": 100}) == []
            assert resource_metric(c, "wait_timeouts_total", name) == 1, "it stood in line"
            ack(c, "jobs", rows)
            c.execute("SELECT qflow.drop_resource(%s)", (name,))


def test_a_long_backlog_shares_its_slot(make_server):
    """A named worker that always has more to do, and another workflow's consumer: both get the slot. The worker's leases
    overlap, so that it never lets go by itself."""
    seconds, turn_ms, lease_ms = sized(10, 30), 1_000, 1_500
    db = a_database(make_server, None, f"qflow.slot_turn_ms = {turn_ms}")
    make(db, timeout_ms=lease_ms)
    make(db, "other", timeout_ms=lease_ms)
    with db.connect() as c:
        load(c, "jobs", 200_000)
        load(c, "other", 20_000)
    stop = time.monotonic() + seconds

    def greedy(_):
        held, done, refused = [], 0, 0
        with db.connect() as c:
            while time.monotonic() < stop:
                rows = take(c, worker="greedy")
                if rows:
                    done += 1
                    held.append(rows)
                else:
                    refused += 1
                    time.sleep(0.01)  # a consumer's pause
                while len(held) > (1 if rows else 0):
                    ack(c, "jobs", held.pop(0))
            for rows in held:
                ack(c, "jobs", rows)
        return done, refused

    def modest(_):
        waits = []
        with db.connect() as c:
            while time.monotonic() < stop:
                begin = time.monotonic()
                rows = []
                while not rows and time.monotonic() < stop + 5:
                    c.execute("CALL qflow.wait('other', 1000, %s)", ('{"gpu": 1, "worker": "modest"}',))
                    rows = take(c, "other", worker="modest")
                waits.append((time.monotonic() - begin) * 1_000)
                ack(c, "other", rows)
        return waits

    (done, refused), waits = processes_of(greedy, modest, seconds=seconds * 10 + 60)
    print(f"greedy: {done} fetches, {refused} refused; modest: {len(waits)} turns, longest wait {max(waits):.0f} ms")
    assert done > 10 and len(waits) >= seconds * 1_000 // (turn_ms + lease_ms) - 1
    assert max(waits) <= turn_ms + lease_ms
    with db.connect() as c:
        until_free(c)


def processes_of(*targets, seconds):
    """What each of the functions returned, run in processes of their own."""
    return processes(len(targets), lambda number: targets[number](number), seconds=seconds)


# The three pipelines with the hints that their users have today: name, producers, batch, timeout, hints.
PIPELINES = [
    ("embedding", 10, 16, 300_000, {"gpu": True}),
    ("complexity", 5, 8, 600_000, {"gpu": True, "cpu_cores": 8}),
    ("architecture", 3, 4, 900_000, {"gpu": False, "memory_gb": 16}),
]


def produce(db, name, worker, stop):
    """A producer as they have it: waits, fetches a batch, works for a moment, acks. Batches done."""
    done = 0
    with db.connect() as c:
        while time.monotonic() < stop:
            c.execute("CALL qflow.wait(%s, 500, %s)", (name, json.dumps({"worker": worker})))
            rows = fetch(c, name, hints={"worker": worker})
            if rows:
                time.sleep(0.01)  # the work
                assert ack(c, name, rows) == len(rows)
                done += 1
    return done


def test_three_pipelines_share_a_gpu(make_server):
    db = a_database(make_server)
    names = []
    for name, producers, batch, timeout_ms, hints in PIPELINES:
        make(db, name, json.dumps(hints), timeout_ms=timeout_ms, batch_size=batch)
        with db.connect() as c:
            load(c, name, 50_000)
        names += [(name, f"{name} {number}") for number in range(producers)]
    stop = time.monotonic() + sized(10, 30)
    answers = processes(len(names), lambda number: produce(db, *names[number], stop), seconds=sized(100, 300))
    by_name = {}
    for (name, _), done in zip(names, answers):
        by_name.setdefault(name, []).append(done)
    print("batches by producer:", by_name)
    for name, done in by_name.items():  # shares, however busy the machine is
        assert 50 * sum(done) > sum(answers), f"{name} makes progress"
    assert min(by_name["embedding"]) > 0 and min(by_name["complexity"]) > 0, "every producer has its turn"
    with db.connect() as c:
        assert_free(c)
        assert faults(c) == []
