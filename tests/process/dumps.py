"""Queues with jobs in every state, and what must hold of them wherever their database was taken."""
import pytest

from jobs import ack, drain, fetch, go_through, load, outcomes, requeue, statuses

HOUR = 3_600_000
QUEUE = "app.jobs"
SEED_FIRST = f"""CREATE TABLE {QUEUE} (id serial primary key, data jsonb, metadata jsonb default '{{}}',
    status varchar(20) default 'pending', inserted_at timestamp default now(), updated_at timestamp default now(),
    failure_reason text)"""
SEED_SECOND = f"""CREATE TABLE {QUEUE} (id bigserial primary key, data jsonb not null, metadata jsonb default '{{}}'::jsonb,
    status varchar(20) default 'pending' not null, inserted_at timestamptz default now(),
    updated_at timestamptz default now(), failure_reason text);
    CREATE INDEX ON {QUEUE} (status, inserted_at)"""


def register(c):
    """Makes a queue of the table that is there, or a new one."""
    c.execute(f"SELECT qflow.create_queue('{QUEUE}', timeout_ms => {HOUR}, retries => 5)")


def settle_workflows(c):
    """Retries come at once; beside the queue there is another one, whose workflow is paused."""
    c.execute("SELECT qflow.alter_workflow('jobs', retry_delay_ms => 0)")
    c.execute("""SELECT qflow.create_queue('app."Odd jobs"', on_complete => 'delete', workflow => 'odd ''jobs''')""")
    c.execute("SELECT qflow.pause_workflow('odd ''jobs''')")


def create(c):
    register(c)


def adopt(table):
    """A table of the earlier Elixir package, with jobs of its own consumers, made a queue."""

    def make(c):
        c.execute(table)
        c.execute(f"""INSERT INTO {QUEUE} (data, status, failure_reason)
            SELECT '{{"old": true}}', status, CASE status WHEN 'failed' THEN 'old' END
            FROM generate_series(1, 3), unnest('{{pending,in_progress,completed,failed}}'::text[]) AS status""")
        register(c)

    return make


# How a queue came about. Each test that takes `kind` runs for each of them.
KINDS = {"created": create, "adopted_first": adopt(SEED_FIRST), "adopted_second": adopt(SEED_SECOND)}


def every_kind(function):
    """Runs a test for each kind of queue; on every version for the created one."""
    return pytest.mark.parametrize("kind", [
        pytest.param(kind, marks=[pytest.mark.every_version] if kind == "created" else []) for kind in KINDS
    ])(function)


def source(make_database, kind="created", **options):
    """A queue of a kind in a database of its own. What was adopted has jobs that its former consumers still hold, and
    perhaps an index that verify advises against."""
    return Filled(make_database(verified=kind == "created", **options), kind)


class Filled:
    """A queue with jobs in every state, and what was seen of it before it was taken elsewhere."""

    def __init__(self, db, kind="created", user="postgres"):
        self.db = db
        with db.connect() as c:
            c.execute(f'CREATE SCHEMA app AUTHORIZATION "{user}"')
            c.execute(f'GRANT CREATE ON DATABASE "{db.name}" TO "{user}"')
        with db.connect(user=user) as c:
            KINDS[kind](c)
            settle_workflows(c)
            c.execute(f"""SELECT qflow.create_workflow('second', '{QUEUE}', batch_size => 3, retry_delay_ms => 0,
                resource_hints => '{{"worker": "w"}}')""")
            self.fill(c)
        self.remember()

    def fill(self, c):
        ids = load(c, QUEUE, 60)
        assert len(go_through(c, "jobs", 5, 10)) == 10
        broken = fetch(c, "jobs", 3)
        arrays = [row.id for row in broken], [row.lease for row in broken]
        assert c.execute("SELECT qflow.fail('jobs', %s, %s, 'broken')", arrays).fetchone() == (3,)
        for _ in range(3):
            c.execute("SELECT qflow.enqueue(%s, '{}', delay_ms => %s)", (QUEUE, HOUR))
        self.held = fetch(c, "jobs", 6)
        taken = fetch(c, "jobs", 4)
        self.expired = fetch(c, "second", 3, hints={"timeout_ms": 1})
        assert requeue(c, "jobs", taken, "again", delay_ms=0) == 4
        load(c, QUEUE, 5)
        assert len(ids) == 60 and len(self.held) == 6 and len(self.expired) == 3

    def remember(self):
        """Notes everything that is compared later."""
        with self.db.connect() as c:
            self.rows, self.registry = rows(c), registry(c)
            self.statuses = dict(c.execute(f"SELECT id, status FROM {QUEUE}").fetchall())
            assert set(self.statuses.values()) == {"pending", "in_progress", "completed", "failed"}
            assert c.execute(f"SELECT count(*) FROM {QUEUE} WHERE status = 'pending' AND attempt > 0").fetchone() == (4,)
            self.highest = highest(c)

    def left(self):
        return {id for id, status in self.statuses.items() if status in ("pending", "in_progress")}

    def of(self, *wanted):
        return {id for id, status in self.statuses.items() if status in wanted}


