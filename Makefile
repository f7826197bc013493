# SPDX-License-Identifier: Apache-2.0
#
# Two commands to begin with: make demo, make test. A line of help is the comment behind a target.

# Where demo and e2e run: the development node of hack/devcluster (empty), kind, or current for kubectl's context.
CLUSTER ?=
# What images are called; empty: what git describe says.
VERSION ?=
TAG ?=

export CLUSTER

.DEFAULT_GOAL := help
.PHONY: help docs docs-serve dashboards demo test unit apitest api-faults nested chart-test lint verify e2e upgrade-test chaos conformance clients faults monitoring bridges bench bench-bridge bench-control soak generate fmt images dockerfiles node-up node-down clean plugin

help: ## Show this
	@echo "make TARGET [CLUSTER=kind|current] [VERSION=…] [TAG=…]"
	@echo
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo
	@echo "CLUSTER says where demo and e2e run: a development node that they start (default; needs root), kind, or"
	@echo "current, which is where kubectl points to."

demo: ## Start a node, install the operator, run two teams' brokers and show that messages flow
	@hack/demo.sh

test: ## Everything that must pass before a change goes in, step by step; the first run takes half an hour
	@hack/test.sh

unit: ## Tests that need nothing but Go
	@hack/test.sh unit

apitest: ## Tests against a real API server
	@hack/test.sh apitest

api-faults: ## Every call of the operator to the API server fails once, in each way that it can; five minutes
	KUBEBUILDER_ASSETS="$${KUBEBUILDER_ASSETS:-$$(go run -C hack/devcluster . assets)}" FAULTS=all go test -count 1 -timeout 3h -v -run '^TestEveryCallFails$$' ./controllers

nested: ## Tests of the tools under hack/ that are modules of their own
	@hack/test.sh nested

chart-test: ## Tests of the Helm chart and of config/
	@hack/test.sh chart

lint: ## All linters
	@hack/test.sh lint

verify: ## Say which generated files are stale; changes nothing
	@hack/test.sh verify

e2e: ## Install everything on a cluster and live through its stories
	@hack/test.sh e2e

upgrade-test: ## Upgrade the operator from an earlier commit (FROM=…) on a cluster, with clients at work, and back
	@hack/upgrade.sh

chaos: ## Kill leaders and cut the operator's way to the API server at random (MINUTES=3), with clients at work
	@hack/chaos.sh

conformance: ## Every statement of MQTT that binds a server, byte by byte
	@hack/test.sh conformance

clients: ## Real MQTT clients against the broker
	@hack/test.sh packages clients

faults: ## Crashes, full disks, slow and hostile peers, in their short form
	@hack/test.sh faults

monitoring: ## Alerts under promtool, and every query against a real scrape
	@hack/test.sh packages monitoring

docs: ## Make the site of docs/ in dist/site, and follow every link in it; the first time Hugo is built, some minutes
	@hack/test.sh docs

docs-serve: ## Show it on http://127.0.0.1:1313, and anew when a page changes
	@hack/site.sh serve

dashboards: ## What the dashboards show under a small load on the development node, into docs/images; needs root
	hack/e2e.sh -test.run '^TestDashboards$$' -pictures "$(CURDIR)/docs/images"

bridges: ## The bridge with eight other brokers, killed, cut off and overtaken, into docs/bridges.md; a quarter of an hour
	@hack/bridges.sh

bench: ## Ours beside other brokers, into docs/benchmarks.md; up to 40 minutes
	go run -C hack/bench . -write

bench-bridge: ## The bridge beside Mosquitto's own, into docs/bridges.md; eight minutes
	go run -C hack/bench . bridge -write

bench-control: ## Ten thousand users, a thousand brokers, two thousand clients at once, into docs/benchmarks-control.md; half an hour
	KUBEBUILDER_ASSETS="$${KUBEBUILDER_ASSETS:-$$(go run -C hack/devcluster . assets)}" go run ./hack/bench-control -write

soak: ## The faults in their long form and half an hour of random input
	@hack/soak.sh

generate: ## Write everything that a program writes: kinds, rights, chart, plain manifests
	hack/generate.sh

fmt: ## Format the Go code
	go build -C hack/tools/golangci-lint -o "$(CURDIR)/.cache/tools/golangci-lint" .
	.cache/tools/golangci-lint fmt

plugin: ## Build the kubectl plugin, bin/kubectl-mqtt
	go build -trimpath -ldflags "-s -w -X main.version=$(or $(VERSION),$(shell git describe --tags --always --dirty))" -o bin/kubectl-mqtt ./cmd/kubectl-mqtt

images: ## Make the container images, as archives in dist/
	go run -C hack/images . --out "$(CURDIR)/dist" --version "$(VERSION)" --tag "$(TAG)"

dockerfiles: ## Build the Dockerfiles with buildah and compare with make images; needs root
	hack/dockerfiles.sh

node-up: ## Start the development node; needs root
	go run -C hack/devcluster . up

node-down: ## Stop the development node and leave nothing behind
	go run -C hack/devcluster . down

clean: ## Remove what was built in this tree
	rm -rf bin dist .cache
