#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Shows what mqtt-operator does, from nothing to messages: two teams with a broker each, who may do what, and what
# happens when a user is deleted and when the operator dies. Every command is printed as one would type it; the first
# fact that is not as told ends the demo with status 1. It can be run again on the same cluster.
#
#   CLUSTER  devcluster (default), kind or current: see hack/cluster.sh
# shellcheck disable=SC2016 # commands are printed as they are, and expanded when they run
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=hack/cluster.sh
. hack/cluster.sh
case "${1:-}" in -h | --help | help)
	sed -n '4,/^# shellcheck/{/^# shellcheck/d;s/^# \{0,1\}//;p}' "$0" && echo && sed -n '/^# CLUSTER says/,/^$/{s/^# \{0,1\}//;p}' hack/cluster.sh
	exit
	;;
esac

enter_cluster "$PWD/hack/demo.sh" "$@"

# Commands run in a directory of their own, where bindings may lie about, with the repository's files in sight.
dir="$(mktemp -d)"
ln -s "$PWD/config" "$PWD/test" "$dir/"
background=()
# shellcheck disable=SC2329 # called by the trap
tidy() {
	local pid
	for pid in "${background[@]}"; do kill -- "-$pid" 2>/dev/null || true; done
	rm -rf "$dir"
}
trap tidy EXIT

chapter() { printf '\n%7ss  %s\n' "$(elapsed)" "$*"; }

print_command() { printf '%s\n' "$1" | sed -e '1s/^/        $ /' -e '2,$s/^/          /'; }

# shown prints a command as one would type it, and runs it.
shown() {
	print_command "$1"
	local status=0
	(cd "$dir" && eval "$1") >"$dir/shown.out" 2>&1 || status=$?
	indent <"$dir/shown.out"
	return "$status"
}

# shown_live starts a command that stays; what it prints is in the file NAME.out, its process is $live.
shown_live() { # NAME COMMAND
	print_command "$2 &"
	# A process group of its own, so that nothing of it is left when the demo ends; by lines, as on a terminal.
	setsid stdbuf --output=L bash -c 'cd "$1" && eval "$2"' live "$dir" "$2" >"$dir/$1.out" 2>&1 &
	live=$!
	background+=("$live")
}

# within SECONDS FACT COMMAND… asks until the command succeeds.
within() {
	local seconds="$1" fact="$2" until
	shift 2
	until=$((SECONDS + seconds))
	until "$@" >/dev/null 2>&1; do
		[ "$SECONDS" -le "$until" ] || fail "after $seconds s it is not so that $fact"
		sleep 0.05
	done
}

holds() { grep -qF -- "$2" "$dir/$1.out"; }
ended() { ! kill -0 "$1" 2>/dev/null; }
count() { [ "$(grep -cF -- "$2" "$dir/$1.out")" -ge "$3" ]; }

chapter "1. The operator is installed with Helm."
install_operator

chapter "2. Two teams, factory and lab: each gets a namespace, a broker of its own and two users."
shown 'kubectl apply --server-side --force-conflicts --filename config/samples' || fail "the samples were not taken"
for namespace in factory lab; do
	shown "kubectl --namespace $namespace wait --for=condition=Ready mqttbrokers,mqttusers --all --timeout=3m" ||
		fail "not all of $namespace is ready: kubectl --namespace $namespace describe mqttbrokers,mqttusers"
done
say "both teams are served; from nothing to here it took $(elapsed) s"
shown 'kubectl get mqttbrokers,mqttusers --all-namespaces' || fail "the brokers and users cannot be listed"

chapter "3. What a client needs is in the Secret USER-mqtt. Two functions of the shell to have it at hand:"
functions="$(
	cat <<'SHELL'
binding() { # NAMESPACE USER: the Secret as files in a directory, as if it were mounted
  mkdir -p "$2"
  for key in host port username password ca.crt; do
    kubectl --namespace "$1" get secret "$2-mqtt" --output "go-template={{index .data \"$key\" | base64decode}}" >"$2/$key"
  done
}
as() { # USER PROGRAM ARGUMENTS: mosquitto_pub or mosquitto_sub as that user
  user="$1" program="$2"; shift 2
  "$program" -V 5 -h "$(cat $user/host)" -p "$(cat $user/port)" --cafile $user/ca.crt \
    -u "$(cat $user/username)" -P "$(cat $user/password)" -q 1 "$@"
}
SHELL
)"
print_command "$functions"
eval "$functions"
export -f binding as
shown 'binding factory press-1 && binding factory dashboard && binding lab robot && binding lab scientist' ||
	fail "the binding Secrets cannot be read"
for user in press-1 dashboard robot scientist; do
	for key in host port username password ca.crt; do
		[ -s "$dir/$user/$key" ] || fail "the binding of $user has no $key"
	done
done

