# The front door. `make site` builds the lab and turns it into a platform; `make test` is what CI runs.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

SPACE := $(subst ,, )
INVENTORY ?= inventories/lab
ARGS ?=
LAB := .venv/bin/python extensions/lab/lab.py
PLAYBOOK := .venv/bin/ansible-playbook -i '$(INVENTORY)'
# Ansible refuses any other encoding, and cron and containers often have none.
ifneq ($(shell locale charmap 2>/dev/null),UTF-8)
export LC_ALL := C.UTF-8
endif

.PHONY: help env lab site assess advise check pipeline rollout remove bench bench-capacity bench-advice bench-serving bench-rollout bench-fleet bench-drift bench-site docs clean distclean

help: ## Say what there is
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  make %-14s  %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo
	@echo '  INVENTORY=inventories/mine   for site, assess, check, pipeline, remove: your hosts, not the lab'
	@echo '  ARGS="-K --limit edge1"      further options of ansible-playbook (or of the benchmark)'
	@echo 'make ends with 2 whatever failed; ansible-playbook itself with 1 where a site is refused.'

env: ## Build the controller's environment (.venv)
	@extensions/env.sh requirements.txt

# The builder needs nothing of the environment, so that both are made at once; one after the other where
# the environment is there, or would first have python3-venv installed on this machine.
lab: ## Build the hosts of the lab
	@if [ ! -e .venv ] && python3 -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
	  python3 extensions/lab/lab.py up & builder=$$!; failed=0; extensions/env.sh requirements.txt || failed=1; \
	  wait $$builder || failed=1; exit $$failed; \
	else extensions/env.sh requirements.txt && $(LAB) up; fi

# Only the lab has hosts of its own to build; any other inventory names hosts that exist.
site: $(if $(filter xinventories/lab xinventories/lab/,x$(subst $(SPACE),+,$(INVENTORY))),lab,env) ## Turn the inventory into a working, checked platform
	@$(PLAYBOOK) site.yml $(ARGS)

assess: env ## Measure, probe and judge; change nothing
	@$(PLAYBOOK) playbooks/assess.yml $(ARGS)

advise: env ## Say what to request less or more of, from what was used; change nothing
	@$(PLAYBOOK) playbooks/advise.yml $(ARGS)

check: env ## Say what site would change, change nothing
	@$(PLAYBOOK) site.yml --check --diff $(ARGS)

pipeline: env ## Train, register, sign, release and check new models (MODEL=name for one)
	@$(PLAYBOOK) playbooks/pipeline_check.yml -e pipeline_rollout=true $(if $(MODEL),-e '{"pipeline_model_names": "$(MODEL)"}') $(ARGS)

rollout: env ## Bring a release to the devices ring by ring (MODEL=name VERSION=7)
	@$(PLAYBOOK) playbooks/rollout.yml $(if $(MODEL),-e '{"rollout_model": "$(MODEL)"}') $(if $(VERSION),-e '{"rollout_version": "$(VERSION)"}') $(ARGS)

remove: env ## Take the platform off the hosts, leave the hosts as they were
	@$(PLAYBOOK) playbooks/remove.yml $(ARGS)

bench: bench-capacity bench-advice bench-serving bench-rollout bench-fleet bench-drift bench-site ## Measure the planner, the model server, rollouts, fleets, drift and the lab site (empties the lab)

bench-capacity: env ## Measure the planner on a real cluster's trace and on large sites
	@.venv/bin/python tests/benchmarks/policies.py
	@.venv/bin/python tests/benchmarks/capacity.py $(ARGS)

bench-advice: env ## Replay advice on weeks of utilisation: how much would have been too low, how much was saved
	@.venv/bin/python tests/benchmarks/advice.py $(ARGS)

bench-serving: env ## Measure the model server under many clients, within a memory limit
	@.venv/bin/python tests/benchmarks/serving.py $(ARGS)
	@.venv/bin/python tests/benchmarks/serving.py --large 48 --output build/benchmarks/serving-large.json

bench-rollout: env ## Simulate rollouts judged by the gates: false alarms, defects caught, devices exposed
	@.venv/bin/python tests/benchmarks/rollout_policy.py $(ARGS)

bench-fleet: env ## Measure the gateway under ten thousand devices that fetch their orders
	@.venv/bin/python tests/benchmarks/fleet.py $(ARGS)

bench-drift: ## Measure how soon changed inputs are seen, and false alarms, beside ADWIN and Evidently
	@extensions/env.sh requirements/drift.txt build/drift-env
	@build/drift-env/bin/python tests/benchmarks/drift.py $(ARGS)

bench-site: env ## Empty the lab, measure the site cold, warm and against a plain shell script
	@.venv/bin/python tests/benchmarks/site.py $(ARGS)

docs: env ## Write the generated tables of the README
	@.venv/bin/python docs/generate.py

clean: ## Take the lab and the test hosts away; leave nothing running or mounted
	@failed=0; python3 -m tests.lanes clean || failed=1; \
	  python3 extensions/lab/lab.py clean || failed=1; exit $$failed

distclean: clean ## Also forget every cache and the environments
	@rm -rf .venv* .collections collections playbooks/collections .cache .ansible "$${XDG_CACHE_HOME:-$$HOME/.cache}/mlops.onprem"

-include tests/tests.mk
