"""What one sees, compared with an independent count: every figure of queue_stats and of the Prometheus text."""
import collections
import random
import re

import psycopg
import pytest

from conftest import Database
from jobs import ack, caught_up, copy, fetch, load, outcomes, processes, requeue, sized, statuses, until

PRELOAD = "shared_preload_libraries = 'qflow'"
TOTALS = "enqueued_total, claimed_total, acked_total, requeued_total, failed_total, released_total, reaped_total, stale_total"
STATUSES = ("pending", "in_progress", "completed", "failed")


def scrape(c):
    """The Prometheus text as {(name, labels): value}; every figure stands below its own TYPE line."""
    text = c.execute("SELECT qflow.prometheus()").fetchone()[0]
    found, family = {}, None
    for line in text.splitlines():
        if line.startswith("# TYPE "):
            family = line.split()[2]
        elif not line.startswith("#"):
            name, labels, value = re.fullmatch(r"(\w+)(?:\{(.*)\})? (\S+)", line).groups()
            assert re.sub("_(bucket|sum|count)$", "", name) == family or name == family, (name, family)
            pairs = re.findall(r'(\w+)="((?:[^"\\]|\\.)*)"', labels or "")
            key = (name, tuple(sorted(pairs)))
            assert key not in found, key
            found[key] = float(value)
    return found


def depths(c, queue):
    """The gauges in shared memory, as the Prometheus text has them; nothing where they are unknown."""
    page = scrape(c)
    named = {s: page.get(("qflow_queue_jobs", (("queue", queue), ("status", s)))) for s in STATUSES}
    return None if None in named.values() else {s: int(n) for s, n in named.items()}


def counted(c, queue):
    return {s: 0 for s in STATUSES} | statuses(c, queue)


def known(c, *queues):
    until(lambda: all(depths(c, f"public.{queue}") for queue in queues), what="the first count")


def work(number, db, queue, rounds):
    """A consumer and producer that does everything at random; answers what it has done, by itself counted."""
    dice, done, held, lost = random.Random(number), collections.Counter(), [], []
    with db.connect() as c:
        for _ in range(rounds):
            keep = dice.random() < 0.7
            told = collections.Counter()
            with c.transaction(force_rollback=not keep):
                act(c, queue, dice, told, held if keep else list(held), lost)
            if keep:
                done += told
        for row in held:
            done[outcomes(c, queue, [row])[row.id]] += 1
    return dict(done)


def act(c, queue, dice, told, held, lost):
    kind = dice.choice(["insert", "enqueue", "copy", "savepoint", "fetch", "fetch", "fetch", "end", "end", "end", "stale"])
    if kind == "insert":
        told["enqueued"] += len(load(c, queue, dice.randint(1, 5)))
    elif kind == "enqueue":
        ids = c.execute("SELECT qflow.enqueue_batch(%s, ARRAY['1','2']::jsonb[])", (queue,)).fetchone()[0]
        told["enqueued"] += len(ids)
    elif kind == "copy":
        copy(c, queue, 7)
        told["enqueued"] += 7
    elif kind == "savepoint":
        load(c, queue, 1)
        told["enqueued"] += 1
        with c.transaction(force_rollback=True):
            load(c, queue, 4)
            fetch(c, queue, 1)
        with c.transaction():
            load(c, queue, 2)
            told["enqueued"] += 2
    elif kind == "fetch":
        rows = fetch(c, queue, dice.randint(1, 4))
        held += rows
        told["claimed"] += len(rows)
    elif kind == "end" and held:
        row = held.pop()
        how = dice.choice(["ack", "ack", "requeue", "fail", "release"])
        verdict = outcomes(c, queue, [row], how)[row.id]
        told[verdict] += 1
        lost.append(row)
    elif kind == "stale" and lost:
        row = dice.choice(lost)
        told[outcomes(c, queue, [row], "fail")[row.id]] += 1


@pytest.mark.every_version
def test_every_figure_equals_an_independent_count(make_server):
    """Four sessions do everything at once, rolled back or not, while another counts the tables again and again."""
    db = make_server(PRELOAD).create_database("jobs")
    for queue, on_complete in (("kept", "keep"), ("gone", "delete")):
        db.execute("SELECT qflow.create_queue(%s, on_complete => %s, retries => 2)", (queue, on_complete))
    with db.connect() as c:
        known(c, "kept", "gone")
    rounds = sized(500, 5000)
    for queue in ("kept", "gone"):
        answers = processes(5, work_or_count, db, queue, rounds, seconds=300)
        done = collections.Counter()
        for answer in answers:
            done.update(answer)
        compare(db, queue, done)


