"""Does a fetch do more when the table is large? Instructions of a fetch of 100 jobs, as callgrind counts them.

  make bench-instructions

The queues are filled on the server that PGHOST names (tools/bench.sh), which is stopped then: a single-user backend under
valgrind goes on with its cluster, and the profile is dumped after each fetch. Needs valgrind.
"""
import os
import pathlib
import re
import shutil
import statistics
import subprocess
import sys
import tempfile

from depth import SMALL
from queues import Qflow, connect
from server import tidy

MANY = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
FETCHES, COUNTED = 20, 10
# At most this much more than with SMALL jobs.
TARGET = 1.1


class Small(Qflow):
    name, table, pending, completed = f"{SMALL:,} pending", "bench_small", SMALL, 0


class Pending(Qflow):
    name, table, pending, completed = f"{MANY:,} pending", "bench_pending", MANY, 0


class Completed(Qflow):
    name, table, pending, completed = f"{SMALL:,} pending, {MANY:,} completed", "bench_completed", SMALL, MANY


QUEUES = [Small(), Pending(), Completed()]


def fill():
    """Answers where the cluster lies, and the database."""
    with connect() as c:
        c.execute("CREATE EXTENSION IF NOT EXISTS qflow")
        for queue in QUEUES:
            print(f"filling: {queue.name}", file=sys.stderr, flush=True)
            queue.create(c)
            if queue.completed:
                queue.add_history(c, queue.completed)
            queue.fill(c, queue.pending, 100)
            tidy(c, queue.relations(c))
        return c.execute("SELECT current_setting('data_directory')").fetchone()[0], c.info.dbname


def as_server_user(data):
    """A prefix for commands: the server refuses to run as root."""
    return ["runuser", "-u", pathlib.Path(data).owner(), "--"] if os.getuid() == 0 else []


def counts(data, database):
    """Instructions of each fetch, by queue, in the order in which they were made."""
    bindir, user = pathlib.Path(os.environ["BINDIR"]), as_server_user(data)
    subprocess.run([*user, bindir / "pg_ctl", "-D", data, "-m", "fast", "-w", "-s", "stop"], check=True, cwd="/")
    calls = [f"SELECT count(*) FROM qflow.fetch('{queue.table}', 100)" for queue in QUEUES for _ in range(FETCHES)]
    folder = pathlib.Path(tempfile.mkdtemp(prefix="qflow.", dir="/tmp"))
    try:
        if user:
            shutil.chown(folder, user[2])
        print(f"{len(calls)} fetches under callgrind", file=sys.stderr, flush=True)
        done = subprocess.run(
            [*user, "valgrind", "--tool=callgrind", "--toggle-collect=qflow_fetch", "--dump-after=qflow_fetch",
             f"--callgrind-out-file={folder}/out", bindir / "postgres", "--single", "-D", data, database],
            input="\n".join(calls) + "\n", text=True, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        full = re.findall(r'count = "(\d+)"', done.stdout)
        if done.returncode != 0 or full != ["100"] * len(calls):
            sys.exit(f"the fetches went wrong:\n{done.stdout[-3000:]}")
        parts = sorted(folder.glob("out.*"), key=lambda path: int(path.suffix[1:]))
        totals = [re.search(r"^(?:totals|summary): (\d+)", part.read_text(), re.M) for part in parts]
        found = [int(total[1]) for total in totals if total and int(total[1]) > 0]
        if len(found) != len(calls):
            sys.exit(f"callgrind has counted {len(found)} fetches of {len(calls)}")
        return [found[at * FETCHES:(at + 1) * FETCHES] for at in range(len(QUEUES))]
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def main():
    if not shutil.which("valgrind"):
        sys.exit("valgrind is missing: install it (Debian: apt install valgrind) and call this again")
    data, database = fill()
    medians = [statistics.median(found[-COUNTED:]) for found in counts(data, database)]
    print("\n| instructions of a fetch of 100 | median of the last ten | to the first row |\n|---|--:|--:|")
    worst = 0
    for queue, median in zip(QUEUES, medians):
        worst = max(worst, median / medians[0])
        print(f"| {queue.name} | {median:,.0f} | {median / medians[0]:.3f} |")
    print(f"\ntarget: at most {TARGET}: {'met' if worst <= TARGET else 'missed'}")


if __name__ == "__main__":
    main()
