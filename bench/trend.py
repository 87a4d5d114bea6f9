"""Does a queue slow down while somebody's transaction stays open? Many jobs under one snapshot: CPU of each tenth."""
import statistics

import elsewhere
import server
from cells import Cell
from rounds import WARM

CELLS = [Cell("trend-pin", "a snapshot open", open="snapshot"), Cell("trend-writer", "a writing transaction open", open="writer")]


def tenths(admin, queue, cell, jobs):
    """CPU us per job of each tenth."""
    queue.create(admin)
    try:
        server.tidy(admin, queue.relations(admin))
        with elsewhere.before_filling(cell, queue), queue.connect() as c:
            queue.fill(admin, jobs + WARM * cell.batch, cell.size)
            for relation in queue.relations(admin):
                admin.execute(f"ANALYZE {relation}")
            mine, found = {}, []
            for _ in range(WARM):
                queue.step(c, cell.batch, False, mine)
            for _ in range(10):
                cpu = server.cpu_us(c.info.backend_pid)
                for _ in range(jobs // 10 // cell.batch):
                    done, _ = queue.step(c, cell.batch, False, mine)
                    assert done == cell.batch
                found.append((server.cpu_us(c.info.backend_pid) - cpu) / (jobs // 10))
            queue.leave(c, mine)
            return found
    finally:
        queue.drop(admin)


def lines(admin, found, scale, say):
    """A line for each queue that takes part in everything; rounds are interleaved as in the cells."""
    for cell in CELLS:
        rounds = {queue.name: [] for queue in found}
        for at in range(3 if scale.rounds > 3 else 1):
            for queue in found:
                rounds[queue.name].append(tenths(admin, queue, cell, scale.trend))
                say(f"{scale.trend} jobs, {cell.label}, round {at + 1}: {queue.name}")
        for queue in found:
            each = [statistics.median(tenth) for tenth in zip(*rounds[queue.name])]
            last = statistics.median(r[-1] / r[0] for r in rounds[queue.name])
            yield {"cell": cell.key, "queue": queue.name, "last_to_first": last} | {f"tenth{n}": cpu for n, cpu in enumerate(each, 1)}