def work_or_count(number, db, queue, rounds):
    return count_all_the_time(db, queue, rounds) if number == 4 else work(number, db, queue, rounds)


def count_all_the_time(db, queue, rounds):
    with db.connect() as c:
        c.execute("SET qflow.exact_counts = on")
        for _ in range(rounds):
            c.execute("SELECT * FROM qflow.queue_stats").fetchall()
    return {}


def compare(db, queue, done):
    with db.connect() as c:
        name = f"public.{queue}"
        table = counted(c, queue)
        assert depths(c, name) == table
        stats = c.execute(
            "SELECT pending, in_progress, completed, failed FROM qflow.queue_stats WHERE queue = %s", (name,)
        ).fetchone()
        assert dict(zip(STATUSES, stats)) == table
        totals = c.execute(f"SELECT {TOTALS} FROM qflow.queue_stats WHERE queue = %s", (name,)).fetchone()
        totals = dict(zip(TOTALS.split(", "), totals))
        words = ("enqueued", "claimed", "acked", "requeued", "failed", "released", "stale")
        assert all(done[word] for word in words), done
        assert totals == {f"{word}_total": done[word] for word in words} | {"reaped_total": 0}
        page = scrape(c)
        for word in ("enqueued", "claimed", "acked", "requeued", "failed", "released", "reaped"):
            assert page[(f"qflow_jobs_{word}_total", (("queue", name),))] == totals[f"{word}_total"]
        assert page[("qflow_settles_stale_total", (("queue", name),))] == done["stale"]
        for histogram in ("job_latency_seconds", "job_runtime_seconds", "job_lease_used_ratio"):
            assert page[(f"qflow_{histogram}_count", (("queue", name),))] == done["acked"]
            assert page[(f"qflow_{histogram}_bucket", (("le", "+Inf"), ("queue", name)))] == done["acked"]
        # back-off ends while one looks
        now_and_then = [delayed(c, queue), scrape(c)[("qflow_queue_delayed_jobs", (("queue", name),))], delayed(c, queue)]
        assert now_and_then == sorted(now_and_then, reverse=True)


def delayed(c, queue):
    return c.execute(f"SELECT count(*) FROM {queue} WHERE status = 'pending' AND available_at > now()").fetchone()[0]


def test_reaped_retried_purged_and_prepared(make_server):
    """What is done on nobody's behalf, by the owner, and by a transaction that another session ends."""
    db = make_server(PRELOAD, "max_prepared_transactions = 5").create_database("jobs")
    db.execute("SELECT qflow.create_queue('jobs', retries => 0)")
    with db.connect() as c:
        known(c, "jobs")
        load(c, "jobs", 10)
        fetch(c, "jobs", 4, hints={"timeout_ms": 1})
        until(lambda: depths(c, "public.jobs") == {"pending": 6, "in_progress": 0, "completed": 0, "failed": 4}, what="reaped")
        assert c.execute("SELECT reaped_total, failed_total FROM qflow.queue_stats").fetchone() == (4, 4)
        assert c.execute("SELECT last_error FROM qflow.workflow_status").fetchone() == ("lease expired",)
        assert c.execute("SELECT qflow.retry_failed('jobs')").fetchone()[0] == 4
        ack(c, "jobs", fetch(c, "jobs", 3))
        assert c.execute("SELECT qflow.purge_queue('jobs', 'completed')").fetchone()[0] == 3
        assert depths(c, "public.jobs") == counted(c, "jobs") == {"pending": 7, "in_progress": 0, "completed": 0, "failed": 0}
        c.execute("SELECT qflow.alter_queue('jobs', retention_ms => 1, failed_retention_ms => 1)")
        load(c, "jobs", 4)
        assert set(outcomes(c, "jobs", fetch(c, "jobs", 2)).values()) == {"acked"}
        assert set(outcomes(c, "jobs", fetch(c, "jobs", 2), "fail").values()) == {"failed"}

        def removed():
            c.execute("SELECT * FROM qflow.reap()")
            return set(statuses(c, "jobs")) == {"pending"}

        until(removed, what="old jobs removed")
        assert depths(c, "public.jobs") == counted(c, "jobs") == {"pending": 7, "in_progress": 0, "completed": 0, "failed": 0}
        for end, more in (("ROLLBACK", 0), ("COMMIT", 5)):
            c.execute("BEGIN")
            load(c, "jobs", 5)
            c.execute("PREPARE TRANSACTION 'p'")
            assert depths(c, "public.jobs") is None
            assert c.execute("SELECT pending FROM qflow.queue_stats").fetchone() == (7,)
            assert depths(c, "public.jobs") is None  # such a count is no base
            c.execute(f"{end} PREPARED 'p'")
            assert c.execute("SELECT pending FROM qflow.queue_stats").fetchone() == (7 + more,)
            assert depths(c, "public.jobs")["pending"] == 7 + more
        # by hand: seen with the next count
        c.execute("DELETE FROM jobs WHERE id IN (SELECT id FROM jobs LIMIT 2)")
        assert depths(c, "public.jobs")["pending"] == 12
        c.execute("SET qflow.exact_counts = on")
        assert c.execute("SELECT pending FROM qflow.queue_stats").fetchone() == (10,)
        assert depths(c, "public.jobs")["pending"] == 10


