# Everything a fresh machine needs is Python 3.11 or newer, make and git; the first target run installs the rest
# into .venv with pip. Nothing is installed outside it; tests that need a Debian package
# skip without it, and `make apt-packages` (as root) installs those.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
ENVIRONMENT := .venv/installed
# One name per demo, so that a second one does not overwrite the first.
DEMO_RUN := runs/demo-$(shell date -u +%Y%m%dT%H%M%SZ)

# openssh-server: starting workers over ssh (tests/hwrun/test_fleet.py, test_remote_sweep.py).
# user-mode-linux busybox-static iproute2 ethtool: shaping against a real netem (tests/hwrun/test_shaping_netem.py), and
# against settings that tc makes (test_shaping_lease.py).
APT_PACKAGES := openssh-server user-mode-linux busybox-static iproute2 ethtool

.PHONY: apt-packages demo test check bench format clean help soak

help:
	@echo "make demo   predict, measure over real sockets, compare: the whole loop on this machine"
	@echo "make test   the tests: three files at a time, then by themselves those about how long something takes"
	@echo "make check  format, lint, types"
	@echo "make bench  the performance suite (ratios within one run)"
	@echo "make soak   long runs: a million fuzzed frames; workers, relays and orchestrators killed fifty times each; half an hour of full load"
	@echo "make format let ruff format and fix"
	@echo "make apt-packages  Debian packages that some tests need, where apt and root are there; else says so"
	@echo "make clean  remove .venv and caches; runs/ is kept"

$(ENVIRONMENT): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "Python 3.11 or newer is needed; found $$($(PYTHON) --version). Set PYTHON=…" >&2; exit 2; }
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[hw,report,dev]'
	$(BIN)/python -m compileall -q paretosim hwrun validation
	@touch $@

demo: $(ENVIRONMENT)
	$(BIN)/paretosim predict --model vgg16 --bw 5mbit --delay 200ms
	$(BIN)/hwrun sweep --local --model mobilenet_v2 --emulate rpi4b,rpi4b --speed 20 --splits 8,15,18,20 \
		--link unshaped --link 20mbit,20ms --mode paced --repeats 2 --batches-per-cell 6 -o $(DEMO_RUN)
	$(BIN)/python -m validation report $(DEMO_RUN)

apt-packages:
	@for package in $(APT_PACKAGES); do dpkg -s $$package >/dev/null 2>&1 || missing="$$missing $$package"; done; \
	if [ -z "$$missing" ]; then exit 0; fi; \
	if [ "$$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then echo "not root on Debian: tests that need$$missing will skip"; exit 0; fi; \
	apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$missing >/dev/null \
		|| echo "could not install$$missing: tests that need them will skip"

# Three at a time, a file after the other in each: half of their time is waiting for processes and links, which leaves a
# core of two idle. Then, by themselves, those whose subject is how long something takes.
test: $(ENVIRONMENT)
	$(BIN)/python -m pytest -m "not timed" --numprocesses 3 --dist loadfile --no-loadscope-reorder
	$(BIN)/python -m pytest -m timed

check: $(ENVIRONMENT)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

# Compiled first, as pip compiles what it installs: an editable checkout under PYTHONDONTWRITEBYTECODE never would be.
bench: $(ENVIRONMENT)
	$(BIN)/python -m compileall -q paretosim hwrun validation
	$(BIN)/python -m tests.benchmarks

# Long runs that look for what a short one does not meet.
soak: $(ENVIRONMENT)
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[soak]'
	$(BIN)/python -m tests.soak.fuzz_frames
	$(BIN)/python -m tests.soak.kills
	$(BIN)/python -m tests.soak.shaping
	$(BIN)/python -m tests.soak.interval_coverage
	$(BIN)/python -m tests.soak.full_load

format: $(ENVIRONMENT)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
