"""Payload comes out byte for byte as it went in, in every server encoding; the other jobs of the batch come too. What
people are told arrives in their letters."""
import contextlib

import psycopg
import pytest

from jobs import at_most

DEEP = 10_000
ANYWHERE = {
    "nesting": "[" * DEEP + "]" * DEEP,
    "nested objects": '{"a":' * 3_000 + "null" + "}" * 3_000,
    "1e400": "1e400",
    "tiny": "1e-400",
    "40 digits": '{"n": 1234567890123456789012345678901234567890, "m": -0.1234567890123456789012345678901234567890}',
    "trailing zeros": "[1.0, 1.00, 100e-2, -0]",
    "escapes": r'["\"", "\\", "\/", "\b\f\n\r\t", "", "\u001f"]',
    "keys": '{"": 1, " ": 2, "a\\"b": 3, "aa": 4, "b": 5}',
    "scalar": '"text"',
    "null": "null",
}
ENCODINGS = {
    "UTF8": {"text": "ÿ é ß 漢字 \U0001f980 \u202eright\u202c \u0301 e\u0301 \ufeff \uffff", "escape": r'"\ud83e\udd80 \u00ff"'},
    "LATIN1": {"text": "ÿ é ß \xa0 \x7f \x80\x9f"},
    "SQL_ASCII": {"text": bytes(range(0x80, 0x100)) + b" \xff\xfe \xc3\x28"},
}


def payloads(encoding):
    """Name and bytes in the server's encoding."""
    for name, text in ANYWHERE.items():
        yield name, text.encode()
    for name, text in ENCODINGS[encoding].items():
        text = text if isinstance(text, bytes) else text.encode("latin-1" if encoding == "LATIN1" else "utf-8")
        yield name, text if text.startswith(b'"') else b'{"k' + text + b'": "' + text + b'"}'


def as_bytes(c, sql, *params):
    """One text column, as bytes in the server's encoding; raw parameters."""
    result = c.pgconn.exec_params(sql if isinstance(sql, bytes) else sql.encode(), list(params))
    assert not result.error_message, result.error_message[:300]
    return [result.get_value(at, 0) for at in range(result.ntuples)]


@pytest.mark.every_version
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_payload_is_opaque(make_database, encoding):
    db = make_database(f"ENCODING '{encoding}' LOCALE 'C' TEMPLATE template0")
    db.execute("SELECT qflow.create_queue('jobs')")
    with db.connect(client_encoding=encoding) as c, at_most(30, "all"):
        expected = []
        for name, data in payloads(encoding):
            (normal,) = as_bytes(c, "SELECT $1::jsonb::text", data)
            ways = [
                "INSERT INTO jobs (data, metadata) VALUES ($1, $1) RETURNING id",
                "SELECT qflow.enqueue('jobs', $1, $1)",
                "SELECT unnest(qflow.enqueue_batch('jobs', ARRAY[$1::jsonb], ARRAY[$1::jsonb]))",
            ]
            for way in ways:
                (id,) = as_bytes(c, way, data)
                expected.append((int(id), name, normal))
            expected.append((int(as_bytes(c, "INSERT INTO jobs (data) VALUES ('{}') RETURNING id")[0]), "neighbour", b"{}"))
        result = c.pgconn.exec_params(
            b"SELECT id, data::text, metadata::text, lease FROM qflow.fetch('jobs', $1) ORDER BY id", [b"1000"])
        assert not result.error_message, result.error_message[:300]
        assert result.ntuples == len(expected)
        for at, (id, name, normal) in enumerate(expected):
            assert int(result.get_value(at, 0)) == id
            assert result.get_value(at, 1) == normal, name
            assert result.get_value(at, 2) == (b"{}" if name == "neighbour" else normal), name
        ids = b"{%s}" % b",".join(result.get_value(at, 0) for at in range(len(expected)))
        lease = b"{%s}" % result.get_value(0, 3)
        assert as_bytes(c, "SELECT qflow.ack('jobs', $1, $2)", ids, lease) == [b"%d" % len(expected)]


