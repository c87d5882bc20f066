# Two commands do everything from a fresh clone: `make demo` and `make test`.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed
export HF_HUB_OFFLINE ?= 1
export TOKENIZERS_PARALLELISM ?= false

MODELS := SmolLM2-135M-Instruct all-MiniLM-L6-v2 trec-questions

.PHONY: env models demo test check unit slow bench docs format clean

env: $(STAMP)

$(STAMP): pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[train,local,tasks,embedded,guard,audit,dev]'
	@touch $(STAMP)

models: env
	$(BIN)/overproof models pull $(MODELS)

demo: models
	$(BIN)/overproof plan configs/demo.toml
# 1 is an answer, not an error: distilled, and not certified.
	$(BIN)/overproof distill configs/demo.toml || test $$? -eq 1

test: check unit slow

check: env
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

unit: env
	$(BIN)/pytest -m "not slow" -n 2 --dist loadfile

slow: models
	$(BIN)/pytest -m slow -n 2 --dist loadfile

bench: models
	for bench in audit_marks audit_speed imports ledger stats collect filters faults encoder train predict \
	    guard_throttling guard_speed guard_peers guard_quality guard_adaptive; do \
	  echo "== $$bench"; $(BIN)/python bench/$$bench.py --quick || exit 1; done

docs: env
	$(BIN)/python docs/build.py

format: env
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf .venv runs build dist src/*.egg-info