def test_latency_and_runtime(make_server):
    """Each ack in its bucket, whichever way it is acked."""
    db = make_server(PRELOAD).create_database("jobs")
    for queue, on_complete in (("kept", "keep"), ("gone", "delete")):
        db.execute("SELECT qflow.create_queue(%s, on_complete => %s, timeout_ms => 100000)", (queue, on_complete))
        with db.connect() as c:
            c.execute(
                f"INSERT INTO {queue} (data, inserted_at)"
                " SELECT '1', now() - n * interval '20 min' FROM generate_series(1, 4) n"
            )
            rows = fetch(c, queue, 4)
            # as if they had been fetched a while ago
            c.execute("UPDATE qflow.lease SET leased_at = leased_at - interval '95 s'")
            assert ack(c, queue, rows[:2]) == 2
            assert set(outcomes(c, queue, rows[2:]).values()) == {"acked"}
            page = scrape(c)
            label = ("queue", f"public.{queue}")
            bucket = lambda name, le: page[(f"qflow_job_{name}_bucket", (("le", le), label))]
            assert [bucket("latency_seconds", le) for le in ("300", "1800", "3600", "14400", "+Inf")] == [0, 1, 2, 4, 4]
            assert [bucket("runtime_seconds", le) for le in ("60", "300", "+Inf")] == [0, 4, 4]
            assert [bucket("lease_used_ratio", le) for le in ("0.5", "0.9", "1", "+Inf")] == [0, 0, 4, 4]
            assert abs(page[("qflow_job_latency_seconds_sum", (label,))] - 12000) < 100
            assert page[("qflow_queue_completed_last_minute", (label,))] == 4


def test_restart_standby_and_no_preload(make_server):
    """Totals begin at zero again and gauges are counted anew; where there are no counters they are NULL, not zero."""
    primary = make_server(PRELOAD)
    db = primary.create_database("jobs")
    db.execute("SELECT qflow.create_queue('jobs')")
    with db.connect() as c:
        known(c, "jobs")
        load(c, "jobs", 5)
        ack(c, "jobs", fetch(c, "jobs", 2))
        assert depths(c, "public.jobs") == counted(c, "jobs")
    standby = make_server(PRELOAD, base=primary)
    caught_up(primary, standby)
    look = f"SELECT pending, completed, {TOTALS} FROM qflow.queue_stats"
    # such a look gives the queue a place in the standby's memory, with counters that know nothing
    Database(standby, "jobs").execute("SELECT * FROM qflow.readiness('jobs')")
    assert Database(standby, "jobs").execute(look) == [(3, 2) + (None,) * 8]
    with standby.connect("jobs") as c:
        assert not [key for key in scrape(c) if key[0].endswith("_total") and "queue" in dict(key[1])]
        assert c.execute("SELECT check_name FROM qflow.health() WHERE NOT ok").fetchall() == []
    primary.restart()
    with db.connect() as c:
        known(c, "jobs")
        assert c.execute(look).fetchone() == (3, 2) + (0,) * 8
        assert depths(c, "public.jobs") == counted(c, "jobs")
    plain = make_server()
    bare = plain.create_database("jobs")
    bare.execute("SELECT qflow.create_queue('jobs')")
    bare.execute("INSERT INTO jobs (data) VALUES ('1')")
    assert bare.execute(look) == [(1, 0) + (None,) * 8]
    assert [row[0] for row in bare.execute("SELECT check_name FROM qflow.health() WHERE NOT ok")] == ["preload", "worker"]


