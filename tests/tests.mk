# The tests. `make test` is what CI runs; the targets below are its parts.
TEST_VENV := .venv-test
TESTS := $(TEST_VENV)/bin/python -m tests.run
SCENARIOS ?=
SOAK ?= upgrade
LANES ?= 2

.PHONY: test test-env lint unit sanity molecule test-site soak locks bench-channel bench-transfer bench-metrics-sender bench-cardinality

bench: bench-channel bench-transfer bench-metrics-sender bench-cardinality

test-env:
	@extensions/env.sh requirements-test.txt $(TEST_VENV)

test: test-env ## Run everything that CI runs; ends with the times and the counts
	@$(TESTS) --lanes $(LANES)

lint: test-env ## Run the linters and the type checker
	@$(TESTS) lint

unit: test-env ## Run the unit tests
	@$(TESTS) unit

sanity: test-env ## Run ansible-test sanity
	@$(TESTS) sanity

molecule: test-env ## Run the scenarios of the roles in LANES=2, or SCENARIOS="trust gateway"
	@$(TESTS) --lanes $(LANES) molecule $(SCENARIOS)

test-site: test-env ## Run the scenario that is the lab site itself
	@$(TESTS) site

soak: test-env ## Run a campaign that is too long for CI: SOAK=upgrade, interrupt (both empty the lab), device_faults, dataset_quotas, driver_reboot, gpu_driver, rollout, compute, troubles or arm64
	@PYTHONPATH=.collections:extensions/lab $(TEST_VENV)/bin/python -m tests.soak.$(SOAK) $(ARGS)

bench-channel: test-env ## Attack what devices believe: a million traces, python-tuf and openssl beside
	@$(TEST_VENV)/bin/python tests/benchmarks/channel_traces.py \
	  --output build/benchmarks/channel-traces.json $(ARGS)

bench-cardinality: test-env ## Have Prometheus read ten thousand devices: memory and processors
	@$(TEST_VENV)/bin/python tests/benchmarks/cardinality.py $(ARGS)

bench-transfer: test-env ## Fetch a release of 500 MiB to eight devices over a link with a cap (needs 5 GB in /tmp)
	@PYTHONPATH=.collections $(TEST_VENV)/bin/python tests/benchmarks/release_transfer.py \
	  --output build/benchmarks/release-transfer.json $(ARGS)

locks: test-env ## Renew the hash-locked lists of packages from requirements/*.in
	@tests/locks.sh $(TEST_VENV)/bin/uv

bench-metrics-sender: test-env ## Count the samples that vmagent and Prometheus' agent lose over an outage with a restart
	@PYTHONPATH=.collections:. $(TEST_VENV)/bin/python -m tests.benchmarks.metrics_sender \
	  --output build/benchmarks/metrics-sender.json $(ARGS)
