"""Ratios beside their targets, and beside what they were when they were last recorded. Never times: machines differ."""
import csv
import pathlib
import tomllib

HERE = pathlib.Path(__file__).parent
TOLERANCE = 0.25  # by how much a ratio may be worse than the recorded one


def targets():
    return tomllib.loads((HERE / "targets.toml").read_text())["target"]


def ratios(lines):
    """The targets, each with its ratio; None where a figure was not measured."""
    figures = {(line["cell"], line["queue"], name): value for line in lines for name, value in line.items()}
    for target in targets():
        value = figures.get(tuple(target["of"]))
        if "to" in target:
            other = figures.get(tuple(target["to"]))
            value = value / other if value is not None and other else None
        yield target, value


def goal(target):
    if "at_most" in target:
        return f"≤ {target['at_most']:.2f}"
    return f"≥ {target['at_least']:.2f}" if "at_least" in target else ""


def verdict(target, value):
    if value is None:
        return "not measured"
    if "at_most" in target:
        return "met" if value <= target["at_most"] else "missed"
    if "at_least" in target:
        return "met" if value >= target["at_least"] else "missed"
    return ""


def recorded():
    """{key: ratio} of bench/recorded.csv."""
    path = HERE / "recorded.csv"
    if not path.exists():
        return {}
    with open(path, newline="") as file:
        return {line["key"]: float(line["ratio"]) for line in csv.DictReader(file)}


def worse(found, before):
    """A sentence for each ratio of a target that got worse than it was by more than the tolerance, or that is gone."""
    for target, value in found:
        was = before.get(target["key"])
        if was is None or not goal(target):
            continue
        if value is None:
            yield f"{target['text']}: was {was:.2f}, is not measured any more"
        elif "at_most" in target and value > was * (1 + TOLERANCE):
            yield f"{target['text']}: {value:.2f}, was {was:.2f}"
        elif "at_least" in target and value < was * (1 - TOLERANCE):
            yield f"{target['text']}: {value:.2f}, was {was:.2f}"


def write(path, found):
    with open(path, "w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["key", "ratio"])
        writer.writerows([target["key"], f"{value:.3f}"] for target, value in found if value is not None and goal(target))
