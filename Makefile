# make test   all that a change has to pass; sets itself up on a machine that has nothing yet
# make demo   kssh against a throwaway sshd on this machine: a tunnel dies and comes back
# make bench  how soon tunnels are back on a network that breaks, beside autossh: two to three hours
# make docs   the pictures in docs/, from a real run and from the benchmark's figures
# make unit   a single step; likewise lint, types, man, real
# make clean  forget .venv and what the tools left

VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/ready
PAGES := $(wildcard man/*.1)

# How many tests on real processes run at a time: most of what they take is waiting.
JOBS := 4

.PHONY: test demo bench docs lint types man unit real clean

test: lint types man unit real

$(READY): .ci/setup setup.cfg $(wildcard bin/*)
	.ci/setup
	touch $@

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(READY)
	$(BIN)/mypy

man: $(READY)
	$(if $(PAGES),mandoc -T lint -W warning $(PAGES))

unit: $(READY)
	$(BIN)/coverage run -m pytest tests/unit
	$(BIN)/coverage report

real: $(READY)
	$(BIN)/pytest -n $(JOBS) --dist worksteal tests --ignore=tests/unit

demo: $(READY)
	$(BIN)/python tests/demo.py

bench: $(READY)
	$(BIN)/python tests/bench/recovery.py
	$(BIN)/python tests/bench/recovery.py --idle
	$(BIN)/python tests/bench/recovery.py --flaps 300
	-$(BIN)/python tests/bench/terminal.py

docs: $(READY)
	$(BIN)/python docs/record.py recording
	$(BIN)/python -m pip install -q --disable-pip-version-check --target $(VENV)/plots matplotlib
	PYTHONPATH=$(VENV)/plots $(BIN)/python docs/record.py recovery

clean:
	rm -rf $(VENV) .tox .coverage .hypothesis .mypy_cache .pytest_cache .ruff_cache *.egg-info build dist
