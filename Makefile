# One name for each command; CI calls the same ones.
.DEFAULT_GOAL := help
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
E2E_INSTALLED := $(VENV)/.installed-e2e
TOOLS := build/tools
GRPCURL_VERSION := 1.9.3
KEYCLOAK_VERSION := 26.7.3
GRPCURL := $(TOOLS)/grpcurl/.$(GRPCURL_VERSION)
OIDC_PROVIDER := $(TOOLS)/oidc_provider/.installed
KEYCLOAK := $(TOOLS)/keycloak/.$(KEYCLOAK_VERSION)

help: ## show this
	@grep -E '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

run: $(INSTALLED) ## the vault with everything it needs, in the foreground
	@exec $(BIN)/flero-vault dev

test: $(INSTALLED) ## unit and integration tests
	$(BIN)/python -m pytest -q -n auto --dist loadfile

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

interop: $(INSTALLED) interop-tools ## the vault against servers and clients that others wrote (docs/interop.md)
	@test -x "$${INTEROP_POSTGRESQL:-/usr/lib/postgresql/15/bin}/postgres" || \
		{ echo "interop needs PostgreSQL 15: apt-get install postgresql-15" >&2; exit 1; }
	@PATH="$$PATH:/usr/sbin"; command -v pgbouncer >/dev/null || \
		{ echo "interop needs PgBouncer: apt-get install pgbouncer" >&2; exit 1; }
	$(BIN)/python -m pytest -q tests/interop

interop-tools: $(GRPCURL) $(OIDC_PROVIDER) $(KEYCLOAK) ## what `interop` runs and Debian does not package

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

$(GRPCURL):
	@command -v go >/dev/null || { echo "interop needs Go: apt-get install golang" >&2; exit 1; }
	GOBIN=$(CURDIR)/$(@D) go install github.com/fullstorydev/grpcurl/cmd/grpcurl@v$(GRPCURL_VERSION)
	@touch $@

$(OIDC_PROVIDER): tests/interop/oidc_provider/package.json tests/interop/oidc_provider/package-lock.json
	@command -v npm >/dev/null || { echo "interop needs Node: apt-get install nodejs npm" >&2; exit 1; }
	@mkdir -p $(@D)
	cp $^ $(@D)
	cd $(@D) && npm ci --ignore-scripts --no-audit --no-fund
	@touch $@

$(KEYCLOAK): tests/interop/keycloak/SHA256SUMS
	@command -v java >/dev/null || { echo "interop needs Java: apt-get install default-jre-headless" >&2; exit 1; }
	@command -v mvn >/dev/null || { echo "interop needs Maven: apt-get install maven" >&2; exit 1; }
	rm -rf $(@D) $(TOOLS)/keycloak-*
	mvn -B -q org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy \
		-Dartifact=org.keycloak:keycloak-quarkus-dist:$(KEYCLOAK_VERSION):zip -DoutputDirectory=$(CURDIR)/$(TOOLS)
	cd $(TOOLS) && sha256sum --check --quiet $(CURDIR)/$<
	$(PYTHON) -m zipfile -e $(TOOLS)/keycloak-quarkus-dist-$(KEYCLOAK_VERSION).zip $(TOOLS)
	rm $(TOOLS)/keycloak-quarkus-dist-$(KEYCLOAK_VERSION).zip
	mv $(TOOLS)/keycloak-$(KEYCLOAK_VERSION) $(@D)
	@touch $@

.PHONY: help run test lint e2e interop interop-tools bench protos docs lock
