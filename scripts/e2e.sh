#!/bin/bash
# Try what Offshoot promises on a real Kubernetes of two nodes, made here. `make e2e` calls it.
#
#   scripts/e2e.sh [NAME…] [OPTION…]     scenarios by name, all if none is given; --list, --jobs N, --output json: see --help
#
# With no name all are run, and before them what has to be true of the chart and the manifests (`make deploy-check`).
#
# The cluster is used again if it is there, and left running; in CI ($CI) it is removed at the end. Evidence of failures is below
# $CARGO_TARGET_DIR/e2e-evidence. docs/development/e2e.md says more.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$PWD/target}
# The end of a release build has only work for one processor; on a fresh machine the tools meanwhile take the other.
release=
if [ -z "${OFFSHOOT_BINARY:-}" ]; then
    cargo build --quiet --release --locked --bin offshoot &
    release=$!
fi
scripts/setup.sh e2e
[ -z "$release" ] || wait "$release"
cargo build --quiet --locked -p offshoot-cluster --bins
if [ $# = 0 ]; then
    scripts/render.sh --check
    scripts/chart-test.sh
fi
if [ -n "${CI:-}" ]; then trap '"$CARGO_TARGET_DIR/debug/cluster" down' EXIT; fi
"$CARGO_TARGET_DIR/debug/e2e" "$@"