NAMES = {"UTF8": "größe\U0001f980".encode(), "LATIN1": "größe".encode("latin-1"), "SQL_ASCII": "größe".encode()}
LETTERS = {"UTF8": "漢".encode(), "LATIN1": b"\xe9", "SQL_ASCII": b"\xe9"}


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_reason_is_cut_at_a_character(make_database, encoding):
    """At 8 kB; it is never refused."""
    db = make_database(f"ENCODING '{encoding}' LOCALE 'C' TEMPLATE template0")
    letter = LETTERS[encoding]
    with db.connect(client_encoding=encoding) as c:
        as_bytes(c, "SELECT qflow.create_queue('jobs', retries => 0)")
        for pad in (b"", b"x", b"xx"):
            (id,) = as_bytes(c, "SELECT qflow.enqueue('jobs', '{}')")
            (lease,) = as_bytes(c, "SELECT lease FROM qflow.fetch('jobs', 1)")
            reason = pad + letter * 8192
            assert as_bytes(c, "SELECT qflow.fail('jobs', $1, $2, $3)", b"{%s}" % id, b"{%s}" % lease, reason) == [b"1"]
            (kept,) = as_bytes(c, "SELECT failure_reason FROM jobs WHERE id = $1", id)
            assert reason.startswith(kept) and 8192 - len(letter) < len(kept) <= 8192
            assert (len(kept) - len(pad)) % len(letter) == 0, "cut within a character"


def test_a_reason_that_is_no_utf8_in_sql_ascii(make_database):
    """In `settle`, whose outcomes are read as JSON: what is no text is replaced, and nothing is refused."""
    db = make_database("ENCODING 'SQL_ASCII' LOCALE 'C' TEMPLATE template0")
    with db.connect(client_encoding="SQL_ASCII") as c:
        as_bytes(c, "SELECT qflow.create_queue('jobs')")
        (id,) = as_bytes(c, "SELECT qflow.enqueue('jobs', '{}')")
        (lease,) = as_bytes(c, "SELECT lease FROM qflow.fetch('jobs', 1)")
        outcomes = b'[{"id": %s, "lease": %s, "outcome": "fail", "reason": "caf\xe9"}]' % (id, lease)
        assert as_bytes(c, "SELECT outcome FROM qflow.settle('jobs', $1)", outcomes) == [b"failed"]
        assert as_bytes(c, "SELECT failure_reason FROM jobs") == ["caf\ufffd".encode()]


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_names_beyond_ascii(make_database, encoding):
    """Of queue, workflow and worker."""
    db = make_database(f"ENCODING '{encoding}' LOCALE 'C' TEMPLATE template0")
    name = NAMES[encoding]
    quoted = b'"' + name + b'"'
    with db.connect(client_encoding=encoding) as c:
        as_bytes(c, "SELECT qflow.create_queue($1)", quoted)
        assert as_bytes(c, "SELECT workflow FROM qflow.workflow_status") == [name]
        as_bytes(c, "SELECT qflow.create_workflow($1, $2)", name + b"2", quoted)
        (id,) = as_bytes(c, "SELECT qflow.enqueue($1, '{}')", quoted)
        hints = b'{"worker": "' + name + b'"}'
        (lease,) = as_bytes(c, "SELECT lease FROM qflow.fetch($1, 1, 1, $2)", name + b"2", hints)
        assert as_bytes(c, "SELECT worker FROM qflow.lease_status") == [name]
        assert as_bytes(c, "SELECT qflow.ack($1, $2, $3)", name + b"2", b"{%s}" % id, b"{%s}" % lease) == [b"1"]
        assert as_bytes(c, "SELECT check_name FROM qflow.verify($1) WHERE NOT ok", quoted) == []


@pytest.mark.parametrize("encoding", ["UTF8", "LATIN1"])
def test_bytes_that_are_no_text(make_database, encoding):
    """An error of PostgreSQL's own, or an unknown name: never XX000."""
    db = make_database(f"ENCODING '{encoding}' LOCALE 'C' TEMPLATE template0")
    with db.connect(client_encoding=encoding) as c:
        result = c.pgconn.exec_params(b"SELECT * FROM qflow.fetch($1)", [b"\xff\xfe"])
        assert result.error_field(psycopg.pq.DiagnosticField.SQLSTATE) in (b"22021", b"42704")


