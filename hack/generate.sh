#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Writes everything in this tree that a program writes. hack/verify.sh runs it in a copy of the tree and compares.
set -euo pipefail
cd "$(dirname "$0")/.."

controller_gen() {
	go tool -modfile=hack/tools/controller-gen/go.mod controller-gen "$@"
}

# The kinds: deep copies and CustomResourceDefinitions.
rm -f config/crd/bases/*.yaml
controller_gen object:headerFile=hack/boilerplate.go.txt crd paths=./api/... \
	output:object:dir=api/v1alpha1 output:crd:dir=config/crd/bases

# What the operator may do, from the markers beside the steps that need it.
if [ -d controllers ]; then
	rm -f config/rbac/role.yaml
	controller_gen rbac:roleName=mqtt-operator,fileName=role.yaml paths=./controllers/... output:rbac:dir=config/rbac
fi

# The chart, which takes kinds and rights from config/, and config/default, which is what it renders.
hack/chart.sh

# The bundle for the Operator Lifecycle Manager, from what stands in config/ now.
go run ./hack/bundle

# What every field means, from the kinds.
go run ./hack/reference config/crd/bases docs/reference

# Pictures of a terminal, from what the plugin's tests hold.
go run ./hack/terminal "kubectl mqtt status troubled -n factory" cmd/kubectl-mqtt/testdata/status-colour.txt docs/images/kubectl-mqtt-status.svg
