"""Does a fetch touch more of the table when the table is large? Shared buffers of a fetch of 100 as EXPLAIN counts them."""
import json
import statistics

from queues import Qflow, connect
from rounds import WARM
from server import tidy

FETCH = "EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) SELECT id, lease, data, attempt FROM qflow.fetch('bench_qflow', 100)"
SMALL = 10_000


def buffers(c):
    plan = c.execute(FETCH).fetchone()[0]
    plan = (json.loads(plan) if isinstance(plan, str) else plan)[0]["Plan"]
    return plan["Shared Hit Blocks"] + plan["Shared Read Blocks"]


def lines(admin, many, say):
    queue = Qflow()
    for key, pending, completed in (("depth-small", SMALL, 0), ("depth-pending", many, 0), ("depth-completed", SMALL, many)):
        queue.create(admin)
        try:
            if completed:
                queue.add_history(admin, completed)
            queue.fill(admin, pending, 100)
            tidy(admin, queue.relations(admin))
            with connect() as c:
                for _ in range(WARM):
                    queue.step(c, 100, False, {})
                found = []
                for _ in range(20):
                    found.append(buffers(c))
            say(f"buffers of a fetch: {pending} pending, {completed} completed")
            yield {"cell": key, "queue": queue.name, "buffers": statistics.median(found), "pending": pending, "completed": completed}
        finally:
            queue.drop(admin)
