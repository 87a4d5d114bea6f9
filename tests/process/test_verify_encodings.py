"""verify in databases that are not UTF-8: what it says can be said there, whatever stands in the rows."""

import pytest

STATES = {"LATIN1": b"caf\xe9", "SQL_ASCII": b"caf\xe9", "UTF8": "café".encode()}
SHOWN = {"LATIN1": b"caf\xe9", "SQL_ASCII": "caf\ufffd".encode(), "UTF8": "café".encode()}


@pytest.mark.parametrize("encoding", STATES)
def test_verify_says_what_it_finds(make_database, encoding):
    db = make_database(f"ENCODING '{encoding}' LOCALE 'C' TEMPLATE template0")
    with db.connect(client_encoding=encoding) as c:

        def run(sql, *params):
            result = c.pgconn.exec_params(sql.encode() if isinstance(sql, str) else sql, list(params))
            assert not result.error_message, result.error_message[:300]
            return [[result.get_value(row, col) for col in range(result.nfields)] for row in range(result.ntuples)]

        run("CREATE TABLE jobs (id serial PRIMARY KEY, data jsonb, status text DEFAULT 'pending', note text)")
        run("INSERT INTO jobs (data, status) VALUES ('1', $1)", STATES[encoding])
        # A default that is printed with its bytes.
        run(b"ALTER TABLE jobs ALTER COLUMN note SET DEFAULT '" + STATES[encoding] + b"'")
        run("SELECT qflow.create_queue('jobs')")
        found = run("SELECT check_name, detail, remedy FROM qflow.verify('jobs') WHERE NOT ok AND check_name <> 'home'")
        assert [name for name, _, _ in found] == [b"status words"]
        assert found[0][1] == b"1 rows have a status that no queue knows, and are left alone: " + SHOWN[encoding]
        # Refusals with a hint of how to write it.
        run("ALTER TABLE jobs SET UNLOGGED")
        found = run("SELECT remedy FROM qflow.verify('jobs') WHERE check_name = 'table'")
        assert found == [[b"A crash would empty it. ALTER TABLE ... SET LOGGED first."]]
        # As it was: every test leaves queues in which verify finds nothing.
        run("SELECT qflow.drop_queue('jobs')")
