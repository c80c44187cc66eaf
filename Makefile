# make book: from a fresh clone to the book.   make test: everything that CI checks.
PYTHON ?= python3
BIN := .venv/bin
# One thread and the same kernels: the same sums, and so the committed digits, on every PC.
export OMP_NUM_THREADS ?= 1
export OPENBLAS_CORETYPE ?= Haswell

.PHONY: book test notebooks clean

# Any change of the pinned versions or the metadata installs again.
.venv/installed: constraints.txt pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade-strategy only-if-needed -c constraints.txt torch==2.13.0
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[test,cluster]"
	touch $@

book: .venv/installed
	$(BIN)/miracle run --profile demo --run-dir runs/demo
	$(BIN)/miracle book --run-dir runs/demo

test: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pytest -q --nbval --nbval-sanitize-with tests/nbval.cfg
	$(BIN)/pytest -q --doctest-modules miracle_lib
	$(BIN)/jupyter-book build book/ -W -n --keep-going --quiet

# Execute the notebooks with their defaults, those that changed, and keep the outputs for nbval.
notebooks: .venv/installed
	$(BIN)/python -m miracle_lib.pipeline.committed

clean:
	rm -rf _build book/notebooks runs
