// SPDX-License-Identifier: Apache-2.0

package verdict_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mqtt-operator/mqtt-operator/api/v1alpha1"
	"github.com/mqtt-operator/mqtt-operator/broker-image/contract"
	"github.com/mqtt-operator/mqtt-operator/controllers/gen"
	"github.com/mqtt-operator/mqtt-operator/controllers/pki"
	"github.com/mqtt-operator/mqtt-operator/controllers/verdict"
)

// inForce is a bridge's user that its broker knows, with its binding.
func inForce(name, uri string, rules []v1alpha1.ACLRule) verdict.BridgeUser {
	user := gen.User("plant", name, "mq")
	user.Spec.ACL = rules
	user.Status.Conditions = []metav1.Condition{{Type: string(v1alpha1.ConditionReady), Status: metav1.ConditionTrue, Reason: string(v1alpha1.ReasonReady)}}
	return verdict.BridgeUser{User: user, Binding: &corev1.Secret{Data: map[string][]byte{
		v1alpha1.BindingURI: []byte(uri), v1alpha1.BindingUsername: []byte(name), v1alpha1.BindingPassword: []byte("p"),
	}}}
}

func bridgeFacts(t *testing.T, bridge *v1alpha1.MQTTBridge) *verdict.BridgeFacts {
	t.Helper()
	f := &verdict.BridgeFacts{Bridge: bridge, Spec: bridge.Resolved(), Now: now, Referenced: map[string]*corev1.Secret{}}
	f.Local = inForce("cloud-bridge", "mqtts://mq-mqtts.plant.svc:8883", nil)
	if bridge.Spec.Remote.BrokerRef != nil {
		f.Remote = inForce("cloud-bridge-remote", "mqtts://hub-mqtts.plant.svc:8883", nil)
	}
	j, err := verdict.JudgeBridge(f)
	if err != nil {
		return f // a test of what is wrong with it
	}
	f.Local.User.Spec.ACL = j.LocalRules
	if f.Remote.User != nil {
		f.Remote.User.Spec.ACL = j.RemoteRules
	}
	return f
}

func mustJudge(t *testing.T, f *verdict.BridgeFacts) *verdict.BridgeJudgement {
	t.Helper()
	j, err := verdict.JudgeBridge(f)
	if err != nil {
		t.Fatal(err)
	}
	return j
}

// runs puts the configuration of a judgement where the pods find it.
func runs(t *testing.T, f *verdict.BridgeFacts, cfg *contract.Bridge) {
	t.Helper()
	text, err := contract.RenderBridge(cfg)
	if err != nil {
		t.Fatal(err)
	}
	f.Config = &corev1.Secret{Data: map[string][]byte{contract.BridgeFile: text}}
}

func TestWhatABridgeIsTold(t *testing.T) {
	bridge := gen.Bridge("plant", "cloud", "mq", gen.WithCredentials("login"), gen.To("mqtts://a.example.com", "wss://b.example.com/mqtt"))
	bridge.Spec.Remote.ProtocolVersion, bridge.Spec.Remote.CleanStart = new(v1alpha1.MQTTv311), new(true)
	bridge.Spec.SessionExpiry = &metav1.Duration{Duration: time.Hour}
	f := bridgeFacts(t, bridge)
	f.Referenced["login"] = gen.Secret("plant", "login", nil)
	f.Referenced["login"].Data = map[string][]byte{"username": []byte("plant-7"), "password": []byte("hunter2")}
	j := mustJudge(t, f)
	if j.LocalFault != nil || j.RemoteFault != nil || j.Hold != nil {
		t.Fatalf("%+v", j)
	}
	local, remote := j.Config.Local, j.Config.Remote
	if local.Endpoints[0] != "mqtts://mq-mqtts.plant.svc:8883" || local.Version != 5 || local.Username != "cloud-bridge" || local.Password != "p" || local.CleanStart {
		t.Errorf("local %+v", local)
	}
	if len(remote.Endpoints) != 2 || remote.Version != 4 || remote.Username != "plant-7" || remote.Password != "hunter2" || !remote.CleanStart || remote.SessionExpirySeconds != 3600 {
		t.Errorf("remote %+v", remote)
	}
	if local.ClientIDPrefix != "plant.cloud" || local.KeepAliveSeconds != 30 || j.Config.Name != "plant/cloud" {
		t.Errorf("%+v", j.Config)
	}
	if text := fmt.Sprintf("%v %#v", local, remote); strings.Contains(text, "hunter2") {
		t.Errorf("a password is shown: %s", text)
	}
}

