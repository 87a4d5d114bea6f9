"""Writes pgrx's config.toml, for tools/setup.sh and tools/own-postgres.sh.

    pgrx_config.py FILE replace|keep pg17=/path/pg_config …

`replace` sets every entry given. `keep` leaves an entry alone whose pg_config still exists (it is the user's),
and says so on standard output. All other lines of the file stay as they are.
"""
import os
import re
import sys

path, mode, pairs = sys.argv[1], sys.argv[2], [a.split("=", 1) for a in sys.argv[3:]]
try:
    with open(path) as f:
        old = f.read()
except FileNotFoundError:
    old = ""
lines = old.splitlines()
if "[configs]" not in (line.strip() for line in lines):
    lines += ["[configs]"]
start = next(i for i, line in enumerate(lines) if line.strip() == "[configs]") + 1
end = next((i for i in range(start, len(lines)) if lines[i].lstrip().startswith("[")), len(lines))
section = lines[start:end]
kept = []
for name, value in pairs:
    entry = re.compile(rf'\s*{name}\s*=\s*"(.*)"')
    at = next((i for i, line in enumerate(section) if entry.match(line)), None)
    if at is None:
        section.append(f'{name} = "{value}"')
        continue
    current = entry.match(section[at])[1]
    if mode == "keep" and current != value and os.access(current, os.X_OK):
        kept.append(f"{name} stays {current}")
    else:
        section[at] = f'{name} = "{value}"'
new = "\n".join(lines[:start] + section + lines[end:]) + "\n"
if new != old:  # pgrx rebuilds when the file changes
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w") as f:
        f.write(new)
print(", ".join(kept), end="")