def test_nothing_is_scanned(make_server):
    """With numbers known, the view and the text read a few pages of a large queue, and say the same as a count."""
    db = make_server(PRELOAD).create_database("jobs")
    db.execute("SELECT qflow.create_queue('jobs')")
    with db.connect() as c:
        known(c, "jobs")
        copy(c, "jobs", 20_000)
        c.execute("INSERT INTO jobs (data, priority, inserted_at) VALUES ('1', 7, now() - interval '1 hour')")
        c.execute("INSERT INTO jobs (data, available_at, inserted_at) VALUES ('1', now() + interval '1 h', now() - interval '1 day')")
        for demand in (5_000, 10):  # the second passes what the first has claimed
            ack(c, "jobs", fetch(c, "jobs", demand))
        page = scrape(c)
        assert 3600 <= page[("qflow_queue_oldest_pending_seconds", (("queue", "public.jobs"),))] < 3700
        exact = "SELECT pending, delayed, in_progress, completed, failed FROM qflow.queue_stats"
        fast = c.execute(exact).fetchone()
        read = {}
        for setting in ("off", "on"):
            c.execute(f"SET qflow.exact_counts = {setting}")
            assert c.execute(exact).fetchone() == fast
            plan = c.execute(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {exact}", prepare=False).fetchone()[0][0]["Plan"]
            read[setting] = plan["Shared Hit Blocks"] + plan["Shared Read Blocks"]
        print(f"buffers: {read}")
        assert read["off"] < 200 < read["on"], read


def test_health_names_what_is_wrong(make_server):
    """A broken queue with its SQLSTATE, and to whom; no worker slot; the worker switched off."""
    server = make_server(PRELOAD)
    db = server.create_database("jobs")
    faults = "SELECT check_name, detail, remedy FROM qflow.health() WHERE NOT ok"
    for queue in ("good", "bad"):
        db.execute("SELECT qflow.create_queue(%s)", (queue,))
    db.execute("CREATE ROLE stranger; CREATE ROLE looker; GRANT SELECT (id) ON bad TO looker; GRANT SELECT ON good TO stranger")
    with db.connect() as c:
        known(c, "good", "bad")
        assert c.execute(faults).fetchall() == []
        load(c, "bad", 1)
        c.execute("CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RAISE 'payload % is bad', new.data USING ERRCODE = 'P0042'; END$$")
        with c.transaction():  # the lease has expired before anybody sees it
            fetch(c, "bad", 1, hints={"timeout_ms": 1})
            c.execute("CREATE TRIGGER no BEFORE UPDATE ON bad FOR EACH ROW EXECUTE FUNCTION no()")
        (found,) = until(lambda: c.execute(faults).fetchall(), what="the fault")
        assert found[0] == "queue" and "public.bad" in found[1] and "(P0042)" in found[1] and "payload" in found[1], found
        assert "qflow.verify" in found[2]
        c.execute("SET ROLE looker")
        (found,) = c.execute(faults).fetchall()
        assert "(P0042)" in found[1] and "payload" not in found[1], found
        c.execute("SET ROLE stranger")
        assert c.execute(faults).fetchall() == []
        assert "public.bad" not in c.execute("SELECT qflow.prometheus()").fetchone()[0]
        c.execute("RESET ROLE")
        c.execute("DROP TRIGGER no ON bad")
        until(lambda: c.execute(faults).fetchall() == [], what="the queue mended")
        c.execute("ALTER SYSTEM SET qflow.worker = off")
        c.execute("SELECT pg_reload_conf()")
        until(lambda: [row[0] for row in c.execute(faults)] == ["worker"], what="the worker switched off")
        assert c.execute("SELECT ok FROM qflow.readiness('good') WHERE check_name = 'worker'").fetchone() == (True,)


def test_last_fetch_and_last_error(make_server):
    """Of each workflow, also when the fetch found nothing; the reason for who may read it in the jobs."""
    db = make_server(PRELOAD).create_database("jobs")
    db.execute("SELECT qflow.create_queue('jobs', workflow => 'one')")
    db.execute("SELECT qflow.create_workflow('two', 'jobs')")
    db.execute("CREATE ROLE looker; GRANT SELECT (id) ON jobs TO looker")
    status = "SELECT workflow, last_fetch_at > now() - interval '1 min', last_error FROM qflow.workflow_status ORDER BY 1"
    with db.connect() as c:
        assert c.execute(status).fetchall() == [("one", None, None), ("two", None, None)]
        fetch(c, "two")
        load(c, "jobs", 2)
        requeue(c, "one", fetch(c, "one", 1), reason="it \U0001F525 burns")
        with c.transaction(force_rollback=True):
            requeue(c, "one", fetch(c, "one", 1), reason="never happened")
        assert c.execute(status).fetchall() == [("one", True, "it \U0001F525 burns"), ("two", True, None)]
        c.execute("SET ROLE looker")
        assert c.execute(status).fetchall() == [("one", True, None), ("two", True, None)]
