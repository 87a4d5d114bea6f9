"""What is varied: one factor at a time around a base cell of batch 100, 100 bytes, one consumer, nothing else going on."""
from dataclasses import dataclass


@dataclass(frozen=True)
class Cell:
    key: str
    label: str
    batch: int = 100
    size: int = 100
    consumers: int = 1
    backlog: bool = False  # `Scale.many` pending jobs behind those that are measured
    history: bool = False  # `Scale.many` jobs that are done, where the queue keeps them
    open: str = ""  # what another session has open meanwhile: see elsewhere.py
    waits: bool = True  # each commit for the disk; a flush costs CPU of its own, the same for every queue
    failing: bool = False  # every tenth job fails once and is tried again at once
    reap: bool = False  # what a queue does to look after itself, once a round, in the consumer's backend
    quick: bool = True  # in a quick run too
    wide: bool = False  # all peers and the ceilings; else those whose `core` is true


@dataclass(frozen=True)
class Scale:
    """How much of everything."""
    rounds: int
    many: int
    steps: int  # of a batch of 100 in a round; smaller batches get more of them
    trend: int  # jobs for the last tenth against the first
    wide: bool  # all peers and ceilings in all wide cells; else in the base cell only

    def jobs(self, cell, queue):
        """Of a round; more for several consumers, so that each has some to do. Queues without batches get fewer: they take
        one call, or two, for each."""
        if cell.batch == 1 or not queue.batches:
            return self.steps * 8
        return self.steps * cell.batch * (1 if cell.batch >= 100 else 3) * max(1, cell.consumers // 2)


FULL = Scale(rounds=5, many=1_000_000, steps=100, trend=100_000, wide=True)
QUICK = Scale(rounds=3, many=50_000, steps=10, trend=10_000, wide=False)

# Those that the targets need come first.
BASE = Cell("base", "base: batch 100, 100 B, 1 consumer", wide=True)
CELLS = [
    BASE,
    Cell("async", "synchronous_commit off", waits=False, wide=True),
    Cell("batch16", "batch 16", batch=16, wide=True),
    Cell("batch1", "batch 1", batch=1, wide=True),
    Cell("batch1-async", "batch 1, synchronous_commit off", batch=1, waits=False, wide=True),
    Cell("size4k", "payload 4 KB", size=4_096, wide=True),
    Cell("consumers8", "8 consumers", consumers=8),
    Cell("pin", "a reader's snapshot open", open="snapshot"),
    Cell("consumers2", "2 consumers", consumers=2, quick=False),
    Cell("consumers4", "4 consumers", consumers=4, quick=False),
    Cell("writer", "a writing transaction open", open="writer"),
    Cell("fetched", "an uncommitted fetch open", open="fetch", quick=False),
    Cell("failing", "10 % fail once", failing=True),
    Cell("failing-pin", "10 % fail once, a snapshot open", failing=True, open="snapshot", quick=False),
    Cell("batch1-pin", "batch 1, a snapshot open, upkeep included", batch=1, open="snapshot", reap=True),
    Cell("backlog", "backlog", backlog=True),
    Cell("history", "history", history=True),
]