def rows(c, queue=QUEUE):
    """{id: the whole row as text}."""
    c.execute("SET timezone = 'UTC'")
    return dict(c.execute(f"SELECT id, j::text FROM {queue} AS j").fetchall())


def registry(c):
    """What users registered, without what says in which database it was."""
    c.execute("SET timezone = 'UTC'; SET search_path = pg_catalog")
    queues = c.execute("""SELECT (to_jsonb(q) - '{table_oid,system_identifier,database_oid,relation_oid}'::text[])
        || jsonb_build_object('table', q.table_oid::text) FROM qflow.queue AS q ORDER BY number""").fetchall()
    workflows = c.execute("SELECT to_jsonb(w) FROM qflow.workflow AS w ORDER BY workflow").fetchall()
    c.execute("RESET search_path")
    return queues, workflows


def highest(c):
    """The highest lease id that was ever handed out here."""
    return c.execute(f"SELECT greatest(max(lease), (SELECT last_value FROM qflow.lease_id)) FROM {QUEUE}").fetchone()[0]


def is_the_same(db, filled, with_registry=True):
    """Before anything happens in the new place: every row and the registry are as they were."""
    with db.connect() as c:
        assert rows(c) == filled.rows
        if with_registry:
            assert registry(c) == filled.registry


def goes_on(db, filled, leases_survive, user="postgres", highest=None, sweep="off"):
    """Consumers go on in the new place: new leases are new, what was in flight comes back in time and not earlier, every
    job is done exactly once, what had ended stays untouched. Leases survive where the tables were taken as files. All of
    it without the sweep, which would also find what the look through a restored table has to find. Answers the leases."""
    highest = filled.highest if highest is None else highest
    db.execute(f'ALTER DATABASE "{db.name}" SET qflow.sweep = {sweep}')
    with db.connect(user=user) as c:
        done = go_through(c, "jobs", 7)
        assert min(row.lease for row in done) > highest
        first = {row.id for row in done}
        delayed = {row[0] for row in c.execute(f"SELECT id FROM {QUEUE} WHERE status = 'pending'")}
        expired = {row.id for row in filled.expired}
        waiting = filled.of("in_progress") - (expired if leases_survive else set())
        assert len(delayed) == 3 and first == filled.left() - waiting - delayed
        assert statuses(c, QUEUE)["in_progress"] == len(waiting)

        # A consumer that outlived the move still has its token; another one's does not fit.
        mine, other = filled.held[0], filled.held[1]
        assert outcomes(c, "jobs", [mine._replace(lease=other.lease + 1)]) == {mine.id: "stale"}
        assert outcomes(c, "jobs", [mine]) == {mine.id: "acked"}
        # the others are dead
        if leases_survive:
            held = c.execute("SELECT count(*) FROM qflow.extend('jobs', %s, 1)", ([other.lease],)).fetchone()
            assert held == (1,)
        c.execute(f"SELECT qflow.alter_queue('{QUEUE}', timeout_ms => 1)")
        c.execute(f"UPDATE {QUEUE} SET available_at = now() WHERE status = 'pending'")
        more = load(c, QUEUE, 20)
        done += drain(c, "jobs", QUEUE, seconds=30)

        ids = [row.id for row in done] + [mine.id]
        assert sorted(ids) == sorted(filled.left() | set(more))
        assert all(row.lease > highest for row in done)
        assert statuses(c, QUEUE) == {
            "completed": len(filled.of("completed")) + len(ids), "failed": len(filled.of("failed"))}
        ended = filled.of("completed", "failed")
        assert {id: row for id, row in rows(c).items() if id in ended} == {
            id: row for id, row in filled.rows.items() if id in ended}
    with db.connect() as c:
        assert c.execute("SELECT count(*) FROM qflow.lease").fetchone() == (0,)
        # the other queue of the registry works too
        load(c, 'app."Odd jobs"', 2)
        assert fetch(c, "odd 'jobs'") == []
        c.execute("SELECT qflow.resume_workflow('odd ''jobs''')")
        odd = fetch(c, "odd 'jobs'")
        assert len(odd) == 2 and ack(c, "odd 'jobs'", odd) == 2 and statuses(c, 'app."Odd jobs"') == {}
    for (advice,) in db.execute(f"SELECT remedy FROM qflow.verify('{QUEUE}') WHERE check_name = 'other indexes' AND NOT ok"):
        db.execute(advice)
    assert not (faults := db.faults().strip()), faults
    return {row.lease for row in done}