func TestEachFaultOfARemoteEndHasItsReason(t *testing.T) {
	pair, other, old := issued(t, now), issued(t, now), issued(t, now.Add(-pki.LeafValidity-time.Hour))
	ca, err := pki.NewCA("ca", now)
	if err != nil {
		t.Fatal(err)
	}
	const marker = "MARKER-of-a-secret"
	login := func(username, password string) map[string][]byte {
		return map[string][]byte{"username": []byte(username), "password": []byte(password)}
	}
	keys := func(certificate, key []byte) map[string][]byte {
		return map[string][]byte{corev1.TLSCertKey: certificate, corev1.TLSPrivateKeyKey: key}
	}
	for name, tc := range map[string]struct {
		what func(*v1alpha1.MQTTBridge)
		data map[string][]byte // nil: there is no such Secret, or its label does not open it
		want v1alpha1.ConditionReason
		says string
	}{
		"good credentials":         {what: gen.WithCredentials("s"), data: login("u", marker)},
		"no such Secret":           {what: gen.WithCredentials("s"), want: v1alpha1.ReasonSecretNotUsable, says: "kubectl -n plant label secret s mqtt-operator.io/allow=true"},
		"no username":              {what: gen.WithCredentials("s"), data: map[string][]byte{"password": []byte(marker)}, want: v1alpha1.ReasonSecretKeyMissing, says: "no key username"},
		"an empty password":        {what: gen.WithCredentials("s"), data: login("u", ""), want: v1alpha1.ReasonPasswordInvalid, says: "is empty"},
		"a line break":             {what: gen.WithCredentials("s"), data: login("u", marker+"\n"), want: v1alpha1.ReasonPasswordInvalid, says: "line break"},
		"a password of a megabyte": {what: gen.WithCredentials("s"), data: login("u", strings.Repeat(marker, 10_000)), want: v1alpha1.ReasonPasswordInvalid, says: "more than 65535 bytes"},
		"a good CA":                {what: gen.WithTrust("s", ""), data: map[string][]byte{"ca.crt": append([]byte("# our own\n"), ca.Certificate...)}},
		"no CA":                    {what: gen.WithTrust("s", ""), want: v1alpha1.ReasonSecretNotUsable, says: "does not exist, or lacks the label"},
		"a CA under another key":   {what: gen.WithTrust("s", ""), data: map[string][]byte{"ca.pem": ca.Certificate}, want: v1alpha1.ReasonSecretKeyMissing, says: "no key ca.crt"},
		"no certificate":           {what: gen.WithTrust("s", ""), data: map[string][]byte{"ca.crt": []byte(marker)}, want: v1alpha1.ReasonRemoteCAInvalid, says: "holds no certificate"},
		"a CA with its key":        {what: gen.WithTrust("s", ""), data: map[string][]byte{"ca.crt": append(slices.Clone(ca.Certificate), ca.Key...)}, want: v1alpha1.ReasonRemoteCAInvalid, says: "nothing else"},
		"a good pair":              {what: gen.WithTrust("", "s"), data: keys(pair.Certificate, pair.Key)},
		"no pair":                  {what: gen.WithTrust("", "s"), want: v1alpha1.ReasonSecretNotUsable, says: "does not exist, or lacks the label"},
		"another's key":            {what: gen.WithTrust("", "s"), data: keys(pair.Certificate, other.Key), want: v1alpha1.ReasonKeyPairMismatch, says: "put the two that belong together"},
		"an old certificate":       {what: gen.WithTrust("", "s"), data: keys(old.Certificate, old.Key), want: v1alpha1.ReasonCertificateExpired, says: "has expired"},
		"no certificate in it":     {what: gen.WithTrust("", "s"), data: keys([]byte(marker), pair.Key), want: v1alpha1.ReasonCertificateInvalid, says: "put a PEM certificate"},
	} {
		t.Run(name, func(t *testing.T) {
			bridge := gen.Bridge("plant", "cloud", "mq", tc.what)
			f := bridgeFacts(t, bridge)
			if tc.data != nil {
				f.Referenced["s"] = gen.Secret("plant", "s", nil)
				f.Referenced["s"].Data = tc.data
			}
			j := mustJudge(t, f)
			if tc.want == "" {
				if j.RemoteFault != nil || j.Config == nil {
					t.Fatalf("fault %+v", j.RemoteFault)
				}
				return
			}
			if j.RemoteFault == nil || j.RemoteFault.Reason != tc.want || !strings.Contains(j.RemoteFault.Message, tc.says) {
				t.Fatalf("got %+v, want %s with %q", j.RemoteFault, tc.want, tc.says)
			}
			if strings.Contains(j.RemoteFault.Message, marker) {
				t.Errorf("the message repeats the secret: %s", j.RemoteFault.Message)
			}
			if j.Config != nil {
				t.Error("there is nothing to run yet")
			}
			// A bridge that runs goes on with the end that it had, and with the routes of now.
			good := bridgeFacts(t, gen.Bridge("plant", "cloud", "mq", gen.To("mqtts://before.example.com")))
			runs(t, f, mustJudge(t, good).Config)
			bridge.Spec.Suspend = new(true)
			f.Spec = bridge.Resolved()
			j = mustJudge(t, f)
			if j.Config == nil || j.Config.Remote.Endpoints[0] != "mqtts://before.example.com" || !j.Config.Suspended || !strings.Contains(j.RemoteFault.Message, "Until then") {
				t.Errorf("%+v", j)
			}
		})
	}
}