def test_a_name_that_is_no_utf8_in_sql_ascii(make_database):
    """Such a queue may be refused, but it does not hold up the others."""
    db = make_database("ENCODING 'SQL_ASCII' LOCALE 'C' TEMPLATE template0")
    with db.connect(client_encoding="SQL_ASCII") as c:
        result = c.pgconn.exec_params(b"SELECT qflow.create_queue($1)", [b'"\xff\xfe"'])
        assert result.error_field(psycopg.pq.DiagnosticField.SQLSTATE) in (None, b"22021", b"22023")
        for queue in ("a", "b", "c"):
            as_bytes(c, f"SELECT qflow.create_queue('{queue}')")
            as_bytes(c, f"SELECT qflow.enqueue('{queue}', '{{}}')")
            as_bytes(c, "SELECT id FROM qflow.fetch($1, 1, 1, '{\"timeout_ms\": 1}')", queue.encode())
        as_bytes(c, b'ALTER TABLE b RENAME TO "\xff"')
        as_bytes(c, "SELECT pg_sleep(0.005)")
        assert as_bytes(c, "SELECT returned FROM qflow.reap() WHERE queue IN ('public.a', 'public.c')") == [b"1", b"1"]
        as_bytes(c, "SELECT queue FROM qflow.queue_stats WHERE queue IN ('public.a', 'public.c')")
        as_bytes(c, b'ALTER TABLE "\xff" RENAME TO b')
        as_bytes(c, "SELECT * FROM qflow.reap()")


# What a queue is called, in encodings of the database. In each a client speaks UTF8.
PEOPLES_NAMES = {"UTF8": "待ち行列", "EUC_JP": "待ち行列", "LATIN1": "größe", "SQL_ASCII": "待ち行列"}


@contextlib.contextmanager
def heard(c):
    """Severity and message of each notice that comes."""
    notices = []
    listener = lambda notice: notices.append((notice.severity_nonlocalized, notice.message_primary))
    c.add_notice_handler(listener)
    yield notices
    c.remove_notice_handler(listener)


@pytest.fixture(params=PEOPLES_NAMES)
def named(request, make_database):
    """A database in some encoding, and a name."""
    encoding = request.param
    return make_database(f"ENCODING '{encoding}' LOCALE 'C' TEMPLATE template0"), PEOPLES_NAMES[encoding]


@pytest.mark.every_version
def test_errors_arrive_as_they_were_meant(named):
    """Message and detail."""
    db, name = named
    with db.connect(client_encoding="UTF8") as c:
        c.execute("SELECT qflow.create_queue(%s)", (f'"{name}"',))
        for sqlstate, sql in (
            ("42704", f"SELECT * FROM qflow.fetch('no {name}')"),
            ("42710", f"SELECT qflow.create_workflow('{name}', '\"{name}\"')"),
            ("42704", f"SELECT * FROM qflow.fetch('{name}', 1, 1, '{{\"{name}\": 1}}')"),
        ):
            with pytest.raises(psycopg.Error) as raised:
                c.execute(sql)
            assert raised.value.sqlstate == sqlstate
            assert name in raised.value.diag.message_primary, sql
        with pytest.raises(psycopg.Error) as raised:
            c.execute(f"""SELECT * FROM qflow.settle('{name}', '[{{"{name}": 1}}]')""")
        assert raised.value.sqlstate == "22023"
        assert name in raised.value.diag.message_detail


def test_adoption_tells_of_a_table_by_its_name(named):
    db, name = named
    with db.connect(client_encoding="UTF8") as c, heard(c) as notices:
        c.execute(f"""CREATE TABLE "{name}" (id bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
                      status text DEFAULT 'pending', data jsonb, lease bigint)""")
        c.execute(f'CREATE INDEX "{name}i" ON "{name}" (lease)')
        c.execute("SELECT qflow.create_queue(%s)", (f'"{name}"',))
        adopted, hindrance = notices
        assert adopted[0] == "NOTICE" and f'public."{name}" is a queue now' in adopted[1]
        assert hindrance[0] == "NOTICE" and f"{name}i mentions lease" in hindrance[1].replace('"', "")
        c.execute(f'DROP INDEX "{name}i"')
        c.execute("SELECT * FROM qflow.fetch(%s)", (name,))


def expire(c, *queues):
    """A queue each, with one job of which the lease has expired."""
    for queue in queues:
        c.execute("SELECT qflow.create_queue(%s)", (f'"{queue}"',))
        c.execute("SELECT qflow.enqueue(%s, '{}')", (f'"{queue}"',))
        c.execute("SELECT * FROM qflow.fetch(%s)", (queue,))
    c.execute("UPDATE qflow.lease SET deadline = '2000-01-01'")


REFUSE = """CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN RAISE EXCEPTION '% is closed', '{name}' USING ERRCODE = 'QF001'; END $$"""


def broken_between(c, first, name, last):
    """Three queues with expired leases; an UPDATE of the second raises."""
    expire(c, first, name, last)
    c.execute(REFUSE.format(name=name))
    c.execute(f'CREATE TRIGGER refuse BEFORE UPDATE ON "{name}" FOR EACH ROW EXECUTE FUNCTION refuse()')


