# Needs only make, Python 3.11 or newer and the package registry. Everything goes into .venv; nothing outside this folder is touched.
.PHONY: demo install test lint bench bench-full docs clean

VENV = .venv
BIN = $(VENV)/bin
PIP = $(BIN)/python -m pip --disable-pip-version-check --quiet --no-input
# A changed lock or a changed project file makes a new environment; the stamp carries the checksum of what it was made from.
LOCK := $(shell cat requirements/run.txt requirements/dev.txt pyproject.toml | cksum | cut -d' ' -f1)
RUN = $(VENV)/run-$(LOCK)
DEV = $(VENV)/dev-$(LOCK)

# Backfill two years of real purchases, make segments, start a campaign, send live calls, print what happened.
demo: $(RUN)
	$(BIN)/python examples/demo.py

# Only the program, as .venv/bin/backstory.
install: $(RUN)
	@echo "$(BIN)/backstory is the program: $(BIN)/backstory serve --data ./data"

# Every test; arguments for pytest go in T: make test T="tests/unit -k limit"
test: $(DEV)
	$(BIN)/ruff check --quiet .
	$(BIN)/python -m pytest -n auto --dist worksteal $(T)

# What machines can say about the code without running it.
lint: $(DEV)
	$(BIN)/ruff check .
	$(BIN)/lint-imports
	$(BIN)/pyright

# The named workloads, as ratios to their baselines; W names some: make bench W="single_call"
bench: $(DEV)
	$(BIN)/python -m bench.run --quick $(W)

bench-full: $(DEV)
	$(BIN)/python -m bench.run --full $(W)

# Write again the documents that are made from tables in the code, and what the demo prints into the README.
docs: $(DEV)
	$(BIN)/python -m tools.docs
	$(BIN)/python -m tools.readme

clean:
	rm -rf $(VENV) .bench .hypothesis .pytest_cache .ruff_cache .import_linter_cache build src/backstory.egg-info

$(RUN):
	@sh tools/python.sh -m venv --clear $(VENV)
	@echo "Installing the locked packages into $(VENV) (once)"
	@$(PIP) install --require-hashes -r requirements/run.txt
	@$(PIP) install --no-deps --no-build-isolation -e .
	@touch $@

$(DEV): $(RUN)
	@echo "Installing the locked development packages into $(VENV) (once)"
	@$(PIP) install --require-hashes -r requirements/dev.txt
	@touch $@
