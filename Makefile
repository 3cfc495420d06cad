# make demo   every figure and table at demo scale, on two CPU cores, without a network
# make test   every test
PYTHON ?= python3.11
BIN := .venv/bin

.PHONY: demo test
.DELETE_ON_ERROR:

.venv/installed: envs/lock.txt
	$(PYTHON) -m venv --clear .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -r envs/lock.txt
	touch $@

demo: .venv/installed
	PATH="$(CURDIR)/$(BIN):$$PATH" python tools/warm snakemake --profile profiles/demo --quiet rules -- all_figures all_tables
	@echo "Figures: results/figures/*/*.pdf (.png, .csv, .json)   Tables: results/tables/*/*.md"

test: .venv/installed
	PATH="$(CURDIR)/$(BIN):$$PATH" python -m pytest -n 2 --dist loadfile --durations 15
