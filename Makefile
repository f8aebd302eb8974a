# The commands of the project. `make demo` and `make test` are all that a newcomer needs; both install what they use.

# Built files lie outside the work tree, so that a fresh clone does not build everything again.
export OFFSHOOT_CACHE ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/offshoot
export CARGO_TARGET_DIR ?= $(OFFSHOOT_CACHE)/target
export PATH := $(OFFSHOOT_CACHE)/tools/bin:$(PATH)

.PHONY: help build demo test quick bench bench-k8s e2e cluster cluster-down deploy-check lint docs clean

help: ## show this list
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 14

build: ## build the release binary
	cargo build --release --locked

demo: ## a real PostgreSQL, ten writable copies in seconds (DEMO_KEEP=1 leaves it running)
	scripts/setup.sh demo
	cargo build --release --locked --bin offshoot --example demo
	scripts/demo.sh

test: ## everything that must pass, conformance included
	scripts/test.sh

quick: ## unit tests and the sweeps over the machine in memory; needs no root
	cargo nextest run --locked --lib --test architecture --test descriptor --test crash --test generated

lint: ## formatting, lints, licences
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets -- -D warnings
	cargo deny --log-level error check

bench: ## compare with csi-driver-host-path and the raw system calls, in one run
	scripts/setup.sh bench
	cargo build --release --locked --bins --examples
	scripts/bench.sh

e2e: ## the end-to-end scenarios on a real Kubernetes; E2E="NAME…" for some of them
	scripts/e2e.sh $(E2E)

bench-k8s: ## pods with volumes on a real Kubernetes: time, memory, requests; BENCH="--pods 1,20" for less
	scripts/bench-k8s.sh $(BENCH)

cluster: ## a real Kubernetes of two nodes on this machine, left running
	scripts/setup.sh e2e
	cargo run --quiet --locked -p offshoot-cluster -- up

cluster-down: ## remove that Kubernetes and everything it made
	cargo run --quiet --locked -p offshoot-cluster -- down

deploy-check: ## the manifests are those of the chart, and a real API server takes both (part of e2e)
	scripts/setup.sh e2e
	scripts/render.sh --check
	scripts/chart-test.sh

docs: ## write the generated reference pages anew
	OFFSHOOT_BLESS=1 cargo test --locked --test generated

clean: ## remove what was built
	cargo clean
