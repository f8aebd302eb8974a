#!/bin/bash
# Make the images that the test cluster needs beside Offshoot's own, and print the directory they are in.
#
#   scripts/cluster-images.sh            what every cluster needs
#   scripts/cluster-images.sh postgres   the image of PostgreSQL, with the path of its archive printed
#
# Names: localhost/offshoot-test/NAME:1 for pause, busybox, postgres, csi-provisioner, csi-resizer, csi-snapshotter, csi-snapshot-metadata.
# There is no registry behind them: pods say imagePullPolicy Never or IfNotPresent.
#
# The archives lie outside the work tree, in ${OFFSHOOT_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/offshoot}/cluster-images/HASH, where HASH stands for
# the tools' directory, the packages' versions and the scripts.

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=scripts/oci-lib.sh
. scripts/oci-lib.sh

what=${1:-base}
tools=$(scripts/cluster-tools.sh)
cache=${OFFSHOOT_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/offshoot}/cluster-images
packages=$(dpkg-query -W -f '${Package} ${Version} ${db:Status-Status}\n' busybox-static 'postgresql-[0-9]*' 2>/dev/null || :)
hash=$( (echo "$tools" "$packages" && cat scripts/cluster-images.sh scripts/oci-lib.sh) | sha256sum | cut -c 1-16)
folder=$cache/$what-$hash

done_already() {
    [ -d "$folder" ] || return 1
    if [ "$what" = base ]; then echo "$folder"; else echo "$folder/$what.tar"; fi
}
if done_already; then exit 0; fi
mkdir -p "$cache"
exec 8>"$cache/lock"
flock 8
if done_already; then exit 0; fi

part=$folder.part
rm -rf "$part"
mkdir -p "$part"
trap 'rm -rf "$part"' EXIT
image() { # NAME CONFIG: from $part/NAME
    oci_archive "$part/$1.tar" "localhost/offshoot-test/$1:1" "$part/$1" "$2" plain >/dev/null
    rm -rf "${part:?}/$1"
}
add_busybox() { # ROOT
    local applet
    oci_copy "$1" /usr/bin/busybox
    busybox --list-full | while read -r applet; do
        applet=$(oci_merged "/$applet")
        mkdir -p "$1$(dirname "$applet")"
        [ -e "$1$applet" ] || ln -s /usr/bin/busybox "$1$applet"
    done
}

case $what in
base)
    for name in pause csi-provisioner csi-resizer csi-snapshotter csi-snapshot-metadata; do
        oci_root "$part/$name"
        cp "$tools/$name" "$part/$name/usr/bin/$name"
        image "$name" "{\"Entrypoint\":[\"/usr/bin/$name\"],\"User\":\"65532\"}"
    done
    oci_root "$part/busybox"
    add_busybox "$part/busybox"
    image busybox '{"Entrypoint":["/bin/sh"],"Env":["PATH=/usr/sbin:/usr/bin"]}'
    ;;
postgres)
    root=$part/postgres
    # The newest of those that are installed.
    server=$(find /usr/lib/postgresql -mindepth 1 -maxdepth 1 2>/dev/null | sort -V | tail -n 1)
    [ -n "$server" ] || { echo "cluster-images.sh: there is no PostgreSQL: run scripts/setup.sh e2e" >&2; exit 1; }
    oci_root "$root"
    add_busybox "$root"
    programs=()
    for name in initdb postgres pg_ctl pgbench psql pg_isready pg_checksums pg_controldata; do programs+=("$server/bin/$name"); done
    oci_copy "$root" "${programs[@]}"
    mkdir -p "$root$server/lib" "$root/usr/share/postgresql" "$root/run/postgresql" "$root/usr/share/zoneinfo"
    cp -a "$server/lib/." "$root$server/lib/"
    # The just-in-time compiler alone is larger than all else.
    rm -rf "$root$server/lib/bitcode" "$root$server"/lib/llvmjit* "$root$server/lib/pgxs"
    oci_copy "$root" "$server"/lib/dict_snowball.so "$server"/lib/plpgsql.so
    cp -a "/usr/share/postgresql/${server##*/}" "$root/usr/share/postgresql/"
    cp -aL /usr/share/zoneinfo/Etc "$root/usr/share/zoneinfo/"
    printf 'postgres:x:999:999:postgres:/var/lib/postgresql:/bin/sh\n' >>"$root/etc/passwd"
    printf 'postgres:x:999:\n' >>"$root/etc/group"
    chmod 1777 "$root/run/postgresql"
    image postgres "{\"User\":\"999\",\"Env\":[\"PATH=$server/bin:/usr/sbin:/usr/bin\",\"LC_ALL=C\"],\"Cmd\":[\"postgres\"]}"
    ;;
*)
    echo "cluster-images.sh: unknown images $what: say postgres, or nothing" >&2
    exit 1
    ;;
esac
trap - EXIT
mv "$part" "$folder"
done_already
