#!/bin/bash
# Run the CSI project's own conformance suite, csi-sanity, against a real server: every access type, filesystem and layout.
#
#   scripts/conformance.sh [CASE…]     all cases, or those named
#
# Nothing may fail, and nothing may be skipped but what tests/data/conformance-skips.txt lists with its reason. Each case has a pool
# and a server of its own, and at its end nothing may be left: no mount, no loop device, no file of a volume.
#
# A mounted ext4 grows only with CAP_SYS_RESOURCE. Where this machine withholds it, the cases with ext4 run inside a user-mode kernel
# (tests/uml), which does not.
#
# The case `delphix` is the Delphix driver before a simulated DCT, whose volumes are real NFS exports; it always runs in there.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# name | pool's filesystem | access | parameters of the volume, as YAML lines | split: a controller and one node's agent, as in a cluster
published=deploy/conformance/csi-sanity
mapfile -t cases < <(grep -v '^#' "$published/cases.txt")
target=${CARGO_TARGET_DIR:-target}
binary=${OFFSHOOT_BINARY:-$target/debug/offshoot}
skips=tests/data/conformance-skips.txt
sanity=${CSI_SANITY:-$(scripts/go-tools.sh)/csi-sanity}

can_grow_ext4() {
    local effective
    effective=$(awk '/^CapEff:/ { print $2 }' /proc/self/status)
    [ $(((0x$effective >> 24) & 1)) = 1 ]
}

secrets() {
    local call
    for call in CreateVolume DeleteVolume ControllerPublishVolume ControllerUnpublishVolume ControllerValidateVolumeCapabilities \
        NodeStageVolume NodePublishVolume CreateSnapshot DeleteSnapshot ControllerExpandVolume ControllerModifyVolume ListSnapshots GetSnapshot; do
        printf '%sSecret:\n  password: marker-of-%s\n' "$call" "$call"
    done
}

write_secrets_and_check() {
    secrets >"$work/secrets.yaml"
    cat >"$work/check.sh" <<'CHECK'
#!/bin/sh
if [ -d "$1" ]; then echo directory; elif [ -f "$1" ] || [ -b "$1" ]; then echo file; elif [ -e "$1" ]; then echo other; else echo not_found; fi
CHECK
    chmod +x "$work/check.sh"
}

