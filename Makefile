# What to run here, and what it does: `make help`.

# One set of flags for every build, so that the build cache serves them all.
GOFLAGS := $(strip $(filter-out -trimpath,$(GOFLAGS)) -trimpath)
# The commit is stamped into binaries where git may be asked for it.
ifneq ($(shell git status --porcelain >/dev/null 2>&1 && echo yes),yes)
GOFLAGS := $(strip $(filter-out -buildvcs=%,$(GOFLAGS)) -buildvcs=false)
endif
export GOFLAGS

MODULE := github.com/aleph-onchain/aleph-onchain
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo devel)
LDFLAGS := -s -w -X $(MODULE)/internal/build.Version=$(VERSION)
IMAGE := build/images/debian.aleph
FUNCTION_IMAGE := build/images/function.aleph
# Where the guest images' Debian packages come from.
IMAGE_MIRROR ?= http://deb.debian.org
LINTER := build/tools/golangci-lint
CHECK := packaging/setup/check.sh
SETUP := packaging/setup/debian.sh
PHASES := packaging/setup/phases.sh

# Where tests and the demo find what was built.
export ALEPH_BIN ?= $(abspath bin)
export ALEPH_IMAGE ?= $(abspath $(IMAGE))
# In one word: of two, nodes take the first one for a section of their settings.
export ALEPH_FUNCTIONIMAGE ?= $(abspath $(FUNCTION_IMAGE))

# How long `make fuzz` spends on each target.
FUZZTIME ?= 10s
# Arguments for devnet, demo, bench and e2e, as in make devnet ARGS=--ephemeral.
ARGS ?=

.DEFAULT_GOAL := help

include contracts/contracts.mk

.PHONY: help build image function-image test check demo devnet bench bench-mesh bench-messages bench-compute unit sim e2e race faults-messages faults-mesh faults-compute cover fuzz lint fmt generate check-generated clean check-go

help: ## list what can be made
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  %-28s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

check-go:
	@$(CHECK) go git

build: check-go ## build bin/aleph-node, bin/aleph and bin/aleph-guest
	@echo "build: compiling (minutes when nothing is cached, seconds after)"
	@mkdir -p bin
	@go build -ldflags '$(LDFLAGS)' -o bin/ ./cmd/aleph-node ./cmd/aleph
	@CGO_ENABLED=0 go build -ldflags '$(LDFLAGS)' -o bin/ ./cmd/aleph-guest

image: check-go ## build the guest image from Debian packages
	@$(SETUP) demo
	@go run ./packaging/image -o $(IMAGE) -mirror $(IMAGE_MIRROR)

function-image: check-go ## build the image of functions: kernel, aleph-guest, and a small Debian with Python
	@$(SETUP) test
	@go run ./packaging/image -function -o $(FUNCTION_IMAGE) -mirror $(IMAGE_MIRROR)

test: ## install what is missing, build everything, run every test
	@$(CHECK) go git node npm
	@$(PHASES) test "the next thing to try is make demo." \
		"system packages" "$(SETUP) test" \
		"contract tools" "$(MAKE) --no-print-directory contracts-deps" \
		"binaries and contracts" "$(MAKE) -j2 --no-print-directory build contracts-build contracts-test-build" \
		"guest images" "$(MAKE) --no-print-directory image function-image" \
		"contract tests" "$(MAKE) --no-print-directory contracts-test contracts-gas bindings-check" \
		"unit tests" "$(MAKE) --no-print-directory unit" \
		"conformance tests" "$(MAKE) --no-print-directory test-conformance" \
		"end-to-end tests" "$(MAKE) --no-print-directory e2e"

check: ## what a commit must pass: lint, format, generated files, every test
	@$(CHECK) go git node npm
	@$(PHASES) check "this tree may be committed." \
		"lint" "$(MAKE) --no-print-directory lint" \
		"contract format" "$(MAKE) --no-print-directory contracts-fmt-check" \
		"contract lint" "$(MAKE) --no-print-directory contracts-lint" \
		"generated files" "$(MAKE) --no-print-directory check-generated" \
		"tests" "$(MAKE) --no-print-directory test"