chapter "4. A message over TLS from one user to another: the dashboard listens, the press speaks (mosquitto)."
shown_live dashboard "as dashboard mosquitto_sub -d -v -t 'factory/press-1/#'"
dashboard=$live
within 20 "the dashboard has subscribed" holds dashboard "Subscribed"
shown "as press-1 mosquitto_pub -t factory/press-1/state -m on" || fail "the press cannot publish"
within 20 "the dashboard heard the press" holds dashboard "factory/press-1/state on"
say "the dashboard heard: $(grep -F 'factory/press-1/state on' "$dir/dashboard.out")"

chapter "5. The same in the lab, in Python: the robot speaks, the scientist listens."
python_as="$(
	cat <<'SHELL'
python_as() { # USER ARGUMENTS: a client of 80 lines that uses paho-mqtt, as that user
  user="$1"; shift
  MQTT_HOST="$(cat $user/host)" MQTT_PORT="$(cat $user/port)" MQTT_CA=$user/ca.crt \
    MQTT_USERNAME="$(cat $user/username)" MQTT_PASSWORD="$(cat $user/password)" \
    /usr/bin/python3 test/e2e/testdata/client.py 5 "$@"
}
SHELL
)"
print_command "$python_as"
eval "$python_as"
export -f python_as
shown_live scientist "python_as scientist hear 'lab/+/measurements/#'"
within 20 "the scientist has subscribed" holds scientist "subscribed"
shown "python_as robot say lab/robot/measurements/temperature 21.5" || fail "the robot cannot publish"
within 20 "the scientist heard the robot" holds scientist "21.5"
say "the scientist heard: $(tail -n 1 "$dir/scientist.out")"

chapter "6. What no rule allows is refused."
say "The dashboard may read, not write:"
shown "as dashboard mosquitto_pub -t factory/press-1/orders -m stop" || true
grep -qi "not authorized" "$dir/shown.out" || fail "the broker let the dashboard publish"
say "It may not subscribe to all of factory/#, because recipes are denied to it:"
shown "as dashboard mosquitto_sub -t 'factory/#' -C 1 -W 5" || true
grep -qi "denied" "$dir/shown.out" || fail "the broker let the dashboard subscribe to what is denied to it"
say "In Python, the robot may not listen to all of the lab:"
if shown "python_as robot hear 'lab/#'"; then fail "the broker let the robot listen to everything"; fi
say "The password of the press is worth nothing at the other team's broker:"
if shown 'mosquitto_pub -V 5 -h "$(cat robot/host)" -p 8883 --cafile robot/ca.crt -u press-1 -P "$(cat press-1/password)" -t x -m x'; then
	fail "the lab's broker let the factory's press in"
fi
say "Nobody without a name comes in:"
if shown 'mosquitto_pub -V 5 -h "$(cat robot/host)" -p 8883 --cafile robot/ca.crt -t x -m x'; then
	fail "the lab's broker let somebody in without a name"
fi

chapter "7. A visitor is written, comes in at once, and is thrown out when the YAML is deleted."
cat >"$dir/visitor.yaml" <<'YAML'
apiVersion: mqtt-operator.io/v1alpha1
kind: MQTTUser
metadata: {name: visitor, namespace: factory}
spec:
  brokerRef: {name: plant}
  authentication: {password: {generate: {}}}
  acl:
  - {effect: allow, actions: [subscribe], filter: factory/press-1/#}
YAML
broker_pod() { kubectl --namespace factory get pod plant-broker-0 --output jsonpath='{.metadata.uid} {.status.containerStatuses[0].restartCount}'; }
pod_before="$(broker_pod)"
indent <"$dir/visitor.yaml"
shown "kubectl apply --server-side --filename visitor.yaml" || fail "the visitor was not taken"
shown "kubectl --namespace factory wait --for=condition=Ready mqttuser/visitor --timeout=30s" || fail "the visitor is not ready"
shown "binding factory visitor" || fail "the visitor has no binding Secret"
shown_live visitor "as visitor mosquitto_sub -d -v -t 'factory/press-1/#'"
visitor=$live
within 20 "the visitor has subscribed" holds visitor "Subscribed"
say "the visitor is connected, and no pod was restarted for it"
shown "kubectl delete --filename visitor.yaml" || fail "the visitor was not deleted"
within 10 "the visitor's connection has ended" holds visitor "Received DISCONNECT"
within 30 "the visitor's program has ended" ended "$visitor"
say "the visitor was disconnected; its program said at last: $(tail -n 1 "$dir/visitor.out")"
if shown "as visitor mosquitto_sub -t 'factory/press-1/#' -C 1 -W 5"; then fail "the visitor was let in again"; fi
[ "$(broker_pod)" = "$pod_before" ] || fail "the broker's pod was restarted"
if ended "$dashboard"; then fail "the dashboard lost its connection"; fi

chapter "8. The operator is killed, and messages go on flowing."
operators() { kubectl --namespace "$operator_namespace" get pods --selector app.kubernetes.io/component=operator --output "jsonpath={range .items[*]}{.metadata.name} {end}"; }
operators_before="$(operators)"
shown "kubectl --namespace $operator_namespace delete pods --selector app.kubernetes.io/component=operator --grace-period=0 --force" ||
	fail "the operator's pods were not deleted"
print_command 'for n in $(seq 1 20); do as press-1 mosquitto_pub -t factory/press-1/count -m "number $n."; done'
for n in $(seq 1 20); do
	(cd "$dir" && as press-1 mosquitto_pub -t factory/press-1/count -m "number $n.") || fail "message $n was not taken while the operator was away"
done
within 20 "the dashboard heard all 20 messages" count dashboard "factory/press-1/count number" 20
[ "$(grep -cF 'Subscribed' "$dir/dashboard.out")" -eq 1 ] || fail "the dashboard lost its connection and had to come again"
say "all 20 arrived, over the connection that the dashboard has had since chapter 4"
shown "kubectl --namespace $operator_namespace rollout status deployment/mqtt-operator --timeout=2m" || fail "the operator did not come back"
for pod in $operators_before; do
	case " $(operators)" in *" $pod "*) fail "pod $pod of the operator was to be killed and is still there" ;; esac
