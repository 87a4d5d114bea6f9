"""One round: a queue is filled, its consumers take and finish the jobs, and the server says what that cost."""
import contextlib
import threading
import time
from dataclasses import dataclass, field

import elsewhere
import server

WARM = 6  # steps before anything counts: plans are made (the sixth is generic), caches filled


@dataclass
class Round:
    jobs: int = 0
    seconds: float = 0
    cpu_us: float = 0  # of the consumers' backends
    records: float = 0
    wal: float = 0  # bytes without full-page images
    images: float = 0  # bytes of those
    table: float = 0  # growth
    index: float = 0
    updates: float = 0
    hot: float = 0
    calls: dict = field(default_factory=dict)  # name: [seconds]


def consume(queue, cell, consumers, jobs):
    """All consumers at once until so many jobs are finished: how many it were, and the calls."""
    lock, left, calls, trouble = threading.Lock(), [jobs], {}, []

    def one(c, mine):
        own, stop = {}, time.monotonic() + 300
        try:
            while left[0] > 0:
                done, took = queue.step(c, cell.batch, cell.failing, mine)
                for name, seconds in took.items():
                    own.setdefault(name, []).append(seconds)
                with lock:
                    left[0] -= done
                if time.monotonic() > stop or (not done and len(consumers) == 1 and not cell.failing):
                    raise RuntimeError(f"{queue.name}: {left[0]} jobs left and no more to be had")
        except Exception as e:  # told by the thread that started this one
            trouble.append(e)
            left[0] = 0
        with lock:
            for name, seconds in own.items():
                calls.setdefault(name, []).extend(seconds)

    threads = [threading.Thread(target=one, args=consumer) for consumer in consumers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if trouble:
        raise trouble[0]
    return jobs - left[0], calls


def run(admin, queue, cell, jobs):
    """Measures one round. Every statement is a transaction of its own."""
    queue.size_batches(cell.batch)
    relations = queue.relations(admin)
    server.tidy(admin, relations)  # ends with a checkpoint, so that none falls into the round
    spare = (WARM + 2) * cell.batch * cell.consumers
    with elsewhere.before_filling(cell, queue), contextlib.ExitStack() as stack:
        queue.fill(admin, jobs + spare + cell.batch * (cell.open == "fetch"), cell.size)
        for relation in relations:
            admin.execute(f"ANALYZE {relation}")
        stack.enter_context(elsewhere.after_filling(cell, queue))
        consumers = [(stack.enter_context(queue.connect()), {}) for _ in range(cell.consumers)]
        for c, mine in consumers:
            if not cell.waits:
                c.execute("SET synchronous_commit = off")
            for _ in range(WARM):
                queue.step(c, cell.batch, cell.failing, mine)
            if cell.reap:
                queue.look_after(c)
        return measure(admin, queue, cell, consumers, jobs, relations)


def measure(admin, queue, cell, consumers, jobs, relations):
    pids = [c.info.backend_pid for c, _ in consumers]
    table, index = server.sizes(admin, relations)
    updates, hot = settled_updates(admin, consumers, relations)
    wal = server.wal_position(admin)
    cpu, begin = sum(map(server.cpu_us, pids)), time.perf_counter()
    done, calls = consume(queue, cell, consumers, jobs)
    if cell.reap:
        queue.look_after(consumers[0][0])
    seconds, cpu = time.perf_counter() - begin, sum(map(server.cpu_us, pids)) - cpu
    records, bytes_, images = server.wal_since(admin, wal)
    updates_after, hot_after = settled_updates(admin, consumers, relations)
    table_after, index_after = server.sizes(admin, relations)
    for c, mine in consumers:
        queue.leave(c, mine)
    return Round(done, seconds, cpu, records, bytes_, images, table_after - table, index_after - index,
                 updates_after - updates, hot_after - hot, calls)


def settled_updates(admin, consumers, relations):
    """A backend tells its counts at most once a second unless asked."""
    for c, _ in consumers:
        c.execute("SELECT pg_stat_force_next_flush()")
    return server.updates(admin, relations)
