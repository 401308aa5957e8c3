# Everything that a checkout needs; `make help` lists the targets.

PYTHON ?= python3
CONFIG ?= etc/staggerdns.yaml
RUNS ?= 1000000
SECONDS ?= $(if $(CI),60,600)
WORKERS ?= $(shell n=$$(nproc); echo $$((n > 4 ? 8 : 2 * n)))

BIN := .venv/bin

# How much the tests do of what takes long, in percent: see tests/kit/effort.py.
EFFORT ?= 0
export STAGGERDNS_TEST_EFFORT := $(EFFORT)

# Each worker, and each process that a test starts, would compile everything anew without bytecode.
PYTEST := PYTHONDONTWRITEBYTECODE= $(BIN)/pytest -o faulthandler_timeout=$(shell echo $$((180 + 30 * $(EFFORT))))

# With COMPILED=1 a target takes the compiled program, which has to come before the checkout.
COMPILED ?=
BUILT := $(CURDIR)/build/compiled
ifneq ($(COMPILED),)
PROGRAM := build/compiled/.ready
PYTHONPATH := $(BUILT):$(CURDIR)
export PYTHONPATH
RUN := $(BIN)/python -P
else
PROGRAM :=
RUN := $(BIN)/python
endif

# What it is built from.
SOURCES := setup.py setup.cfg pyproject.toml .ci/compile \
	$(shell find staggerdns twisted/plugins -name '*.py')

# What is tested both ways: whatever starts the program, and the properties of what is compiled.
# Of the tests of logic these alone, since most others have doubles of classes that are compiled.
BOTH_WAYS := tests/conformance tests/fuzz tests/internet tests/live \
	tests/packaging/test_compiled_wheel.py tests/ranking/test_order.py tests/wire
PROPERTIES := tests/ranking tests/resolver tests/server tests/strategy tests/upstream \
	tests/test_standstill.py

# Only what has changed is built anew. -n: what is referred to must be there.
DOCS := $(BIN)/sphinx-build -W --keep-going -n -d build/doctrees docs build/docs

# Empty when the environment is missing, half made, moved here from elsewhere, or has lost its
# interpreter: then the stamps below do not count. .ci/setup-venv decides what to do about it.
USABLE := $(shell head -n 2 $(BIN)/pip 2>/dev/null | grep -F '$(CURDIR)/$(BIN)/' >/dev/null \
	&& $(BIN)/python -Ic 'import pip' 2>/dev/null && test ! -e .venv/.installing && echo yes)

.PHONY: help run compiled demo site test pytest test-compiled browser lint lint-code docs man format mutate bench \
	performance simulate fuzz soak programs rivals compiled-too clean FORCE

help:
	@echo 'make run     start StaggerDNS in the foreground (CONFIG=$(CONFIG))'
	@echo 'make compiled  build the compiled program in build/compiled; COMPILED=1 has run, fuzz and soak use it'
	@echo 'make demo    show what it does, without a network: five upstreams, one of them silent'
	@echo 'make site    two servers with dnsdist and a store that they share, on loopback'
	@echo 'make test    lint and the tests; installs missing Debian packages as root or with sudo;'
	@echo '             EFFORT=100 is an hour of more: all that takes long, as often as it takes'
	@echo 'make pytest  all tests alone, in WORKERS=$(WORKERS) processes'
	@echo 'make test-compiled  what is tested both ways, with the compiled program'
	@echo 'make browser  look at the page with a real browser; pictures go to build/browser'
	@echo 'make lint    ruff, mypy, and the documentation with its warnings as errors'
	@echo 'make docs    build the documentation: build/docs/index.html'
	@echo 'make man     write the man pages, docs/man, anew: what it names is to be committed'
	@echo 'make format  let ruff rewrite the sources'
	@echo 'make mutate  change each default and each condition of the decision: tests have to fail'
	@echo 'make bench   compare speed and memory with unbound, dnsmasq and smartdns'
	@echo 'make performance  the same, and its figures into the page and the pictures of docs/'
	@echo 'make simulate  try the strategies on drawn reply times: first answers, load, pools'
	@echo 'make fuzz    look for octets that break the readers (RUNS=$(RUNS) of each); finds go to .fuzz'
	@echo 'make soak    mixed load for SECONDS=$(SECONDS): fails when memory, descriptors or timers grow'
	@echo 'make clean   remove the virtual environment and everything generated'
	@echo 'PYTHON=$(PYTHON) makes the virtual environment .venv (3.11 or newer)'

