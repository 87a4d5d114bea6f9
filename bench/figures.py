"""From rounds to figures: medians, spread, percentiles."""
import statistics


def percentile(values, part):
    return sorted(values)[min(len(values) - 1, int(len(values) * part))]


def of_cell(cell, queue, rounds):
    """A line of the report: {figure: value}. Numbers stay numbers, for the ratios and the plots."""
    def by_job(name):
        return statistics.median(getattr(r, name) / r.jobs for r in rounds)

    cpu = [r.cpu_us / r.jobs for r in rounds]
    line = {
        "cell": cell.key,
        "queue": queue.name,
        "jobs_per_s": statistics.median(r.jobs / r.seconds for r in rounds),
        "cpu_us": statistics.median(cpu),
        "cpu_us_min": min(cpu),
        "cpu_us_max": max(cpu),
        "wal_bytes": by_job("wal"),
        "wal_records": by_job("records"),
        "wal_image_bytes": by_job("images"),
        "table_bytes": by_job("table"),
        "index_bytes": by_job("index"),
    }
    updates = sum(r.updates for r in rounds)
    line["hot_share"] = sum(r.hot for r in rounds) / updates if updates else ""
    for call in ("put", "take", "finish", "give back"):
        if took := [1_000 * seconds for r in rounds for seconds in r.calls.get(call, [])]:
            line[f"{call} p50 ms"], line[f"{call} p99 ms"] = percentile(took, 0.5), percentile(took, 0.99)
    return line
