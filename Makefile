# One name for each command; CI calls the same ones.
.DEFAULT_GOAL := help
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
E2E_INSTALLED := $(VENV)/.installed-e2e

help: ## show this
	@grep -E '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

run: $(INSTALLED) ## the vault with everything it needs, in the foreground
	@exec $(BIN)/flero-vault dev

test: $(INSTALLED) ## unit and integration tests
	$(BIN)/python -m pytest -q

lint: $(E2E_INSTALLED) ## formatter, linter, types, protos
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python protos/generate.py --check
	$(BIN)/python protos/generate.py --lint
	$(BIN)/python docs/generate.py --check

e2e: $(E2E_INSTALLED) ## the dialog in a headless Chromium (needs Debian's chromium)
	@command -v chromium >/dev/null || { echo "e2e needs Chromium: apt-get install chromium" >&2; exit 1; }
	$(BIN)/python -m pytest -q tests/e2e

bench: $(INSTALLED) ## throughput and latency beside a server that does nothing (needs Debian's nghttp2-client)
	@command -v h2load >/dev/null || { echo "bench needs h2load: apt-get install nghttp2-client" >&2; exit 1; }
	$(BIN)/python bench/run.py

protos: $(INSTALLED) ## generate the stubs anew
	$(BIN)/python protos/generate.py

docs: $(INSTALLED) ## generate docs/reference anew
	$(BIN)/python docs/generate.py

lock: $(INSTALLED) ## resolve the dependencies anew and lock them with hashes
	$(BIN)/python -m pip install -q pip-tools
	for name in tests/requirements tests/e2e-requirements service/build-requirements service/requirements-lock; do \
		out=$$(echo $$name | sed 's/-lock//').txt; \
		env -u PIP_FIND_LINKS $(BIN)/pip-compile -q --generate-hashes --allow-unsafe --strip-extras \
			--no-emit-index-url --no-emit-trusted-host --no-emit-find-links --no-annotate --no-header \
			-o $$out $$name.in || exit 1; \
	done

$(INSTALLED): tests/requirements.txt pyproject.toml client/pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed; set PYTHON=…" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) || \
		{ echo "python3 -m venv does not work: install python3-venv" >&2; exit 1; }
	$(BIN)/python -m pip install -q --disable-pip-version-check --require-hashes -r tests/requirements.txt
	$(BIN)/python -m pip install -q --disable-pip-version-check --no-deps --no-build-isolation -e client -e .
	@touch $@

$(E2E_INSTALLED): $(INSTALLED) tests/e2e-requirements.txt
	$(BIN)/python -m pip install -q --disable-pip-version-check --require-hashes -r tests/e2e-requirements.txt
	@touch $@

.PHONY: help run test lint e2e bench protos docs lock
