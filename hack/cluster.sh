# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
#
# What hack/demo.sh, hack/e2e.sh and hack/usertime.sh share: a cluster with the operator installed, and a place from
# which its Services can be reached. To be sourced from the root of the repository.
#
#   enter_cluster "$0" "$@"   bring the cluster and its images; returns in its network, by running the script again there
#   install_operator          install or upgrade the chart; CHART and IMAGE_TAG may name another than this tree's
#   build_test_image          make the image of test/e2e/client; enter_cluster gives it to the cluster, and E2E_CLIENT_IMAGE
#                             names it
#   say, fail                 progress in words, with the seconds since the beginning
#
# CLUSTER says which cluster:
#
#   devcluster  (or empty) a development node of this repository, started if it is not up; needs root. IP_FAMILY=ipv6 is one
#               that has IPv6 alone, beside the other
#   kind        a cluster of kind (KIND_CLUSTER, default kind), on Linux, as root: the script continues in the network of
#               its first node
#   current     where kubectl points to. Services and their names must be reachable from here: on a node, or in a network
#               that is joined to the cluster's. The cluster pulls the images IMAGE_REGISTRY/mqtt-operator:IMAGE_TAG and
#               IMAGE_REGISTRY/mqtt-broker:IMAGE_TAG (default ghcr.io/mqtt-operator and the chart's appVersion)

operator_namespace=mqtt-operator-system

# Decimal seconds since the script began, in whichever network it began.
export STARTED="${STARTED:-$EPOCHREALTIME}"

elapsed() { awk -v since="$STARTED" -v now="$EPOCHREALTIME" 'BEGIN { printf "%.1f", now - since }'; }

say() { printf '%7ss  %s\n' "$(elapsed)" "$*"; }

fail() {
	printf '\n%7ss  FAILED: %s\n' "$(elapsed)" "$*" >&2
	exit 1
}

# needs installs Debian's packages where a command is missing, or says what to install.
needs() {
	local missing=()
	command -v mosquitto_pub >/dev/null || missing+=(mosquitto-clients)
	[ -x /usr/sbin/mosquitto ] || missing+=(mosquitto) # the broker, which listens in /usr/sbin
	# Debian's Python has Debian's modules, whatever else is called python3 here.
	/usr/bin/python3 -c 'import paho.mqtt.client' 2>/dev/null || missing+=(python3-paho-mqtt)
	[ "${#missing[@]}" -gt 0 ] || return 0
	if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
		fail "please install what Debian calls ${missing[*]}"
	fi
	say "installing ${missing[*]}"
	apt-get update -qq
	DEBIAN_FRONTEND=noninteractive apt-get install -qq --yes --no-install-recommends "${missing[@]}" >/dev/null
}

enter_cluster() {
	needs
	[ -n "${HELM:-}" ] || say "Helm: building it from its module; the first time takes some minutes"
	HELM="${HELM:-$(go -C hack/tools/helm tool -n helm)}"
	export HELM
	case "${CLUSTER:-devcluster}" in
	current) ;;
	devcluster) enter_devcluster "$@" ;;
	kind) enter_kind "$@" ;;
	*) fail "CLUSTER=$CLUSTER: want devcluster, kind or current" ;;
	esac
	kubectl version >/dev/null 2>&1 || fail "no cluster answers: try kubectl version"
}

