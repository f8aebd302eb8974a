# Build: docker build -t offshoot .
# The image holds the one binary, the filesystem tools that it starts with their libraries, and nothing else: no shell. scripts/image.sh
# says which, for this file as for machines without docker.

FROM rust:1.95-bookworm AS build
WORKDIR /src
COPY Cargo.toml Cargo.lock build.rs rust-toolchain.toml ./
COPY proto proto
COPY src src
RUN cargo build --release --locked --bin offshoot

FROM debian:bookworm-slim AS files
RUN apt-get update && apt-get install -y --no-install-recommends btrfs-progs e2fsprogs xfsprogs
WORKDIR /src
COPY scripts/image.sh scripts/oci-lib.sh scripts/
COPY src/host/linux/programs.rs src/host/linux/
COPY --from=build /src/target/release/offshoot /src/offshoot
RUN OFFSHOOT_BINARY=/src/offshoot OFFSHOOT_ROOT=/image scripts/image.sh

FROM scratch
COPY --from=files /image/ /
ENV PATH=/usr/local/bin:/usr/sbin:/usr/bin
ENTRYPOINT ["/usr/local/bin/offshoot"]
CMD ["serve"]
