# The tests. `make test` is what CI runs; the targets below are its parts.
TEST_VENV := .venv-test
TESTS := $(TEST_VENV)/bin/python tests/run.py
SCENARIOS ?=

.PHONY: test test-env lint unit sanity molecule test-site locks

test-env:
	@extensions/env.sh requirements-test.txt $(TEST_VENV)

test: test-env ## Run everything that CI runs; ends with the times and the counts
	@$(TESTS)

lint: test-env ## Run the linters and the type checker
	@$(TESTS) lint

unit: test-env ## Run the unit tests
	@$(TESTS) unit

sanity: test-env ## Run ansible-test sanity
	@$(TESTS) sanity

molecule: test-env ## Run the scenarios of the roles, or SCENARIOS="trust gateway"
	@$(TESTS) molecule $(SCENARIOS)

test-site: test-env ## Run the scenario that is the lab site itself
	@$(TESTS) site

locks: test-env ## Renew the hash-locked lists of packages from requirements/*.in
	@tests/locks.sh $(TEST_VENV)/bin/uv
