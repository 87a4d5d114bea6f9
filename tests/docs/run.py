#!/usr/bin/env python3
"""Runs the examples of Markdown pages and compares what psql prints with what the page says.

    tests/docs/run.py PSQL PAGE...

PSQL is the program (a path, or a name on PATH); the server is named by the usual PG* variables, and its user may
create databases. Each page runs in a database of its own, made before and dropped after, in one psql session from its
first block to its last. Understood are these fences, at the beginning of a line:

    ```sql            is run
    ```sh run         is run by bash, between the blocks of SQL around it, in a folder of the page's own; it ends at the
                      first command that fails, and says so
    ```text           right after it: what it must print, results and messages; without one it must print nothing
    ```sql no-run     is for reading only; so is every fence of another name (blocks like ```sh pg_upgrade are run by
                      tests/process, see pages.py there)

Trailing blanks, and empty lines around an output, do not count. Exit status 1 when any block differs.
"""

import difflib
import os
import re
import subprocess
import sys
import tempfile
import uuid
from dataclasses import dataclass
from pathlib import Path

SESSION_SECONDS = 300


@dataclass
class Block:
    line: int  # of its fence
    body: str
    is_shell: bool = False
    expected: str = ""


def normal(text: str) -> list[str]:
    """The lines of an output without what does not count."""
    lines = [line.rstrip() for line in text.splitlines()]
    while lines and not lines[0]:
        lines.pop(0)
    while lines and not lines[-1]:
        lines.pop()
    return lines


def blocks_of(page: Path) -> list[Block]:
    """The blocks of a page that are to be run, each with its expected output."""
    blocks: list[Block] = []
    previous: Block | None = None  # the block whose output a ```text fence would be
    info: str | None = None  # of the fence that is open
    body: list[str] = []
    opened = 0
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), 1):
        if not line.startswith("```"):
            if info is not None:
                body.append(line)
            elif line.strip() and not line.startswith("<!--"):
                previous = None  # prose ends the reach of a block
        elif info is None:
            info, body, opened = line[3:].strip(), [], number
        else:
            if info in ("sql", "sh run"):
                previous = Block(opened, "\n".join(body), info != "sql")
                blocks.append(previous)
            elif info == "text" and previous is not None:
                previous.expected, previous = "\n".join(body), None
            else:
                previous = None
            info = None
    if info is not None:
        sys.exit(f"{page}:{opened}: the fence is not closed")
    return blocks


def run(psql: str, database: str, text: str) -> str:
    """What one psql session prints that reads this text, messages included."""
    command = [psql, "-X", "-q", "-v", "ON_ERROR_STOP=0", "-d", database]
    environment = os.environ | {"PGCLIENTENCODING": "UTF8", "PSQL_PAGER": "", "LC_ALL": "C", "PGTZ": "UTC"}
    environment.pop("PGOPTIONS", None)
    try:
        done = subprocess.run(
            command, input=text, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, encoding="utf-8",
            env=environment, timeout=SESSION_SECONDS, check=False,
        )
    except subprocess.TimeoutExpired as expired:
        output = expired.stdout or b""
        return output.decode("utf-8", "replace") if isinstance(output, bytes) else output
    return done.stdout


def script_of(blocks: list[Block], marker: str, folder: str) -> str:
    """What psql reads: each block, and the marker after it."""
    parts = []
    for number, block in enumerate(blocks):
        text = block.body
        if block.is_shell:
            file = Path(folder, f"block{number}.sh")
            file.write_text(f"cd '{folder}'\n{block.body}\n", encoding="utf-8")
            # Through a variable: psql prints it where it stands, whatever else it has still to write.
            text = f"\\set output `{{ bash -e '{file}' || echo \"exit status $?\"; }} 2>&1 </dev/null`\n\\echo :output"
        parts.append(f"{text}\n\\echo {marker}\n")
    return "".join(parts)


def check(psql: str, page: Path) -> tuple[int, int]:
    """Runs one page; returns how many blocks passed and how many did not."""
    blocks = blocks_of(page)
    if not blocks:
        return 0, 0
    marker = f"end-of-block-{uuid.uuid4().hex}"
    home = os.environ.get("PGDATABASE", "postgres")
    database = f"qflow_docs_{uuid.uuid4().hex[:12]}"
    trouble = run(psql, home, f'CREATE DATABASE {database} TEMPLATE template0;\n')
    if trouble:
        sys.exit(f"cannot make a database for {page}: {trouble.strip()}")
    try:
        with tempfile.TemporaryDirectory() as folder:
            script = script_of(blocks, marker, folder)
            outputs = re.split(rf"^{marker}\n", run(psql, database, script), flags=re.MULTILINE)
    finally:
        run(psql, home, f"DROP DATABASE {database} (FORCE);\n")
    *reached, rest = outputs  # after each marker comes what the next block prints; nothing after the last
    passed = 0
    for block, output in zip(blocks, reached):
        expected, found = normal(block.expected), normal(output)
        if expected == found:
            passed += 1
            continue
        print(f"{page}:{block.line}: prints something else than the page says")
        print(*difflib.unified_diff(expected, found, "page", "psql", lineterm="", n=len(expected)), sep="\n")
    if len(reached) < len(blocks):
        stuck = blocks[len(reached)]
        print(f"{page}:{stuck.line}: the session ended here, or a quote is open; it had printed")
        print(*normal(rest), sep="\n")
    return passed, len(blocks) - passed


def main(arguments: list[str]) -> int:
    if len(arguments) < 2:
        print(__doc__, file=sys.stderr)
        return 2
    psql, *pages = arguments
    passed = failed = 0
    for page in map(Path, pages):
        good, bad = check(psql, page)
        passed, failed = passed + good, failed + bad
    print(f"docs: {passed} blocks passed" + (f", {failed} failed" if failed else ""))
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
