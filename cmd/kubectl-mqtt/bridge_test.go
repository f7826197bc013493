// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"github.com/mqtt-operator/mqtt-operator/api/v1alpha1"
	"github.com/mqtt-operator/mqtt-operator/controllers/gen"
)

var update = flag.Bool("update", false, "write what is printed into testdata")

// bridgesOfAllKinds are one that flows, one in trouble, one that is suspended, and one that nobody has looked at.
func bridgesOfAllKinds() []*v1alpha1.MQTTBridge {
	at := metav1.NewTime(time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC))
	says := func(kind v1alpha1.ConditionType, status metav1.ConditionStatus, reason v1alpha1.ConditionReason, message string) metav1.Condition {
		return metav1.Condition{Type: string(kind), Status: status, Reason: string(reason), Message: message}
	}
	flows := gen.Bridge("factory", "flows", "mq", gen.WithRoutes(gen.Route("telemetry", v1alpha1.RouteOut, "telemetry/#"), gen.Route("commands", v1alpha1.RouteIn, "set")))
	flows.Status = v1alpha1.MQTTBridgeStatus{
		Conditions: []metav1.Condition{
			says(v1alpha1.ConditionReady, metav1.ConditionTrue, v1alpha1.ReasonReady, "Messages flow on every route."),
			says(v1alpha1.ConditionLocalConnected, metav1.ConditionTrue, v1alpha1.ReasonConnected, "Connected."),
			says(v1alpha1.ConditionRemoteConnected, metav1.ConditionTrue, v1alpha1.ReasonConnected, "Connected."),
		},
		Local:  &v1alpha1.BridgeEndStatus{Endpoint: "mqtts://mq-mqtts.factory.svc:8883"},
		Remote: &v1alpha1.BridgeEndStatus{Endpoint: "mqtts://mqtt.example.com", Notice: "sessions last 1h there"},
		Pods: []v1alpha1.BridgePodStatus{
			{Name: "flows-bridge-a", Ready: new(true), Active: new(true), ConfigRevision: new(int64(4))},
			{Name: "flows-bridge-b", Ready: new(true), Active: new(false), ConfigRevision: new(int64(4))},
		},
		Routes: []v1alpha1.RouteStatus{
			{
				Name: "telemetry", Connected: new(true), Forwarded: new(int64(120345)), ForwardedPerMinute: new(int64(750)), Queued: new(int64(3)), LagSeconds: new(int64(1)),
				Dropped: new(int64(3)), DropReasons: []v1alpha1.DropReason{{Reason: "Loop", Count: new(int64(1))}, {Reason: "TooLarge", Count: new(int64(2))}},
				LastError: "the destination takes no message of this size", LastErrorTime: &at,
			},
			{Name: "commands", Connected: new(true), Forwarded: new(int64(7)), ForwardedPerMinute: new(int64(0)), Queued: new(int64(0)), LagSeconds: new(int64(0)), Dropped: new(int64(0))},
		},
		CountedAt: &at,
	}
	trouble := gen.Bridge("factory", "trouble", "mq")
	trouble.Generation = 2
	why := "mqtts://mqtt.example.com: the broker refuses username or password; correct the credentials."
	trouble.Status = v1alpha1.MQTTBridgeStatus{
		ObservedGeneration: 1,
		Conditions: []metav1.Condition{
			says(v1alpha1.ConditionLooping, metav1.ConditionTrue, v1alpha1.ReasonBridgesInCircle, "Messages go round without end: route telemetry of trouble, then route down of back, and again. Change a prefix."),
			says(v1alpha1.ConditionReady, metav1.ConditionFalse, v1alpha1.ReasonNotAuthorized, why),
			says(v1alpha1.ConditionLocalConnected, metav1.ConditionTrue, v1alpha1.ReasonConnected, "Connected."),
			says(v1alpha1.ConditionRemoteConnected, metav1.ConditionFalse, v1alpha1.ReasonNotAuthorized, why),
		},
		Local:  &v1alpha1.BridgeEndStatus{Endpoint: "mqtts://mq-mqtts.factory.svc:8883"},
		Pods:   []v1alpha1.BridgePodStatus{{Name: "trouble-bridge-a", Ready: new(false)}},
		Routes: []v1alpha1.RouteStatus{{Name: "telemetry", Connected: new(false), Forwarded: new(int64(0)), Queued: new(int64(100)), LagSeconds: new(int64(3725)), Dropped: new(int64(0))}},
	}
	suspended := gen.Bridge("factory", "suspended", "mq")
	rest := "The bridge holds no connection, as spec.suspend says."
	suspended.Status.Conditions = []metav1.Condition{
		says(v1alpha1.ConditionReady, metav1.ConditionTrue, v1alpha1.ReasonSuspended, "The bridge is stopped, as spec.suspend says."),
		says(v1alpha1.ConditionLocalConnected, metav1.ConditionFalse, v1alpha1.ReasonSuspended, rest),
		says(v1alpha1.ConditionRemoteConnected, metav1.ConditionFalse, v1alpha1.ReasonSuspended, rest),
	}
	return []*v1alpha1.MQTTBridge{flows, trouble, suspended, gen.Bridge("factory", "new", "mq")}
}

func withBridges(b *fake.ClientBuilder) {
	for _, bridge := range bridgesOfAllKinds() {
		b.WithObjects(bridge)
	}
}

// TestBridgeStatus compares with testdata/bridge-NAME.txt.
func TestBridgeStatus(t *testing.T) {
	open := world(t, factory(), withBridges)
	for name, want := range map[string]int{"flows": exitYes, "trouble": exitNo, "suspended": exitYes, "new": exitNo} {
		t.Run(name, func(t *testing.T) {
			code, out, errs := call(t, open, "bridge", "status", name)
			if code != want || errs != "" {
				t.Errorf("exit code %d, want %d; %s", code, want, errs)
			}
			golden(t, "bridge-"+name, out)
		})
	}
}

// golden compares what people read with testdata/NAME.txt; -update writes it anew.
func golden(t *testing.T, name, out string) {
	t.Helper()
	path := filepath.Join("testdata", name+".txt")
	if *update {
		if err := os.WriteFile(path, []byte(out), 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if out != string(want) {
		t.Errorf("got\n%s\nwant, as testdata/%s.txt says,\n%s", out, name, want)
	}
}

func TestBridgeStatusForPrograms(t *testing.T) {
	open := world(t, factory(), withBridges)
	_, out, _ := call(t, open, "bridge", "status", "flows", "-o", "json")
	got := bridgeInfo{}
	if err := json.Unmarshal([]byte(out), &got); err != nil {
		t.Fatal(err)
	}
	if !got.Ready || !got.Current || got.Remote.Connected != "True" || got.Routes[0].PerMinute != 750 || got.Routes[0].DropReasons["TooLarge"] != 2 || got.Routes[1].Direction != "in" {
		t.Errorf("%+v", got)
	}
	if code, out, errs := call(t, open, "bridge", "status", "nobody"); code != exitUnknown || out != "" || !strings.Contains(errs, "not found") {
		t.Errorf("%d %s%s", code, out, errs)
	}
	if code, _, errs := call(t, open, "bridge", "status"); code != exitUsage || !strings.Contains(errs, "accepts 1 arg") {
		t.Errorf("%d %s", code, errs)
	}
}
