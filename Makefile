# make demo   the main job on an embedded zone, from nothing to a report
# make test   everything that CI checks
# make survive  300 tasks while workers, containers, a Docker daemon and, on a real zone, the server are killed; failing nodes (as root)
# make test-zone  the tests of a real iRODS zone, on two servers in containers
# make lab    the units, Docker on cgroup v2 and project quotas, in a guest with systemd under QEMU (as root, Debian 12; two hours)
# make ubuntu the Debian package built, installed and used on Ubuntu 22.04 and 24.04 (as root, Debian 12)
# make wheels  the folder that packaging/install installs from, for this system and PYTHON (not as root)
# make lock   packaging/locks: the newest packages that we allow, pinned, with the checksums of their wheels
# make docs   the site of the pages, in build/docs/site
# make screenshots  the pictures in docs/images
# make bench  the figures in docs/performance.md
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check
SOURCES := $(shell find compute_to_data -name '*.py' -o -name '*.json') pyproject.toml

.PHONY: demo test test-zone survive lab ubuntu wheels lock docs screenshots bench lint types clean

demo: $(VENV)/.demo
	@$(BIN)/python examples/demo.py

# All tests run in one process more than there are processors, since they also wait for other programs; but those that share
# the one Docker engine run afterwards: the tests of Slurm one at a time, and beside them all others one at a time.
# A test that fails runs once more. CONTRIBUTING.md says what that means.
PROCESSES := $(shell expr $$(getconf _NPROCESSORS_ONLN) + 1)
TWICE := --reruns 1 -rfEsR --cov --cov-report=
test: lint types $(VENV)/.wheel
	@rm -f .coverage .coverage.*
	$(BIN)/pytest tests -n $(PROCESSES) -m "not docker" $(TWICE) --durations=30; parallel=$$?; \
	    $(BIN)/pytest tests -n 2 -m "docker and not long" $(TWICE) --durations=30 --cov-append && exit $$parallel
	@$(BIN)/python tests/support/coverage_by_package.py

# ZONE_TESTS: what pytest gets, instead of every suite that needs a zone.
test-zone: $(VENV)/.wheel
	@$(BIN)/python tests/support/zone_of_two.py $(ZONE_TESTS)

survive: $(VENV)/.wheel
	C2D_TEST_TASKS=300 $(BIN)/pytest tests/recovery/test_nothing_is_lost.py -q -s
	$(BIN)/pytest tests -m long -q

# What runs there is named by TESTS, as for pytest. C2D_LAB names the guest's folder.
# Podman's suites take hours and set the guest up for Podman alone: make lab TESTS=tests/lab/test_podman.py (or test_podman_ends.py, test_podman_package.py)
LAB_UNITS := tests/lab/test_units.py tests/lab/test_project_quotas.py tests/packaging/test_worker_unit.py tests/packaging/test_gateway_unit.py
LAB_DOCKER := tests/engines/test_memory_groups.py tests/engines/test_docker.py tests/template/test_reasons_on_docker.py \
    tests/adversarial/test_sandbox.py tests/adversarial/test_limits_without_worker.py tests/adversarial/test_warm.py \
    tests/engines/test_contract.py::TestDocker tests/engines/test_contract.py::TestWarmSandboxes
TESTS ?= $(LAB_UNITS) $(LAB_DOCKER)
lab:
	@$(PYTHON) tests/lab/guest.py run $(TESTS)

ubuntu:
	@$(PYTHON) tests/lab/ubuntu.py

wheels:
	@packaging/wheels --python $(PYTHON) wheels

lock: $(VENV)/.tools
	@$(PIP) install uv==0.13.9
	$(BIN)/python packaging/lock

# The pictures of the pages, out of the commands on them; needs a Docker engine.
screenshots: $(VENV)/.wheel
	@$(BIN)/python tests/support/screenshots.py

docs: $(VENV)/.tools
	@$(BIN)/python docs/site/build.py

bench: $(VENV)/.wheel
	$(BIN)/python tests/benchmarks/run.py
	$(BIN)/python tests/benchmarks/in_flight.py
	$(BIN)/python tests/benchmarks/transfers.py
	$(BIN)/python tests/benchmarks/neighbour.py

lint: $(VENV)/.tools
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.tools
	$(BIN)/mypy

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 9))' || \
	    { echo "make: $(PYTHON) is older than 3.9. Name another: make PYTHON=python3.11 ..." >&2; exit 1; }
	@[ -e $(VENV)/pyvenv.cfg ] || [ ! -e $(VENV) ] || rmdir $(VENV) 2>/dev/null || \
	    { echo "make: $(VENV) is there, and is no Python environment. Move it away, or name another: make VENV=..." >&2; exit 1; }
	@echo "making an environment in $(VENV)"
	@# An environment whose Python is gone, as after an upgrade of the system, is made anew.
	@$(PYTHON) -m venv --clear $(VENV) || { rm -rf $(VENV); \
	    echo "make: no environment could be made here. On Debian: apt-get install python3-venv. In a checkout that" \
	    "you may not write to: make a copy of it" >&2; exit 1; }
	@# The pip that old Pythons bring can look for versions that fit together for half an hour.
	@$(PIP) install --upgrade pip || echo "make: going on with the pip that is there"

$(VENV)/.demo: $(BIN)/python packaging/locks/worker.txt $(SOURCES)
	@echo "installing compute-to-data and the Docker client into $(VENV)"
	@$(PIP) install --require-hashes --only-binary :all: -r packaging/locks/worker.txt -r packaging/locks/build.txt
	@$(PIP) install --force-reinstall --no-deps --no-index --no-build-isolation .
	@touch $@

$(VENV)/.tools: $(BIN)/python tests/requirements.txt
	@echo "installing the tools that the tests need into $(VENV)"
	@$(PIP) install -r tests/requirements.txt
	@touch $@

# The tests run on the built wheel, not on the checkout: what they find is what users get.
$(VENV)/.wheel: $(VENV)/.tools $(SOURCES)
	@rm -rf build/lib build/bdist.* dist
	@$(PIP) install --require-hashes --only-binary :all: -r packaging/locks/build.txt
	@$(PIP) wheel --no-deps --no-index --no-build-isolation --wheel-dir dist .
	@$(PIP) install --force-reinstall --no-deps dist/*.whl
	@touch $@

clean:
	rm -rf $(VENV) build dist wheels demo *.egg-info
