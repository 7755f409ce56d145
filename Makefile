# make app: the environment, then the app on http://127.0.0.1:8501 (make app PORT=9000 for another port)
# make test: the environment, Chromium and Orthanc, then lint, types and every test
# make parity: encoders beside the models' own code, in an environment of their own (part of make test)
# make package: dist/, the source archive and the wheel with app, pages, settings and phantom
# make sbom: beside the package in dist/, its bill of materials, third-party licences and SHA256SUMS
# make requirements: the requirements*.txt from pyproject.toml
# make bench-check: ratios of processor time beside their peers, against those recorded; fails on a fall of a quarter
# make lock: locks/*.txt, every package with its hashes; make app LOCKED=torch installs from them alone (SECURITY.md)
# make audit-dependencies: licences of what is locked, and what is known against it (needs a network)
# make soak: the long campaigns; their figures stand in benchmarks/

PYTHON ?= python3
VENV ?= .venv
PORT ?= 8501
BIN = $(VENV)/bin
PARITY = $(VENV)/parity
## Empty: what fits requirements*.txt. torch or torch-cpu: the files of locks/ alone, by their hashes.
LOCKED ?=
HASHED = --require-hashes --no-deps

.PHONY: app test lint unit parity package sbom requirements lock audit-dependencies bench-check soak browser clean help
help:
	@sed -n 's/^# //p' $(firstword $(MAKEFILE_LIST))

app: $(VENV)/.base
	$(BIN)/python -m streamlit run app.py --server.port $(PORT)

## At a time: some mostly wait, or have one thread. Parity fills what the other tests leave of the cores.
test:
	$(MAKE) -j2 --output-sync=line $(VENV)/.dev browser
	$(MAKE) -j3 --output-sync=line lint unit parity

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

## A thread that waits for the others sleeps: the processes of the tests share the cores.
unit parity: export OMP_WAIT_POLICY = PASSIVE

## Three for two cores: one of them mostly waits for the browser.
unit: $(VENV)/.dev
	$(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder

parity: $(PARITY)/.done
	nice -n 19 $(PARITY)/bin/python -m pytest -p no:cacheprovider tests/parity

package: $(VENV)/.dev
	rm -rf dist
	$(BIN)/python -m build --no-isolation

sbom: $(VENV)/.dev
	$(BIN)/python tools/sbom.py

requirements:
	$(PYTHON) tools/requirements.py

bench-check: $(VENV)/.dev
	$(BIN)/python benchmarks/check.py

lock: requirements $(VENV)/.dev
	$(BIN)/python tools/lock.py

audit-dependencies: $(VENV)/.dev
	$(BIN)/python tools/dependencies.py

soak: $(VENV)/.dev browser $(PARITY)/.done
	$(BIN)/python -m pytest -m soak
	$(BIN)/python tests/mutations.py
	$(BIN)/python benchmarks/ranking.py
	$(BIN)/python benchmarks/interval_coverage.py
	$(BIN)/python benchmarks/cross_checks.py
	$(BIN)/python benchmarks/audit_times.py
	$(BIN)/python benchmarks/cohort_tables.py
	$(BIN)/python benchmarks/layouts.py
	$(BIN)/python benchmarks/labels.py
	$(BIN)/python benchmarks/identifiers.py
	$(BIN)/python benchmarks/ceilings.py
	$(BIN)/python benchmarks/reality.py
	$(BIN)/python benchmarks/interaction.py
	$(BIN)/python benchmarks/first_paint.py
	$(BIN)/python benchmarks/controls.py
	$(BIN)/python benchmarks/sessions.py
	$(BIN)/python benchmarks/dp_step.py
	$(BIN)/python benchmarks/lab_speed.py
	$(BIN)/python benchmarks/mitigation.py
	$(PARITY)/bin/python benchmarks/parity.py
	$(BIN)/python benchmarks/release_bounds.py --ceiling
	$(BIN)/python benchmarks/release_breaks.py
	$(BIN)/python benchmarks/release_speed.py
	$(BIN)/python benchmarks/limits.py
	$(BIN)/python benchmarks/frontier.py
	$(BIN)/python benchmarks/release_second_site.py
	$(BIN)/python benchmarks/embed_throughput.py
	$(BIN)/python benchmarks/scaled_jpeg.py
	$(BIN)/python benchmarks/dicomweb.py
	$(BIN)/python benchmarks/package.py
	$(BIN)/python benchmarks/help.py
	$(BIN)/python benchmarks/first_touch.py
	$(BIN)/python benchmarks/peers.py
	$(BIN)/python benchmarks/growth.py
	PYTHONPATH=.:benchmarks $(BIN)/python benchmarks/one_machine.py
	$(BIN)/python benchmarks/bridge.py
	$(BIN)/python benchmarks/real_towers.py

browser:
	@sh tests/browser/chromium.sh
	@sh tests/cohorts/orthanc.sh

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "$(PYTHON) is too old: Python 3.11 or newer is needed (make PYTHON=python3.12 ...)"; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); \
	  echo "venv failed. On Debian and Ubuntu: sudo apt-get install python3-venv"; exit 1; }

## Not compiled: Python compiles what is imported when it is first imported, and most modules of these packages never are.
$(VENV)/.base: requirements.txt pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --disable-pip-version-check -q --no-compile \
	  $(if $(LOCKED),$(HASHED) -r locks/$(LOCKED).txt -r locks/base.txt,-r requirements.txt)
	$(BIN)/python -m pip install --disable-pip-version-check -q --no-compile --no-deps -e .
	@$(BIN)/python -c 'from linkage_core.ranking.kernels import warm; warm()'
	@touch $@

## Tests start many processes, and some machines forbid Python to keep what it compiles (PYTHONDONTWRITEBYTECODE): here
## it is done, on all cores, but for the packages' own tests. What does not compile is not imported either.
## torchxrayvision is there for the tables in it, and never imported: what it needs (torchvision) stays away.
$(VENV)/.dev: requirements-dev.txt requirements-real.txt $(VENV)/.base
	$(BIN)/python -m pip install --disable-pip-version-check -q --no-compile \
	  $(if $(LOCKED),$(HASHED) -r locks/dev.txt,-r requirements-dev.txt)
	$(BIN)/python -m pip install --disable-pip-version-check -q --no-compile --no-deps -r requirements-real.txt \
	  torchxrayvision==1.5.7
	@$(BIN)/python -m compileall -qq -j 0 -x /tests/ linkage_core explorer \
	  "$$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')" > /dev/null || true
	@$(BIN)/python tools/rewrite_tests.py > /dev/null 2>&1 || true
	@touch $@

## Stacked: sees the packages of the other environment, so that torch is not there twice; torchvision stays out of that one.
$(PARITY)/.done: requirements-parity.txt requirements-models.txt $(VENV)/.dev
	@rm -rf $(PARITY)
	@$(BIN)/python -m venv $(PARITY)
	@$(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))' \
	  > "$$($(PARITY)/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/below.pth"
	$(PARITY)/bin/python -m pip install --disable-pip-version-check -q -r requirements-parity.txt
	@touch $@

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist *.egg-info
