# Make image archives without a registry and without an image builder. Sourced by scripts/image.sh and scripts/cluster-images.sh,
# which have set -euo pipefail.
#
# An archive is an OCI layout in a tar: containerd (`ctr images import`), podman and newer docker (`docker load`) take it. An image has one
# layer; the same files give the same bytes, whenever and wherever it is made.
# shellcheck shell=bash

# Copies programs or other files of this machine into a root folder, at the same place, with the shared libraries that they need.
oci_copy() { # ROOT FILE…
    local root=$1 file real library
    shift
    for file in "$@"; do
        [ -e "$file" ] || { echo "${0##*/}: $file is missing: run scripts/setup.sh e2e" >&2; exit 1; }
        real=$(realpath "$file")
        oci_place "$root" "$real" "$file"
        # Not a dynamic program: ldd says so and fails.
        { ldd "$real" 2>/dev/null || :; } | sed -nE 's/^.*=> (\/[^ ]+) .*/\1/p; s/^\s*(\/[^ ]+) \(.*/\1/p' | while read -r library; do
            oci_place "$root" "$(realpath "$library")" "$library"
        done
    done
}

# Puts a file at its own place and at the one it was asked for by, the second as a link.
oci_place() { # ROOT REAL ASKED
    local root=$1 real asked
    real=$(oci_merged "$2") asked=$(oci_merged "$3")
    mkdir -p "$root$(dirname "$real")" "$root$(dirname "$asked")"
    [ -e "$root$real" ] || cp --no-dereference --preserve=mode "$2" "$root$real"
    [ "$real" = "$asked" ] || ln -sfn "$real" "$root$asked"
}

# Debian's /bin, /sbin and /lib are links into /usr.
oci_merged() { # PATH
    sed -E 's,^/(bin|sbin|lib|lib64)/,/usr/\1/,' <<<"$1"
}

# Makes the folders that every image has, and two users: root and one without rights.
oci_root() { # ROOT
    local root=$1 name
    mkdir -p "$root"/{etc,proc,sys,dev,run,tmp,var,usr/bin,usr/sbin,usr/lib,usr/lib64}
    ln -sfn ../run "$root/var/run"
    # mktemp makes folders that only their owner may enter.
    chmod 755 "$root"
    chmod 1777 "$root/tmp"
    for name in bin sbin lib lib64; do ln -sfn "usr/$name" "$root/$name"; done
    printf 'root:x:0:0:root:/:/sbin/nologin\nnonroot:x:65532:65532:nonroot:/:/sbin/nologin\n' >"$root/etc/passwd"
    printf 'root:x:0:\nnonroot:x:65532:\n' >"$root/etc/group"
}

# Makes the archive. CONFIG is the image's "config" object, such as {"Entrypoint":["/pause"]}. gzip: the layer is compressed, smaller;
# plain: it is not, quicker. Prints the size of the layer in bytes.
oci_archive() { # ARCHIVE NAME ROOT CONFIG gzip|plain
    local archive=$1 name=$2 root=$3 config=$4 how=$5 work layer diff type size sum json
    work=$(mktemp -d "$archive.XXXXXX")
    mkdir -p "$work/blobs/sha256"
    tar --create --file "$work/layer" --directory "$root" --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner --format=gnu .
    diff=$(sha256sum "$work/layer" | cut -d ' ' -f 1)
    type=application/vnd.oci.image.layer.v1.tar
    if [ "$how" = gzip ]; then
        gzip -9 -n "$work/layer"
        mv "$work/layer.gz" "$work/layer"
        type+=+gzip
    fi
    layer=$(sha256sum "$work/layer" | cut -d ' ' -f 1)
    size=$(stat -c %s "$work/layer")
    mv "$work/layer" "$work/blobs/sha256/$layer"

    oci_blob() { # TEXT: prints its descriptor without the type
        sum=$(printf %s "$1" | sha256sum | cut -d ' ' -f 1)
        printf %s "$1" >"$work/blobs/sha256/$sum"
        jq -nc --arg digest "sha256:$sum" --argjson size "$(stat -c %s "$work/blobs/sha256/$sum")" '{digest: $digest, size: $size}'
    }
    json=$(jq -nc --argjson config "$config" --arg diff "sha256:$diff" \
        '{architecture: "amd64", os: "linux", config: $config, rootfs: {type: "layers", diff_ids: [$diff]}}')
    json=$(jq -nc --argjson config "$(oci_blob "$json")" --arg type "$type" --arg layer "sha256:$layer" --argjson size "$size" \
        '{schemaVersion: 2, mediaType: "application/vnd.oci.image.manifest.v1+json",
          config: ({mediaType: "application/vnd.oci.image.config.v1+json"} + $config),
          layers: [{mediaType: $type, digest: $layer, size: $size}]}')
    jq -nc --argjson manifest "$(oci_blob "$json")" --arg name "$name" \
        '{schemaVersion: 2, mediaType: "application/vnd.oci.image.index.v1+json",
          manifests: [({mediaType: "application/vnd.oci.image.manifest.v1+json"} + $manifest
            + {annotations: {"io.containerd.image.name": $name, "org.opencontainers.image.ref.name": ($name | split(":") | last)}})]}' \
        >"$work/index.json"
    echo '{"imageLayoutVersion":"1.0.0"}' >"$work/oci-layout"
    tar --create --file "$work.tar" --directory "$work" --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner --format=gnu \
        blobs index.json oci-layout
    rm -rf "$work"
    mv "$work.tar" "$archive"
    echo "$size"
}
