"""The report: bench.md with plots, bench.csv with every figure, ratios.csv for the check."""
import csv

import check
import plots

# Heading, figures, format. Several figures share a column where they are read together.
COLUMNS = [
    ("jobs/s", "{jobs_per_s:.0f}"),
    ("CPU µs/job", "{cpu_us:.1f}"),
    ("spread", "{cpu_us_min:.1f}–{cpu_us_max:.1f}"),
    ("WAL B/job", "{wal_bytes:.0f}"),
    ("records/job", "{wal_records:.2f}"),
    ("images B/job", "{wal_image_bytes:.0f}"),
    ("put p50/p99 ms", "{put p50 ms:.2f}/{put p99 ms:.2f}"),
    ("take p50/p99 ms", "{take p50 ms:.2f}/{take p99 ms:.2f}"),
    ("finish p50/p99 ms", "{finish p50 ms:.2f}/{finish p99 ms:.2f}"),
    ("table B/job", "{table_bytes:.0f}"),
    ("index B/job", "{index_bytes:.0f}"),
    ("HOT", "{hot_share:.0%}"),
]
# What is drawn as a curve: name, what it goes by, the field of a cell, and the cells that differ in nothing else.
FACTORS = [
    ("by-batch", "batch size", "batch", ["batch1", "batch16", "base"]),
    ("by-consumers", "consumers", "consumers", ["base", "consumers2", "consumers4", "consumers8"]),
]


def formatted(template, line):
    try:
        return template.format_map(line)
    except (KeyError, ValueError):  # has no such call, or no updates
        return ""


def table(header, rows):
    yield "| " + " | ".join(header) + " |"
    yield "|---|" + "--:|" * (len(header) - 1)
    yield from ("| " + " | ".join(row) + " |" for row in rows)
    yield ""


def cell_table(lines, base):
    """The queues of one cell; `base` is the CPU time that the others are compared with."""
    rows = [[line["queue"], *(formatted(template, line) for _, template in COLUMNS), f"{base / line['cpu_us']:.2f}"] for line in lines]
    header = ["queue", *(heading for heading, _ in COLUMNS), "qflow's CPU / its"]
    kept = [at for at in range(len(header)) if any(row[at] for row in rows)]
    return table([header[at] for at in kept], [[row[at] for at in kept] for row in rows])


def factors(cells, lines):
    """(name, what it goes by, its values, [(queue, [CPU])]) of each factor that was measured with two values or more."""
    cpu = {(line["cell"], line["queue"]): line["cpu_us"] for line in lines}
    measured = {cell.key: cell for cell in cells}
    for name, by, field, keys in FACTORS:
        keys = [key for key in keys if key in measured]
        queues = [queue for queue in dict.fromkeys(queue for _, queue in cpu) if all((key, queue) in cpu for key in keys)]
        if len(keys) > 1 and queues:
            values = [str(getattr(measured[key], field)) for key in keys]
            yield name, by, values, [(queue, [cpu[key, queue] for key in keys]) for queue in queues]


def ratio_table(ratios, before):
    rows = []
    for target, value in ratios:
        was = before.get(target["key"])
        rows.append([target["text"], "" if value is None else f"{value:.2f}", check.goal(target), check.verdict(target, value),
                     "" if was is None else f"{was:.2f}"])
    return table(["figure", "ratio", "target", "", "recorded"], rows)


def markdown(setting, cells, lines, trends, depths, ratios, notes, missing):
    yield "# qflow beside its peers\n"
    yield setting + "\n"
    yield ("CPU is that of the consumers' backends, background processes apart. WAL is what the server wrote in the round, whoever "
           "did, with full-page images in a column of their own; a checkpoint is made before each round and none falls into it. Growth "
           "is per job finished, over the round. HOT is the share of updates that left the indexes alone. Medians over interleaved "
           "rounds of one run. Compare ratios: the times are this machine's.\n")
    yield "## Targets\n"
    yield from ratio_table(ratios, check.recorded())
    yield "## Cells\n\n![CPU by cell](cpu.svg)\n\n![WAL by cell](wal.svg)\n"
    for cell in cells:
        found = [line for line in lines if line["cell"] == cell.key]
        yield f"### {cell.label}\n"
        yield from cell_table(found, found[0]["cpu_us"])
    for name, by, values, found in factors(cells, lines):
        yield f"## By {by}\n\nCPU µs per job.\n\n![by {by}]({name}.svg)\n"
        yield from table([by, *values], [[queue, *(f"{figure:.1f}" for figure in figures)] for queue, figures in found])
    yield "## While a transaction stays open\n\nCPU µs per job of each tenth of the jobs.\n"
    for key in dict.fromkeys(line["cell"] for line in trends):
        yield f"### {key}\n\n![{key}]({key}.svg)\n"
        found = [line for line in trends if line["cell"] == key]
        rows = [[line["queue"], *(f"{line[f'tenth{n}']:.1f}" for n in range(1, 11)), f"{line['last_to_first']:.2f}"] for line in found]
        yield from table(["queue", *(str(n) for n in range(1, 11)), "last / first"], rows)
    yield "## Buffers of a fetch of 100\n"
    yield from table(["pending", "completed", "buffers"], [[str(d["pending"]), str(d["completed"]), f"{d['buffers']:.0f}"] for d in depths])
    yield "## What is called\n"
    yield from (f"- **{name}**: {note}" for name, note in notes)
    yield "\nNot measured: " + ("; ".join(missing) or "none is missing") + "."


def write(folder, setting, cells, lines, trends, depths, notes, missing):
    """Writes everything; returns the text and the ratios."""
    folder.mkdir(parents=True, exist_ok=True)
    every = lines + trends + depths
    ratios = list(check.ratios(every))
    text = "\n".join(markdown(setting, cells, lines, trends, depths, ratios, notes, missing)) + "\n"
    (folder / "bench.md").write_text(text)
    with open(folder / "bench.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, list(dict.fromkeys(name for line in every for name in line)), restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(every)
    check.write(folder / "ratios.csv", ratios)
    bars = [("cpu", "cpu_us", "Server CPU, µs per job"), ("wal", "wal_bytes", "WAL without full-page images, bytes per job")]
    for name, figure, title in bars:
        groups = [(cell.label, [(line["queue"], line[figure]) for line in lines if line["cell"] == cell.key]) for cell in cells]
        (folder / f"{name}.svg").write_text(plots.bars(title, groups))
    for name, by, values, found in factors(cells, lines):
        (folder / f"{name}.svg").write_text(plots.curves(f"CPU µs per job by {by}", f"{by}: " + ", ".join(values), found))
    for key in dict.fromkeys(line["cell"] for line in trends):
        found = [(line["queue"], [line[f"tenth{n}"] for n in range(1, 11)]) for line in trends if line["cell"] == key]
        (folder / f"{key}.svg").write_text(plots.curves(f"{key}: CPU µs per job", "from the first tenth of the jobs to the last", found))
    return text, ratios
