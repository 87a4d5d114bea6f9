#!/usr/bin/env bash
# The rules of the source that no compiler knows, as searches; part of `make check`. Says each line that breaks one.
#   tools/layers.sh [FOLDER]      the folder of the sources, by default this clone
set -euo pipefail
cd "${1:-$(dirname "$0")/..}"

BAD=0
# rule TEXT COMMAND…: the command prints the offending lines.
rule() {
  local lines
  lines=$("${@:2}" || true)
  if [ -n "$lines" ]; then
    BAD=$((BAD + 1))
    printf '%s\n' "$1:" "$lines" | sed '2,$s/^/    /'
  fi
}
files() { find src -name '*.rs' | sort; }
# Files that are tests altogether: src/tests, and what `mod name;` under #[cfg(test)] names.
test_files() {
  files | grep -E '^src/tests(/|\.rs$)|/tests(/|\.rs$)' || true
  files | xargs -r awk '
    FNR == 1 { test = 0 }
    test && /^[ \t]*(pub(\([a-z]+\))?[ \t]+)?mod [a-z0-9_]+;/ {
      name = $0; sub(/^.*mod /, "", name); sub(/;.*/, "", name)
      folder = FILENAME
      if (folder !~ /\/(lib|main|mod)\.rs$/) sub(/\.rs$/, "", folder); else sub(/\/[^\/]*$/, "", folder)
      print folder "/" name ".rs"
      print folder "/" name "/"
    }
    { test = /#\[cfg\((test|any\(test|all\(test|feature = "pg_test")/ || (test && /^[ \t]*#\[/) }'
}
# The code as file:line:text: without comments, without what stands under #[cfg(test)] or
# #[cfg(any(test, feature = "pg_test"))], and without test files. An item ends where rustfmt puts
# its closing brace: at the indentation of its attribute.
code() {
  files | grep -vFf <(test_files) | xargs -r awk '
    FNR == 1 { skip = 0; block = 0 }
    {
      line = $0
      if (block) { if (line ~ /\*\//) { sub(/.*\*\//, "", line); block = 0 } else next }
      if (line ~ /^[ \t]*\/\*/ && line !~ /\*\//) { block = 1; next }
      if (skip == 2) { if (line ~ "^" indent "[})]") skip = 0; next }
      sub(/(^|[ \t;{}),])\/\/.*/, "", line)
      if (skip == 1) { # the first line of the item, after more attributes
        if (line ~ /^[ \t]*(#\[.*)?$/) next
        skip = (line ~ /[;}][ \t]*$/) ? 0 : 2
        next
      }
      if (line ~ /^[ \t]*#\[cfg\((test|any\(test|all\(test|feature = "pg_test")/) {
        skip = 1
        match(line, /^[ \t]*/)
        indent = substr(line, 1, RLENGTH)
        next
      }
      if (line ~ /[^ \t]/) print FILENAME ":" FNR ":" line
    }'
}
search() { code | grep -E "$@"; }

api_uses_worker() { search '^src/api(/|\.rs)' | grep -E '(crate|super)::worker\b|crate::\{[^}]*\bworker\b'; }
worker_uses_api() { search '^src/worker(/|\.rs)' | grep -E '(crate|super)::api\b|crate::\{[^}]*\bapi\b'; }
json() { search '\bJsonB\b|serde_json::(Value\b|\{[^}]*\bValue\b)' | grep -vE '^src/(resource/hints|hints|job/outcomes)\.rs:'; }
panics() { search '\.(unwrap|unwrap_err|expect|expect_err)\(|\b(panic|todo|unimplemented)!'; }
# A message, a hint or a statement reaches clients and databases of any encoding. What is left of code outside ASCII,
# once comments and tests are out, are string literals.
not_ascii() { code | LC_ALL=C grep -nE '[^[:print:][:space:]]' | cut -d: -f2-; }
# `unsafe {` and `unsafe impl` need a SAFETY comment on the line, within the three lines before, or in the comment
# block right above; `unsafe fn` and `unsafe extern` only declare.
bare_unsafe() {
  files | xargs -r awk '
    FNR == 1 { last = -9; run = 0 }
    { comment = ($0 ~ /^[ \t]*(\/\/|\*|\/\*)/) }
    /SAFETY/ { last = FNR; if (comment) run = 1 }
    comment && run { last = FNR }
    !comment { run = 0 }
    !comment && /(^|[^A-Za-z0-9_"])unsafe([ \t]*\{|[ \t]+impl[ \t<]|[ \t]*$)/ && FNR - last > 3 { print FILENAME ":" FNR ":" $0 }'
}
definer() {
  grep -rniE 'SECURITY[ _]+DEFINER|\bsecurity_definer\b' sql src --include='*.sql' --include='*.rs' |
    grep -vE '^[^:]+:[0-9]+:[ \t]*(--|//)'
}
ignored() { grep -rnE '#\[ *ignore\b' --include="*.rs" --exclude-dir=target .; }
# Split so that this file does not name them itself.
machine_paths() {
  local paths='/(ro''ot|wo''rk|fa''rm)/'
  { git ls-files -z --cached --others --exclude-standard 2>/dev/null || find . -type f -not -path './target/*' -print0; } |
    xargs -0 -r grep -nIE "(^|[^A-Za-z0-9_.*\$}-])$paths"
}

rule "src/api does not use src/worker" api_uses_worker
rule "src/worker does not use src/api" worker_uses_api
rule "payload is opaque: JsonB and serde_json::Value only where hints and outcomes are read" json
rule "no unwrap, expect, panic!, todo! or unimplemented! outside tests" panics
rule "string literals outside tests are ASCII" not_ascii
rule "every unsafe block has a SAFETY comment" bare_unsafe
rule "nothing is SECURITY DEFINER" definer
rule "no ignored tests" ignored
rule "no path of one machine in the repository" machine_paths

if [ $BAD != 0 ]; then
  echo "layers: $BAD rules broken"
  exit 1
fi
echo "layers: ok"
