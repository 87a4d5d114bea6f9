"""Payload comes out byte for byte as it went in, in every server encoding; the other jobs of the batch come too."""
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


@pytest.mark.every_version
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


@pytest.mark.every_version
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