enter_devcluster() {
	local family="${IP_FAMILY:-ipv4}" name devcluster="$PWD/.cache/tools/devcluster" typed="go run -C hack/devcluster ." down="make node-down"
	name="${DEVCLUSTER_NAME:-dev${IP_FAMILY:+-$family}}"
	if [ "$name" != dev ]; then
		typed+=" --name $name"
		down="$typed down"
	fi
	[ "$(id -u)" -eq 0 ] || fail "the development node needs root; with CLUSTER=kind or CLUSTER=current another cluster is taken"
	mkdir -p .cache/tools
	go build -C hack/devcluster -o "$devcluster" .
	say "development node $name: starting it, unless it is up"
	DEVCLUSTER_SOURCE="$PWD/hack/devcluster" "$devcluster" --name "$name" up --family "$family" 2>&1 | indent
	build_images
	# An image of this tag has this content: a node that has it needs no other.
	if [ "$("$devcluster" --name "$name" exec -- ctr images ls --quiet 2>/dev/null | grep -c ":$IMAGE_TAG\$")" -lt 2 ]; then
		say "giving the images to the node"
		"$devcluster" --name "$name" load "dist/$IMAGE_TAG/operator.tar" "dist/$IMAGE_TAG/broker.tar" | indent
	fi
	if [ -n "${E2E_CLIENT_ARCHIVE:-}" ] && ! "$devcluster" --name "$name" exec -- ctr images ls --quiet 2>/dev/null | grep -qxF "$E2E_CLIENT_IMAGE"; then
		say "giving the node the image of the tests"
		"$devcluster" --name "$name" load "$E2E_CLIENT_ARCHIVE" | indent
	fi
	if [ -n "${BEFORE_TAG:-}" ] && [ "$("$devcluster" --name "$name" exec -- ctr images ls --quiet 2>/dev/null | grep -c ":$BEFORE_TAG\$")" -lt 2 ]; then
		say "giving the node the images of before"
		"$devcluster" --name "$name" load "dist/$BEFORE_TAG/operator.tar" "dist/$BEFORE_TAG/broker.tar" | indent
	fi
	say "continuing inside the node's network"
	exec "$devcluster" --name "$name" exec -- env CLUSTER=current NODE_LOG="/var/lib/mqtt-operator-devcluster/$name/logs/machine.log" STOP_CLUSTER="$down" SHELL_INSIDE="$typed exec -- bash" "$@"
}

enter_kind() {
	local cluster="${KIND_CLUSTER:-kind}" node pid dir
	command -v kind >/dev/null || fail "there is no kind on PATH: https://kind.sigs.k8s.io"
	[ "$(id -u)" -eq 0 ] || fail "entering the network of kind's node needs root"
	kind get clusters 2>/dev/null | grep -qx "$cluster" || kind create cluster --name "$cluster"
	build_images
	say "giving the images to kind"
	kind load image-archive --name "$cluster" "dist/$IMAGE_TAG/operator.tar"
	kind load image-archive --name "$cluster" "dist/$IMAGE_TAG/broker.tar"
	if [ -n "${E2E_CLIENT_ARCHIVE:-}" ]; then kind load image-archive --name "$cluster" "$E2E_CLIENT_ARCHIVE"; fi
	if [ -n "${BEFORE_TAG:-}" ]; then
		kind load image-archive --name "$cluster" "dist/$BEFORE_TAG/operator.tar"
		kind load image-archive --name "$cluster" "dist/$BEFORE_TAG/broker.tar"
	fi
	node="$(kind get nodes --name "$cluster" | grep control-plane | head -n 1)"
	pid="$(docker inspect --format '{{.State.Pid}}' "$node")"
	dir="$PWD/.cache/kind-$cluster"
	mkdir -p "$dir"
	kind get kubeconfig --name "$cluster" >"$dir/kubeconfig"
	# The API server's certificate is good for this address, at which it listens in the node's own network.
	kubectl --kubeconfig "$dir/kubeconfig" config set-cluster "kind-$cluster" --server=https://127.0.0.1:6443 >/dev/null
	printf 'nameserver %s\nsearch default.svc.cluster.local svc.cluster.local cluster.local\noptions ndots:5\n' \
		"$(kubectl --context "kind-$cluster" --namespace kube-system get service kube-dns --output jsonpath='{.spec.clusterIP}')" >"$dir/resolv.conf"
	say "continuing inside the network of $node"
	# shellcheck disable=SC2016 # to be expanded by the shell inside
	exec nsenter --net="/proc/$pid/ns/net" unshare --mount bash -c 'mount --bind "$1" "$(readlink -f /etc/resolv.conf)" && shift && exec "$@"' \
		enter "$dir/resolv.conf" env KUBECONFIG="$dir/kubeconfig" CLUSTER=current STOP_CLUSTER="kind delete cluster --name $cluster" "$@"
}

