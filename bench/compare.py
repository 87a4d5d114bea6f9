"""qflow beside its peers and beside what no queue can go beyond: one report, everything measured in the same run.

  make bench [QUICK=1] [CHECK=1]

Needs PGHOST, PGPORT, PGUSER and PGDATABASE of a durable server that preloads qflow (tools/bench.sh), and the right to read
its backends' /proc. The rounds of all queues are interleaved, so that what disturbs the machine disturbs all. With --check
it fails when a ratio is worse than the one in recorded.csv.
"""
import argparse
import contextlib
import pathlib
import sys
import time

import ceilings
import cells
import check
import depth
import elsewhere
import figures
import peers_graphile
import peers_pgmq
import peers_pgq
import peers_procrastinate
import queues
import report
import rounds
import trend


def everyone(c):
    """Those that can be measured here, and a line for each that cannot."""
    own, missing = [queues.Qflow()], []
    if queues.QflowBoth.exists(c):
        own.append(queues.QflowBoth())
    else:
        missing.append("qflow.ack_and_fetch: this build has none")
    peers = []
    for peer in (peers_pgmq, peers_pgq, peers_graphile, peers_procrastinate):
        found, why = peer.install(c)
        peers += found
        missing += [why] if why else []
    producers = [ceilings.EnqueueBatch(), ceilings.Insert(), ceilings.InsertSeed(), ceilings.Copy()]
    return own + peers + [ceilings.ByKey(), ceilings.Commits()] + producers, missing


def takes_part(queue, cell, scale):
    wide = cell.wide and (scale.wide or cell == cells.BASE or isinstance(queue, ceilings.Commits))
    both = cell.batch == 1 and isinstance(queue, queues.QflowBoth)
    return (queue.core or wide or both) and (queue.fails or not cell.failing)


def run_cell(admins, cell, found, scale, say):
    """The lines of a cell. Queues are made anew for it; what its earlier rounds left stays where the queue keeps it."""
    made, results = [], {queue.name: [] for queue in found}
    try:
        for queue in found:
            made.append(queue)
            c = admins[queue.name]
            queue.create(c)
            if cell.history:
                queue.add_history(c, scale.many)
            if cell.backlog:
                queue.fill(c, scale.many, cell.size)
        for at in range(scale.rounds):
            for queue in found[at % len(found):] + found[:at % len(found)]:
                results[queue.name].append(rounds.run(admins[queue.name], queue, cell, scale.jobs(cell, queue)))
            say(f"{cell.label}: round {at + 1} of {scale.rounds}")
    finally:
        for queue in made:
            queue.drop(admins[queue.name])
    return [figures.of_cell(cell, queue, results[queue.name]) for queue in found]


def setting(c, scale):
    names = ["shared_buffers", "fsync", "synchronous_commit", "full_page_writes", "wal_compression", "autovacuum"]
    version = c.execute("SELECT current_setting('server_version')").fetchone()[0]
    values = ", ".join(f"{name} {c.execute('SELECT current_setting(%s)', (name,)).fetchone()[0]}" for name in names)
    return (f"PostgreSQL {version}; {values}. {scale.rounds} rounds a cell; a batch of 100 jobs of 100 B, one consumer, unless the cell "
            f"says otherwise; backlog and history are {scale.many:,} jobs. Prepared statements, each a transaction of its own. The "
            f"tables of every queue are vacuumed and analysed before each round, and analysed again when it is filled.")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--quick", action="store_true", help="fewer jobs, rounds and cells")
    parser.add_argument("--check", action="store_true", help="fail when a ratio is worse than recorded")
    parser.add_argument("--only", help="cells, by key, with commas between")
    arguments = parser.parse_args()
    scale = cells.QUICK if arguments.quick else cells.FULL
    only = arguments.only.split(",") if arguments.only else None
    chosen = [cell for cell in cells.CELLS if (cell.key in only if only else cell.quick or not arguments.quick)]
    begin = time.monotonic()
    with contextlib.ExitStack() as stack:
        c = stack.enter_context(queues.connect())
        for extension in ("qflow", "pg_walinspect"):
            c.execute(f"CREATE EXTENSION IF NOT EXISTS {extension}")
        elsewhere.create(c)
        found, missing = everyone(c)
        admins = {queue.name: stack.enter_context(queue.connect()) for queue in found}
        core = [queue for queue in found if queue.core]
        # The long parts last; a line for each round, with how many are left.
        left = len(chosen) * scale.rounds + (0 if arguments.only else len(trend.CELLS) * (3 if scale.rounds > 3 else 1) * len(core) + 3)

        def say(text):
            nonlocal left
            left -= 1
            print(f"{time.monotonic() - begin:5.0f} s  {text}; {left} rounds left", file=sys.stderr, flush=True)

        lines = []
        for cell in chosen:
            lines += run_cell(admins, cell, [queue for queue in found if takes_part(queue, cell, scale)], scale, say)
        depths = [] if arguments.only else list(depth.lines(c, scale.many, say))
        trends = [] if arguments.only else list(trend.lines(c, core, scale, say))
        notes = [(queue.name, f"{queue.note}; history {queue.history_kept}") for queue in found]
        text, ratios = report.write(arguments.folder, setting(c, scale), chosen, lines, trends, depths, notes, missing)
    print(text)
    if only:  # what was not asked for is not missing
        ratios = [(target, value) for target, value in ratios if value is not None]
    if arguments.check and (bad := list(check.worse(ratios, check.recorded()))):
        sys.exit("worse than recorded:\n  " + "\n  ".join(bad))


if __name__ == "__main__":
    main()
