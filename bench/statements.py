"""Statements as a program would send them, and the payload of all queues."""
import time

# About so many bytes that do not compress: each job has a piece of one random text.
FILL = """SELECT jsonb_build_object('n', n, 'pad', substr(made.text, 1 + n %% 4096, %s)) FROM generate_series(1, %s) AS n,
    (SELECT string_agg(md5(random()::text), '') FROM generate_series(1, 257)) AS made (text)"""


def filling(jobs, size):
    """The arguments of FILL."""
    assert size <= 4_096
    return size, jobs


def timed(c, statement, args=()):
    """Rows of a prepared statement, and how long it took, in seconds. `prepare` makes psycopg name the statement on the
    server at its first execution: PostgreSQL parses it once."""
    begin = time.perf_counter()
    cursor = c.execute(statement, args, prepare=True)
    rows = cursor.fetchall() if cursor.description else None
    return rows, time.perf_counter() - begin