demo: ## show it: a local network runs a paid job in a real virtual machine
	@$(CHECK) go git
	@$(PHASES) demo "the next thing to try is make devnet." \
		"system packages" "$(SETUP) demo" \
		"binaries" "$(MAKE) --no-print-directory build build/demo" \
		"guest image" "$(MAKE) --no-print-directory image" \
		"show" "build/demo $(ARGS)"

.PHONY: build/demo
build/demo: check-go
	@go build -o $@ ./test/demo

devnet: ## run a local network until Ctrl-C
	@$(CHECK) go git
	@$(SETUP) demo
	@$(MAKE) --no-print-directory build image
	@exec bin/aleph-node devnet --image $(IMAGE) $(ARGS)

bench: build image ## measure, and write bench/results.json and bench/README.md
	@$(SETUP) test
	@go run ./test/bench $(ARGS)

bench-messages: build ## measure the message network, and write bench/messages.*
	@go run ./test/bench/messages -bin bin -out bench $(ARGS)

bench-mesh: check-go ## measure how messages get from node to node, and write bench/mesh*
	@go run ./test/bench/mesh -out bench $(ARGS)

bench-compute: build image function-image ## measure what machines and functions cost, and write bench/compute*; ARGS="-only supervisor" for a part
	@$(SETUP) test
	@go build -o build/stubvm ./test/stubvm
	@go run ./test/bench/compute -stub build/stubvm -out bench $(ARGS)

unit: check-go ## unit tests of the Go code, with real machines where packages need them
	@$(SETUP) test
	@go test -timeout 20m ./...

# A later -nodes or -seed of ARGS counts.
sim: check-go ## simulate 1,000 nodes with faults on virtual time (3 GB, many minutes), ARGS="-seed 7 -nodes 200"
	@go test ./test/sim -run TestALargeNetworkAgrees -count=1 -timeout 120m -v -nodes 1000 $(ARGS)

e2e: build image function-image ## tests with the real binaries, chain and machines
	@$(SETUP) test
	@go test -tags e2e -p 1 -count=1 -timeout 60m ./test/e2e/... $(ARGS)

CONFORMANCE := test/conformance
CONFORMANCE_DEPS := $(CONFORMANCE)/node_modules/.package-lock.json

CONFORMANCE_LIBP2P := $(CONFORMANCE)/libp2p
CONFORMANCE_LIBP2P_DEPS := $(CONFORMANCE_LIBP2P)/node_modules/.package-lock.json

.PHONY: test-conformance test-conformance-libp2p test-conformance-python test-conformance-rust test-conformance-rust-libp2p conformance-deps

# What boots real machines needs their images, and time.
test-conformance: check-go image function-image $(CONFORMANCE_DEPS) $(CONFORMANCE_LIBP2P_DEPS) ## published clients of the message network, and its numbered cases, against a coordinator and a compute node
	@go test -tags conformance -count=1 -timeout 40m ./$(CONFORMANCE)/...

test-conformance-libp2p: check-go $(CONFORMANCE_LIBP2P_DEPS) ## js-libp2p and Helia's bitswap against a node: noise, yamux, identify, ping, gossipsub, kad, blocks, archives
	@go test -tags conformance -count=1 -timeout 10m -run 'TestLibp2p|TestIPFS' ./$(CONFORMANCE)/...

# Not in make test: it needs Python, and nothing else here does.
CONFORMANCE_PYTHON := build/python

test-conformance-python: check-go image function-image $(CONFORMANCE_PYTHON)/.installed ## the Python client of the message network against a coordinator and a compute node (needs Python 3.11 with venv)
	@CONFORMANCE_PYTHON=$(abspath $(CONFORMANCE_PYTHON)) go test -tags conformance -count=1 -timeout 40m -run TestPython ./$(CONFORMANCE)/...

$(CONFORMANCE_PYTHON)/.installed: $(CONFORMANCE)/python/requirements.txt
	@echo "conformance: installing from the Python package index into $(CONFORMANCE_PYTHON) (about 220 MB) what $< lists"
	@python3 -m venv $(CONFORMANCE_PYTHON) && $(CONFORMANCE_PYTHON)/bin/pip install -q -r $< || { \
		echo "conformance: Python's packages could not be installed; check that python3 and python3-venv are there and the index can be reached." >&2; exit 1; }
	@touch $@

