# Every target calls scripts/setup first; when all is there that costs well under 2 seconds.
SHELL := /bin/bash
PY := .venv/bin/python
# What needs root, namespaces, devices or minutes, and all the rest, which runs on two cores at once.
SLOW := net or disk or e2e or fuzz or browser
FAST := -q -n 2 --dist loadfile -m "not ($(SLOW))"
# Namespaces and browsers wait more than they work: two files at once, too.
WAITING := -n 2 --dist loadfile -m "(net or fuzz or browser) and not (disk or e2e)"
# Emulated machines leave room beside them: for the disks, and then for the machines that stand alone in their menus.
# Disks are mounted where no `ip netns exec` of the others copies them into its own mount namespace, in which they
# would stay busy.
APART := unshare --mount --propagation private
MENUS := tests/pxeboot/boot
VAR := $(or $(PXEBOOT_VAR),$(CURDIR)/var)

.PHONY: help setup setup-venv demo test check bench fuzz serve clean format lock translations

help:
	@echo "make demo    the main job in a virtual room: register, capture, multicast deploy, verify (root)"
	@echo "make test    every test, end to end included (root)"
	@echo "make check   format, lint, types, imports, fast tests"
	@echo "make fuzz    a million wrong datagrams to parsers and running servers; 50 kills at work (root; some minutes)"
	@echo "make bench   measurements beside peers, written to bench.json (root; ONLY=name,name)"
	@echo "make serve   a virtual room with the daemon, pages on http://127.0.0.1:8080 (root)"

setup:
	@scripts/setup all

setup-venv:
	@scripts/setup venv

demo: setup
	$(PY) -m pxeboot.cli lab demo

test: setup
	@$(MAKE) --no-print-directory static
	$(PY) -m pytest tests $(FAST)
	$(PY) -m pytest tests $(WAITING)
	@{ $(APART) $(PY) -m pytest tests -m "disk and not e2e"; disks=$$?; \
	    $(PY) -m pytest $(MENUS) -m e2e; exit $$((disks | $$?)); } > $(VAR)/beside.log 2>&1 & beside=$$!; \
	$(PY) -m pytest tests -m e2e --ignore=$(MENUS); machines=$$?; \
	wait $$beside; beside=$$?; cat $(VAR)/beside.log; exit $$((machines | beside))

check: setup-venv
	@$(MAKE) --no-print-directory static
	$(PY) -m pytest tests $(FAST)

.PHONY: static
static:
	.venv/bin/ruff format --check -q .
	.venv/bin/ruff check -q .
	.venv/bin/mypy
	.venv/bin/lint-imports --no-cache > $(VAR)/lint-imports.log || { cat $(VAR)/lint-imports.log; exit 1; }

bench:
	@scripts/setup bench
	$(PY) -m tests.bench $(if $(ONLY),--only $(ONLY))

fuzz: setup-venv
	PXEBOOT_FUZZ=$(or $(PXEBOOT_FUZZ),1000000) $(PY) -m pytest -q tests -m fuzz
	PXEBOOT_KILLS=$(or $(PXEBOOT_KILLS),50) $(PY) -m pytest -q tests/e2e/test_kills.py

serve: setup
	$(PY) -m pxeboot.cli lab serve

format: setup-venv
	.venv/bin/ruff check -q --fix .
	.venv/bin/ruff format -q .

# Renew requirements.lock after a change of pyproject.toml (needs: pip install uv).
lock:
	uv pip compile -q --all-extras --generate-hashes --no-emit-index-url --no-header --no-annotate \
	    --python-version 3.11 pyproject.toml -o requirements.lock

translations: setup-venv
	$(PY) scripts/compile_translations.py

clean:
	$(PY) -m pxeboot.cli lab clean || true
	rm -rf var build .mypy_cache .ruff_cache .pytest_cache
