# Build: docker build -t offshoot .
# The final image holds the one binary and the filesystem tools that it starts, nothing else of ours.

FROM rust:1.95-bookworm AS build
WORKDIR /src
COPY Cargo.toml Cargo.lock build.rs rust-toolchain.toml ./
COPY proto proto
COPY src src
RUN cargo build --release --locked --bin offshoot

FROM debian:bookworm-slim
RUN apt-get update \
    && apt-get install -y --no-install-recommends btrfs-progs e2fsprogs xfsprogs \
    && rm -rf /var/lib/apt/lists/* /usr/share/doc /usr/share/man /usr/share/locale
COPY --from=build /src/target/release/offshoot /usr/local/bin/offshoot
ENTRYPOINT ["/usr/local/bin/offshoot"]
CMD ["serve"]
