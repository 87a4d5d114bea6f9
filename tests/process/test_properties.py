"""What holds for every demand, batch size and number of retries; which of several settings counts."""
import random

import pytest

from jobs import ack, fetch, load, requeue, sized, statuses, until


def seeded():
    seed = random.randrange(10**6)
    print(f"seed {seed}")
    return random.Random(seed)


@pytest.mark.every_version
def test_batches_and_totals(db):
    """min(demand, available) jobs, in batches of batch_size of which only the last is smaller, none twice."""
    rng = seeded()
    db.execute("SELECT qflow.create_queue('jobs')")
    seen, waiting = set(), 0
    with db.connect() as c:
        for _ in range(sized(150, 1500)):
            if rng.random() < 0.5:
                count = rng.choice([1, 2, 17, 100, 333])
                load(c, "jobs", count)
                waiting += count
            demand, size = rng.choice([None, rng.randint(1, 200)]), rng.choice([None, rng.randint(1, 64)])
            rows = fetch(c, "jobs", demand, size)
            batch = 16 if size is None else size
            assert len(rows) == min(batch if demand is None else demand, waiting), (demand, size)
            assert [row.batch_no for row in rows] == [at // batch + 1 for at in range(len(rows))]
            assert len({row.lease for row in rows}) == (1 if rows else 0)
            ids = [row.id for row in rows]
            assert len(set(ids)) == len(ids) and not seen & set(ids)
            assert ids == sorted(ids), "one priority: in the order of insertion"
            seen |= set(ids)
            waiting -= len(rows)
            assert ack(c, "jobs", rows) == len(rows)


def executions(c, end):
    """How often the queue's only job is executed when each attempt ends with `end`."""
    count = 0

    def next_one():
        nonlocal count
        rows = fetch(c, "jobs", 1)
        if rows:
            count += 1
            assert rows[0].attempt == count
            end(c, rows)
        return statuses(c, "jobs") == {"failed": 1}

    until(next_one)
    assert fetch(c, "jobs", 1) == []
    return count


def give_up(c, rows):
    assert requeue(c, "jobs", rows, "no luck", 0) == 1


def let_expire(c, rows):
    until(lambda: c.execute("SELECT * FROM qflow.reap()").fetchall())


@pytest.mark.parametrize("end", [give_up, let_expire], ids=["requeued", "expired"])
@pytest.mark.parametrize("retries", [0, 1, pytest.param(3, marks=pytest.mark.every_version), 5])
def test_retries_are_executions_minus_one(db, retries, end):
    db.execute("SELECT qflow.create_queue('jobs', timeout_ms => 5)")
    db.execute("SELECT qflow.alter_workflow('jobs', retries => %s, retry_delay_ms => 0)", (retries,))
    with db.connect() as c:
        load(c, "jobs", 1)
        assert executions(c, end) == retries + 1
        reason = "no luck" if end is give_up else "lease expired"
        assert c.execute("SELECT failure_reason, attempt FROM jobs").fetchone() == (reason, retries + 1)


def test_release_charges_no_attempt(db):
    rng = seeded()
    db.execute("SELECT qflow.create_queue('jobs', retries => 2)")
    db.execute("SELECT qflow.alter_workflow('jobs', retry_delay_ms => 0)")
    with db.connect() as c:
        load(c, "jobs", 1)
        charged = 0
        while charged < 3:
            rows = until(lambda: fetch(c, "jobs", 1))
            assert rows[0].attempt == charged + 1
            if rng.random() < 0.6:
                assert c.execute("SELECT qflow.release('jobs', %s, %s)", ([rows[0].id], [rows[0].lease])).fetchone() == (1,)
            else:
                give_up(c, rows)
                charged += 1
        assert statuses(c, "jobs") == {"failed": 1}


def test_back_off(db):
    """Doubles from retry_delay_ms up to retry_max_delay_ms, with at most 25 % jitter."""
    db.execute("SELECT qflow.create_queue('jobs', retries => 8)")
    db.execute("SELECT qflow.alter_workflow('jobs', retry_delay_ms => 1000, retry_max_delay_ms => 20000)")
    with db.connect() as c:
        load(c, "jobs", 50)
        for attempt in range(1, 9):
            rows = fetch(c, "jobs", 50)
            assert {row.attempt for row in rows} == {attempt} and len(rows) == 50
            requeue(c, "jobs", rows)
            nominal = min(1000 * 2 ** (attempt - 1), 20000)
            delays = [float(row[0]) for row in c.execute(
                "SELECT extract(epoch FROM available_at - updated_at) * 1000 FROM jobs")]
            assert nominal <= min(delays) and max(delays) <= 1.25 * nominal, attempt
            assert len(set(delays)) > 10, "no jitter"
            c.execute("UPDATE jobs SET available_at = now()")


# What the setting, the queue, the workflow and the call say, and what counts.
PRECEDENCE = [((s, q, w, c), next(v for v in (c, w, q, s) if v is not None))
              for s in (70_000,) for q in (None, 80_000) for w in (None, 90_000) for c in (None, 99_000)]


@pytest.mark.parametrize(("said", "counts"), PRECEDENCE)
def test_precedence_of_the_lease_time(db, said, counts):
    setting, queue, workflow, call = said
    db.execute("SELECT qflow.create_queue('jobs', timeout_ms => %s)", (queue,))
    db.execute("SELECT qflow.create_workflow('other', 'jobs', timeout_ms => %s)", (workflow,))
    with db.connect() as c:
        c.execute(f"SET qflow.default_timeout_ms = {setting}")
        load(c, "jobs", 1)
        rows = fetch(c, "other", 1, hints=None if call is None else {"timeout_ms": call})
        left = c.execute("SELECT extract(epoch FROM %s - clock_timestamp()) * 1000", (rows[0].lease_until,)).fetchone()[0]
        assert counts - 5_000 < left <= counts
        assert ack(c, "other", rows) == 1


def test_a_workflows_hint_of_the_lease_time_goes_before_its_setting(db):
    db.execute("SELECT qflow.create_queue('jobs', timeout_ms => 70000)")
    db.execute("""SELECT qflow.create_workflow('other', 'jobs', timeout_ms => 80000, resource_hints => '{"timeout_ms": 90000}')""")
    with db.connect() as c:
        load(c, "jobs", 2)
        for hints, counts in ((None, 90_000), ({"timeout_ms": 99_000}, 99_000)):
            row = fetch(c, "other", 1, hints=hints)[0]
            left = c.execute("SELECT extract(epoch FROM %s - clock_timestamp()) * 1000", (row.lease_until,)).fetchone()[0]
            assert counts - 5_000 < left <= counts


@pytest.mark.parametrize(("said", "counts"), [((s[0] // 10_000, *(v and v // 10_000 for v in s[1:])), n // 10_000) for s, n in PRECEDENCE])
def test_precedence_of_batch_size_and_demand(db, said, counts):
    setting, queue, workflow, call = said
    db.execute("SELECT qflow.create_queue('jobs', batch_size => %s)", (queue,))
    db.execute("SELECT qflow.create_workflow('other', 'jobs', batch_size => %s)", (workflow,))
    with db.connect() as c:
        c.execute(f"SET qflow.default_batch_size = {setting}")
        load(c, "jobs", 40)
        assert len(fetch(c, "other", None, call)) == counts, "no demand: one batch"
        assert [row.batch_no for row in fetch(c, "other", 2 * counts, call)] == [1] * counts + [2] * counts


@pytest.mark.parametrize("queue", [None, 4])
@pytest.mark.parametrize("workflow", [None, 6])
def test_precedence_of_retries(db, queue, workflow):
    db.execute("SELECT qflow.create_queue('jobs', retries => %s)", (queue,))
    db.execute("SELECT qflow.create_workflow('other', 'jobs', retries => %s)", (workflow,))
    with db.connect() as c:
        c.execute("SET qflow.default_retries = 2")
        load(c, "jobs", 1)
        assert fetch(c, "other", 1)[0].max_attempts == 1 + next(v for v in (workflow, queue, 2) if v is not None)
