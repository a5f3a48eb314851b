SHELL := bash
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help install demo test lint format bench clean

# The first Python that is new enough; `make PYTHON=...` chooses another.
PYTHON ?= $(shell for python in python3 python3.13 python3.12 python3.11 python; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$python && break; done)
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
REQUIREMENTS := pyproject.toml constraints/ci.txt
BENCHMARKS := $(filter-out report gpu_check,$(patsubst benchmarks/%.py,%,$(filter-out benchmarks/_%,$(wildcard benchmarks/*.py))))

# Of all that pip says, show what is large enough to be waited for; its warnings are shown only if it fails.
define pip_install
	@set -o pipefail; $(PIP) install -c constraints/ci.txt $(1) 2>$(VENV)/install.log \
		| sed -nE 's/^ *Downloading ([^-]+-[^-]+)-.*(\([0-9.]+ [MG]B\)).*/  downloading \1 \2/p; s/^Installing collected.*/  unpacking/p; /conflict is caused|^    .* (depends on|requested)/p' \
		|| { cat $(VENV)/install.log >&2; exit 1; }
endef

help: ## Show the targets
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /\1\t/' | expand -t 10

install: $(VENV)/.installed-dev ## Make .venv with all that tests need

demo: $(VENV)/.installed-demo ## Run a LangChain and a LlamaIndex agent on the embedded model
	@$(BIN)/hermes demo

test: $(VENV)/.installed-dev ## Run the test suite
	@$(BIN)/python -m pytest

lint: $(VENV)/.installed-dev ## Check style, types and the walls between packages
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

format: $(VENV)/.installed-dev ## Format the code and sort its imports
	@$(BIN)/ruff check --quiet --select I --fix .
	@$(BIN)/ruff format .

bench: $(VENV)/.installed-dev ## Run every benchmark briefly; figures go to build/benchmarks
	@mkdir -p build/benchmarks
	@for name in $(BENCHMARKS); do \
		$(BIN)/python -m benchmarks.$$name --quick --json build/benchmarks/$$name.json || exit 1; done

clean: ## Remove the environment and everything that was built
	@rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/.created:
	@test -n "$(PYTHON)" || { echo "No Python 3.11 or newer was found; install one, or call make PYTHON=/path/to/python"; exit 1; }
	@echo "Creating $(VENV) with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv $(VENV)
	@$(PIP) install -qq 'pip>=25.1'
	@touch $@

$(VENV)/.installed-demo: $(REQUIREMENTS) | $(VENV)/.created
	@echo "Installing into $(VENV); the first time takes some minutes, most of them for torch"
	$(call pip_install,-e '.[all]')
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed-demo
	@echo "Installing what tests need"
	$(call pip_install,-e '.[all]' --group dev)
	@touch $@
