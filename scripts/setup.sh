#!/bin/bash
# Install what one of Offshoot's make targets needs on a Debian machine, as root. Only git and a Rust toolchain are expected before.
#
#   scripts/setup.sh [demo|test|bench|e2e]     (no word: what the driver itself calls, nothing more)
#
# Why: `make demo`, `make test` and `make bench` have to work on a fresh machine with no list of things to install first. May be run
# again at any time: it asks dpkg, not apt, and when nothing is missing it is done in well under a second without a word.
#
# Packages come from the machine's own apt sources. cargo-nextest and cargo-deny are built with cargo at the versions pinned below
# into ${OFFSHOOT_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/offshoot}/tools/bin, outside the work tree; csi-sanity is built by scripts/go-tools.sh,
# Kubernetes by scripts/cluster-tools.sh.
#
# PostgreSQL: the demo and the tests start servers of their own. Where postgresql-common is not there yet it is told beforehand not to
# create the `main` cluster, so that no server of the system's starts. A machine that has PostgreSQL is left as it is.

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

nextest=0.9.151
deny=0.20.2

say() { echo "setup.sh: $*"; }
fail() {
    echo "setup.sh: $*" >&2
    exit 1
}

purpose=${1:-}
packages=(btrfs-progs e2fsprogs util-linux xfsprogs)
cargo_tools=()
go_tools=no
cluster_tools=no
case $purpose in
'') ;;
e2e)
    # The test cluster builds Kubernetes and containerd itself; this is what those start. PostgreSQL goes into an image.
    packages+=(busybox-static conntrack containernetworking-plugins iproute2 iptables jq nftables postgresql runc)
    cluster_tools=yes
    ;;
# pgbench and the contributed extensions come with the server's own package.
demo) packages+=(postgresql) ;;
test)
    # kmod and iproute2 are for tests/uml; the user-mode kernel's modules are of no use without the first. The NFS server runs in
    # there, and so does PostgreSQL on its exports.
    packages+=(attr curl iproute2 jq kmod nfs-kernel-server postgresql rpcbind user-mode-linux)
    cargo_tools=("cargo-nextest $nextest" "cargo-deny $deny")
    go_tools=yes
    ;;
bench)
    packages+=(fio)
    go_tools=yes
    ;;
*) fail "unknown purpose $purpose: say demo, test, bench or e2e" ;;
esac

# Any go will do: scripts/go-tools.sh lets one that is too old fetch the pinned toolchain.
if [ "$go_tools$cluster_tools" != nono ] && ! command -v go >/dev/null; then packages+=(golang-go); fi

installed() { # PACKAGE
    [ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}

missing=()
quiet=()
for package in "${packages[@]}"; do
    installed "$package" || missing+=("$package")
done

if [ ${#missing[@]} -gt 0 ]; then
    [ "$(id -u)" = 0 ] || fail "needs root to install: ${missing[*]}"
    command -v apt-get >/dev/null || fail "this is not a Debian machine, install by hand: ${missing[*]}"
    export DEBIAN_FRONTEND=noninteractive
    apt=(apt-get -y -qq -o Dpkg::Use-Pty=0 -o DPkg::Lock::Timeout=300 install --no-install-recommends)
    if [[ " ${missing[*]} " = *" postgresql "* ]] && ! installed postgresql-common; then
        mkdir -p /etc/postgresql-common
        if [ ! -e /etc/postgresql-common/createcluster.conf ]; then
            say "no system PostgreSQL cluster: writing create_main_cluster = false to /etc/postgresql-common/createcluster.conf"
            echo 'create_main_cluster = false' >/etc/postgresql-common/createcluster.conf
        fi
        # dpkg would ask about a configuration file that is there before its package.
        apt+=(-o Dpkg::Options::=--force-confold)
    fi
    # An NFS server and a port mapper are wanted as programs. This keeps the machine from starting them, now and at boot.
    if [[ " ${missing[*]} " = *" nfs-kernel-server "* ]]; then
        if [ ! -e /usr/sbin/policy-rc.d ]; then
            printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d
            chmod 755 /usr/sbin/policy-rc.d
            trap 'rm -f /usr/sbin/policy-rc.d' EXIT
        fi
        quiet=(nfs-server.service rpcbind.service rpcbind.socket nfs-blkmap.service)
    fi
    say "installing ${missing[*]}"
    # The package lists may be absent or old: they are fetched only when the first try fails.
    if ! "${apt[@]}" "${missing[@]}" >/dev/null 2>&1; then
        say "updating the package lists"
        apt-get -qq -o DPkg::Lock::Timeout=300 update || fail "apt-get update failed: check DNS and /etc/apt"
        "${apt[@]}" "${missing[@]}" >/dev/null || fail "apt-get could not install ${missing[*]}"
    fi
    if [ ${#quiet[@]} -gt 0 ] && command -v systemctl >/dev/null; then systemctl --quiet disable "${quiet[@]}" 2>/dev/null || true; fi
fi

tools=${OFFSHOOT_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/offshoot}/tools
for tool in "${cargo_tools[@]}"; do
    read -r name version <<<"$tool"
    if grep -qs "^\"$name $version " "$tools/.crates.toml" && [ -x "$tools/bin/$name" ]; then continue; fi
    command -v cargo >/dev/null || fail "no cargo found: install a Rust toolchain first, https://rustup.rs"
    say "building $name $version, some minutes"
    # A test tool is built often on fresh machines and runs for seconds: build quickly instead of well.
    CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_OPT_LEVEL=1 CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 \
        CARGO_PROFILE_RELEASE_DEBUG=0 CARGO_PROFILE_RELEASE_STRIP=symbols \
        cargo install --quiet --locked --root "$tools" --version "=$version" "$name" ||
        fail "building $name $version failed; if no compiler error is above, the crate registry could not be reached: check DNS and the proxy"
done

if [ "$go_tools" = yes ]; then scripts/go-tools.sh >/dev/null; fi
if [ "$cluster_tools" = yes ]; then scripts/cluster-tools.sh >/dev/null; fi
