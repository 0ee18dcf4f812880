#!/usr/bin/env bash
# All checks, cheapest first; the last line printed is pytest's own. The cluster is brought up in the background while
# the other tests run, and taken down again if this run brought it up (KEEP_CLUSTER=1 leaves it).
set -euo pipefail
cd "$(dirname "$0")/.."
bin=.venv/bin

make --no-print-directory lint

started=""
if [ -z "${MLOPS_KUBECONFIG:-}" ] && ! "$bin/python" -m devcluster status >/dev/null 2>&1; then
  started=yes
  log="$(mktemp -t mlops-cluster-up.XXXXXX)"
  "$bin/python" -m devcluster up >"$log" 2>&1 </dev/null &
  up=$!
fi

finish() {
  if [ -n "$started" ] && [ -z "${KEEP_CLUSTER:-}" ]; then
    wait "$up" 2>/dev/null || true
    "$bin/python" -m devcluster down >/dev/null 2>&1 || true
    rm -f "$log"
  fi
}
trap finish EXIT

"$bin/pytest" "$@"