# Not in make test either: it needs Rust.
CONFORMANCE_RUST_VERSION := 0.22.0
CONFORMANCE_RUST := build/rust-$(CONFORMANCE_RUST_VERSION)/bin/aleph

test-conformance-rust: check-go image function-image $(CONFORMANCE_RUST) ## the Rust command line of the message network against a coordinator and a compute node (needs cargo)
	@CONFORMANCE_RUST=$(abspath $(CONFORMANCE_RUST)) go test -tags conformance -count=1 -timeout 40m -run 'TestRust$$|TestRustMachines' ./$(CONFORMANCE)/...

$(CONFORMANCE_RUST):
	@echo "conformance: compiling aleph-cli $(CONFORMANCE_RUST_VERSION) from crates.io into $(dir $(CONFORMANCE_RUST)) (some ten minutes, 2 GB while it lasts)"
	@cargo install aleph-cli --version $(CONFORMANCE_RUST_VERSION) --locked --debug --quiet --root build/rust-$(CONFORMANCE_RUST_VERSION) || { \
		echo "conformance: aleph-cli could not be installed; check that cargo is there and crates.io can be reached." >&2; exit 1; }

CONFORMANCE_RUST_LIBP2P_SRC := $(CONFORMANCE)/rustlibp2p
CONFORMANCE_RUST_LIBP2P := build/rustlibp2p/debug/rustlibp2p

test-conformance-rust-libp2p: check-go $(CONFORMANCE_RUST_LIBP2P) ## rust-libp2p, today's and that of the public network, against a node (needs cargo)
	@CONFORMANCE_RUST_LIBP2P=$(abspath $(CONFORMANCE_RUST_LIBP2P)) go test -tags conformance -count=1 -timeout 10m -v -run TestRustLibp2p ./$(CONFORMANCE)/...

