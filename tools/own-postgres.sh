#!/usr/bin/env bash
# For PG_CONFIG=path make test: makes a copy of the user's own PostgreSQL in the cache, so that nothing of the tests
# lands in the folders of a server that may be in use, and prints the copy's pg_config. The programs are copied,
# everything else is linked; PostgreSQL finds its folders relative to its programs, so the same paths below another
# root work.
set -euo pipefail
. "$(dirname "$0")/lib.sh"

config=${1:-}
[ -x "$config" ] || die "PG_CONFIG=$config is not a program"
major=$(pg_major "$config")
case " $PG_MAJORS " in *" $major "*) ;; *) die "qflow runs on PostgreSQL ${PG_MAJORS// /, }; $config is of version $major" ;; esac
case $config in "$CACHE"/own/*) printf '%s\n' "$config"; exit ;; esac
[ -e "$("$config" --includedir-server)/postgres.h" ] ||
  die "this PostgreSQL has no server headers: install its development package (postgresql-server-dev-$major, postgresql$major-devel)"

copy=$CACHE/own/$({ printf '%s' "$config"; "$config" --version; } | sha256sum | cut -c 1-12)
bin=$("$config" --bindir)
if [ ! -e "$copy/.ok" ]; then
  rm -rf "$copy/tree"
  mkdir -p "$copy/tree$bin"
  for program in "$bin"/{postgres,initdb,psql,createdb,dropdb,createuser,vacuumdb,pgbench} "$bin"/pg_*; do
    if [ -x "$program" ]; then cp -L "$program" "$copy/tree$bin/"; fi
  done
  [ -x "$copy/tree$bin/pg_config" ] || cp -L "$config" "$copy/tree$bin/pg_config"
  for option in --pkglibdir --sharedir; do # qflow is installed into these: real folders, linked files
    dir=$("$config" $option)
    mkdir -p "$copy/tree$dir"
    cp -rs --remove-destination "$dir/." "$copy/tree$dir/"
  done
  for option in --includedir-server --pkgincludedir --includedir --libdir; do
    dir=$("$config" $option)
    if [ ! -e "$copy/tree$dir" ]; then
      mkdir -p "$copy/tree$(dirname "$dir")"
      ln -s "$dir" "$copy/tree$dir"
    fi
  done
  rm -f "$copy/tree$("$config" --pkglibdir)"/qflow{*.so,.stamp} "$copy/tree$("$config" --sharedir)"/extension/qflow*
  python3 "$ROOT/tools/pgrx_config.py" "$copy/pgrx/config.toml" replace "pg$major=$copy/tree$bin/pg_config"
  touch "$copy/.ok"
fi
[ "$("$copy/tree$bin/pg_config" --pkglibdir)" = "$copy/tree$("$config" --pkglibdir)" ] ||
  die "this PostgreSQL cannot be copied (its folders are not relative to its programs); use make install PG_CONFIG=$config"
printf '%s\n' "$copy/tree$bin/pg_config"
