// SPDX-License-Identifier: Apache-2.0

package v1alpha1_test

import (
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/mqtt-operator/mqtt-operator/api/v1alpha1"
)

// The longest names that the schema lets through must still give names that the API server takes.
func TestNamesOfTheLongestObjects(t *testing.T) {
	t.Parallel()

	broker, listener, user, bridge := strings.Repeat("b", 40), strings.Repeat("l", 15), strings.Repeat("u", 200), strings.Repeat("r", 52)
	check := func(kind, name string, problems []string) {
		if len(problems) > 0 {
			t.Errorf("%s %s: %s", kind, name, strings.Join(problems, ", "))
		}
	}

	const hash = "-0123456789" // a StatefulSet's name and this make the value of a pod's label

	for _, name := range []string{
		v1alpha1.HeadlessServiceName(broker), v1alpha1.ListenerServiceName(broker, listener), v1alpha1.PodName(broker, 31),
		v1alpha1.StatefulSetName(broker) + hash, v1alpha1.BridgeDeploymentName(bridge),
	} {
		check("label", name, validation.IsDNS1035Label(name))
	}

	for _, name := range []string{
		v1alpha1.ServiceAccountName(broker), v1alpha1.ConfigSecretName(broker), v1alpha1.UsersSecretName(broker, 15),
		v1alpha1.CASecretName(broker), v1alpha1.TLSSecretName(broker), v1alpha1.AdminCASecretName(broker),
		v1alpha1.AdminTLSSecretName(broker), v1alpha1.ClientCASecretName(broker), v1alpha1.IssuedName(broker, listener), v1alpha1.BindingSecretName(user), v1alpha1.VerifierSecretName(user),
		v1alpha1.BridgeUserName(bridge), v1alpha1.BridgeRemoteUserName(bridge), v1alpha1.BridgeConfigSecretName(bridge), v1alpha1.BridgeAdminSecretName(bridge),
	} {
		check("subdomain", name, validation.IsDNS1123Subdomain(name))
	}

	for _, name := range []string{user, strings.Repeat("u", 61) + ".-.x", "short"} {
		for key, value := range v1alpha1.UserLabels(name, broker) {
			check("label "+key, value, validation.IsValidLabelValue(value))
		}
	}
}

func TestNamesStayAsTheyAre(t *testing.T) {
	t.Parallel()

	for got, want := range map[string]string{
		v1alpha1.StatefulSetName("mq"):              "mq-broker",
		v1alpha1.PodName("mq", 0):                   "mq-broker-0",
		v1alpha1.HeadlessServiceName("mq"):          "mq-headless",
		v1alpha1.ListenerServiceName("mq", "mqtts"): "mq-mqtts",
		v1alpha1.ServiceAccountName("mq"):           "mq-broker",
		v1alpha1.ConfigSecretName("mq"):             "mq-config",
		v1alpha1.UsersSecretName("mq", 15):          "mq-users-15",
		v1alpha1.CASecretName("mq"):                 "mq-ca",
		v1alpha1.TLSSecretName("mq"):                "mq-tls",
		v1alpha1.ClientCASecretName("mq"):           "mq-client-ca",
		v1alpha1.IssuedName("mq", "mqtts"):          "mq-mqtts-issued",
		v1alpha1.AdminCASecretName("mq"):            "mq-admin-ca",
		v1alpha1.AdminTLSSecretName("mq"):           "mq-admin-tls",
		v1alpha1.BindingSecretName("sensor"):        "sensor-mqtt",
		v1alpha1.VerifierSecretName("sensor"):       "sensor-mqtt-verifier",
		v1alpha1.BridgeDeploymentName("cloud"):      "cloud-bridge",
		v1alpha1.BridgeUserName("cloud"):            "cloud-bridge",
		v1alpha1.BridgeRemoteUserName("cloud"):      "cloud-bridge-remote",
		v1alpha1.BridgeConfigSecretName("cloud"):    "cloud-bridge-config",
		v1alpha1.BridgeAdminSecretName("cloud"):     "cloud-bridge-admin",
		v1alpha1.BridgeUsername("plant", "cloud"):   "plant.cloud.bridge",

		v1alpha1.BridgeRemoteUsername("plant", "cloud"): "plant.cloud.remote",
	} {
		if got != want {
			t.Errorf("%s, want %s: objects of that name exist in clusters", got, want)
		}
	}

	for key := range v1alpha1.BrokerSelector("mq") {
		if v1alpha1.BrokerLabels("mq")[key] != v1alpha1.BrokerSelector("mq")[key] {
			t.Errorf("the selector asks for a label %s that the pods do not carry", key)
		}
	}

	for key := range v1alpha1.BridgeSelector("cloud") {
		if v1alpha1.BridgeLabels("cloud", "mq")[key] != v1alpha1.BridgeSelector("cloud")[key] {
			t.Errorf("the selector asks for a label %s that the pods do not carry", key)
		}
	}

	const longest = 128 // bytes of a username

	if name := v1alpha1.BridgeRemoteUsername(strings.Repeat("n", 63), strings.Repeat("r", 52)); len(name) > longest {
		t.Errorf("a username of %d bytes", len(name))
	}
}
