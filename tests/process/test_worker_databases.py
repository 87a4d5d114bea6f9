"""Many databases, few of them with qflow, and no room for more processes."""
import pytest

from jobs import FORK, fetch, until
from workers import PRELOAD, held, lease_out, lines, make_jobs, until_back, worker_of, workers

IDLE = "qflow.worker_idle_ms = 1000"


def with_qflow(server, *names):
    databases = [server.create_database(name) for name in names]
    for db in databases:
        make_jobs(db)
    return databases


def count_workers(server, told, stop):
    """Most workers of qflow seen at once, but for the launcher, until told to stop."""
    most = 0
    with server.connect() as c:
        while not stop.is_set():
            now = c.execute("SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'qflow worker'").fetchone()[0]
            most = max(most, now)
    told.put(most)


def test_each_of_many_databases_is_found_after_a_start(make_server):
    """Nobody connects to them. Those without qflow cost a look each, one at a time."""
    server = make_server(PRELOAD, "max_worker_processes = 32")
    used = with_qflow(server, "used1", "used2", "used3")
    with server.connect() as c:
        for number in range(17):
            c.execute(f"CREATE DATABASE other{number}")
    for db in used:
        with db.connect() as c:
            lease_out(c, hints={"timeout_ms": 1_500})
    server.restart()
    told, stop = FORK.Queue(), FORK.Event()
    counter = FORK.Process(target=count_workers, args=(server, told, stop), daemon=True)
    counter.start()
    try:
        for db in used:
            with db.connect() as c:
                until_back(c)
        with server.connect() as c:
            until(lambda: set(workers(c)) == {"used1", "used2", "used3"}, what="only databases with qflow have workers")
    finally:
        stop.set()
        most = told.get(timeout=60)
        counter.join()
    print(f"workers at once: {most}, with 3 databases that use qflow among 20")
    assert most <= 4
    assert not lines(server, "no room")


def test_no_worker_can_be_started(make_server):
    """One slot for workers, and another database's has it: fetches do its work, the log says so once, and the worker
    comes when the slot is free."""
    server = make_server(PRELOAD, "max_worker_processes = 2", "max_logical_replication_workers = 0", IDLE)
    one, two = with_qflow(server, "one", "two")
    with one.connect() as c, two.connect() as d:
        # Somebody has a job locked that is to come back: the worker stays.
        rows = lease_out(c)
        with one.connect() as locker:
            locker.execute("BEGIN")
            locker.execute("SELECT FROM jobs WHERE id = %s FOR UPDATE", (rows[0].id,))
            worker_of(c, "one")
            until(lambda: held(c) == 1, what="the worker is at it")
            lease_out(d, hints={"timeout_ms": 1})
            until(lambda: lines(server, "no slot is left for a background worker"), what="a line in the log")
            until(lambda: {row.attempt for row in fetch(d, "jobs", 10, hints={"timeout_ms": 1})} == {2}, what="jobs back by a fetch")
            assert "two" not in workers(c)
            assert len(lines(server, "no slot is left for a background worker")) == 1
            assert "max_worker_processes" in server.log()
            wrong = dict(d.execute("SELECT check_name, remedy FROM qflow.health() WHERE NOT ok").fetchall())
            assert "max_worker_processes" in wrong["worker_slots"], wrong
            locker.execute("ROLLBACK")
        until_back(c)
        until(lambda: "one" not in workers(c), what="the first worker left")
        worker_of(c, "two")
        until_back(d)


def test_no_launcher_can_be_started(make_server):
    """Nor without any slot: the server works, and fetches take back what is theirs."""
    server = make_server(PRELOAD, "max_worker_processes = 0")
    db, = with_qflow(server, "jobs")
    with db.connect() as c:
        assert workers(c, "launcher") == {}
        assert {"launcher", "worker"} <= {row[0] for row in c.execute("SELECT check_name FROM qflow.health() WHERE NOT ok")}
        lease_out(c, hints={"timeout_ms": 1})
        until(lambda: {row.attempt for row in fetch(c, "jobs", 10)} == {2}, what="jobs back by a fetch")


