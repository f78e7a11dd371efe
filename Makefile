# `make quickstart` and `make test` need only git, make and Python 3.11: the first of them sets up .venv, once.
SHELL := /bin/bash
PYTHON := $(shell for p in python3.11 python3.12 python3.13 python3; do $$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null && echo $$p && break; done)
UV := $(shell uv --version >/dev/null 2>&1 && echo uv || echo .uv/bin/uv)
READY := .venv/.ready
OPEN3D_LIBS := libusb-1.0-0 libgl1 libegl1 libgomp1

.PHONY: help quickstart test lint docs setup lock

help:  ## show this list
	@sed -n 's/^\([a-z]*\):.*## /make \1\t/p' Makefile

quickstart: $(READY)  ## train three tasks of three modalities on one frozen backbone (about a minute)
	.venv/bin/metatx quickstart

test: $(READY)  ## run the tests, on two cores (threads would only get in each other's way)
	OMP_NUM_THREADS=1 .venv/bin/pytest --numprocesses 2 --dist loadfile

lint: $(READY)  ## check style and types
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy

docs: $(READY)  ## build the pages of docs/ into build/docs; a warning is an error
	NO_MKDOCS_2_WARNING=1 PYTHONPATH=. .venv/bin/mkdocs build --strict --quiet

setup: $(READY)  ## only set up .venv

lock: | $(filter .uv/bin/uv,$(UV))  ## renew requirements.lock after a change of pyproject.toml
	$(UV) pip compile pyproject.toml --all-extras --group dev --universal --fork-strategy fewest --python-version 3.11 \
	    --generate-hashes --no-emit-index-url --no-header --no-annotate --quiet --output-file requirements.lock

# Runs again only when the lock or the project's metadata changed; the install is editable, so code edits need nothing.
$(READY): requirements.lock pyproject.toml | $(filter .uv/bin/uv,$(UV))
	@if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && ! dpkg -s $(OPEN3D_LIBS) >/dev/null 2>&1; then \
	    export DEBIAN_FRONTEND=noninteractive; \
	    { apt-get update -qq && apt-get install -qq -y --no-install-recommends $(OPEN3D_LIBS) >/dev/null; } \
	    || echo "Could not install $(OPEN3D_LIBS): point clouds in formats that need open3d will not load."; fi
	$(UV) venv --quiet --allow-existing --python $(or $(PYTHON),3.11) .venv
	$(UV) pip sync --quiet --python .venv --require-hashes requirements.lock
	$(UV) pip install --quiet --python .venv --no-deps --no-build-isolation --editable .
	@touch $@

.uv/bin/uv:
	@[ -n "$(PYTHON)" ] || { echo "metatx needs Python 3.11, 3.12 or 3.13; none was found." >&2; exit 1; }
	$(PYTHON) -m venv .uv
	.uv/bin/python -m pip install --quiet --disable-pip-version-check uv
