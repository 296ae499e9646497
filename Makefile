# make demo      run the example pipeline on three nodes of its own; DMQ_DEMO_LIMIT=5000 takes only so many files
# make test      format, lint, types and tests, in an environment made here (.venv)
# make torture   the same random tests with many more seeds: make torture SEEDS=10000
# make torture-real  real nodes, killed, cut off, without power, …: DURATION=12 RUNS=3 NODES=3 CLASSES=kill-one,pause
#                    SEED=1 RATE=200 NETWORK=proxy ROUND=12 (so many classes in one cluster, one after the other)
# make soak      an hour of faults; how memory, files, disk and threads grow meanwhile: make soak DURATION=1200
# make bench     throughput and latency on this machine
# make dist      wheel and source archive in dist/
# make clean     remove everything that was made here
#
# Only make and Python 3.11 or newer are needed; PYTHON=/path/to/python3.12 chooses another one than the first found.

SEEDS ?= 1000
JOBS  ?= auto
VENV  := .venv
BIN   := $(VENV)/bin
READY := $(VENV)/.ready
CODE  := dmqnode gossip storage cli
# Several real nodes for each test, which wait for one another more than they compute: one at a time more than
# there are processors.
REAL  := tests/integration tests/chaos tests/examples
MORE   = $(shell $(BIN)/python -c 'import os; print((os.cpu_count() or 1) + 1)')

.DEFAULT_GOAL := test
.PHONY: demo test packages types units real torture torture-real soak bench dist clean

# An editable install copies the manual pages and the `dmq` script, so these decide when it must be repeated.
$(READY): pyproject.toml hatch_build.py .ci/venv $(wildcard man/*)
	@.ci/venv $(VENV)
	@touch $@

demo: $(READY)
	@PATH="$(CURDIR)/$(BIN):$$PATH" examples/pipeline.sh

test:
	@$(MAKE) --no-print-directory -j2 $(READY) packages
	$(BIN)/ruff format --check --quiet .
	$(BIN)/ruff check --quiet .
	@$(MAKE) --no-print-directory -j2 types units
	@$(MAKE) --no-print-directory real

# Both wait for what they load.
packages:
	@.ci/packages

# Side by side: one processor would wait for the types.
types: $(READY)
	$(BIN)/mypy $(CODE)
	@$(BIN)/mypy --ignore-missing-imports --no-warn-return-any benchmarks

units: $(READY)
	$(BIN)/pytest -q -n $(JOBS) --dist worksteal $(REAL:%=--ignore=%)

real: $(READY)
	$(BIN)/pytest -q -n $(or $(JOBS:auto=),$(MORE)) --dist loadfile $(REAL)

torture: $(READY)
	DMQ_TORTURE_SEEDS=$(SEEDS) $(BIN)/pytest -q -x -n $(JOBS) -m "torture or hypothesis"

torture-real: $(READY)
	$(BIN)/python -m tests.chaos $(if $(DURATION),--duration $(DURATION)) $(if $(RUNS),--runs $(RUNS)) \
		$(if $(NODES),--nodes $(NODES)) $(if $(CLASSES),--classes $(CLASSES)) $(if $(SEED),--seed $(SEED)) \
		$(if $(ROUND),--round $(ROUND)) $(if $(RATE),--rate $(RATE)) $(if $(NETWORK),--network $(NETWORK))

soak: $(READY)
	$(BIN)/python -m tests.chaos.soak $(if $(DURATION),--duration $(DURATION))

bench: $(READY)
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python benchmarks/figures.py

dist: $(READY)
	$(BIN)/python -m build --no-isolation --outdir dist .

clean:
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
