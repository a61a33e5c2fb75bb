# The front door.  `make` alone lists the targets.
#
# Nothing has to be prepared: targets install the Debian packages of bindep.txt (as root; anybody else is told the
# command) and make a virtual environment in .venv.  Run again they find both there and start at once.
#
#   PYTHON      Python to build with, 3.11 or newer      (default: the first of python3, python3.13, … that is; for
#               `make install` the system's, since services run as other users and see no home directory)
#   PYTEST_ARGS more arguments for pytest                (make test PYTEST_ARGS="-k fip")
#   WORKERS     tests that run at a time                 (default: three for each processor, since they mostly wait;
#               0: one after the other, in this process, for a debugger)
#   DEBIAN_TESTS what test-debian runs                   (default: unit, contract and packet tests)
#   NFTABLES_TESTS what test-nftables runs               (default: oracle, packets and some that run daemons and dvrctl)
#   NEUTRON_ARGS more arguments for pytest in test-neutron (make test-neutron NEUTRON_ARGS=--full)
#   VM_ARGS     more arguments for pytest in test-vm     (make test-vm VM_ARGS=--full)
#   DEB_ARGS    more arguments for pytest in deb-check   (make deb-check DEB_ARGS="--previous FILE": upgrade from that package,
#               with HA routers, too; --full: these without another package)
#   SUITE       Debian release of deb and deb-check      (default: bookworm)
#   BENCH_ARGS  more arguments for the bench
#   RELIABILITY_ARGS more arguments for reliability      (make reliability RELIABILITY_ARGS="--quick")
#   DEMO_ARGS   more arguments for dvrctl demo
#   PREFIX      where `make install` puts things         (default: /usr/local)
#   DESTDIR     directory to stage an installation in    (default: none)
#   SYSCONFDIR  configuration                            (default: /etc)
#   EXTRAS      optional parts to install: neutron,ovs,journal,web  (default: none)
#   PAGES_PYTHON a Python with this project's dependencies, docutils and shtab, to make manual pages and completion with
#               (default: that of .venv, where they are installed; a package build says /usr/bin/python3)
#   UNITDIR     the systemd unit                         (default: a place under PREFIX or SYSCONFDIR that systemd reads)

SHELL := /bin/bash
.DEFAULT_GOAL := help
.NOTPARALLEL:
MAKEFLAGS += --no-print-directory
unexport PYTHONPATH PYTHONHOME
# Where ip, sysctl and iptables-legacy are; not in an ordinary user's PATH.
export PATH := $(PATH):/usr/local/sbin:/usr/sbin:/sbin

VENV := .venv
VM := .vm
RUN := $(VENV)/bin/python
PREFIX ?= /usr/local
export PYTHON PREFIX DESTDIR SYSCONFDIR UNITDIR EXTRAS PAGES_PYTHON PIP_ARGS PIP_PYTHON

WORKERS ?= $(shell n=$$((3 * $$(nproc))); echo $$((n < 16 ? n : 16)))
PARALLEL := -n $(WORKERS) --dist loadgroup
export SUITE
# No kernel, or only as much of it as the fake one has: these are quick.
QUICK := tests/unit tests/contract
DEBIAN_TESTS ?= $(QUICK) tests/packets
# Whose outcome depends on the packet filter most.  Takeover tests choose the packet filter by themselves.
NFTABLES_TESTS ?= --ignore-glob='*/test_takeover*' tests/oracle tests/packets \
	$(patsubst %,tests/functional/test_%.py,history reconciler_real trace traffic why)

# $(call need,<bindep profiles>,<extras of pyproject.toml>)
need = @tools/system-packages.sh build $(1) && tools/venv.sh $(2)
need_pages = @[ -n "$(PAGES_PYTHON)" ] || { tools/system-packages.sh build && tools/venv.sh pages; }

.PHONY: help
help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: demo
demo: ## see a distributed virtual router work, in private namespaces; touches nothing of this host
	$(call need,demo)
	@$(VENV)/bin/dvrctl demo $(DEMO_ARGS)

.PHONY: test
test: ## the whole test suite: unit, functional, recorded scenarios, packets, daemon
	$(call need,test,test)
	@$(RUN) -m pytest $(PARALLEL) $(PYTEST_ARGS)