def test_workers_switched_off_and_on(make_server):
    server = make_server(PRELOAD, "qflow.worker = off")
    db, = with_qflow(server, "jobs")
    with db.connect() as c:
        lease_out(c, hints={"timeout_ms": 1})
        until(lambda: {row.attempt for row in fetch(c, "jobs", 10, hints={"timeout_ms": 1})} == {2}, what="back by a fetch")
        assert workers(c) == {} and held(c) == 5
        assert c.execute("SELECT detail FROM qflow.health() WHERE check_name = 'worker' AND NOT ok").fetchone() == ("switched off",)
        c.execute("ALTER SYSTEM SET qflow.worker = on")
        c.execute("SELECT pg_reload_conf()")
        until_back(c)
        c.execute("ALTER SYSTEM SET qflow.worker = off")
        c.execute("SELECT pg_reload_conf()")
        until(lambda: workers(c) == {}, what="the worker has left")


@pytest.mark.every_version
def test_more_queues_and_databases_than_have_room(make_server):
    """They work all the same, one of them with something broken. Said once each."""
    server = make_server(PRELOAD, "qflow.max_queues = 2", "qflow.max_databases = 1")
    one, two = with_qflow(server, "one", "two")
    with one.connect() as c, two.connect() as d:
        for queue in ("b", "c", "broken"):
            make_jobs(one, queue)
        for queue in ("jobs", "b", "c", "broken"):
            lease_out(c, queue)
        c.execute("ALTER TABLE broken DROP COLUMN failure_reason")
        for queue in ("jobs", "b", "c"):
            until_back(c, queue)
        lease_out(d, hints={"timeout_ms": 1})
        until(lambda: {row.attempt for row in fetch(d, "jobs", 10)} == {2}, what="jobs back by a fetch")
        # Back-off also where there is no place to keep it.
        until(lambda: len(lines(server, "could not look after queue public.broken")) >= 3, 30, "three tries")
        tries = lines(server, "could not look after queue public.broken")
        print("\n".join(tries))
        assert ["next try in 1 s", "next try in 2 s", "next try in 4 s"] == [line[line.index("next try"):] for line in tries[:3]]
        assert len(lines(server, "no room in shared memory for another queue")) == 1
        assert len(lines(server, "no room in shared memory for another database")) == 1
        c.execute("DROP TABLE broken")


def test_a_database_where_qflow_is_somebodys_schema(make_server):
    """Without the extension the worker touches nothing, whatever the tables there are called."""
    server = make_server(PRELOAD, "log_min_messages = debug1")
    with server.connect() as c:
        c.execute("CREATE DATABASE hostile")
        c.execute("CREATE ROLE mallory LOGIN; ALTER DATABASE hostile OWNER TO mallory")
    used, = with_qflow(server, "used")
    with used.connect() as c:
        columns = c.execute("""SELECT c.relname, string_agg(format('%I %s', a.attname, format_type(a.atttypid, a.atttypmod)), ', ' ORDER BY a.attnum)
            FROM pg_class AS c JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
            WHERE c.relnamespace = 'qflow'::regnamespace AND c.relkind = 'r' GROUP BY 1""").fetchall()
    with server.connect("hostile", user="mallory") as c, server.connect("hostile") as root:
        root.execute("CREATE TABLE victims (id bigint, status text); INSERT INTO victims VALUES (1, 'in_progress')")
        c.execute("CREATE SCHEMA qflow")
        for table, definition in columns:
            c.execute(f"CREATE TABLE qflow.{table} ({definition})")
        c.execute("CREATE TABLE ran (as_role text); GRANT ALL ON ran TO PUBLIC")
        c.execute("""CREATE FUNCTION trap() RETURNS boolean LANGUAGE plpgsql AS $$
            BEGIN INSERT INTO public.ran VALUES (current_user); RETURN true; END $$;
            ALTER TABLE qflow.queue ENABLE ROW LEVEL SECURITY;
            CREATE POLICY p ON qflow.queue USING (trap())""")
        root.execute("INSERT INTO qflow.queue (number, table_oid) VALUES (1, 'victims'::regclass)")
    server.stop()
    since = len(server.log())
    server.start()
    with used.connect() as c:
        lease_out(c)
        until_back(c)
        # Besides this one there are `hostile`, `postgres` and `template1`.
        until(lambda: len(lines(server, 'unregistering background worker "qflow worker"', since)) >= 3, what="three looks")
        assert set(workers(c)) == {"used"}
    with server.connect("hostile") as root:
        assert root.execute("SELECT * FROM ran").fetchall() == []
        assert root.execute("SELECT * FROM victims").fetchall() == [(1, "in_progress")]
        assert root.execute("SELECT count(*) FROM pg_locks WHERE mode <> 'AccessShareLock' AND relation = 'victims'::regclass").fetchone() == (0,)
    assert not any(lines(server, text) for text in ("qflow could not", "qflow worker:", "ERROR"))
