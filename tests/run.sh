#!/usr/bin/env bash
# All checks, cheapest first; the last line printed is pytest's own. The cluster is brought up before the tests, which
# have a time limit each that a first build would break, and taken down again if this run brought it up (KEEP_CLUSTER=1
# leaves it). Where there can be none, the tests that need it say so themselves, or fail under CI=true.
set -euo pipefail
cd "$(dirname "$0")/.."
bin=.venv/bin

make --no-print-directory lint

finish() {
  if [ -n "${started:-}" ] && [ -z "${KEEP_CLUSTER:-}" ]; then
    "$bin/python" -m devcluster down >/dev/null 2>&1 || true
  fi
}
trap finish EXIT

if [ -z "${MLOPS_KUBECONFIG:-}" ] && ! "$bin/python" -m devcluster status >/dev/null 2>&1; then
  started=yes
  "$bin/python" -m devcluster up || true
fi

"$bin/pytest" "$@"
