#!/usr/bin/env bash
# `make clean`: removes what the tools made in this folder; with CACHE=1 also what setup put into the cache
# (cargo-pgrx and the entries in ~/.pgrx/config.toml stay).
set -euo pipefail
. "$(dirname "$0")/lib.sh"

rm -rf "$ROOT/target"
find "$ROOT/tests" "$ROOT/tools" -name __pycache__ -prune -exec rm -rf {} + 2>/dev/null || true
if [ -n "${1:-}" ]; then
  [ -d "$CACHE/postgresql" ] && rm -rf "$CACHE"/{postgresql,target,own,install,libclang,log,bin,pgrx} "$CACHE"/python3.* "$CACHE"/tmp.*
  if grep -qs 'written by tools/setup.sh' "$ROOT/.cargo/config.toml"; then rm -f "$ROOT/.cargo/config.toml"; fi
fi
say "clean"