.PHONY: check
check: lint coverage ## what to run before each commit: lint, types, unit and contract tests with their coverage

.PHONY: coverage
coverage: ## branch coverage of the unit and contract tests; fails below the floor in pyproject.toml
	$(call need,test,test)
	@$(RUN) -m pytest $(PARALLEL) --cov --cov-report=term $(QUICK) $(PYTEST_ARGS)

.PHONY: ready
ready: ## install what all tests need, and run nothing
	@tools/system-packages.sh build test neutron vm debian web && tools/venv.sh test neutron ovs && tools/neutron-venv.sh
	@tools/debian-venv.sh

.PHONY: test-debian
test-debian: ## unit, contract and packet tests on Debian's own Python packages, the oldest versions that are supported (root)
	@tools/system-packages.sh build test debian && tools/debian-venv.sh
	@.venv-debian/bin/python -m pytest $(PARALLEL) $(DEBIAN_TESTS) $(PYTEST_ARGS)

.PHONY: test-nftables
test-nftables: ## packets, recorded scenarios, dvrctl and a daemon once more, with nf_tables as the packet filter
	$(call need,test,test)
	@$(RUN) -m pytest $(PARALLEL) --packet-filter nftables $(NFTABLES_TESTS) $(PYTEST_ARGS)

.PHONY: test-neutron
test-neutron: ready ## against a real cloud: neutron-server, RabbitMQ, MariaDB, Open vSwitch, in private namespaces (root; NEUTRON_ARGS=--full for all)
	@$(RUN) -m pytest tests_neutron $(NEUTRON_ARGS) $(PYTEST_ARGS)

.PHONY: vm-image
vm-image: # the disk that test-vm boots, from nothing where it has to
	$(call need,vm,test)
	@tools/vm-image.sh $(VM)

.PHONY: test-vm
test-vm: vm-image ## on Debian's own kernel and systemd, from a bare system on, in a virtual machine (root; VM_ARGS=--full for all)
	@$(RUN) -m pytest tests_vm $(VM_ARGS)

.PHONY: deb
deb: ## Debian package of this checkout, in build/deb, built in a bare Debian (root; SUITE=trixie)
	$(call need,deb)
	@tools/deb.sh build

.PHONY: deb-check
deb-check: ## the same, installed, upgraded, removed and purged under systemd with traffic (root; SUITE=trixie)
	$(call need,deb,test)
	@tools/deb.sh
	@$(RUN) -m pytest tests_deb $(DEB_ARGS)

.PHONY: rpm
rpm: ## RPM package of this checkout, in build/rpm, as far as Debian's rpm can build it, and rpmlint (root)
	$(call need,rpm debian)
	@tools/rpm.sh

.PHONY: container
container: ## image of the agent, and a router that outlives its container (root)
	$(call need,deb container)
	@[ -e build/deb/$(or $(SUITE),bookworm) ] || tools/deb.sh build
	@tools/check-container.sh

.PHONY: docs
docs: ## the documentation site, in build/docs/html; a warning is an error
	$(call need,,docs)
	@$(RUN) tools/docs_site.py build/docs/src
	@$(VENV)/bin/sphinx-build -q -W --keep-going -b html build/docs/src build/docs/html
	@$(RUN) tools/docs_site.py --check build/docs/html
	@echo "==> build/docs/html/index.html"

.PHONY: unit
unit: ## the tests that need no kernel
	$(call need,test,test)
	@$(RUN) -m pytest $(PARALLEL) tests/unit $(PYTEST_ARGS)

.PHONY: bench
bench: ## time per router against the kernel's floor and against a process per command
	$(call need,demo)
	@$(RUN) -m bench $(BENCH_ARGS)

.PHONY: bench-neutron
bench-neutron: ready ## the same against neutron-l3-agent in a real cloud (root; BENCH_ARGS="--routers 10,50,100")
	@$(RUN) -m bench.neutron $(BENCH_ARGS)

.PHONY: bench-failover
bench-failover: ready ## pings lost when HA routers fail over: ours, neutron-l3-agent's, and one of each (root; BENCH_ARGS="--pairs ours")
	@$(RUN) -m bench.failover $(BENCH_ARGS)

