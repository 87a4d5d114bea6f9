"""Databases of one server: what sessions keep of units in each, and a copy of one in which something is held."""
import pytest

from conftest import Database
from jobs import ack, caught_up, fetch, load, until
from resources import a_database, assert_free, holders, make
from workers import PRELOAD

UNITS = {"gpu": False, "memory_gb": 16, "hold": "session"}


@pytest.mark.every_version
def test_units_kept_by_sessions_of_two_databases(make_server):
    """Units are counted in each database: the sessions' locks of one are not in the way of the other's, though their
    holders have the same numbers."""
    first = a_database(make_server)
    second = first.server.create_database("second")
    for db in (first, second):
        make(db)
    with first.connect() as one, second.connect() as two:
        for c in (one, two):
            load(c, "jobs", 10)
        held = [(c, fetch(c, "jobs", 1, hints=UNITS)) for c in (one, two)]
        for c, rows in held:
            assert [row.resources for row in rows] == [{"memory_gb": 16}]
            assert c.execute("SELECT id FROM qflow.holder").fetchall() == [(1,)]
        for c, rows in held:
            assert ack(c, "jobs", rows, strict=True) == 1
        assert_free(one)
        assert_free(two)


def test_a_copy_of_a_database(make_server):
    """Holders do not count in the copy: its slot is free there, and no row of the original is in the way. Nor do they
    keep the original's from coming free."""
    db = a_database(make_server, preload=False)
    make(db, hints='{"gpu": 1, "memory_gb": 4}')
    with db.connect() as c:
        load(c, "jobs", 10)
        rows = fetch(c, "jobs", 1)
    copy = db.server.create_database("copy", "TEMPLATE jobs", extension=False)
    with db.connect() as c, copy.connect() as other:
        assert holders(other) == [(0, 1)]
        assert other.execute("SELECT count(*) FROM qflow.resource_status WHERE pid IS NOT NULL").fetchone() == (0,)
        own = fetch(other, "jobs", 1)
        assert [row.resources for row in own] == [{"gpu": [0], "memory_gb": 4}]
        assert fetch(other, "jobs", 1) == []
        assert ack(other, "jobs", own) == 1
        # The lease came along, its holder went: it ends as any other.
        other.execute("UPDATE qflow.lease SET deadline = now() WHERE id = %s", (rows[0].lease,))
        other.execute("SELECT count(*) FROM qflow.reap()")
        assert other.execute("SELECT count(*) FROM qflow.lease").fetchone() == (0,)
        assert len(fetch(other, "jobs", 1)) == 1
        assert fetch(c, "jobs", 1) == []
        assert ack(c, "jobs", rows) == 1
        assert_free(c)


@pytest.mark.parametrize("how", ["restart", "power cut", "promotion"])
def test_a_lease_holds_its_slot_whatever_becomes_of_the_server(make_server, how):
    """It is a row: it is there afterwards, nobody else gets the slot, and its settle gives it back."""
    db = a_database(make_server)
    make(db)
    after = db
    if how == "promotion":
        standby = make_server(PRELOAD, base=db.server)
        after = Database(standby, db.name)
    with db.connect() as c:
        load(c, "jobs", 10)
        rows = fetch(c, "jobs", 2, hints={"gpu": 1, "worker": "w"})
        assert rows[0].resources == {"gpu": [0]}
        if how == "promotion":
            caught_up(db.server, standby)
    if how == "restart":
        db.server.restart()
    else:
        db.server.crash()
        if how == "promotion":
            standby.promote()
            standby.databases.append(after)
        else:
            db.server.start()
    with after.connect() as c:
        assert holders(c) == [(0, 1)]
        assert fetch(c, "jobs", 1, hints={"gpu": 1}) == [], "taken"
        assert [row.resources for row in fetch(c, "jobs", 1, hints={"gpu": 1, "worker": "w"})] == [{"gpu": [0]}], "its own"
        assert ack(c, "jobs", rows) == 2
        assert holders(c) == [(0, 1)]
        c.execute("UPDATE qflow.lease SET deadline = now()")
        until(lambda: holders(c) == [], 60, "the rest is over with its deadline")
