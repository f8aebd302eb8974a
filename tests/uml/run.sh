#!/bin/bash
# Run one command as root inside a kernel of its own, and return its exit status.
#
#   tests/uml/run.sh [options] -- COMMAND [ARGUMENT…]
#
# Why: some promises can only be shown with rights or a kernel that the machine at hand does not give. A mounted ext4 grows only for
# a process with CAP_SYS_RESOURCE, which containers and hardened hosts withhold; another kernel version mounts, reflinks or refuses
# other things. Debian's package user-mode-linux is a Linux kernel that runs as an ordinary process: no KVM, no module on the host,
# no image to download. Its CPU speed is near native but its system calls are slow: nothing is benchmarked in there.
#
# What the command sees: the host's own tree, read only, under a tmpfs that takes every write and is gone afterwards; so the host's
# binaries run unchanged, at the same path, with the same environment and working directory. Fresh /proc, /sys, /dev, /run, /tmp; loop
# devices; loopback up; no other network. Only folders named with --share are the host's own and writable.
# A file system image or a pool belongs on the guest's /tmp or another path outside the shared folders: hostfs takes no O_DIRECT
# and no reflink.
#
# Options
#   --share DIR     share DIR with the host, writable, at the same path (may be repeated)
#   --module NAME   load a kernel module besides loop and overlay, e.g. nfsd, dm-thin-pool (may be repeated; xfs, btrfs and ext4 are built in)
#   --mem SIZE      the guest's memory, default 512M; half of it is the room for what the command writes
#   --cpu N|any     pin the guest to host CPU N; by default one of the allowed CPUs, as an unpinned guest is several times slower
#   --limit SECONDS give up after so long, default 120
#   --log FILE      keep the kernel's console output there; otherwise its end is shown only when the guest does not come to an end by itself
#   --verbose       show the console output on stderr, each line behind `uml: `
#
# Exit status: the command's own; 124 when the limit was reached; 125 when the guest could not run the command or died; 2 for a wrong option.
#
# Nothing is left behind: everything runs in a PID and a mount namespace of its own, whose end takes every process and every mount with
# it, also when this script gets SIGKILL (then one empty directory named offshoot-uml.* stays in $TMPDIR).

set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

