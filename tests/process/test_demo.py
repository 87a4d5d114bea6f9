"""The demo in small, with the consumer killed and all; and that its check finds what it is there to find."""
import os
import pathlib
import subprocess
import sys

import psycopg
import pytest

DEMO = pathlib.Path(__file__).resolve().parents[2] / "demo"
sys.path.insert(0, str(DEMO))

import documents  # noqa: E402
from check import check  # noqa: E402

UNREADABLE = 4  # three that the demo makes, and one of the folder below


def run_demo(server, database, *args):
    return subprocess.run(
        [sys.executable, DEMO / "run.py", *args, "--timeout-ms", "3000"],
        env={**os.environ, "PGHOST": str(server.dir), "PGUSER": "postgres", "PGDATABASE": database},
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=120,
    )


@pytest.fixture(scope="module")
def docs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("docs")
    (folder / "book").mkdir()
    (folder / "book" / "long.txt").write_text("\n\n".join(f"Paragraph {n} of a ‘long’ text." for n in range(150)))
    (folder / "short").write_text("Only one, with \\ and \" and \t in it.\n")
    (folder / "broken.txt").write_bytes(b"Readable.\n\nNot \xc0 readable.")
    (folder / "picture").write_bytes(b"\x89PNG\r\n\0\0 passed over")
    return folder


@pytest.fixture(scope="module")
def done(shared_server, docs):
    """A database in which the demo has run, and what it printed."""
    database = shared_server.create_database("qflow_demo", extension=False)
    result = run_demo(shared_server, "qflow_demo", docs)
    yield database, result
    assert not database.faults()
    shared_server.databases.remove(database)
    with shared_server.connect() as c:
        c.execute('DROP DATABASE "qflow_demo" WITH (FORCE)')


def paragraphs(docs):
    damaged, found = documents.collect(docs)
    return damaged + found


def test_demo_ends_well(done, docs):
    database, result = done
    assert result.returncode == 0, result.stdout
    assert "FAILED" not in result.stdout and "All checks hold." in result.stdout
    assert "consumer 4 with SIGKILL" in result.stdout
    assert database.execute("SELECT status, count(*) FROM paragraphs GROUP BY status ORDER BY status") == [
        ("completed", len(paragraphs(docs)) - UNREADABLE), ("failed", UNREADABLE)
    ]
    assert database.execute("SELECT data->>'document', attempt, failure_reason FROM paragraphs WHERE status = 'failed' ORDER BY 1") == [
        ("broken.txt", 4, "not UTF-8: invalid start byte at byte 4"),
        ("made by the demo/cut-off.txt", 4, "not UTF-8: unexpected end of data at byte 42"),
        ("made by the demo/garbled.txt", 4, "not UTF-8: invalid start byte at byte 7"),
        ("made by the demo/latin-1.txt", 4, "not UTF-8: invalid continuation byte at byte 3"),
    ]


DAMAGE = [
    ("DELETE FROM vectors WHERE paragraph = 77", ["exactly one vector"]),
    ("INSERT INTO vectors SELECT * FROM vectors WHERE paragraph = 77", ["exactly one vector"]),
    ("INSERT INTO vectors SELECT 'broken.txt', 2, features, 1, 0 FROM vectors LIMIT 1", ["exactly one vector"]),
    ("UPDATE vectors SET features = features[1:127] WHERE paragraph = 77", ["128 numbers"]),
    ("UPDATE paragraphs SET failure_reason = 'lease expired' WHERE status = 'failed' AND data->>'document' = 'broken.txt'",
     ["failed with its reason"]),
    ("UPDATE paragraphs SET attempt = 3 WHERE status = 'failed' AND data->>'document' = 'broken.txt'",
     ["failed with its reason"]),
    ("INSERT INTO paragraphs (data) SELECT data FROM paragraphs WHERE data->>'document' = 'short'", ["is one job", "is completed"]),
    ("UPDATE paragraphs SET status = 'pending' WHERE data->>'document' = 'short'", ["is completed"]),
    ("SELECT * FROM qflow.retry_failed('paragraphs'), qflow.fetch('embedding_producer')",
     ["failed with its reason", "no lease is left", "none of them is held"]),
    ("UPDATE paragraphs SET attempt = 1 WHERE id = (SELECT max(id) FROM paragraphs WHERE attempt = 2 AND status = 'completed')",
     ["killed consumer held"]),
    ("UPDATE vectors SET gpu = 2 WHERE paragraph = 77", ["GPUs 0 to 1"]),
]


@pytest.mark.parametrize("damage, broken", DAMAGE, ids=[f"{n}-{rules[0].replace(' ', '-')}" for n, (_, rules) in enumerate(DAMAGE)])
def test_check_finds(done, docs, damage, broken):
    database, _ = done
    with database.connect() as c:
        held = [id for (id,) in c.execute("SELECT id FROM paragraphs WHERE attempt > 1 AND status = 'completed'").fetchall()]
        assert [f.rule for f in check(c, paragraphs(docs), held) if not f.ok] == []
        with c.transaction():
            c.execute(damage)
            found = [f for f in check(c, paragraphs(docs), held) if not f.ok]
            raise psycopg.Rollback
    assert len(found) == len(broken) and all(text in f.rule for f, text in zip(found, broken)), found
    assert all(f.faults for f in found)


def test_demo_fails_when_a_vector_is_lost(shared_server, docs):
    shared_server.create_database("qflow_spoilt", extension=False)
    result = run_demo(shared_server, "qflow_spoilt", docs, "--spoil")
    assert result.returncode == 1, result.stdout
    assert "FAILED  every readable paragraph has exactly one vector" in result.stdout
    assert result.stdout.count("\nFAILED") == 1 and "The demo FAILED." in result.stdout


def test_demo_without_text(shared_server, tmp_path):
    shared_server.create_database("qflow_empty", extension=False)
    result = run_demo(shared_server, "qflow_empty", tmp_path)
    assert result.returncode == 2, result.stdout
    assert "no paragraph of text" in result.stdout
