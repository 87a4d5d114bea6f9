"""How soon a waiting consumer has a job that another session inserts, beside one that polls every 100 ms.

  make bench-latency [ROUNDS=1000]

Needs PGHOST, PGPORT, PGUSER and PGDATABASE of a server that preloads qflow, with the extension created. Prints the
median and the 99th percentile of the time from before the INSERT to the job in hand, both by the clock of this process.
"""
import statistics
import sys
import threading
import time

import psycopg

DONE = "SELECT qflow.ack('latency', array_agg(id), array_agg(lease)) FROM unnest(%s::bigint[], %s::bigint[]) AS j (id, lease)"


def take(c):
    """One job, acked; None when there is none."""
    rows = c.execute("SELECT id, lease FROM qflow.fetch('latency', 1)").fetchall()
    got_at = time.perf_counter()
    if not rows:
        return None
    c.execute(DONE, ([row[0] for row in rows], [row[1] for row in rows]))
    return got_at


def by_waiting(c):
    while True:
        c.execute("CALL qflow.wait('latency', 10000)")
        if got_at := take(c):
            return got_at


def by_polling(c):
    while True:
        if got_at := take(c):
            return got_at
        time.sleep(0.1)


def measure(name, way, rounds):
    """Inserts a job while a consumer waits for it, so many times."""
    took, begun = [], threading.Semaphore(0)
    with psycopg.connect(autocommit=True) as producer, psycopg.connect(autocommit=True) as consumer:

        def consume():
            for _ in range(rounds):
                begun.release()
                took.append(way(consumer))

        thread = threading.Thread(target=consume)
        thread.start()
        inserted = []
        for at in range(rounds):
            begun.acquire()
            # out of step with the poller, and long enough for the waiter to fall asleep
            time.sleep(0.005 + 0.01 * (at % 10) * (way is by_polling))
            inserted.append(time.perf_counter())
            producer.execute("INSERT INTO latency (data) VALUES ('{}')")
            if at % 50 == 0 and sys.stderr.isatty():
                print(f"\r{name}: {at} of {rounds}", end="", file=sys.stderr, flush=True)
        thread.join()
    ms = sorted(1000 * (got - began) for got, began in zip(took, inserted))
    print(f"{name:8} {rounds:5} rounds: p50 {statistics.median(ms):7.2f} ms, p99 {ms[int(0.99 * (rounds - 1))]:7.2f} ms")


def main():
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    with psycopg.connect(autocommit=True) as c:
        c.execute("SELECT qflow.create_queue('latency')")
    measure("wait", by_waiting, rounds)
    measure("polling", by_polling, max(rounds // 10, 10))


main()