def test_a_name_does_not_stop_the_reaping_of_others(named):
    """Neither the queue's nor those in what is raised."""
    db, name = named
    with db.connect(client_encoding="UTF8") as c:
        broken_between(c, "a", name, "z")
        with heard(c) as notices:
            assert c.execute("SELECT queue FROM qflow.reap() ORDER BY 1").fetchall() == [("public.a",), ("public.z",)]
        assert notices == [("WARNING", f'qflow could not reap queue public."{name}": {name} is closed (QF001)')]


@pytest.mark.parametrize("encoding, client, heard_as", [("UTF8", "LATIN1", "????"), ("SQL_ASCII", "EUC_JP", "?" * 12)])
def test_a_client_without_such_letters_reaps_too(make_database, encoding, client, heard_as):
    db = make_database(f"ENCODING '{encoding}' LOCALE 'C' TEMPLATE template0")
    name = PEOPLES_NAMES["UTF8"]
    with db.connect(client_encoding="UTF8") as c:
        broken_between(c, "a", name, "z")
        c.execute(f"SET client_encoding = '{client}'")
        with heard(c) as notices:
            assert c.execute("SELECT queue FROM qflow.reap() ORDER BY 1").fetchall() == [("public.a",), ("public.z",)]
        assert notices == [("WARNING", f'qflow could not reap queue public."{heard_as}": {heard_as} is closed (QF001)')]


def test_faults_are_told_by_name(named):
    """In `verify` and `readiness`, also what the server says of them."""
    db, name = named
    planned = f"""CREATE OR REPLACE FUNCTION planned(bigint) RETURNS boolean IMMUTABLE LANGUAGE plpgsql AS $$
        BEGIN IF %s THEN RAISE EXCEPTION '{name} is closed'; END IF; RETURN true; END $$"""
    with db.connect(client_encoding="UTF8") as c:
        c.execute("SELECT qflow.create_queue(%s)", (f'"{name}"',))
        c.execute(planned % "false")
        c.execute(f'CREATE INDEX "{name}i" ON "{name}" (lease) WHERE public.planned(1)')
        c.execute(planned % "true")
    with db.connect(client_encoding="UTF8") as c:
        c.execute("SET statement_timeout = '1min'")
        for function, argument in (("verify", f'"{name}"'), ("readiness", name)):
            said = c.execute(f"SELECT check_name, detail, remedy FROM qflow.{function}(%s) WHERE NOT ok", (argument,)).fetchall()
            assert [one[0] for one in said if f"{name} is closed (P0001)" in one[1]], (function, said)
            said = {one[0]: one[1:] for one in said}
            assert f"{name}i mentions lease" in said["other indexes"][0].replace('"', "")
            assert f"{name}i" in said["other indexes"][1]
        shown = c.execute("SELECT queue FROM qflow.queue_stats").fetchall()
        assert shown == [(f'public."{name}"',)]
        c.execute(f'DROP INDEX "{name}i"')


def test_a_name_that_unicode_lacks(make_database):
    """Some bytes of WIN1252 are no character: the other queues go on, and the views show them."""
    db = make_database("ENCODING 'WIN1252' LOCALE 'C' TEMPLATE template0")
    with db.connect(client_encoding="WIN1252") as c:
        expire(c, "a", "b", "z")
        as_bytes(c, b'ALTER TABLE b RENAME TO "\x81"')
        assert as_bytes(c, "SELECT queue FROM qflow.reap() ORDER BY 1") == [b"public.a", b"public.z"]
        shown = as_bytes(c, "SELECT queue FROM qflow.queue_stats ORDER BY 1")
        assert shown == [b'public."?"', b"public.a", b"public.z"]
        as_bytes(c, b'DROP TABLE "\x81"')


def test_a_setting_in_letters_of_its_own(make_database):
    """Settings have no encoding. What `verify` says of one does not fail for it."""
    db = make_database("ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0")
    with db.connect(client_encoding="UTF8") as c:
        c.execute("""CREATE TABLE zoned (id bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY, data jsonb,
                     status text DEFAULT 'pending', inserted_at timestamp, updated_at timestamp)""")
        c.execute("SELECT qflow.create_queue('zoned')")
        c.execute("SELECT * FROM qflow.fetch('zoned')")
        c.execute("SET qflow.naive_timezone = 'Zürich'")
        found = c.execute("SELECT detail FROM qflow.verify('zoned') WHERE check_name = 'time zones'").fetchone()[0]
        assert "in Z?rich," in found
