# The two commands of the README are up and test; help lists the rest.
SHELL := bash
GO ?= go
BIN := bin
CACHE ?= $(if $(XDG_CACHE_HOME),$(XDG_CACHE_HOME),$(HOME)/.cache)/muster
LAB ?= demo
LABDIR = $(if $(XDG_STATE_HOME),$(XDG_STATE_HOME),$(HOME)/.local/state)/muster/lab/$(LAB)
GOLANGCI := $(CACHE)/tools/golangci-lint-2.15.0

# Both lie in the lab's own folder and leave with it: your kubeconfig is not
# touched.
up down: export MUSTER_INVENTORY = $(LABDIR)/inventory.yaml
up down: export KUBECONFIG = $(LABDIR)/kubeconfig

.PHONY: help
help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

.PHONY: up
up: tools $(BIN)/muster ## a cluster of three virtual machines on this computer
	$(BIN)/muster lab up --name $(LAB)
	$(BIN)/muster bundle build
	$(BIN)/muster bundle extract kubectl --to $(BIN)
	$(BIN)/muster init
	$(BIN)/muster sample
	@echo
	$(BIN)/kubectl get nodes -o wide
	@printf '%s\n' '' 'The cluster is yours. Try:' \
	  '  export KUBECONFIG=$(LABDIR)/kubeconfig MUSTER_INVENTORY=$(LABDIR)/inventory.yaml' \
	  '  $(BIN)/kubectl get pods -A -o wide' \
	  '  $(BIN)/muster status' \
	  '  $(BIN)/muster lab ssh --name $(LAB) w-1 -- curl -s http://10.77.0.11:30080/hostname' \
	  '  make down$(if $(filter-out demo,$(LAB)), LAB=$(LAB))'

.PHONY: down
down: $(BIN)/muster ## remove the machines of make up
	$(BIN)/muster lab down --name $(LAB)

.PHONY: test
test: tools unit e2e ## everything: unit, real kernel, virtual machines

.PHONY: unit
unit: tools oracle ## tests that need no machine
	$(GO) vet ./...
	$(GO) test ./...

# A module of its own: it imports k8s.io/kubernetes. -mod=mod lets it follow
# the versions of the main module.
.PHONY: oracle
oracle: ## the proxier against the tests and rules of kube-proxy
	cd proxier/oracle && GOFLAGS=-mod=mod $(GO) test ./...

.PHONY: race
race: tools ## the same with the race detector
	$(GO) test -race ./agent/... ./operator/... ./plan/... ./proxier/... ./remote/... ./facts/... ./kubeconfig/...

.PHONY: e2e
e2e: tools $(BIN)/muster ## the life of a cluster on virtual machines
	$(BIN)/muster bundle build
	$(GO) test -tags vm -p 1 -count 1 -timeout 40m ./e2e/...

.PHONY: soak
soak: tools $(BIN)/muster ## kill the proxier after every operation of a large change
	MUSTER_TEST_POSITIONS=all $(GO) test -tags vm -count 1 -timeout 10h -v -run OnRealKernel ./e2e/kernel

.PHONY: kernels
kernels: PACKAGES_FOR = emulator
kernels: tools ## the proxier's kernel tests on Debian's own kernel, emulated: minutes
	$(GO) test -tags vm,emulated -count 1 -timeout 2h -v -run OnDebiansKernel ./e2e/kernel

.PHONY: takeover
takeover: tools ## take over from a real kube-proxy: compiles it
	$(GO) test -tags vm,peers -count 1 -timeout 1h -v -run Takeover ./e2e/kernel

.PHONY: bench
bench: PACKAGES_FOR = trace
bench: tools ## the numbers of docs/benchmarks.md
	$(GO) run ./e2e/bench -out docs/benchmarks.md
	$(GO) run ./e2e/bench/proxier -out docs/benchmarks.md

.PHONY: conformance
conformance: tools ## upstream's own tests of Services: docs/conformance.md
	$(GO) run ./e2e/conformance -out docs/conformance.md

.PHONY: lint
lint: $(GOLANGCI) ## the linter, with .golangci.yml
	$(GOLANGCI) run ./...

$(GOLANGCI):
	mkdir -p $(@D)
	GOBIN=$(@D) $(GO) install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0
	mv $(@D)/golangci-lint $@

.PHONY: $(BIN)/muster
$(BIN)/muster:
	$(GO) build -trimpath -o $@ ./cmd/muster

# Debian packages that building the bundle and the lab needs: their names are
# kept beside the code that needs them. PACKAGES_FOR names a group that only one
# target needs.
.PHONY: tools
tools:
	@missing=; for p in $$($(GO) run ./internal/prerequisites $(PACKAGES_FOR)) git openssh-client; do \
	  dpkg-query --show --showformat='$${db:Status-Status}' $$p 2>/dev/null | grep -qx installed || missing="$$missing $$p"; \
	done; \
	if [ -n "$$missing" ]; then echo "installing$$missing"; apt-get update -qq && \
	  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$missing >/dev/null; fi
