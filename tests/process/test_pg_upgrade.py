"""pg_upgrade with leases out: tables, leases and transaction ids come along; lease ids and floors begin anew. And the
other way to a new version, its pg_dump."""
import pytest

from conftest import BINDIRS, MAJOR, NOT_HERE, Database
from dumps import Filled, goes_on, highest, is_the_same
from pages import blocks
from test_floor_restart import burn

# From the oldest version and from the one before; with and without data checksums, which both sides must agree on
# (from 18 on initdb switches them on).
OLDEST = pytest.param(14, "created", (), ("--no-data-checksums",) if MAJOR >= 18 else (), id="14")
LAST = pytest.param(MAJOR - 1, "adopted_second", ("--data-checksums",), ("--data-checksums",), id=str(MAJOR - 1))
FROM = [OLDEST] * (MAJOR > 14) + [LAST] * (MAJOR > 15)
# Without any, pytest would give a reason of its own.
none_before = pytest.mark.skipif(not FROM, reason=f"not run: qflow serves no version before {MAJOR}")


def floors(db):
    return db.execute("SELECT detail FROM qflow.verify('app.jobs') WHERE check_name = 'floor'")[0][0]


def next_xid(db):
    return db.execute("SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint")[0][0]


@none_before
@pytest.mark.parametrize(("major", "kind", "old_options", "new_options"), FROM or [OLDEST])
def test_upgrade(make_server, major, kind, old_options, new_options):
    need(major)
    old = make_server("qflow.floor_save_jobs = 1", major=major, initdb=old_options)
    burn(old.create_database("burn", extension=False), 5_000)
    filled = Filled(old.create_database("jobs"), kind)
    assert "(0 floors)" not in floors(filled.db)
    filled.highest, xid = highest(filled.db.connect()), next_xid(filled.db)
    old.stop()

    new = make_server(start=False, initdb=new_options)
    upgrade(old, new)
    new.start()
    assert not [line for line in new.log().splitlines() if "PANIC" in line or "qflow could not" in line]
    db = Database(new, "jobs")
    new.databases.append(db)
    is_the_same(db, filled)
    assert next_xid(db) >= xid
    assert "(0 floors)" in floors(db)
    assert db.execute("SELECT count(*) FROM qflow.lease") == [(2,)]
    with db.connect() as c:
        assert highest(c) == filled.highest
    goes_on(db, filled, leases_survive=True)


@none_before
@pytest.mark.parametrize("major", sorted({14, max(14, MAJOR - 1)}))
def test_dump_of_an_older_version(make_server, make_database, major):
    need(major)
    old = make_server(major=major)
    burn(old.create_database("burn", extension=False), 5_000)
    filled = Filled(old.create_database("jobs"))
    restored = make_database(extension=False)
    new = restored.server
    new.run("pg_dump", "-h", old.dir, "-F", "c", "-f", new.dir / "older", "jobs")
    new.run("pg_restore", "-e", "-d", restored.name, new.dir / "older")
    is_the_same(restored, filled)
    goes_on(restored, filled, leases_survive=False)


def need(major):
    if major not in BINDIRS:
        pytest.skip(f"not run: {NOT_HERE.get(major, f'there is no PostgreSQL {major}')}")


def upgrade(old, new):
    """The commands of docs/backup.md."""
    places = {"OLD_BIN": old.bindir, "OLD_DATA": old.data, "NEW_BIN": new.bindir, "NEW_DATA": new.data}
    for block in blocks("docs/backup.md", "sh pg_upgrade"):
        new.run("env", *(f"{name}={value}" for name, value in places.items()), "bash", "-ec", block)
