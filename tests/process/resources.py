"""What the tests of resources share: who holds what, as one sees it from outside."""
import contextlib

from jobs import load, until
from workers import PRELOAD

# The number that stands for qflow's locks of slots, and of holders of units, in pg_locks (objsubid).
SLOT, HOLDER = 0x717, 0x718


def a_database(make_server, db_fixture=None, *conf, preload=True, slots=1):
    """A database with `slots` GPUs."""
    db = make_server(*([PRELOAD] if preload else []), *conf).create_database("jobs")
    if slots != 1:
        db.execute("SELECT qflow.alter_resource('gpu', %s)", (slots,))
    return db


def make(db, queue="jobs", hints='{"gpu": true}', **settings):
    """A queue whose one workflow asks for a GPU, its jobs tried again at once and for ever."""
    db.execute("SELECT qflow.create_queue(%s, retries => 1000000)", (queue,))
    db.execute("SELECT qflow.alter_workflow(%s, resource_hints => %s, retry_delay_ms => 0)", (queue, hints))
    for name, value in settings.items():
        db.execute(f"SELECT qflow.alter_workflow(%s, {name} => %s)", (queue, value))


def holders(c):
    """[(slot, leases on it)] of all holders of slots."""
    return c.execute("""SELECT h.slot, (SELECT count(*) FROM qflow.holder_lease l WHERE l.holder = h.id)
        FROM qflow.holder h WHERE h.slot IS NOT NULL ORDER BY h.slot""").fetchall()


def locks(c):
    """[(resource's hash, slot, pid)] of all locks of slots, and of this database's holders of units."""
    return c.execute(f"""SELECT classid, objid, pid FROM pg_locks
        WHERE locktype = 'advisory' AND (objsubid = {SLOT} AND database = 0
            OR objsubid = {HOLDER} AND database = (SELECT oid FROM pg_database WHERE datname = current_database()))
        ORDER BY 1, 2, 3""").fetchall()


def assert_free(c):
    """Nobody holds anything, by row or by lock."""
    assert c.execute("SELECT count(*) FROM qflow.holder").fetchone() == (0,)
    assert c.execute("SELECT count(*) FROM qflow.holder_lease").fetchone() == (0,)
    assert locks(c) == []


def until_free(c, seconds=60):
    """Waits until nobody holds anything."""
    until(lambda: c.execute("SELECT count(*) FROM qflow.holder").fetchone() == (0,), seconds, "all holders gone")
    until(lambda: locks(c) == [], seconds, "all locks gone")
    assert_free(c)


def faults(c):
    """Holders without a live lease whose session is none of those that keep one; leases that hold something unwritten."""
    return c.execute("""
        SELECT 'holder without a lease', h.id FROM qflow.holder h
        WHERE NOT EXISTS (SELECT FROM qflow.holder_lease l JOIN qflow.lease e ON e.id = l.lease WHERE l.holder = h.id)
            AND NOT (h.by_session AND EXISTS (SELECT FROM pg_stat_activity a
                WHERE a.pid = h.backend_pid AND a.backend_start = h.backend_start))
        UNION ALL SELECT 'lease without its holder', e.id FROM qflow.lease e
        WHERE e.resources IS NOT NULL AND NOT EXISTS (SELECT FROM qflow.holder_lease l WHERE l.lease = e.id)
        UNION ALL SELECT 'note of a lease that is gone', l.lease FROM qflow.holder_lease l
        WHERE NOT EXISTS (SELECT FROM qflow.lease e WHERE e.id = l.lease)
    """).fetchall()
