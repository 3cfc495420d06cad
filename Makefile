# make demo    every figure and table at demo scale, on two CPU cores, without a network
# make test    every test, after the checks
#              without the minutes of builds and clusters: python -m pytest -m "not slow"
# make test-slurm   a real Slurm on this machine, which it installs (Debian, as root), and faults on it: 15 minutes
# make check   style, rules, types and the configuration's schema: a minute
# On a node with GPUs: make LOCK=envs/lock-cuda.txt .venv/installed (docs/environments.md).
PYTHON ?= python3.11
LOCK ?= envs/lock.txt
BIN := .venv/bin

.PHONY: demo test test-slurm check
.DELETE_ON_ERROR:

.venv/installed: $(LOCK)
	$(PYTHON) -m venv --clear .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -r $(LOCK)
	touch $@

demo: .venv/installed
	PATH="$(CURDIR)/$(BIN):$$PATH" python tools/warm snakemake --profile profiles/demo --quiet rules -- all_figures all_tables
	@echo "Figures: results/figures/*/*.pdf (.png, .csv, .json)   Tables: results/tables/*/*.md"

check: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/snakefmt --check .
	$(BIN)/mypy scripts/overtrain
	$(BIN)/python tools/schema.py --check

test: check
	PATH="$(CURDIR)/$(BIN):$$PATH" python -m pytest -n 2 --dist loadfile -m "not slurm" --durations 15

test-slurm: .venv/installed
	OVERTRAIN_SLURM=1 PATH="$(CURDIR)/$(BIN):$$PATH" python -m pytest -v tests/cluster --durations 20
