# One command each, on a machine with Python >= 3.11, pip and make.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
# A new environment is made when what it holds has changed.
STAMP = $(VENV)/.installed
SDKS = openai,anthropic,mistral,google,cohere,ollama,huggingface,bedrock,cli,cost,webhook,lake
OLDEST = openai==1.66.0 anthropic==0.49.0 mistralai==2.0.0 google-genai==1.10.0 cohere==5.16.0 ollama==0.4.7 \
	"huggingface_hub[inference]==0.30.0" boto3==1.37.24

.PHONY: demo test lint format oldest frameworks bench clean help

help:
	@echo "make demo       a short chat through the real SDKs, with the figures of every call"
	@echo "make test       every check and every test"
	@echo "make lint       formatting, types, the direction of imports"
	@echo "make oldest     the conformance suite on the oldest SDKs that the extras allow"
	@echo "make frameworks LiteLLM, agent frameworks, other observers and Spark, each in an environment that holds it"
	@echo "make bench      the benchmarks, written into docs/benchmarks.md"

demo: $(STAMP)
	$(BIN)/ecoimpact demo

test: $(STAMP) lint
	$(BIN)/python -m pytest

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(STAMP)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

oldest: .venv-oldest/.installed
	.venv-oldest/bin/python -m pytest tests/instrumentation

frameworks: $(STAMP)
	$(BIN)/nox

bench: $(STAMP)
	$(BIN)/python -m pip install --quiet --group bench
	$(BIN)/python -m benchmarks

$(STAMP): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"
	$(BIN)/python -m pip install --quiet --editable ".[all]" --group dev
	touch $@

.venv-oldest/.installed: pyproject.toml
	$(PYTHON) -m venv .venv-oldest
	.venv-oldest/bin/python -m pip install --quiet --upgrade "pip>=25.1"
	.venv-oldest/bin/python -m pip install --quiet --editable ".[$(SDKS)]" --group test-sdks $(OLDEST)
	touch $@

clean:
	rm -rf $(VENV) .venv-oldest .nox dist build .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