usage() { sed -n '2,/^$/s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"; }

refuse() { # STATUS MESSAGE
    echo "run.sh: $2" >&2
    exit "$1"
}

# One of the CPUs this process may use, spread by process id so that guests side by side get different ones.
pick_cpu() {
    local list part cpus=()
    list=$(sed -n 's/^Cpus_allowed_list:[[:space:]]*//p' /proc/self/status)
    for part in ${list//,/ }; do
        mapfile -t -O "${#cpus[@]}" cpus < <(seq "${part%-*}" "${part#*-}")
    done
    echo "${cpus[$$ % ${#cpus[@]}]}"
}

# Runs as process 1 of the namespaces: $control is an empty directory that only this run uses.
inside() {
    # The guest's memory is a file that must be mapped executable; /dev/shm is often small or noexec, so it gets a place of its own.
    mount -t tmpfs -o "mode=700,size=100%,exec" offshoot-uml "$control"
    mkdir "$control/kernel" "$control/upper" "$control/root"
    printf '%s\0' "${command[@]}" >"$control/command"
    env -0 -u LIMIT >"$control/environment"
    printf '%s' "$PWD" >"$control/directory"
    [ ${#shares[@]} -eq 0 ] || printf '%s\0' "${shares[@]}" >"$control/shares"
    [ ${#modules[@]} -eq 0 ] || printf '%s\0' "${modules[@]}" >"$control/modules"
    cp "$here/guest-init.sh" "$control/init"
    chmod 700 "$control/init"
    if [ -z "$log" ]; then log=$control/log; fi
    : >"$log"

    # The guest's two serial lines are the command's stdout and stderr. They go through `cat`, since the kernel makes its ends non-blocking,
    # which would follow the file description into the caller's terminal.
    local console="" prefix="" status=0
    exec 3> >(exec cat)
    local out_cat=$!
    exec 4> >(exec cat >&2 3>&-)
    local err_cat=$!
    if [ "$verbose" = yes ]; then
        exec 5> >(exec sed -u 's/^/uml: /' >&2 3>&- 4>&-)
        prefix=$!
        tail --follow --lines=+1 --quiet "$log" >&5 3>&- 4>&- &
        console=$!
        exec 5>&-
    fi
    local pin=()
    if [ "$cpu" != any ]; then pin=(taskset -c "$cpu"); fi
    TMPDIR=$control/kernel timeout --signal=KILL "$limit" "${pin[@]}" linux.uml \
        mem="$mem" uml_dir="$control/kernel/" umid=guest \
        root=/dev/root rootfstype=hostfs rootflags=/ ro quiet panic=-1 \
        con=null con0=null,fd:2 ssl=null ssl0=null,fd:3 ssl1=null,fd:4 \
        init="$control/init" OFFSHOOT_CONTROL="$control" \
        </dev/null >>"$log" 2>&1 &
    # In the background and waited for, so that bash's own remark about a killed command can be dropped.
    wait "$!" 2>/dev/null || status=$?
    exec 3>&- 4>&-
    # A kernel that was killed leaves its guest's processes behind, stopped, with the lines still open.
    local process
    for process in /proc/[0-9]*; do
        case ${process#/proc/} in
        1 | "$out_cat" | "$err_cat" | "$console" | "$prefix") ;;
        *) kill -KILL "${process#/proc/}" 2>/dev/null || true ;;
        esac
    done
    wait "$out_cat" "$err_cat" || true
    if [ -n "$console" ]; then
        sleep 0.2
        kill "$console"
        wait "$prefix" || true
    fi
    if [ -s "$control/status" ]; then
        exit "$(cat "$control/status")"
    fi
    echo "run.sh: the guest came to no end by itself; the last lines of its console:" >&2
    tail -n 20 "$log" | sed 's/^/uml: /' >&2
    if [ "$status" = 137 ]; then refuse 124 "stopped after $limit s"; fi
    refuse 125 "the user-mode kernel ended with status $status before the command did"
}

shares=() modules=() command=()
mem=512M cpu="" limit=120 log="" verbose=no control=""
while [ $# -gt 0 ]; do
    case $1 in
    --share) shares+=("$(realpath -e -- "${2:?--share needs a directory}")") && shift ;;
    --module) modules+=("${2:?--module needs a name}") && shift ;;
    --mem) mem=${2:?--mem needs a size} && shift ;;
    --cpu) cpu=${2:?--cpu needs a number} && shift ;;
    --limit) limit=${2:?--limit needs seconds} && shift ;;
    --log) log=$(realpath -m -- "${2:?--log needs a file}") && shift ;;
    --verbose) verbose=yes ;;
    --inside) control=${2:?} && shift ;; # set only by this script itself, see below
    --help | -h) usage && exit 0 ;;
    --) shift && command=("$@") && break ;;
    *) refuse 2 "unknown option $1, see --help" ;;
    esac
    shift
done
[ ${#command[@]} -gt 0 ] || refuse 2 "no command given, see --help"
if [ -n "$control" ]; then inside; fi

[ "$(id -u)" = 0 ] || refuse 2 "needs root, for a mount and a PID namespace"
for program in linux.uml modprobe ip; do
    command -v "$program" >/dev/null || refuse 2 "$program is missing: run scripts/setup.sh test"
done
[ -n "$cpu" ] || cpu=$(pick_cpu)

control=$(mktemp -d "${TMPDIR:-/tmp}/offshoot-uml.XXXXXX")
options=(--inside "$control" --mem "$mem" --cpu "$cpu" --limit "$limit")
[ -z "$log" ] || options+=(--log "$log")
[ "$verbose" = no ] || options+=(--verbose)
for share in "${shares[@]}"; do options+=(--share "$share"); done
for module in "${modules[@]}"; do options+=(--module "$module"); done

# A chain of deaths: this script's end kills unshare, whose end kills process 1 of the namespace, whose end kills all that is in it.
setpriv --pdeathsig KILL unshare --mount --propagation slave --mount-proc --pid --fork --kill-child=KILL \
    bash "$here/run.sh" "${options[@]}" -- "${command[@]}" </dev/null &
guest=$!
stop() { # STATUS
    kill -KILL "$guest" 2>/dev/null || true
    wait "$guest" 2>/dev/null || true
    rmdir "$control" 2>/dev/null || true
    exit "$1"
}
trap 'stop 129' HUP
trap 'stop 130' INT
trap 'stop 143' TERM
status=0
wait "$guest" || status=$?
rmdir "$control"
exit "$status"
