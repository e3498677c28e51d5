# make demo    train GoGePo, then sweep its commands: a model and a picture in demo/
# make test    the test suite
# make check   lint, types, tests, docs
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: demo test test-slow check lint audit docs bench-update bench-scale bench-stepping bench-denormals bench-reliability bench-run bench-report bench-commands clean

demo: $(VENV)/.demo
	$(BIN)/python -m sb3_gogepo.demo --folder demo

test: $(VENV)/.test
	$(BIN)/python -m pytest -n 2

test-slow: $(VENV)/.test
	$(BIN)/python -m pytest -n 2 -m slow

lint: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

check: lint audit test docs

# Known holes in what is installed fail. Where pip-audit cannot run or reach its database, this says so and does not fail.
# Where nothing answers, pip-audit would try for hours.
AUDIT_LIMIT := $(shell command -v timeout > /dev/null && echo timeout 120)
audit: $(VENV)/.test
	@found=$$($(AUDIT_LIMIT) $(BIN)/python -m pip_audit --skip-editable --progress-spinner off --timeout 15) \
		|| if [ -n "$$found" ]; then echo "$$found"; exit 1; else echo "pip-audit: skipped, see above"; fi

docs: $(VENV)/.docs
	$(BIN)/sphinx-build -W --keep-going -q -b html docs docs/_build/html
	@echo "docs/_build/html/index.html"

# e.g. make bench-run BENCH="--algos gogepo ars --envs Swimmer-v3 --seeds 10 --n-timesteps 1e6 --jobs 2"
BENCH ?= --algos gogepo ars --envs MountainCarContinuous-v0 --n-timesteps 2e4
bench-run: $(VENV)/.test
	$(BIN)/python -m benchmarks.run $(BENCH)

bench-report: $(VENV)/.test
	$(BIN)/python -m benchmarks.report

# e.g. make bench-commands COMMANDS="--algos gogepo --envs Swimmer-v3 --seeds 5 --jobs 2"
COMMANDS ?= --algos gogepo --envs MountainCarContinuous-v0 --seeds 1
bench-commands: $(VENV)/.test
	$(BIN)/python -m benchmarks.commands run $(COMMANDS)
	$(BIN)/python -m benchmarks.commands report

bench-update: $(VENV)/.test
	$(BIN)/python -m benchmarks.speed.update_speed

bench-scale: $(VENV)/.test
	$(BIN)/python -m benchmarks.speed.scale

bench-stepping: $(VENV)/.test
	$(BIN)/python -m benchmarks.speed.stepping

bench-denormals: $(VENV)/.test
	$(BIN)/python -m benchmarks.speed.denormals

# An hour or more; writes the figures of docs/reliability.md.
bench-reliability: $(VENV)/.test
	$(BIN)/python -m benchmarks.reliability resume sigterm saves disk hostile table

# One environment for all; each stamp records which extras are in it.
$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.demo: $(VENV)/bin/python pyproject.toml constraints.txt
	$(PIP) -e ".[plots]"
	@touch $@

$(VENV)/.test: $(VENV)/bin/python pyproject.toml constraints.txt
	$(PIP) -e ".[plots,zoo,datasets,export,test]"
	@touch $@

$(VENV)/.docs: $(VENV)/bin/python pyproject.toml constraints.txt
	$(PIP) -e ".[docs]"
	@touch $@

clean:
	rm -rf $(VENV) demo build dist docs/_build .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
