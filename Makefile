# A fresh machine has Python 3.11, git, make and pip; everything else is installed here, locked, into .venv.
PYTHON ?= python3
DATA ?=
QUICK ?=
VENV := .venv
QUICKSTART := .venv-quickstart
BIN := $(VENV)/bin
# As dags/runner/process.py sets it for stages: threads that wait sleep, memory once had is kept, products repeat to the last bit.
export OMP_WAIT_POLICY := PASSIVE
export MKL_CBWR := AUTO,STRICT
export MALLOC_ARENA_MAX := 1
export MALLOC_MMAP_THRESHOLD_ := 2000000000
export MALLOC_TRIM_THRESHOLD_ := 8000000000
export MALLOC_TOP_PAD_ := 67108864
# Compiled modules are kept: a process that compiles what it imports needs 9 s of CPU time for torch alone instead of 4.
unexport PYTHONDONTWRITEBYTECODE
INSTALLED := $(VENV)/.installed

.PHONY: help setup demo quickstart test slow lint

help:
	@echo "make demo [DATA=folder] [QUICK=1]  install, then run the main job from deliveries to a registered model;"
	@echo "                                   its store is the folder store, or what UPHELD_STORE names"
	@echo "make quickstart                    install the core alone and show a report on sample scores"
	@echo "make setup                         install everything, run nothing"
	@echo "make test | make slow | make lint  the tests, the long tests, ruff + mypy + import contracts"

setup: $(INSTALLED)

# A virtual environment with uv inside, so that nothing is put into the user's home. Arguments: its folder.
define environment
	@$(PYTHON) -c "import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 13))" || \
	    { echo "Python 3.11 or 3.12 is needed; name it with make PYTHON=python3.11"; exit 2; }
	@test -x $(1)/bin/python || $(PYTHON) -m venv --without-pip $(1)
	@test -x $(1)/bin/uv || $(PYTHON) -m pip --python $(1)/bin/python install --quiet --disable-pip-version-check uv
endef

# DVC compares with git's commits, and stops where there is no git unless it is told.
$(INSTALLED): requirements.lock pyproject.toml
	$(call environment,$(VENV))
	$(VENV)/bin/uv pip sync --python $(VENV) --require-hashes requirements.lock
	$(VENV)/bin/uv pip install --python $(VENV) --quiet --no-deps --no-build-isolation --editable .
	@test -e .git || $(VENV)/bin/dvc config --local core.no_scm true
	@touch $@

demo: setup
	$(BIN)/upheld demo $(if $(DATA),--data $(DATA)) $(if $(QUICK),--quick)

quickstart: $(QUICKSTART)/.installed
	$(QUICKSTART)/bin/python -m upheld.evaluation.quickstart

$(QUICKSTART)/.installed: requirements.lock pyproject.toml
	$(call environment,$(QUICKSTART))
	$(QUICKSTART)/bin/uv pip install --python $(QUICKSTART) --constraint requirements.lock --editable .
	@touch $@

# Two workers keep two processors busy: Torch with a thread per processor in each took 17 % more CPU time to train the same.
test: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal

slow: setup
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m "slow and not timed"
	$(BIN)/python -m pytest -m timed $$(grep -rl --include='*.py' "mark\.timed" tests)

lint: setup
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy && $(BIN)/lint-imports
