"""Lease ids are fencing tokens: one that was handed out never comes again, whatever happened to the server since."""
import pytest

from conftest import Database
from jobs import ack, fetch, load, outcomes


def queue(server):
    db = server.create_database("jobs")
    db.execute("SELECT qflow.create_queue('jobs', timeout_ms => 3600000)")
    return db


def hand_out(db, fetches, seen, complete=True):
    """Fetches in a few sessions and adds the lease ids to `seen`; none of them may be there already."""
    for _ in range(3):
        with db.connect() as c:
            load(c, "jobs", fetches)
            for _ in range(fetches):
                rows = fetch(c, "jobs", 1)
                lease = rows[0].lease
                assert lease not in seen, f"lease id {lease} was handed out before"
                seen.add(lease)
                if complete:
                    assert ack(c, "jobs", rows) == 1


@pytest.mark.every_version
def test_a_token_lost_in_a_crash_is_stale(make_server):
    """The claim was committed asynchronously and is lost, but its token is in a consumer's hands."""
    server = make_server("synchronous_commit = off", "wal_writer_delay = 10s", "autovacuum = off")
    db = queue(server)
    seen, lost = set(), 0
    for _ in range(5):
        with db.connect() as c:
            c.execute("SET synchronous_commit = on")
            ids = load(c, "jobs", 40)
        with db.connect() as c:
            before = [row for _ in range(40) for row in fetch(c, "jobs", 1)]
            assert [row.id for row in before] == ids
        server.crash()
        server.start()
        with db.connect() as c:
            c.execute("SET synchronous_commit = on")
            pending = {row[0] for row in c.execute("SELECT id FROM jobs WHERE status = 'pending'")}
            again = fetch(c, "jobs", 100)
            assert {row.id for row in again} == pending
            lost += len(pending)
            tokens = {row.lease for row in before}
            assert not tokens & {row.lease for row in again} and not tokens & seen
            seen |= tokens | {row.lease for row in again}
            of_lost = [row for row in before if row.id in pending]
            if of_lost:
                assert set(outcomes(c, "jobs", of_lost).values()) == {"stale"}
            assert ack(c, "jobs", again) == len(again)
            kept = [row for row in before if row.id not in pending]
            assert ack(c, "jobs", kept) == len(kept)
    print(f"{lost} of {5 * 40} claims were lost in crashes")
    assert lost > 0, "no claim was lost: nothing was tried"


def test_ids_after_restart_and_crash(make_server):
    server = make_server()
    db = queue(server)
    seen = set()
    for stop in (server.stop, server.crash, server.crash, server.stop):
        hand_out(db, 15, seen)
        stop()
        server.start()
    hand_out(db, 15, seen)


def test_ids_after_promotion_of_a_standby_that_lags(make_server):
    """It never heard of the last ids; and once more with its own standby."""
    primary = make_server()
    db = queue(primary)
    seen = set()
    for _ in range(2):
        hand_out(db, 20, seen)
        standby = make_server(base=primary)
        standby.stop()
        hand_out(db, 60, seen)
        primary.crash()
        standby.start()
        standby.promote()
        db = Database(standby, "jobs")
        standby.databases.append(db)
        primary = standby
    hand_out(db, 60, seen)


def test_ids_after_restore_of_an_older_dump(make_server):
    """Ids that were handed out after the dump are not in it."""
    old, new = make_server(), make_server()
    db = queue(old)
    seen = set()
    hand_out(db, 20, seen)
    old.run("pg_dump", "-F", "c", "-f", old.dir / "dump", "jobs")
    hand_out(db, 60, seen)
    restored = new.create_database("restored", extension=False)
    new.run("pg_restore", "-e", "-h", new.dir, "-d", "restored", old.dir / "dump")
    hand_out(restored, 60, seen)
    # in the same cluster, under another name
    again = old.create_database("again", extension=False)
    old.run("pg_restore", "-e", "-h", old.dir, "-d", "again", old.dir / "dump")
    hand_out(again, 60, seen)


def test_ids_of_a_copy_of_the_database(make_server):
    """What an old consumer holds of the original is nothing in the copy, and the other way round."""
    server = make_server()
    db = queue(server)
    seen = set()
    hand_out(db, 20, seen)
    server.restart()  # nobody is connected
    with server.connect() as c:
        c.execute("CREATE DATABASE copied TEMPLATE jobs")
    copied = Database(server, "copied")
    server.databases.append(copied)
    hand_out(db, 40, seen)
    hand_out(copied, 40, seen)