# Runs csi-sanity with what is prepared in $work. Its further options come as arguments.
run_sanity() { # NAME [OPTION…]
    local name=$1 skipped unexpected
    shift
    # The expanded size is odd by one byte on purpose.
    if ! "$sanity" "${sockets[@]}" --csi.mountdir "$work/mnt/target" --csi.stagingdir "$work/mnt/staging" \
        --csi.testvolumesize 536870912 --csi.testvolumeexpandsize 805306369 --csi.testvolumeparameters "$work/parameters.yaml" \
        --csi.secrets "$work/secrets.yaml" --csi.checkpathcmd "$work/check.sh" "$@" \
        --ginkgo.json-report "$work/report.json" --ginkgo.no-color >"$work/sanity.log" 2>&1; then
        sed -n '/\[FAIL\]/,$p' "$work/sanity.log" | tail -60
        grep -B2 -A25 '• \[FAILED\]' "$work/sanity.log" | head -150 || true
        echo "the server's last words:"
        tail -30 "$work/server.log"
        echo "conformance: $name: FAILED"
        [ -n "${CONFORMANCE_KEEP:-}" ] && cp "$work/sanity.log" "$work/server.log" "$CONFORMANCE_KEEP/"
        return 1
    fi
    # Which specs did not run, against the list of those that may. A line `[CASE] …` counts for that case only.
    skipped=$(jq -r '.[].SpecReports[] | select(.LeafNodeType == "It" and (.State == "skipped" or .State == "pending"))
        | ((.ContainerHierarchyTexts // []) + [.LeafNodeText]) | join(" ")' "$work/report.json")
    unexpected=$(grep -vxFf <(sed -e 's/ *#.*//' -e "s/^\[$name\] //" "$skips") <<<"$skipped" | grep . || true)
    if [ -n "$unexpected" ]; then
        echo "conformance: $name: skipped what $skips does not allow:"
        echo "$unexpected"
        return 1
    fi
    if grep -q 'marker-of-' "$work/server.log"; then
        echo "conformance: $name: a secret reached the log"
        return 1
    fi
}

work=
servers=()
cleanup() {
    local server
    for server in "${servers[@]}"; do
        kill "$server" 2>/dev/null && wait "$server" 2>/dev/null || true
    done
    [ -n "$work" ] || return 0
    awk -v dir="$work/" 'index($5, dir) == 1 { print $5 }' /proc/self/mountinfo | sort -r | while read -r at; do umount "$at" || true; done
    losetup -l -n -O NAME,BACK-FILE | awk -v dir="$work/" 'index($2, dir) == 1 { print $1 }' | while read -r loop; do losetup -d "$loop" || true; done
    rm -rf --one-file-system "$work"
    work= servers=()
}
trap cleanup EXIT

# Starts the roles, and sets `socket` to the one with the pools and `sockets` to csi-sanity's options.
start_servers() { # ROLES
    local at common=(--state-dir "$work/state" --node-id conformance --max-volumes-per-node 8 --log-level warn)
    socket=$work/csi.sock
    if [ "$1" != split ]; then
        "$binary" serve --endpoint "$socket" "${common[@]}" >"$work/server.log" 2>&1 &
        servers+=($!)
        sockets=(--csi.endpoint "$socket")
    else
        at=127.0.0.1:$((20000 + RANDOM % 10000))
        "$binary" certificates --dir "$work/keys" --controller --node conformance >/dev/null
        "$binary" node --endpoint "$socket" --agent-listen "$at" --tls-dir "$work/keys/conformance" "${common[@]}" \
            >>"$work/server.log" 2>&1 &
        servers+=($!)
        "$binary" controller --endpoint "$work/controller.sock" --agent "conformance=$at" --tls-dir "$work/keys/controller" \
            --log-level warn >>"$work/server.log" 2>&1 &
        servers+=($!)
        sockets=(--csi.endpoint "$socket" --csi.controllerendpoint "$work/controller.sock")
        for _ in $(seq 100); do [ -S "$work/controller.sock" ] && break || sleep 0.1; done
    fi
    for _ in $(seq 100); do [ -S "$socket" ] && break || sleep 0.1; done
}

run_case() { # NAME POOL ACCESS PARAMETERS ROLES
    local name=$1 pool=$2 access=$3 parameters=$4 roles=$5 start=$SECONDS socket sockets
    work=$(mktemp -d "${TMPDIR:-/var/tmp}/offshoot-conformance.XXXXXX")
    mkdir "$work/mnt" "$work/state"
    start_servers "$roles"
    if [ "$pool" = btrfs ]; then
        truncate -s 20G "$work/pool.img"
        mkfs.btrfs -q "$work/pool.img" 2>/dev/null
        mkdir "$work/pool"
        mount -o loop "$work/pool.img" "$work/pool"
        "$binary" pool create default "$work/pool" --socket "$socket" --quiet
    else
        "$binary" pool create default --file "$work/pool.img" --size 20Gi --socket "$socket" --quiet
    fi
    tr ',' '\n' <<<"$parameters" >"$work/parameters.yaml"
    sed -i 's/^ *//' "$work/parameters.yaml"
    write_secrets_and_check
    run_sanity "$name" --csi.testvolumeaccesstype "$access" --csi.testvolumemutableparameters "$published/mutable-parameters.yaml" \
        --csi.testnodevolumeattachlimit=true || return 1
    local left
    left=$("$binary" orphans list --output json --socket "$socket" | tr -d ' \n')
    "$binary" pool delete default --socket "$socket" --quiet || {
        echo "conformance: $name: volumes or snapshots are left in the pool"
        return 1
    }
    if losetup -l -n -O BACK-FILE | grep "^$work/" | grep -vxF "$work/pool.img"; then
        echo "conformance: $name: loop devices are left"
        return 1
    fi
    echo "conformance: $name: $(grep -E '^Ran [0-9]+ of' "$work/sanity.log"); $(tail -40 "$work/sanity.log" | grep -oE '[0-9]+ Passed \| .*'); orphans ${left:0:60} ($((SECONDS - start)) s)"
    cleanup
}

# The Delphix driver, its simulated DCT and an NFS server; inside the user-mode kernel only.
run_delphix() {
    local start=$SECONDS sockets simulator=${OFFSHOOT_DCT_SIM:-$(dirname "$binary")/offshoot-dct-sim} left
    work=$(mktemp -d "${TMPDIR:-/var/tmp}/offshoot-conformance.XXXXXX")
    mkdir "$work/mnt"
    tests/uml/nfs-server.sh /srv/exports 1G
    "$simulator" --data /srv/exports --seed demo --export exportfs --job 0 --listen 127.0.0.1:8443 --key-file "$work/key" --ca-out "$work/ca.pem" \
        --output json >"$work/dct.json" 2>>"$work/server.log" &
    servers+=($!)
    for _ in $(seq 100); do [ -s "$work/dct.json" ] && break || sleep 0.1; done
    printf '[[dct]]\nname = "sim"\nurl = "%s"\nkey-file = "%s"\nca-file = "%s"\n[dct.timing]\npoll-first = "20ms"\n' \
        "$(jq -r .url "$work/dct.json")" "$work/key" "$work/ca.pem" >"$work/dct.toml"
    "$binary" delphix serve --endpoint "$work/csi.sock" --dct-config "$work/dct.toml" --node-id conformance --node-address 127.0.0.1 \
        --max-volumes-per-node 8 --log-level warn >>"$work/server.log" 2>&1 &
    servers+=($!)
    for _ in $(seq 100); do [ -S "$work/csi.sock" ] && break || sleep 0.1; done
    sockets=(--csi.endpoint "$work/csi.sock")
    echo "source: demo" >"$work/parameters.yaml"
    write_secrets_and_check
    run_sanity delphix --csi.testvolumeaccesstype mount || return 1
    left=$("$binary" tree --output json --socket "$work/csi.sock" | jq -c '[.. | .id? // empty]')
    if [ "$left" != "[]" ] || grep -qE ' nfs4? ' /proc/self/mounts; then
        echo "conformance: delphix: left are $left and $(grep -cE ' nfs4? ' /proc/self/mounts) mounts"
        return 1
    fi
    if grep -qF "$(cat "$work/key")" "$work/server.log"; then
        echo "conformance: delphix: the API key reached the log"
        return 1
    fi
    echo "conformance: delphix: $(grep -E '^Ran [0-9]+ of' "$work/sanity.log"); $(tail -40 "$work/sanity.log" | grep -oE '[0-9]+ Passed \| .*') ($((SECONDS - start)) s)"
    cleanup
}

failed=0
for line in "${cases[@]}"; do
    IFS='|' read -r name pool access parameters roles <<<"$line"
    [ $# = 0 ] || [[ " $* " == *" $name "* ]] || continue
    if [ "$name" = ext4 ] && ! can_grow_ext4; then
        echo "conformance: ext4: this machine withholds CAP_SYS_RESOURCE; inside a user-mode kernel:"
        tests/uml/run.sh --mem 3G --limit 420 -- env TMPDIR=/tmp CSI_SANITY="$sanity" OFFSHOOT_BINARY="$(realpath "$binary")" \
            scripts/conformance.sh ext4 || failed=1
    else
        run_case "$name" "$pool" "$access" "$parameters" "$roles" || { failed=1; cleanup; }
    fi
done
if [ $# = 0 ] || [[ " $* " == *" delphix "* ]]; then
    if [ -e /run/offshoot-uml ]; then
        run_delphix || { failed=1; cleanup; }
    else
        tests/uml/run.sh --mem 2G --limit 420 --module nfsd --module nfsv3 --module nfsv4 -- env TMPDIR=/tmp CSI_SANITY="$sanity" \
            OFFSHOOT_BINARY="$(realpath "$binary")" OFFSHOOT_DCT_SIM="$(realpath "$(dirname "$binary")/offshoot-dct-sim")" \
            scripts/conformance.sh delphix || failed=1
    fi
fi
[ "$failed" = 0 ] || exit 1
