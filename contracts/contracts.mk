# Targets of the contracts; the root Makefile includes this file. They need node >= 20, npm and go, nothing else.

CONTRACTS := contracts
FORGE := $(abspath $(CONTRACTS))/node_modules/@foundry-rs/forge-linux-amd64/bin/forge
CONTRACTS_DEPS := $(CONTRACTS)/node_modules/.package-lock.json
# Every source that decides the bytecode.
CONTRACTS_SRC := $(shell find $(CONTRACTS)/src -name '*.sol') $(CONTRACTS)/foundry.toml $(CONTRACTS)/bin/solc
CONTRACTS_RELEASE := $(CONTRACTS)/out/release/.built
BINDINGS := internal/chain/bindings

.PHONY: contracts contracts-long contracts-lint contracts-mutants contracts-table contracts-types contracts-pages contracts-deps contracts-build contracts-test-build contracts-test contracts-cover contracts-gas contracts-gas-write contracts-scale \
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
	@echo "contracts: running the tests (about a minute)"
	@cd $(CONTRACTS) && node tool/layout.js --check && node tool/types.js --check && node tool/fixtures.js
	@cd $(CONTRACTS) && $(FORGE) test --no-match-path 'test/gas/*'

# How many broken contracts the tests must be shown; the long form asks for more than there are.
MUTANTS ?= 150
MUTANTS_CAUGHT ?= 95

# One after the other, whatever -j says: the mutants take the place of artifacts in out, which the other tests read.
contracts: ## everything about the contracts, ending with one table (about fifteen minutes)
	@$(MAKE) --no-print-directory contracts-fmt-check
	@$(MAKE) --no-print-directory contracts-lint
	@$(MAKE) --no-print-directory contracts-build contracts-test-build
	@$(MAKE) --no-print-directory contracts-test
	@$(MAKE) --no-print-directory contracts-cover
	@$(MAKE) --no-print-directory contracts-mutants
	@$(MAKE) --no-print-directory contracts-gas
	@$(MAKE) --no-print-directory contracts-scale
	@$(MAKE) --no-print-directory bindings-check
	@$(MAKE) --no-print-directory contracts-table

contracts-long: ## the same with long invariant runs and every mutant (hours); writes bench/contracts.md
	@FOUNDRY_INVARIANT_RUNS=256 FOUNDRY_INVARIANT_DEPTH=500 FOUNDRY_FUZZ_RUNS=10000 \
		$(MAKE) --no-print-directory contracts MUTANTS=100000
	@cd $(CONTRACTS) && node tool/table.js --write ../bench/contracts.md

contracts-lint: $(CONTRACTS_DEPS) ## forge lint, solhint and OpenZeppelin's validation of upgrades, without a finding
	@echo "contracts: linting"
	@cd $(CONTRACTS) && $(FORGE) lint src -D warnings
	@cd $(CONTRACTS) && node_modules/.bin/solhint --disc --max-warnings 0 'src/**/*.sol'
	@cd $(CONTRACTS) && rm -rf out/validate cache/validate && FOUNDRY_PROFILE=validate $(FORGE) build src >/dev/null
	@cd $(CONTRACTS) && node_modules/.bin/openzeppelin-upgrades-core validate out/validate/build-info

contracts-mutants: contracts-test-build ## break the contracts on purpose and count what the tests notice
	@echo "contracts: breaking them in $(MUTANTS) ways (two to five seconds each)"
	@cd $(CONTRACTS) && node tool/mutate.js --count $(MUTANTS) --at-least $(MUTANTS_CAUGHT)

contracts-table: ## what was measured, as one table
	@cd $(CONTRACTS) && node tool/table.js

contracts-cover: $(CONTRACTS_DEPS) ## coverage of contracts/src, at least 98 % of lines and 92 % of branches
	@echo "contracts: compiling without optimizer and measuring coverage (two minutes)"
	@cd $(CONTRACTS) && $(FORGE) coverage --report lcov --report-file lcov.info --skip 'test/invariant/*' --skip 'test/gas/**' \
		--no-match-path 'test/{gas,invariant}/**' >/dev/null
	@cd $(CONTRACTS) && node tool/coverage.js lcov.info 98 92

contracts-gas: contracts-build ## gas of each call against the files of contracts/snapshots, at most 2 % more
	@cd $(CONTRACTS) && $(FORGE) test --isolate --match-path 'test/gas/*' --no-match-contract '^ScaleTest$$'

contracts-gas-write: contracts-build ## measure the gas of each call anew into contracts/snapshots
	@cd $(CONTRACTS) && WRITE_GAS=true $(FORGE) test --isolate --match-path 'test/gas/*' --no-match-contract '^ScaleTest$$'

# How many nodes, jobs, delegators, objects, names, images, cases and ballots there are.
SCALE ?= 100000

contracts-scale: contracts-build ## gas of every path at 100,000 of everything, at most 2 % above that at 32 (about eight minutes, 6 GB)
	@echo "contracts: making a network of $(SCALE) nodes and driving every path (about eight minutes)"
	@cd $(CONTRACTS) && rm -rf out/scale && SCALE=$(SCALE) FOUNDRY_GAS_LIMIT=18446744073709551615 \
		$(FORGE) test --isolate --match-path test/gas/Scale.t.sol

contracts-fmt-check: $(CONTRACTS_DEPS) ## fail when a Solidity file is not formatted
	@cd $(CONTRACTS) && $(FORGE) fmt --check

contracts-layout: $(CONTRACTS_DEPS) ## write contracts/layout after storage has grown at an end
	@cd $(CONTRACTS) && $(FORGE) build && node tool/layout.js

contracts-types: $(CONTRACTS_DEPS) ## write the EIP-712 types of contracts/eip712.json for Solidity, Go and TypeScript
	@cd $(CONTRACTS) && node tool/types.js

contracts-pages: contracts-build ## write the second halves of docs/contracts/<Contract>.md
	@cd $(CONTRACTS) && node tool/pages.js

contracts-vectors: $(CONTRACTS_DEPS) ## write eip712.json and domain.json of protocol/testdata/vectors
	@cd $(CONTRACTS) && WRITE_VECTORS=true $(FORGE) test --match-path 'test/{Vectors,DomainVectors}.t.sol'

bindings: contracts-build ## regenerate the Go bindings of the contracts
	go run ./$(BINDINGS)/gen -dir $(BINDINGS) -contracts $(CONTRACTS)

bindings-check: contracts-build ## fail when the Go bindings or the contracts' pages are not what the contracts give
	@cd $(CONTRACTS) && node tool/pages.js --check
	go run ./$(BINDINGS)/gen -dir $(BINDINGS) -contracts $(CONTRACTS) -check