run: .venv/.ready-run $(PROGRAM)
	@exec $(BIN)/twistd -n --pidfile= staggerdns --config $(CONFIG)

demo: .venv/.ready-run
	@exec $(BIN)/python -m bench.demo

# Two servers, dnsdist in front, redis-server behind, on loopback.
site: programs .venv/.ready-test
	@exec $(BIN)/python -m bench.demo.site

compiled: build/compiled/.ready

build/compiled/.ready: .venv/.ready-compile $(SOURCES)
	@sh .ci/compile
	@touch $@

test: programs .venv/.ready-test
	@$(MAKE) --no-print-directory -j2 lint-code pytest

# The tests with processes wait most of the time: more workers than processors. Each worker takes
# a share of the tests as they stand, and what others have left when it is done.
pytest: .venv/.ready-test .venv/.rewritten
	$(PYTEST) -n $(WORKERS) --dist worksteal

# pytest rewrites the assertions of every test, which takes longer than to collect them: once, for
# all workers. What cannot be collected is told by the run itself.
.venv/.rewritten: .venv/.ready-test $(shell find tests -name '*.py')
	@$(PYTEST) --collect-only -qq >/dev/null 2>&1 || true
	@touch $@

test-compiled: programs build/compiled/.ready .venv/.rewritten
	STAGGERDNS_TEST_COMPILED=1 $(PYTEST) -n $(WORKERS) --dist worksteal $(BOTH_WAYS)
	STAGGERDNS_TEST_COMPILED=1 $(PYTEST) -n $(WORKERS) -m hypothesis $(PROPERTIES)

# PICTURES=1 renews the picture of docs/ as well.
browser: programs .venv/.ready-browser
	@sh tests/debian-packages.sh browser
	STAGGERDNS_TEST_BROWSER=1 STAGGERDNS_PICTURES=$(PICTURES) $(PYTEST) tests/browser

lint: lint-code
	$(DOCS) -q
	$(BIN)/python -m docs._ext.manpages --check

# tests/test_docs.py builds the documentation as well.
lint-code: .venv/.ready-test
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

man: .venv/.ready-test
	@$(BIN)/python -m docs._ext.manpages

docs: .venv/.ready-test
	@$(DOCS) -q
	@echo 'build/docs/index.html'

format: .venv/.ready-test
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

mutate: .venv/.ready-test
	@$(BIN)/python -m tests.mutate

bench: programs rivals compiled-too .venv/.ready-test
	@$(BIN)/python -m bench

performance: programs rivals compiled-too .venv/.ready-test
	@mkdir -p build
	@$(BIN)/python -m bench --json build/bench.json
	@$(BIN)/python -m bench.pictures build/bench.json

# PICTURES=1 renews the pictures of docs/ as well.
simulate: .venv/.ready-test
	@$(BIN)/python -m bench.simulate $(if $(PICTURES),--pictures docs)

# Goes on where the last time ended; fuzz/corpus stays as it is.
fuzz: .venv/.ready-test $(PROGRAM)
	@for target in queries replies settings lists domains control proxies; do \
		$(RUN) -m fuzz $$target .fuzz -runs=$(RUNS) || exit; \
	done

soak: .venv/.ready-test $(PROGRAM)
	@$(RUN) -m bench.soak $(SECONDS)

# The Debian programs that the tests and the benchmark start.
programs:
	@sh tests/debian-packages.sh

# The compiled program is measured beside the checkout where it can be built.
compiled-too:
	@command -v $(CC) >/dev/null && $(MAKE) --no-print-directory compiled || true

# What the benchmark alone starts. Without them it leaves something out.
rivals:
	@sh tests/debian-packages.sh rivals || true

clean:
	rm -rf .venv .fuzz build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis _trial_temp*
	rm -f twisted/plugins/dropin.cache
	find staggerdns twisted tests bench fuzz -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true

.venv/.ready-run .venv/.ready-compile .venv/.ready-test .venv/.ready-browser: .venv/.ready-%: pyproject.toml setup.cfg .ci/setup-venv $(if $(USABLE),,FORCE)
	@PYTHON='$(PYTHON)' sh .ci/setup-venv $*