func TestLoops(t *testing.T) {
	out, in, both := v1alpha1.RouteOut, v1alpha1.RouteIn, v1alpha1.RouteBoth
	for name, tc := range map[string]struct {
		reason string
		routes []v1alpha1.BridgeRoute
		names  []string // of the routes that must be named; none: it is no loop
	}{
		"there and back": {
			reason: "what goes out comes back and goes out again",
			routes: []v1alpha1.BridgeRoute{gen.Route("up", out, "a/#"), gen.Route("down", in, "a/b/#")}, names: []string{"up", "down"},
		},
		"both on one route": {
			reason: "its two directions know of each other", routes: []v1alpha1.BridgeRoute{gen.Route("all", both, "#")},
		},
		"both beside out": {
			reason: "what the one brings the other takes", routes: []v1alpha1.BridgeRoute{gen.Route("all", both, "#"), gen.Route("up", out, "a/#")}, names: []string{"all", "up"},
		},
		"prefixes keep them apart": {
			reason: "what comes in lands where nothing is taken",
			routes: []v1alpha1.BridgeRoute{gen.Between(gen.Route("up", out, "#"), "l/", "r/"), gen.Between(gen.Route("down", in, "#"), "m/", "r/")},
		},
		"a prefix that grows": {
			reason: "each round makes the topic longer, and none is the last",
			routes: []v1alpha1.BridgeRoute{gen.Route("up", out, "a/#"), gen.Between(gen.Route("down", in, "#"), "a/", "")}, names: []string{"up", "down"},
		},
		"a second round leads out": {
			reason: "the message is seen once more, and then no more",
			routes: []v1alpha1.BridgeRoute{gen.Between(gen.Route("up", out, "#"), "l/", "r/"), gen.Between(gen.Route("down", in, "a/#"), "l/b/", "r/")},
		},
		"different topics":       {reason: "nothing is taken twice", routes: []v1alpha1.BridgeRoute{gen.Route("up", out, "telemetry/#"), gen.Route("down", in, "commands/#")}},
		"two that go out":        {reason: "that is twice the messages, and no circle", routes: []v1alpha1.BridgeRoute{gen.Route("up", out, "a/#"), gen.Route("more", out, "#")}},
		"wildcards that overlap": {reason: "a/b is taken by both", routes: []v1alpha1.BridgeRoute{gen.Route("up", out, "a/+"), gen.Route("down", in, "+/b")}, names: []string{"up", "down"}},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := verdict.JudgeBridge(bridgeFacts(t, gen.Bridge("plant", "cloud", "mq", gen.WithRoutes(tc.routes...))))
			if len(tc.names) == 0 {
				if err != nil {
					t.Fatalf("%v: %s", err, tc.reason)
				}
				return
			}
			stalled, ok := errors.AsType[*verdict.Stalled](err)
			if !ok || stalled.Reason != v1alpha1.ReasonRouteLoop {
				t.Fatalf("%v: %s", err, tc.reason)
			}
			for _, name := range tc.names {
				if !strings.Contains(stalled.Message, name) {
					t.Errorf("%s does not name %s", stalled.Message, name)
				}
			}
		})
	}
}

