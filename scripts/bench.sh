#!/bin/bash
# Run the benchmark, and make sure that it leaves nothing behind, however it ends.
#
#   scripts/bench.sh [--quick] [--only calls,lives,sizes,scale,fio]     (the release binary and example are built already)
#
# BENCH_PEER=/path/to/hostpathplugin measures csi-driver-host-path in the same loops. BENCH_DIR is where the pool's file lies: the
# figures are of that disk. A full run writes docs/performance.md (between its markers) and the plot beside it; a part of one does not.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

export BENCH_DIR=${BENCH_DIR:-/var/tmp/offshoot-bench}
target=${CARGO_TARGET_DIR:-target}

# What the benchmark's own clean-up could not do, such as after a SIGKILL: only what lies below its directory.
sweep() {
    [ -e "$BENCH_DIR" ] || return 0
    local pid
    for pid in $(pgrep -f -- "--endpoint[ =](unix://)?$BENCH_DIR/" || true); do
        kill -TERM "$pid" 2>/dev/null || true
    done
    # The next run does the rest before it begins, and so does this one, without measuring anything.
    "$target/release/examples/bench" --dir "$BENCH_DIR" --clean
}
trap 'status=$?; trap - EXIT; sweep; exit "$status"' EXIT
trap ':' INT TERM

# With precedence where that is allowed: what is measured is the driver, not how many other programs want the processors.
priority=()
if nice -n -15 true 2>/dev/null; then priority=(nice -n -15); fi
page=()
if [ $# -eq 0 ]; then page=(--page docs/performance.md); fi
"${priority[@]}" "$target/release/examples/bench" --json "$target/bench.json" "${page[@]}" "$@"
