#!/usr/bin/env bash
# Looks with pgspot for what a hostile user could use in the scripts that CREATE EXTENSION and ALTER EXTENSION UPDATE run
# as a superuser: unqualified names and operators, OR REPLACE, SECURITY DEFINER. Part of `make check`.
#   tools/pgspot.sh [MAJOR]       by default the newest version
# The install script is the one that is shipped, as pgrx writes it; upgrade scripts are shipped as they lie in sql/.
# No finding is let pass. A false one would be: --ignore PSnnn below, with the reason.
set -euo pipefail
. "$(dirname "$0")/lib.sh"

use_postgres "${1:-${PG_MAJORS##* }}"
script=$ROOT/target/log/pgspot/qflow.sql
pgspot() { PYTHONDONTWRITEBYTECODE=1 PYTHONPATH=$PYTHON_DIR python3 -m pgspot "$@"; }

mkdir -p "${script%/*}"
rm -f "$script"
cargo_step "$ROOT/target/log/pgspot/schema.log" cargo pgrx schema --pg-config "$PG_CONFIG_PATH" --no-default-features \
  --features "pg$MAJOR" --out "$script"
# Each source must be in it, whole, else what was looked at is not what is shipped.
for source in schema functions views comments; do
  python3 - "$ROOT/sql/$source.sql" "$script" <<'END' || die "sql/$source.sql is not in the install script that pgrx writes"
import sys
source, script = (open(path, encoding="utf-8").read() for path in sys.argv[1:])
sys.exit(source.strip() not in script)
END
done
# A look that finds nothing must be able to find something: one planted line, one finding.
{ cat "$script"; echo 'CREATE VIEW qflow.planted AS SELECT 1 = 1;'; } >"${script%.sql}-planted.sql"
if found=$(pgspot "${script%.sql}-planted.sql") || ! grep -q 'Errors: 0 Warnings: 1 Unknown: 0' <<<"$found"; then
  printf '%s\n' "$found"
  die "pgspot does not see what was planted, or sees more"
fi
mapfile -t upgrades < <(compgen -G "$ROOT/sql/qflow--*--*.sql" | sort -V)
pgspot --append "$script" "${upgrades[@]}"