func TestABridgeNeedsTwoBrokers(t *testing.T) {
	for name, tc := range map[string]struct {
		ref  v1alpha1.BrokerReference
		fits bool
	}{
		"the same one":                 {ref: v1alpha1.BrokerReference{Name: "mq"}},
		"the same one, written longer": {ref: v1alpha1.BrokerReference{Name: "mq", Namespace: new("plant")}},
		"of another name":              {ref: v1alpha1.BrokerReference{Name: "hub"}, fits: true},
		"of another namespace":         {ref: v1alpha1.BrokerReference{Name: "mq", Namespace: new("hall")}, fits: true},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := verdict.JudgeBridge(bridgeFacts(t, gen.Bridge("plant", "cloud", "mq", gen.ToBroker(tc.ref))))
			if stalled, refused := errors.AsType[*verdict.Stalled](err); refused == tc.fits || refused && stalled.Reason != v1alpha1.ReasonSpecInvalid {
				t.Errorf("%v", err)
			}
		})
	}
}

// TestWhenAConfigurationIsHeldBack: what a broker would refuse still must not reach a pod; all else goes on its way.
func TestWhenAConfigurationIsHeldBack(t *testing.T) {
	hub := v1alpha1.BrokerReference{Name: "hub"}
	for name, tc := range map[string]struct {
		reason string
		change func(*verdict.BridgeFacts)
		first  bool // nothing runs yet
		held   bool
	}{
		"all is in force":     {reason: "there is nothing to wait for", first: true},
		"the first time":      {reason: "a bridge that is refused tries again later than one that waits", first: true, held: true, change: func(f *verdict.BridgeFacts) { f.Local.User.Status.Conditions = nil }},
		"a user that is not":  {reason: "a suspended user, a broker that is away: none of them needs new rules", change: func(f *verdict.BridgeFacts) { f.Local.User.Status.Conditions = nil }},
		"a new route":         {reason: "its messages would be refused", held: true, change: func(f *verdict.BridgeFacts) { addRoute(f) }},
		"a new route, remote": {reason: "the remote broker has to know, too", held: true, change: func(f *verdict.BridgeFacts) { addRoute(f); f.Local.User.Spec.ACL = mustJudge(t, f).LocalRules }},
		"a new route that is known": {reason: "both have answered", change: func(f *verdict.BridgeFacts) {
			addRoute(f)
			f.Local.User.Spec.ACL, f.Remote.User.Spec.ACL = mustJudge(t, f).LocalRules, mustJudge(t, f).RemoteRules
		}},
		"a new route that is not known yet": {reason: "the rules are written, and not answered", held: true, change: func(f *verdict.BridgeFacts) {
			addRoute(f)
			f.Local.User.Spec.ACL, f.Remote.User.Spec.ACL = mustJudge(t, f).LocalRules, mustJudge(t, f).RemoteRules
			f.Remote.User.Generation = 2
		}},
		"a route less":         {reason: "that needs no leave", change: func(f *verdict.BridgeFacts) { f.Spec.Routes = f.Spec.Routes[:1]; f.Local.User.Status.Conditions = nil }},
		"a user that is gone":  {reason: "it is made again first", held: true, change: func(f *verdict.BridgeFacts) { f.Local = verdict.BridgeUser{} }},
		"suspended while away": {reason: "suspending must always work", change: func(f *verdict.BridgeFacts) { f.Spec.Suspended = true; f.Local.User.Status.Conditions = nil }},
	} {
		t.Run(name, func(t *testing.T) {
			f := bridgeFacts(t, gen.Bridge("plant", "cloud", "mq", gen.ToBroker(hub), gen.WithRoutes(
				gen.Route("up", v1alpha1.RouteOut, "a/#"), gen.Route("down", v1alpha1.RouteIn, "b/#"))))
			if !tc.first {
				runs(t, f, mustJudge(t, f).Config)
			}
			if tc.change != nil {
				tc.change(f)
			}
			j := mustJudge(t, f)
			if (j.Hold != nil) != tc.held {
				t.Errorf("held: %+v, want %v: %s", j.Hold, tc.held, tc.reason)
			}
			if j.Hold != nil && j.Hold.Reason != v1alpha1.ReasonBridgeUserNotReady {
				t.Errorf("%+v", j.Hold)
			}
		})
	}
}