$(CONFORMANCE_RUST_LIBP2P): $(CONFORMANCE_RUST_LIBP2P_SRC)/Cargo.toml $(CONFORMANCE_RUST_LIBP2P_SRC)/Cargo.lock $(wildcard $(CONFORMANCE_RUST_LIBP2P_SRC)/src/*.rs)
	@echo "conformance: compiling rust-libp2p from crates.io into build/rustlibp2p (some 400 crates, many minutes the first time)"
	@cargo build --locked --quiet --manifest-path $< --target-dir build/rustlibp2p || { \
		echo "conformance: rust-libp2p could not be compiled; check that cargo 1.88 or newer and a C compiler are there and crates.io can be reached." >&2; exit 1; }
	@touch $@

conformance-deps: $(CONFORMANCE_DEPS) $(CONFORMANCE_LIBP2P_DEPS) ## install what the package-lock.json of test/conformance and its folders list

$(CONFORMANCE_DEPS) $(CONFORMANCE_LIBP2P_DEPS): %/node_modules/.package-lock.json: %/package-lock.json
	@$(CHECK) node npm
	@echo "conformance: installing from the npm registry into $*/node_modules (about 250 MB):"
	@node -p "const p = require('./$*/package.json'); Object.entries(p.dependencies).map(([n, v]) => '  ' + n + ' ' + v).join('\n')"
	@cd $* && npm ci --ignore-scripts --no-audit --no-fund || { \
		echo "conformance: npm could not install; check that the npm registry can be reached, then run 'make conformance-deps' again." >&2; exit 1; }
	@touch $@

# Not in make test: compiling Kubo takes minutes.
KUBO := build/kubo/ipfs

.PHONY: test-interop interop-deps
test-interop: check-go $(KUBO) ## exchange blocks, archives and announcements with a real Kubo
	@go test -tags interop -count=1 -timeout 10m -run TestKubo ./internal/ipfs/swarm $(ARGS)

interop-deps: $(KUBO) ## build the Kubo of tools/kubo/go.mod

$(KUBO): tools/kubo/go.mod tools/kubo/go.sum
	@$(CHECK) go
	@echo "interop: building Kubo from tools/kubo/go.mod (minutes the first time)"
	@go build -C tools/kubo -o ../../$@ github.com/ipfs/kubo/cmd/ipfs

race: check-go ## unit tests under the race detector
	@$(CHECK) cc
	@$(SETUP) test
	@CGO_ENABLED=1 go test -race -timeout 40m ./...

# How often make faults-messages kills a process on each engine.
KILLS ?= 200
faults-messages: build ## kill nodes while messages come in, KILLS (200) times on each engine, and count what is lost
	@$(SETUP) test
	@go test -tags e2e -count=1 -timeout 120m -v -run 'TestKilledNodes|TestFullDisk' ./test/e2e/messages -kills $(KILLS) $(ARGS)

faults-mesh: build ## break a network of nodes in namespaces: cuts, loss, clocks, liars, full disks, NAT; needs root
	@$(SETUP) test
	@go test -tags e2e -count=1 -timeout 60m -v ./test/e2e/mesh $(ARGS)

# How many steps make faults-compute does.
STEPS ?= 10000
faults-compute: build ## do STEPS (10000) random things to a compute node and what it needs, and look for what is left; needs root
	@$(SETUP) test
	@ALEPH_STEPS=$(STEPS) go test -tags e2e -count=1 -timeout 600m -v ./test/e2e/lifecycle $(ARGS)

# Binaries that record coverage are apart from bin, and tell of what e2e ran.
COVER := build/cover
cover: image function-image contracts-cover ## coverage of Go, at least 80 %, and of the contracts, at least 98 % of lines
	@$(SETUP) test
	@rm -rf $(COVER) && mkdir -p $(COVER)/bin $(COVER)/data
	@echo "cover: unit tests"
	@go test -timeout 30m -covermode=atomic -coverpkg=./... -coverprofile=$(COVER)/unit.out ./...
	@echo "cover: end-to-end tests"
	@go build -cover -covermode=atomic -coverpkg=./... -ldflags '$(LDFLAGS)' -o $(COVER)/bin/ ./cmd/aleph-node ./cmd/aleph
	@CGO_ENABLED=0 go build -ldflags '$(LDFLAGS)' -o $(COVER)/bin/ ./cmd/aleph-guest
	@GOCOVERDIR=$(abspath $(COVER)/data) ALEPH_BIN=$(abspath $(COVER)/bin) \
		go test -tags e2e -p 1 -count=1 -timeout 60m ./test/e2e/...
	@go tool covdata textfmt -i=$(COVER)/data -o=$(COVER)/e2e.out
	@go run ./test/cover -min 80 $(COVER)/unit.out $(COVER)/e2e.out

fuzz: check-go ## each fuzz target for FUZZTIME (10s)
	@grep -r --include='*_test.go' -o '^func Fuzz[A-Za-z0-9]*' cmd internal packaging protocol sdk | \
		sed 's|/[^/]*:func | |' | while read -r dir target; do \
			echo "fuzz: $$dir $$target for $(FUZZTIME)"; \
			go test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) "./$$dir" || exit 1; \
		done

$(LINTER): tools/go.mod tools/go.sum
	@$(CHECK) go
	@echo "lint: building golangci-lint from tools/go.mod (minutes the first time)"
	@go build -C tools -o ../$@ github.com/golangci/golangci-lint/v2/cmd/golangci-lint

lint: $(LINTER) ## lint the Go code and check its format
	@$(LINTER) run

fmt: $(LINTER) $(CONTRACTS_DEPS) ## format Go and Solidity
	@$(LINTER) fmt
	@cd $(CONTRACTS) && $(FORGE) fmt

generate: bindings contracts-types contracts-layout contracts-pages ## write anew all that is generated and committed
	@go generate ./cmd/... ./internal/...

check-generated: bindings-check ## fail when a generated file is not what its source gives
	@go test ./cmd/aleph ./cmd/aleph-node ./internal/api/... ./internal/chain/bindings ./internal/config

clean: ## remove what was built, but not what was downloaded
	rm -rf bin build/bin build/cover build/images build/logs build/demo $(CONTRACTS)/out $(CONTRACTS)/cache $(CONTRACTS)/lcov.info
