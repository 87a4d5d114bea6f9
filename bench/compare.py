"""qflow beside its peers and beside what no queue can go beyond: one table, everything measured in the same run.

  make bench [QUICK=1]

Needs PGHOST, PGPORT, PGUSER and PGDATABASE of a durable server that preloads qflow, and the right to read its backends'
/proc. In each cell one factor differs from the base cell. The rounds of all queues are interleaved, so that what disturbs the
machine disturbs all; figures are medians over the rounds, the spread beside them. Writes bench.md and bench.csv into the
folder given.
"""
import argparse
import csv
import pathlib
import statistics
import sys
import time
from dataclasses import dataclass

import psycopg

import queues

ROUNDS = 5


@dataclass(frozen=True)
class Cell:
    """One row of factors. The base cell: a batch of 100 jobs of 100 bytes, one consumer."""
    batch: int = 100
    size: int = 100

    @property
    def label(self):
        return f"batch {self.batch}, {self.size} B"


CELLS = [Cell(), Cell(batch=16), Cell(batch=1), Cell(size=4_096)]


@dataclass
class Figures:
    """Of one round: by job, but for the times of the calls."""
    jobs_per_second: float
    cpu_us: float
    wal_bytes: float
    calls: dict


def cpu_ns(pid):
    """What a process has spent on a processor."""
    return int(pathlib.Path(f"/proc/{pid}/schedstat").read_text().split()[0])


def lsn(c):
    return int(c.execute("SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn").fetchone()[0])


def measure(c, queue, cell, jobs):
    """One round: `jobs` jobs that were put in before."""
    pid, calls = c.info.backend_pid, {}
    for _ in range(3):  # plans are made, caches filled
        for _ in queue.step(c, cell.batch):
            pass
    wal, cpu, begin = lsn(c), cpu_ns(pid), time.perf_counter()
    for _ in range(jobs // cell.batch):
        for name, took in queue.step(c, cell.batch):
            calls.setdefault(name, []).append(took * 1_000)
    seconds = time.perf_counter() - begin
    done = jobs // cell.batch * cell.batch
    return Figures(done / seconds, (cpu_ns(pid) - cpu) / 1_000 / done, (lsn(c) - wal) / done, calls)


def peers():
    """Those that can be measured here, and a line for each that cannot."""
    found = [queues.Qflow(), queues.ByKey(), queues.Insert(), queues.Copy()]
    missing = ["PgQ, graphile-worker, procrastinate"]
    if (sql := queues.Pgmq.sql()) is None:
        return found, ["pgmq: its crate was not fetched", *missing]
    with psycopg.connect(autocommit=True) as c:
        c.execute("CREATE SCHEMA IF NOT EXISTS pgmq")
        c.execute(sql)
    return [found[0], queues.Pgmq("archive"), queues.Pgmq("delete"), *found[1:]], missing


def run(found, cell, rounds, jobs):
    """{queue: [Figures]}"""
    figures = {queue.name: [] for queue in found}
    for at in range(rounds):
        for queue in found[at % len(found):] + found[:at % len(found)]:
            with psycopg.connect(autocommit=True) as c:
                queue.fill(c, jobs + 3 * cell.batch, cell.size)
            with psycopg.connect(autocommit=True) as c:
                figures[queue.name].append(measure(c, queue, cell, jobs))
        print(f"{cell.label}: round {at + 1} of {rounds}", file=sys.stderr, flush=True)
    return figures


def percentile(calls, part):
    return sorted(calls)[min(len(calls) - 1, int(len(calls) * part))]


def rows(cell, figures):
    """A line of the report for each queue; ratios are qflow's CPU time to its."""
    middle = {name: statistics.median(f.cpu_us for f in found) for name, found in figures.items()}
    base = middle[queues.Qflow.name]
    for name, found in figures.items():
        cpu = [f.cpu_us for f in found]
        take, finish = ([ms for f in found for ms in f.calls.get(call, [])] for call in ("take", "finish"))
        yield {
            "cell": cell.label,
            "queue": name,
            "jobs/s": round(statistics.median(f.jobs_per_second for f in found)),
            "CPU us/job": round(middle[name], 2),
            "CPU spread": f"{min(cpu):.2f}-{max(cpu):.2f}",
            "qflow's CPU / its": round(base / middle[name], 2),
            "WAL B/job": round(statistics.median(f.wal_bytes for f in found)),
            "take p50/p99 ms": f"{percentile(take, 0.5):.2f}/{percentile(take, 0.99):.2f}",
            "finish p50/p99 ms": f"{percentile(finish, 0.5):.2f}/{percentile(finish, 0.99):.2f}" if finish else "",
        }


def markdown(c, lines, missing, found):
    setting = "SELECT name || ' ' || setting FROM pg_settings WHERE name IN ('fsync', 'synchronous_commit', 'full_page_writes')"
    version = c.execute("SELECT current_setting('server_version')").fetchone()[0]
    settings = ", ".join(row[0] for row in c.execute(setting).fetchall())
    yield f"# qflow beside its peers\n\nPostgreSQL {version}; {settings}; one consumer on one connection, prepared statements.\n"
    yield "CPU is that of the consumer's backend. Medians over interleaved rounds of one run; compare ratios, not times.\n"
    header = list(lines[0])
    yield "| " + " | ".join(header) + " |\n|" + "---|" * len(header)
    yield from ("| " + " | ".join(str(line[name]) for name in header) + " |" for line in lines)
    yield "\nWhat is done: " + "; ".join(f"{queue.name}: history {queue.history}" for queue in found) + "."
    yield "\nNot measured: " + "; ".join(missing) + "."


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--quick", action="store_true", help="fewer jobs and rounds")
    arguments = parser.parse_args()
    rounds, jobs = (3, 2_000) if arguments.quick else (ROUNDS, 10_000)
    found, missing = peers()
    with psycopg.connect(autocommit=True) as c:
        c.execute("CREATE EXTENSION IF NOT EXISTS qflow")
        for queue in found:
            queue.create(c)
        lines = [line for cell in CELLS for line in rows(cell, run(found, cell, rounds, jobs))]
        text = "\n".join(markdown(c, lines, missing, found)) + "\n"
    arguments.folder.mkdir(parents=True, exist_ok=True)
    (arguments.folder / "bench.md").write_text(text)
    with open(arguments.folder / "bench.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, list(lines[0]))
        writer.writeheader()
        writer.writerows(lines)
    print(text)


if __name__ == "__main__":
    main()
