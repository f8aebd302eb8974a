# What scripts/go-tools.sh and scripts/cluster-tools.sh share: build Go programs from pinned modules, once, outside the work tree.
# Sourced, not started. The caller has set -euo pipefail.
#
# The results of a purpose lie in ${OFFSHOOT_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/offshoot}/PURPOSE/HASH, where HASH stands for the
# module files, the scripts and the pinned toolchain: a change of any builds anew, and nothing else does.
#
# Go itself: the `go` that is there, if new enough for go.mod. If not (Debian 12 ships 1.19), that `go` fetches the toolchain pinned
# below as a module through the Go module proxy, and its checksum is compared with the pinned one.
# shellcheck shell=bash

go_toolchain=v0.0.1-go1.26.8.linux-amd64
go_toolchain_sum=h1:ZOmGe1OnfREDMIdb1Qi4G9JSuDPBLGExZMQ4nis1RXM=
go_lib=$(realpath "${BASH_SOURCE[0]}")

go_fail() {
    echo "${0##*/}: $*" >&2
    exit 1
}

# Sets bin to the directory of the results. Ends the script, printing it, if all is built; else takes the lock, so that a second
# caller waits and finds the result, and sets part to an empty directory to build into.
go_begin() { # PURPOSE FILE…
    local cache=${OFFSHOOT_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/offshoot}/$1
    shift
    bin=$cache/$(cat "$@" "$go_lib" | sha256sum | cut -c 1-16)
    if [ ! -d "$bin" ]; then
        mkdir -p "$cache"
        exec 9>"$cache/lock"
        flock 9
    fi
    if [ -d "$bin" ]; then
        touch "$bin"
        echo "$bin"
        exit 0
    fi
    part=$bin.part
    # Those of builds that were broken off, too: it is ours alone while the lock is.
    rm -rf "$cache"/*.part
    mkdir -p "$part"
}

# The directory gets its name only when all in it is built. Beside it stays the one that was last used, for whoever goes back; older ones
# go, as each is a gigabyte.
go_end() {
    local old
    mv "$part" "$bin"
    touch "$bin"
    find "$(dirname "$bin")" -mindepth 1 -maxdepth 1 -type d -printf '%T@ %p\n' | sort -rn | tail -n +3 | cut -d ' ' -f 2- |
        while IFS= read -r old; do rm -rf "$old"; done
    echo "$bin"
}

# Sets go to a program that is new enough for a go.mod.
go_find() { # GO.MOD
    command -v go >/dev/null || go_fail "no go found: run scripts/setup.sh test"
    local needed present empty said goroot
    needed=$(sed -n 's/^go //p' "$1")
    present=$(cd / && GOTOOLCHAIN=local go env GOVERSION)
    present=${present#go}
    go=go
    if [ "$(printf '%s\n%s\n' "$needed" "$present" | sort -V | head -n 1)" = "$needed" ]; then return; fi
    [ "$(uname -m)" = x86_64 ] || go_fail "go $present is older than $needed and the pinned toolchain is for x86_64: install go $needed or newer"
    echo "${0##*/}: go $present is older than $needed, fetching ${go_toolchain#*-}" >&2
    # In an empty directory: an old go cannot read a go.mod that asks for a newer one.
    empty=$(mktemp -d)
    said=$(cd "$empty" && GOFLAGS=-modcacherw GOTOOLCHAIN=local go mod download -json "golang.org/toolchain@$go_toolchain") ||
        go_fail "cannot fetch the go toolchain through the module proxy (GOPROXY=$(go env GOPROXY)): ${said:-no answer}"
    rmdir "$empty"
    [ "$(sed -n 's/^[[:space:]]*"Sum": "\(.*\)",*$/\1/p' <<<"$said")" = "$go_toolchain_sum" ] ||
        go_fail "the go toolchain's checksum is not the pinned one"
    goroot=$(sed -n 's/^[[:space:]]*"Dir": "\(.*\)",*$/\1/p' <<<"$said")
    # Module files are never executable; a toolchain's programs must be.
    chmod -R u+w,a+x "$goroot/bin" "$goroot/pkg/tool"
    go=$goroot/bin/go
}

# Runs go so that nothing of a user's own settings changes what is built.
go_run() { # ARGUMENT…
    env -u GOROOT GOFLAGS="-mod=readonly -modcacherw" GOTOOLCHAIN=local GOWORK=off CGO_ENABLED=0 "$go" "$@"
}

# Builds packages of the module in the current directory into part. -p 2: each compiler takes up to 1 GB.
go_build() { # LDFLAGS PACKAGE…
    local flags=$1
    shift
    go_run build -trimpath -buildvcs=false -p 2 -ldflags="-s -w $flags" -o "$part/" "$@" ||
        go_fail "the build failed; if it names a host or the proxy, check DNS and GOPROXY=$(go env GOPROXY)"
}
