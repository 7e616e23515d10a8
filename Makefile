# Everything runs in .venv, which the first target that needs it builds. TORCH can name another build of torch.
# The tests take one process and one thread for each core: two threads in one process would be idle most of the time.
PYTHON ?= python3
TORCH ?= torch==2.13.0
VENV := .venv
RUN := $(VENV)/bin/python

.PHONY: demo test slow soak format check bench gpu-check docs clean

demo: $(VENV)/installed
	$(RUN) -m tav_core demo --output tav-demo

PYTEST := OMP_NUM_THREADS=1 $(RUN) -m pytest --numprocesses auto --maxprocesses 8 --dist loadfile

test: $(VENV)/installed-dev
	$(PYTEST) -m "not slow and not soak"

slow: $(VENV)/installed-dev
	$(PYTEST) -m "slow and not soak"

soak: $(VENV)/installed-dev
	$(RUN) -m pytest -m soak

format: $(VENV)/installed-dev
	$(RUN) -m ruff format .
	$(RUN) -m ruff check --fix .

check: $(VENV)/installed-dev
	$(RUN) -m ruff format --check .
	$(RUN) -m ruff check .
	$(RUN) -m mypy

bench: $(VENV)/installed-dev
	OMP_NUM_THREADS=1 $(RUN) -m benchmarks
	OMP_NUM_THREADS=1 $(RUN) -m benchmarks fidelity

gpu-check: $(VENV)/installed-dev
	$(RUN) -m benchmarks.gpu_check --output gpu-check.json

docs: $(VENV)/installed-docs
	$(RUN) -m mkdocs build --strict

clean:
	rm -rf $(VENV) tav-demo site

$(VENV)/installed: requirements.txt pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet $(TORCH)
	$(RUN) -m pip install --quiet --requirement requirements.txt
	touch $@

$(VENV)/installed-dev: $(VENV)/installed
	$(RUN) -m pip install --quiet --editable ".[dev]"
	touch $@

$(VENV)/installed-docs: requirements.txt pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet --editable ".[docs]"
	touch $@
