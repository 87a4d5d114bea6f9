"""pg_dump and restore, and CREATE DATABASE … TEMPLATE: nothing is lost, nothing is done twice, no lease id comes again.
More of it: test_floor_restart.py (thousands of jobs, transaction ids ahead and behind), test_lease_ids.py."""
import pytest

import dumps
from conftest import Server
from dumps import QUEUE, Filled, every_kind, goes_on, is_the_same, rows, source
from jobs import drain, fetch, load, statuses, until

FORMS = {"plain": ["-F", "p"], "custom": ["-F", "c"], "directory": ["-F", "d", "-j", "2"]}


@pytest.fixture(scope="module")
def other():
    """Another cluster."""
    server = Server()
    try:
        server.start()
        yield server
    finally:
        server.drop()


@pytest.fixture
def fresh(other):
    """An empty database of another cluster."""
    database = other.create_database("restored", extension=False)
    yield database
    other.databases.remove(database)
    with other.connect() as c:
        c.execute('DROP DATABASE "restored" WITH (FORCE)')


def dump(db, *args, form="plain", user="postgres"):
    """A dump of a database; answers the file or folder."""
    file = db.server.dir / f"dump.{form}"
    db.server.run("rm", "-rf", file)
    db.server.run("pg_dump", "-U", user, *FORMS[form], "-f", file, *args, db.name)
    return file


def restore(file, db, *args, form="plain"):
    """Restores it; any error raises."""
    server = db.server
    if form == "plain":
        server.run("psql", "-XAtq", "-v", "ON_ERROR_STOP=1", "-d", db.name, "-f", file)
    else:
        server.run("pg_restore", "-e", *args, "-d", db.name, file)


@every_kind
@pytest.mark.parametrize("form", FORMS)
def test_into_another_cluster(make_database, fresh, form, kind):
    filled = source(make_database, kind)
    restore(dump(filled.db, form=form), fresh, form=form)
    is_the_same(fresh, filled)
    goes_on(fresh, filled, leases_survive=False)


@every_kind
def test_into_a_fresh_database_of_the_same_cluster(make_database, kind):
    """Beside the original, which goes on as if nothing had been."""
    filled = source(make_database, kind)
    restored = make_database(name="restored", extension=False)
    restore(dump(filled.db), restored)
    is_the_same(restored, filled)
    is_the_same(filled.db, filled)
    there = goes_on(restored, filled, leases_survive=False)
    here = goes_on(filled.db, filled, leases_survive=True)
    assert not there & here


@every_kind
def test_one_schema(make_database, fresh, kind):
    """With --extension the registry is in it."""
    filled = source(make_database, kind)
    filled.db.execute("CREATE TABLE elsewhere (i int)")
    restore(dump(filled.db, "--schema=app", "--extension=qflow", form="custom"), fresh, form="custom")
    assert fresh.execute("SELECT to_regclass('elsewhere')") == [(None,)]
    is_the_same(fresh, filled)
    goes_on(fresh, filled, leases_survive=False)


@every_kind
@pytest.mark.parametrize("what", ["--table=app.jobs", "--schema=app"])
def test_without_registry(make_database, fresh, what, kind):
    """Rows and table come, the registration does not: create_queue adopts the table again."""
    filled = source(make_database, kind)
    file = dump(filled.db, what)
    fresh.execute("CREATE EXTENSION qflow")
    if what.startswith("--table"):
        fresh.execute("CREATE SCHEMA app")
    restore(file, fresh)
    is_the_same(fresh, filled, with_registry=False)
    with fresh.connect() as c:
        dumps.register(c)
        dumps.settle_workflows(c)
        newest = c.execute(f"SELECT max(lease) FROM {QUEUE}").fetchone()[0]
    goes_on(fresh, filled, leases_survive=False, highest=newest)


@every_kind
def test_one_table_where_it_was(make_database, kind):
    """Dropped by mistake, restored, registered again: its old row in the registry, workflows and leases are no obstacle."""
    filled = source(make_database, kind)
    file = dump(filled.db, "--table=app.jobs")
    with filled.db.connect() as c:
        c.execute(f"DROP TABLE {QUEUE}")
        restore(file, filled.db)
        assert rows(c) == filled.rows
        dumps.register(c)
        c.execute("SELECT qflow.alter_workflow('jobs', retry_delay_ms => 0)")
    goes_on(filled.db, filled, leases_survive=False)


@pytest.mark.every_version
def test_rows_alone(make_database, fresh):
    """Into a queue that is there: restored jobs keep their state, and what arrives as pending is due."""
    filled = source(make_database)
    file = dump(filled.db, "--data-only", "--table=app.jobs")
    fresh.execute("CREATE EXTENSION qflow")
    fresh.execute("CREATE SCHEMA app")
    with fresh.connect() as c:
        dumps.create(c)
        dumps.settle_workflows(c)
    restore(file, fresh)
    assert dict(fresh.execute(f"SELECT id, status FROM {QUEUE}")) == filled.statuses
    goes_on(fresh, filled, leases_survive=False, highest=0, sweep="on")