func addRoute(f *verdict.BridgeFacts) {
	f.Spec.Routes = append(f.Spec.Routes, v1alpha1.ResolvedRoute{Name: "more", Direction: v1alpha1.RouteBoth, Filter: "c/#", MaxQoS: 1, Retain: true})
}

// TestAStalledUserSaysWhy: what its own reconciler found is the bridge's reason, too.
func TestAStalledUserSaysWhy(t *testing.T) {
	f := bridgeFacts(t, gen.Bridge("plant", "cloud", "mq"))
	f.Local.Binding = nil
	f.Local.User.Status.Conditions = []metav1.Condition{
		{Type: string(v1alpha1.ConditionStalled), Status: metav1.ConditionTrue, Reason: string(v1alpha1.ReasonBrokerNotFound), Message: "There is no MQTTBroker mq."},
	}
	j := mustJudge(t, f)
	if j.Config != nil || j.LocalFault == nil || j.LocalFault.Reason != v1alpha1.ReasonBrokerNotFound || !strings.Contains(j.LocalFault.Message, "MQTTUser cloud-bridge, by which the bridge connects: There is no") {
		t.Errorf("%+v", j.LocalFault)
	}
	f.Local.User.Generation = 2 // the condition speaks of another spec
	if j = mustJudge(t, f); j.LocalFault == nil || j.LocalFault.Reason != v1alpha1.ReasonBridgeUserNotReady {
		t.Errorf("%+v", j.LocalFault)
	}
}

// TestTheUsersMayDoWhatTheRoutesNeed, each at its own end, and nothing else.
func TestTheUsersMayDoWhatTheRoutesNeed(t *testing.T) {
	up, down := gen.Between(gen.Route("up", v1alpha1.RouteOut, "a/#"), "", "plant/"), gen.Between(gen.Route("down", v1alpha1.RouteIn, "set"), "in/", "out/")
	up.MaxQoS, down.MaxQoS, down.Retain = new(int32(2)), new(int32(0)), new(false)
	j := mustJudge(t, bridgeFacts(t, gen.Bridge("plant", "cloud", "mq", gen.ToBroker(v1alpha1.BrokerReference{Name: "hub"}), gen.WithRoutes(up, down))))
	show := func(rules []v1alpha1.ACLRule) string {
		var lines []string
		for _, r := range rules {
			line := fmt.Sprint(r.Effect, r.Actions, r.Filter)
			if r.MaxQoS != nil {
				line += fmt.Sprint(" qos", *r.MaxQoS)
			}
			if r.Retain != nil {
				line += fmt.Sprint(" retain ", *r.Retain)
			}
			lines = append(lines, line)
		}
		return strings.Join(lines, "\n")
	}
	if got, want := show(j.LocalRules), `allow[publish subscribe]$mqtt-bridge/lock/plant.cloud qos0 retain false
allow[subscribe]a/#
allow[publish]in/set qos0 retain false`; got != want {
		t.Errorf("local:\n%s\nwant\n%s", got, want)
	}
	if got, want := show(j.RemoteRules), `allow[publish]plant/a/# retain true
allow[subscribe]out/set qos0`; got != want {
		t.Errorf("remote:\n%s\nwant\n%s", got, want)
	}
}

func TestRulesGoWhenNobodyNeedsThem(t *testing.T) {
	rule := func(filter string) v1alpha1.ACLRule { return gen.Rule(v1alpha1.ACLAllow, filter, v1alpha1.ACLPublish) }
	user := &verdict.BridgeUser{User: gen.User("plant", "cloud-bridge", "mq")}
	user.User.Spec.ACL = []v1alpha1.ACLRule{rule("old"), rule("kept")}
	needed := []v1alpha1.ACLRule{rule("kept"), rule("new")}
	filters := func(rules []v1alpha1.ACLRule) string {
		var all strings.Builder
		for _, r := range rules {
			all.WriteString(string(r.Filter) + " ")
		}
		return all.String()
	}
	if got := filters(verdict.Granted(user, needed, false)); got != "kept new old " {
		t.Errorf("while a pod may need it: %s", got)
	}
	if got := filters(verdict.Granted(user, needed, true)); got != "kept new " {
		t.Errorf("when none does: %s", got)
	}
	if got := filters(verdict.Granted(&verdict.BridgeUser{}, needed, false)); got != "kept new " {
		t.Errorf("of a user that is to be made: %s", got)
	}
}
