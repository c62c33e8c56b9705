# Everything that one does with this repository. `make help` lists it; CONTRIBUTING.md explains it.
# Each target sets up first, which takes no time when there is nothing to do.

PYTHON ?= python3
BIN := .venv/bin

# Which tests, and how: make test TESTS=tests/bridle_core ARGS='-k queue'
TESTS ?= tests
ARGS ?=

MAKEFLAGS += --no-print-directory
.DEFAULT_GOAL := help

.PHONY: help
help: ## List these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-18s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: setup
setup: ## Make .venv with everything that is needed (the others do this by themselves)
	@command -v $(PYTHON) >/dev/null || \
		{ echo "setup: Python 3.11 is missing: sudo apt install python3 python3-venv" >&2; exit 1; }
	@$(PYTHON) scripts/setup.py

# --- use ---

.PHONY: run
run: setup ## Start the pair, play a short tour on a real shell session, stay up until Ctrl-C
	@$(BIN)/bridle up --tour

.PHONY: tour
tour: setup ## The same tour in a temporary place, without staying; fails if any step does
	@$(BIN)/bridle up --tour --temporary

# --- test ---

.PHONY: test
test: setup ## Run the tests
	@$(BIN)/python -m pytest $(TESTS) $(ARGS)

# TEST_AGENTS: which; "short" for those of the short form. Else all that the suite has a profile for.
.PHONY: test-agents
test-agents: setup ## Install real agents in exact versions, and hold them to the contract, offline
	@TEST_INTERRUPTS=$${TEST_INTERRUPTS:-100} \
		$(BIN)/python -m pytest tests/agents -m agents --no-skips -n 2 $(ARGS)

.PHONY: test-agents-short
test-agents-short: setup ## The same in a few minutes: three agents, what matters most
	@TEST_AGENTS=$${TEST_AGENTS:-short} \
		$(BIN)/python -m pytest tests/agents -m 'agents and short' --no-skips -n 2 $(ARGS)

# TEST_CLIENTS="go java": some of them. All clients share one table of scenarios; see its README.
.PHONY: test-clients
test-clients: setup ## Build the clients of all languages, and hold them to one suite on a real pair
	@$(BIN)/python -m pytest tests/clients -m clients $(ARGS)

# JITTER=3: three times as many. What fails here, and not in a quiet run, depends on chance.
.PHONY: test-jitter
test-jitter: setup ## Run the tests with random pauses in event loops, threads and services
	@JITTER=$${JITTER:-1} PYTHONPATH=$(CURDIR)/tests/support/jitter $(BIN)/python -m pytest $(TESTS) $(ARGS)

.PHONY: coverage
coverage: setup ## Run the tests, and list the lines and branches that none of them reached
	@$(BIN)/coverage erase
	@$(BIN)/coverage run -m pytest $(TESTS) $(ARGS)
	@$(BIN)/coverage combine --quiet
	@$(BIN)/coverage report

.PHONY: soak
soak: setup ## Break a real pair for MINUTES=10 by SEED=… (else one of chance), and judge what it said
	@$(BIN)/python -m tests.robustness.soak $(if $(SEED),--seed $(SEED)) \
		$(if $(MINUTES),--minutes $(MINUTES)) $(ARGS)

.PHONY: protections
protections: setup ## Switch off each protection in turn (ONLY=word: some), and see its test turn red
	@$(BIN)/python -m tests.robustness.protections $(if $(ONLY),--only '$(ONLY)')

.PHONY: simulate
simulate: setup ## Play SEEDS=1000 stories of faults on virtual time, from FIRST=0 on
	@$(BIN)/python -m tests.robustness.simulation $(if $(SEEDS),--seeds $(SEEDS)) \
		$(if $(FIRST),--first $(FIRST)) $(ARGS)

.PHONY: bench
bench: setup ## Measure against bare gRPC, and print each figure beside its budget
	@$(BIN)/python -m bench.run

# --- check ---

CHECKS := check-format check-lint check-types check-imports \
	check-buf-format check-buf-lint check-buf-breaking check-generated check-diagrams

.PHONY: check
check: setup ## Run every check below, and name all that fail
	@failed=; for check in $(CHECKS); do \
		echo "== $$check"; $(MAKE) $$check || failed="$$failed $$check"; \
	done; \
	if [ -n "$$failed" ]; then echo "check: failed:$$failed" >&2; exit 1; fi; \
	echo "check: all passed"

.PHONY: $(CHECKS)
check-format: setup ## Python is formatted
	@$(BIN)/ruff format --check --quiet . || { $(BIN)/ruff format --diff --quiet .; exit 1; }

check-lint: setup ## Python has no lint
	@$(BIN)/ruff check --quiet .

check-types: setup ## Python's types hold, strictly
	@$(BIN)/mypy

check-imports: setup ## Packages import only what they may
	@$(BIN)/lint-imports --no-logo

check-buf-format: setup ## The protos are formatted
	@$(BIN)/buf format proto --diff --exit-code

check-buf-lint: setup ## The protos have no lint, and a comment on everything
	@$(BIN)/buf lint

check-buf-breaking: setup ## The protos break nothing of the last release
	@$(BIN)/buf breaking proto --exclude-imports --against proto/released.binpb

check-generated: setup ## The generated stubs are up to date with the protos
	@$(BIN)/python scripts/generate.py --check $(ARGS)

check-diagrams: setup ## The diagrams are what the tables say
	@$(BIN)/python scripts/diagrams.py --check

# --- change ---

.PHONY: fix
fix: setup ## Format everything, and mend what lint can mend by itself
	@$(BIN)/ruff check --fix --quiet . || true
	@$(BIN)/ruff format --quiet .
	@$(BIN)/buf format proto --write

.PHONY: generate
generate: setup ## Write the generated stubs anew from the protos
	@$(BIN)/python scripts/generate.py

.PHONY: diagrams
diagrams: setup ## Draw the diagrams of ARCHITECTURE.md anew from the tables
	@$(BIN)/python scripts/diagrams.py

.PHONY: release-image
release-image: setup ## Make the protos of now the release that later ones must not break
	@$(BIN)/buf build proto --as-file-descriptor-set --exclude-source-info -o proto/released.binpb

.PHONY: lock
lock: setup ## Write the lock files anew from pyproject.toml, keeping pins that still hold
	@$(PYTHON) scripts/setup.py --lock

.PHONY: upgrade
upgrade: setup ## Write the lock files anew with the newest versions
	@$(PYTHON) scripts/setup.py --upgrade
