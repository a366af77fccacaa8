# Targets of the contracts; the root Makefile includes this file. They need node >= 20, npm and go, nothing else.

CONTRACTS := contracts
FORGE := $(abspath $(CONTRACTS))/node_modules/@foundry-rs/forge-linux-amd64/bin/forge
CONTRACTS_DEPS := $(CONTRACTS)/node_modules/.package-lock.json
# Every source that decides the bytecode.
CONTRACTS_SRC := $(shell find $(CONTRACTS)/src -name '*.sol') $(CONTRACTS)/foundry.toml $(CONTRACTS)/bin/solc
CONTRACTS_RELEASE := $(CONTRACTS)/out/release/.built
BINDINGS := internal/chain/bindings

.PHONY: contracts-deps contracts-build contracts-test-build contracts-test contracts-cover contracts-gas contracts-gas-write \
	contracts-fmt-check contracts-layout contracts-vectors bindings bindings-check

contracts-deps: $(CONTRACTS_DEPS) ## install the Solidity tools of contracts/package-lock.json

$(CONTRACTS_DEPS): $(CONTRACTS)/package-lock.json
	@echo "contracts: installing from the npm registry into contracts/node_modules (about 100 MB):"
	@node -p "const p = require('./$(CONTRACTS)/package.json'); Object.entries({...p.dependencies, ...p.devDependencies}).map(([n, v]) => '  ' + n + ' ' + v).join('\n')"
	@cd $(CONTRACTS) && npm ci --ignore-scripts --no-audit --no-fund || { \
		echo "contracts: npm could not install; check that the npm registry can be reached, then run 'make contracts-deps' again." >&2; exit 1; }
	@touch $@

contracts-build: $(CONTRACTS_RELEASE) ## compile what is deployed, with the release profile

$(CONTRACTS_RELEASE): $(CONTRACTS_SRC) $(CONTRACTS_DEPS)
	@echo "contracts: compiling the release profile (about a minute)"
	@cd $(CONTRACTS) && FOUNDRY_PROFILE=release $(FORGE) build src
	@touch $@

# The compiler uses one core: with make -j2 both profiles compile in the time of one. forge itself knows what is up to date.
contracts-test-build: $(CONTRACTS_DEPS) ## compile the contracts and their tests, with the default profile
	@echo "contracts: compiling the tests (about a minute)"
	@cd $(CONTRACTS) && $(FORGE) build

contracts-test: contracts-build contracts-test-build ## unit, fuzz, invariant, layout and access tests of the contracts
	@echo "contracts: running the tests (about two minutes)"
	@cd $(CONTRACTS) && node tool/layout.js --check
	@cd $(CONTRACTS) && $(FORGE) test --no-match-path 'test/gas/*'

contracts-cover: $(CONTRACTS_DEPS) ## line coverage of contracts/src, at least 95 %
	@echo "contracts: compiling without optimizer and measuring line coverage (minutes)"
	@cd $(CONTRACTS) && $(FORGE) coverage --report lcov --report-file lcov.info --no-match-path 'test/{gas,invariant}/*' >/dev/null
	@cd $(CONTRACTS) && node tool/coverage.js lcov.info 95

contracts-gas: contracts-build ## gas of each call against contracts/snapshots/gas.json, at most 2 % more
	@cd $(CONTRACTS) && $(FORGE) test --isolate --match-path 'test/gas/*'

contracts-gas-write: contracts-build ## measure the gas of each call anew into contracts/snapshots/gas.json
	@cd $(CONTRACTS) && WRITE_GAS=true $(FORGE) test --isolate --match-path 'test/gas/*'

contracts-fmt-check: $(CONTRACTS_DEPS) ## fail when a Solidity file is not formatted
	@cd $(CONTRACTS) && $(FORGE) fmt --check

contracts-layout: $(CONTRACTS_DEPS) ## write contracts/layout after storage has grown at an end
	@cd $(CONTRACTS) && $(FORGE) build && node tool/layout.js

contracts-vectors: $(CONTRACTS_DEPS) ## write protocol/testdata/vectors/eip712.json
	@cd $(CONTRACTS) && WRITE_VECTORS=true $(FORGE) test --match-path 'test/Vectors.t.sol'

bindings: contracts-build ## regenerate the Go bindings of the contracts
	go run ./$(BINDINGS)/gen -dir $(BINDINGS) -contracts $(CONTRACTS)

bindings-check: contracts-build ## fail when the Go bindings are not what the contracts give
	go run ./$(BINDINGS)/gen -dir $(BINDINGS) -contracts $(CONTRACTS) -check
