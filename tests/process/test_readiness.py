"""Start-up faults that need more than one database or server: each with its own SQLSTATE, and named where it can be."""
import psycopg
import pytest

from conftest import Database
from jobs import caught_up


def test_a_standby(make_server):
    """`readiness` and the views work there; a fetch is refused, and says what to do."""
    primary = make_server()
    db = primary.create_database("jobs")
    db.execute("SELECT qflow.create_queue('jobs')")
    db.execute("INSERT INTO jobs (data) VALUES ('1')")
    standby = make_server(base=primary)
    caught_up(primary, standby)
    replica = Database(standby, "jobs")
    faults = replica.execute("SELECT check_name, detail, remedy FROM qflow.readiness('jobs') WHERE NOT ok")
    assert [fault[0] for fault in faults] == ["server"], faults
    assert "25006" in faults[0][1] and "primary" in faults[0][2]
    assert replica.execute("SELECT pending FROM qflow.queue_stats") == [(1,)]
    with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
        replica.execute("SELECT * FROM qflow.fetch('jobs')")
    assert db.execute("SELECT check_name FROM qflow.readiness('jobs') WHERE NOT ok") == []


@pytest.mark.every_version
def test_a_database_without_qflow(make_database):
    """PostgreSQL's own error: there is nobody there to give a hint."""
    bare = make_database(name="without_qflow", extension=False, verified=False)
    with pytest.raises((psycopg.errors.InvalidSchemaName, psycopg.errors.UndefinedFunction)):
        bare.execute("SELECT * FROM qflow.fetch('jobs')")
