# Every command works on a fresh machine: it makes .venv, installs what it needs, then runs.
PYTHON ?= python3
BIN := .venv/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
STAMP := .venv/.installed
DEV_STAMP := .venv/.installed-dev

.PHONY: demo test slow soak lint docs gallery clean

demo: $(STAMP)
	$(BIN)/python -m bench.demo

test: $(DEV_STAMP)
	$(BIN)/python -m pytest -n auto --dist worksteal

slow: $(DEV_STAMP)
	$(BIN)/python -m pytest -n auto --dist worksteal -m "slow and not soak"

soak: $(DEV_STAMP)
	$(INSTALL) -e '.[dev,soak]'
	$(BIN)/python -m pytest -n auto -m soak

lint: $(DEV_STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: docs/gallery/index.md
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[docs]'
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build

gallery docs/gallery/index.md: $(STAMP)
	$(BIN)/python -m bench.gallery

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(INSTALL) -e .
	touch $(STAMP)

$(DEV_STAMP): $(STAMP)
	$(INSTALL) -e '.[dev]'
	touch $(DEV_STAMP)

clean:
	rm -rf .venv demo site docs/gallery