def test_by_an_ordinary_role(make_database, fresh):
    """Who owns nothing but his tables can dump the database that they are in."""
    source = make_database()
    for server in (source.server, fresh.server):
        with server.connect() as c:
            c.execute("CREATE ROLE tenant LOGIN")
    try:
        filled = Filled(source, user="tenant")
        restore(dump(source, form="custom", user="tenant"), fresh, form="custom")
        is_the_same(fresh, filled)
        goes_on(fresh, filled, leases_survive=False, user="tenant")
    finally:
        for db in (source, fresh):
            db.execute("DROP OWNED BY tenant CASCADE")
            db.execute("DROP ROLE tenant")


def test_in_place_while_consumers_are_connected(make_database):
    """An older dump over the database: a consumer whose connection outlives it gets no lease id that it got before."""
    filled = source(make_database)
    file = dump(filled.db, form="custom")
    with filled.db.connect() as c:
        load(c, QUEUE, 10)
        seen = {fetch(c, "jobs", 1)[0].lease for _ in range(10)}
        restore(file, filled.db, "--clean", "--if-exists", form="custom")
        is_the_same(filled.db, filled)
        again = {fetch(c, "jobs", 1)[0].lease for _ in range(10)}
        assert not again & seen, f"lease ids handed out before the restore: {sorted(again & seen)}"
        assert min(again) > max(seen)
        # what was held is in nobody's hands any more
        c.execute(f"SELECT qflow.alter_queue('{QUEUE}', timeout_ms => 1)")
        c.execute(f"UPDATE {QUEUE} SET available_at = now() WHERE status = 'pending'")
        c.execute("SELECT qflow.extend('jobs', %s, 1)", (sorted(again),))
        drain(c, "jobs", QUEUE, seconds=30)
        assert set(statuses(c, QUEUE)) == {"completed", "failed"}
        c.execute("SELECT qflow.reap()")


def test_extension_dropped_and_made_again(make_database):
    """The new sequence gives no lease ids of the old one, also to a session that knew it."""
    db = make_database()
    seen = set()
    with db.connect() as c:
        for number in range(3):
            c.execute(f"SELECT qflow.create_queue('jobs{number}', workflow => 'jobs')")
            load(c, f"jobs{number}", 5)
            leases = {fetch(c, "jobs", 1)[0].lease for _ in range(5)}
            assert not leases & seen, f"handed out before: {sorted(leases & seen)}"
            seen |= leases
            c.execute("DROP EXTENSION qflow CASCADE")
            c.execute("CREATE EXTENSION qflow")


def test_a_dropped_table_is_not_dumped(make_database, fresh):
    """The registry's row of a table that is gone would come back as a number, and that is some other table there."""
    filled = source(make_database)
    filled.db.execute("SELECT qflow.create_queue('app.gone')")
    filled.db.execute("DROP TABLE app.gone")
    restore(dump(filled.db), fresh)
    is_the_same(fresh, filled)
    goes_on(fresh, filled, leases_survive=False)


@every_kind
def test_create_database_template(make_database, kind):
    """Original and copy go on independently."""
    filled = source(make_database, kind)
    server = filled.db.server
    with server.connect() as c:
        until(
            lambda: not c.execute("SELECT FROM pg_stat_activity WHERE datname = %s", (filled.db.name,)).fetchall(),
            what="nobody is connected",
        )
    copied = make_database(f"TEMPLATE {filled.db.name}", name="copied", extension=False)
    is_the_same(copied, filled)
    there = goes_on(copied, filled, leases_survive=True)
    is_the_same(filled.db, filled)
    here = goes_on(filled.db, filled, leases_survive=True)
    assert not there & here, f"lease ids given out in both: {sorted(there & here)}"


def test_what_docs_backup_says_can_go_wrong(make_database, fresh):
    """The messages of its last table, and what it says of switched-off triggers."""
    filled = source(make_database)
    server = fresh.server

    def says(message, file, *args):
        found = server.run("pg_restore", "-e", *args, "-d", fresh.name, file, check=False)
        assert message in found, found

    alone = dump(filled.db, "--table=app.jobs", form="custom")
    fresh.execute("CREATE SCHEMA app")
    says('schema "qflow" does not exist', alone)
    fresh.execute("DROP SCHEMA app")
    incomplete = dump(filled.db, "--exclude-table=app.jobs", form="custom")
    says('relation "app.jobs" does not exist', incomplete)
    assert fresh.execute("SELECT count(*) FROM qflow.queue") == [(0,)]
    fresh.execute("DROP EXTENSION qflow CASCADE; DROP SCHEMA app CASCADE; CREATE EXTENSION qflow")
    fresh.execute("SELECT qflow.create_queue('mine')")
    says('duplicate key value violates unique constraint "queue_pkey"', dump(filled.db, form="custom"))
    fresh.execute("DROP EXTENSION qflow CASCADE; DROP SCHEMA app CASCADE; DROP TABLE mine")

    restore(dump(filled.db, form="custom"), fresh, form="custom")
    fresh.execute(f"TRUNCATE {QUEUE}")
    restore(dump(filled.db, "--data-only", "--disable-triggers", "--table=app.jobs"), fresh)
    is_the_same(fresh, filled)
    wrong = fresh.execute(f"SELECT remedy FROM qflow.verify('{QUEUE}') WHERE check_name = 'return triggers' AND NOT ok")
    fresh.execute(wrong[0][0])
    goes_on(fresh, filled, leases_survive=False)