done
[ "$(broker_pod)" = "$pod_before" ] || fail "the broker's pod was restarted"
say "the operator is back, and looks after users again:"
shown "kubectl apply --server-side --filename visitor.yaml && kubectl --namespace factory wait --for=condition=Ready mqttuser/visitor --timeout=60s && kubectl delete --filename visitor.yaml" ||
	fail "the operator that came back does not look after users"

chapter "9. What it costs: the operator's own metrics say it, to those who have a token that may read them."
leader="$(kubectl --namespace "$operator_namespace" get lease mqtt-operator --output jsonpath='{.spec.holderIdentity}' | cut -d _ -f 1)"
address="$(kubectl --namespace "$operator_namespace" get pod "$leader" --output jsonpath='{.status.podIP}')"
read_metrics() { # [TOKEN]: prints the resident memory in MiB, or the refusal
	/usr/bin/python3 -c '
import ssl, sys, urllib.error, urllib.request
request = urllib.request.Request("https://%s:8443/metrics" % sys.argv[1])
if len(sys.argv) > 2:
    request.add_header("Authorization", "Bearer " + sys.argv[2])
context = ssl.create_default_context()
context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # the certificate is the operator'"'"'s own
try:
    for line in urllib.request.urlopen(request, context=context, timeout=10).read().decode().splitlines():
        if line.startswith("process_resident_memory_bytes "):
            print("%.1f MiB" % (float(line.split()[1]) / 2**20))
except urllib.error.HTTPError as refusal:
    print(refusal.code)
    sys.exit(1)' "$address" "$@"
}
refusal="$(read_metrics || true)"
case "$refusal" in 401 | 403) ;; *) fail "without a token the metrics endpoint should refuse, and it answers: ${refusal:-nothing}" ;; esac
say "without a token: $refusal"
shown "kubectl --namespace default create serviceaccount mqtt-metrics --dry-run=client --output yaml | kubectl apply --server-side --filename -" || fail "no ServiceAccount"
shown "kubectl create clusterrolebinding mqtt-metrics --clusterrole mqtt-operator:$operator_namespace:metrics-reader --serviceaccount default:mqtt-metrics --dry-run=client --output yaml | kubectl apply --server-side --filename -" || fail "no ClusterRoleBinding"
token="$(kubectl --namespace default create token mqtt-metrics)"
within 20 "the token opens the metrics" read_metrics "$token"
say "with one: the operator's leader $leader has $(read_metrics "$token") of memory resident"
kubectl delete clusterrolebinding/mqtt-metrics >/dev/null
kubectl --namespace default delete serviceaccount/mqtt-metrics >/dev/null
say "the whole demo took $(elapsed) s"

echo
cat <<EOT
Everything was as told. What to try next:

EOT
if [ -n "${SHELL_INSIDE:-}" ]; then
	cat <<EOT
  $SHELL_INSIDE
                                      a shell in the node's network, with its kubectl; the next lines are for it
EOT
fi
cat <<EOT
  kubectl get mqtt --all-namespaces   everything of ours
  kubectl --namespace factory describe mqttuser dashboard
                                      what is true of a user, and since when
  kubectl explain mqttbroker.spec     every field, with its default and effect
  kubectl --namespace factory edit mqttuser dashboard
                                      change its rules while it is connected
  kubectl --namespace factory delete secret plant-config
                                      see it come back
  kubectl delete --filename config/samples
                                      both teams leave, and take everything with them
EOT
if [ -n "${STOP_CLUSTER:-}" ]; then
	cat <<EOT

Outside of it:

  make demo                           see this again
  $STOP_CLUSTER
                                      stop the cluster and leave nothing behind
EOT
fi