.PHONY: bench-limits
bench-limits: ## what bandwidth limits let through of UDP and TCP flows (root; BENCH_ARGS="--kbps 2000,20000")
	$(call need,test,test)
	@$(RUN) -m bench.limits $(BENCH_ARGS)

.PHONY: bench-metadata
bench-metadata: ## one metadata proxy against a haproxy per router (root; BENCH_ARGS="--routers 200,2000")
	$(call need,test,test)
	@$(RUN) -m bench.metadata $(BENCH_ARGS)

.PHONY: bench-packets
bench-packets: ## what a packet costs by packet filter and number of floating IPs (root; BENCH_ARGS="--fips 1,5000")
	$(call need,test,test)
	@$(RUN) -m bench.packets $(BENCH_ARGS)

.PHONY: simulate
simulate: ## neutron-server after a power cut of 2,000 hosts, by a model (BENCH_ARGS="--hosts 500 --routers 100", or --check)
	$(call need,test,test)
	@$(RUN) -W ignore -m bench.scale $(BENCH_ARGS)

.PHONY: reliability
reliability: ## the promises of docs/reliability.md, measured by long runs; most of an hour (RELIABILITY_ARGS=--quick)
	$(call need,test,test)
	@$(RUN) -m bench.reliability $(RELIABILITY_ARGS)

.PHONY: lint
lint: format-check types layers sample-check unit-check docs-check ## everything that can be said without running it

.PHONY: format-check
format-check:
	$(call need,lint,test lint)
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .

.PHONY: types
types: ## mypy, strict: the agent, the tests, the bench
	$(call need,lint,test lint)
	$(RUN) -m mypy

.PHONY: layers
layers: ## who may import whom (import-linter)
	$(call need,lint,test lint)
	$(VENV)/bin/lint-imports

.PHONY: sample-check
sample-check: ## etc/dvr-agent.conf.sample and the generated parts of docs/ are what the code says
	$(call need,lint,test lint)
	$(RUN) tools/sample_config.py --check
	$(RUN) tools/configuration_page.py --check
	$(RUN) tools/troubleshooting_page.py --check
	$(RUN) tools/reliability_page.py --check
	$(RUN) tools/metrics_page.py --check
	$(RUN) tools/dvrctl_page.py --check
	$(RUN) tools/json_schemas.py --check

.PHONY: unit-check
unit-check: ## systemd-analyze verify of the unit
	$(call need,lint)
	tools/check-unit.sh

.PHONY: docs-check
docs-check: ## relative links in the Markdown files resolve
	$(call need,)
	$(RUN) tools/check_docs.py

.PHONY: format
format: ## let ruff write the code's layout
	$(call need,lint,test lint)
	$(RUN) -m ruff format .
	$(RUN) -m ruff check --fix .

.PHONY: sample-config
sample-config: ## generate etc/dvr-agent.conf.sample and the tables of docs/ anew
	$(call need,lint,test lint)
	$(RUN) tools/sample_config.py
	$(RUN) tools/configuration_page.py
	$(RUN) tools/troubleshooting_page.py
	$(RUN) tools/reliability_page.py
	$(RUN) tools/metrics_page.py
	$(RUN) tools/dvrctl_page.py
	$(RUN) tools/json_schemas.py

.PHONY: man
man: ## manual pages, in build/man
	$(need_pages)
	@$(or $(PAGES_PYTHON),$(RUN)) -m tools.manual build/man

.PHONY: completion
completion: ## completion of dvrctl for bash, zsh and fish, in build/completion
	$(need_pages)
	@$(or $(PAGES_PYTHON),$(RUN)) -m tools.completion build/completion

.PHONY: install
install: ## agent, dvrctl, manual pages, systemd units, configuration (PREFIX, DESTDIR); overwrites no configuration
	$(call need,$(findstring journal,$(EXTRAS)))
	$(need_pages)
	@tools/install.sh

.PHONY: uninstall
uninstall: ## remove what install made; configuration and the data plane stay
	@tools/uninstall.sh

.PHONY: check-install
check-install: ## install into a temporary DESTDIR, move it to its place, run it there
	$(call need,lint)
	$(need_pages)
	@tools/check-install.sh

.PHONY: clean
clean: ## remove everything that these targets made in the checkout
	rm -rf $(VENV) $(VM) .venv-debian .venv-neutron .tox .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .coverage build dist *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