# build_images makes archives whose tag follows from the content of the sources, so that a cluster never runs an old
# image under a new name; what was made already is not made again.
build_images() {
	IMAGE_TAG="dev-$(find api broker-image cmd controllers go.mod go.sum Dockerfile -type f ! -name '*_test.go' -print0 | LC_ALL=C sort -z | xargs -0 sha256sum | sha256sum | cut -c 1-12)"
	export IMAGE_TAG
	if [ -e "dist/$IMAGE_TAG/operator.tar" ] && [ -e "dist/$IMAGE_TAG/broker.tar" ]; then
		return
	fi
	say "building the images $IMAGE_TAG"
	mkdir -p dist
	# Another run beside this one may be using what was made a moment ago.
	find dist -maxdepth 1 -name 'dev-*' -mmin +60 -exec rm -rf {} +
	local part
	part="$(mktemp -d "$PWD/dist/dev-part-XXXXXX")"
	go run -C hack/images . --out "$part" --tag "$IMAGE_TAG" | indent
	mv --no-target-directory "$part" "dist/$IMAGE_TAG" 2>/dev/null || rm -rf "$part"
}

# build_test_image is build_images for the application of test/e2e. A cluster that pulls its images needs E2E_CLIENT_IMAGE
# from outside.
build_test_image() {
	if [ "${CLUSTER:-devcluster}" = current ]; then return; fi
	local tag
	tag="dev-$(find test/e2e/client go.mod go.sum -type f -print0 | LC_ALL=C sort -z | xargs -0 sha256sum | sha256sum | cut -c 1-12)"
	E2E_CLIENT_ARCHIVE="dist/e2e-client-$tag/e2e-client.tar"
	E2E_CLIENT_IMAGE="ghcr.io/mqtt-operator/mqtt-operator-e2e-client:$tag"
	export E2E_CLIENT_ARCHIVE E2E_CLIENT_IMAGE
	if [ -e "$E2E_CLIENT_ARCHIVE" ]; then return; fi
	mkdir -p dist
	local part
	part="$(mktemp -d "$PWD/dist/e2e-client-part-XXXXXX")"
	go run -C hack/images . --tests --out "$part" --tag "$tag" | indent
	mv --no-target-directory "$part" "dist/e2e-client-$tag" 2>/dev/null || rm -rf "$part"
}

install_operator() {
	local registry="${IMAGE_REGISTRY:-ghcr.io/mqtt-operator}"
	local set=(--set "image.repository=$registry/mqtt-operator" --set "brokerImage.repository=$registry/mqtt-broker")
	if [ -n "${IMAGE_TAG:-}" ]; then
		set+=(--set "image.tag=$IMAGE_TAG" --set "brokerImage.tag=$IMAGE_TAG")
	fi
	local chart="${CHART:-charts/mqtt-operator}"
	say "installing the chart $chart into namespace $operator_namespace"
	kubectl apply --server-side --filename config/default/namespace.yaml | indent
	"$HELM" upgrade --install mqtt-operator "$chart" --namespace "$operator_namespace" "${set[@]}" \
		--rollback-on-failure=false --wait --timeout 3m >/dev/null || {
		kubectl --namespace "$operator_namespace" get pods | indent
		kubectl --namespace "$operator_namespace" get events --sort-by=.metadata.creationTimestamp | tail -n 20 | indent
		fail "the chart was not installed; above is what the namespace looks like"
	}
	say "the operator runs: $(kubectl --namespace "$operator_namespace" get deployment mqtt-operator --output jsonpath='{.status.readyReplicas} pods of {.spec.template.spec.containers[0].image}')"
}

indent() { sed --unbuffered 's/^/          /'; }
