// SPDX-License-Identifier: Apache-2.0

package verdict

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mqtt-operator/mqtt-operator/api/v1alpha1"
	"github.com/mqtt-operator/mqtt-operator/broker-image/acl"
	"github.com/mqtt-operator/mqtt-operator/broker-image/contract"
	"github.com/mqtt-operator/mqtt-operator/controllers/pki"
)

// Keys of the Secret that spec.remote.credentialsSecretRef names.
const (
	RemoteUsernameKey = "username"
	RemotePasswordKey = "password"
)

// BridgeFacts are what one look at the world found about a bridge.
type BridgeFacts struct {
	Bridge *v1alpha1.MQTTBridge
	// Spec is Bridge's, with every default filled in.
	Spec v1alpha1.ResolvedBridge
	Now  time.Time
	// DefaultImage is the broker image of this operator's release.
	DefaultImage string
	// Operator is where this operator runs.
	Operator Operator

	// Referenced are the Secrets that the spec names, as far as their label opens them.
	Referenced map[string]*corev1.Secret
	// Local and Remote are the users by which the bridge connects. Without spec.remote.brokerRef there is no remote one.
	Local, Remote BridgeUser

	// Our own objects as they stand; nil where there is none.
	Config, Admin *corev1.Secret
	Deployment    *appsv1.Deployment

	// Floor is the highest revision that is known to have been used.
	Floor int64
	// IsSettled says that every pod which is there runs what stands in Config.
	IsSettled bool
}

// BridgeUser is an MQTTUser of the bridge with what its own reconciler wrote; nil while there are none.
type BridgeUser struct {
	User    *v1alpha1.MQTTUser
	Binding *corev1.Secret
	// Queue is the most messages that the broker keeps for a session, 0 where that is not known.
	Queue int32
}

// BridgeJudgement is what the facts amount to.
type BridgeJudgement struct {
	// Config is what the bridge shall run, nil while nobody knows how to reach one of its ends. Its revision is 1 until
	// [contract.NextBridge] knows better.
	Config *contract.Bridge
	// LocalRules and RemoteRules are what the bridge needs to be allowed at its ends.
	LocalRules, RemoteRules []v1alpha1.ACLRule
	// LocalFault and RemoteFault say why an end is not the one that the spec asks for.
	LocalFault, RemoteFault *Finding
	// Hold says why Config must not reach the pods yet.
	Hold *Finding
}

// JudgeBridge asks every question about a bridge. The error is a [Stalled] where nothing of the spec can be carried out.
func JudgeBridge(f *BridgeFacts) (*BridgeJudgement, error) {
	j, prior := &BridgeJudgement{}, f.prior()
	cfg := f.skeleton()
	if problem := specProblem(f, cfg); problem != nil {
		return nil, &Stalled{Finding: *problem}
	}
	j.LocalRules, j.RemoteRules = localRules(cfg), remoteRules(cfg)
	var local, remote *contract.BridgeEnd
	local, j.LocalFault = userEnd(f, &f.Local)
	if f.Spec.RemoteBroker != nil {
		remote, j.RemoteFault = userEnd(f, &f.Remote)
	} else {
		remote, j.RemoteFault = remoteEnd(f)
	}
	// An end that is wrong stays as it was, so that the rest of the spec is carried out.
	if local == nil && prior != nil {
		local = &prior.Local
	}
	if remote == nil && prior != nil {
		remote = &prior.Remote
		j.RemoteFault.Message += " Until then the bridge goes on with the remote end that it had."
	}
	if local == nil || remote == nil {
		return j, nil
	}
	cfg.Local, cfg.Remote = *local, *remote
	if err := cfg.Validate(); err != nil {
		return nil, &Stalled{Finding: *find(v1alpha1.ReasonConfigInvalid, "%s", oneLine(err))}
	}
	j.Config = cfg
	j.Hold = hold(f, j, prior)
	return j, nil
}

// skeleton is the configuration without its ends.
func (f *BridgeFacts) skeleton() *contract.Bridge {
	cfg := &contract.Bridge{
		Format: contract.BridgeFormat, Name: f.Bridge.Namespace + "/" + f.Bridge.Name, Revision: 1,
		Inflight: int(f.Spec.Inflight), Suspended: f.Spec.Suspended,
		Logging: contract.Logging{Level: string(f.Spec.Logging.Level), Format: string(f.Spec.Logging.Format)},
	}
	cfg.Local.ClientIDPrefix, cfg.Remote.ClientIDPrefix = f.Spec.ClientIDPrefix, f.Spec.ClientIDPrefix
	for _, route := range f.Spec.Routes {
		cfg.Routes = append(cfg.Routes, contract.BridgeRoute{
			Name: route.Name, Direction: contract.Direction(route.Direction), Filter: route.Filter,
			LocalPrefix: route.LocalPrefix, RemotePrefix: route.RemotePrefix,
			MaxQoS: byte(route.MaxQoS), //nolint:gosec // The schema keeps it within 0 to 2.
			Retain: route.Retain, Share: route.Share,
		})
	}
	return cfg
}

// prior is the configuration that stands in the Secret, nil where there is none that can be read.
func (f *BridgeFacts) prior() *contract.Bridge {
	if f.Config == nil {
		return nil
	}
	prior, err := contract.ParseBridge(f.Config.Data[contract.BridgeFile])
	if err != nil {
		return nil
	}
	return prior
}

// specProblem is what no schema could refuse.
func specProblem(f *BridgeFacts, cfg *contract.Bridge) *Finding {
	if remote := f.Spec.RemoteBroker; remote != nil && remote.Name == f.Spec.Broker.Name && f.namespaceOf(*remote) == f.namespaceOf(f.Spec.Broker) {
		return find(v1alpha1.ReasonSpecInvalid, "spec.remote.brokerRef names the broker of spec.brokerRef: a bridge needs two brokers.")
	}
	return RouteLoop(cfg)
}

// RouteLoop says which two routes would carry messages in a circle. A circle is one that never ends: what a route brings
// over is taken back by another, and is what the first one takes, again and again. Routes whose prefixes lead out of the
// circle are none; nor is a route of direction both, which at run time does not send back what it has brought.
func RouteLoop(cfg *contract.Bridge) *Finding {
	first, second, found := cfg.Loop()
	if !found {
		return nil
	}
	return find(v1alpha1.ReasonRouteLoop, "Routes %s. Where both ways are meant, one route with direction both does that and sends nothing back.",
		contract.LoopProblem(first, second))
}

func (f *BridgeFacts) namespaceOf(ref v1alpha1.BrokerReference) string {
	if ref.Namespace != nil {
		return *ref.Namespace
	}
	return f.Bridge.Namespace
}

// oneLine is an error of several lines as one.
func oneLine(err error) string { return strings.ReplaceAll(err.Error(), "\n", "; ") }

// userEnd is the end that a user's binding tells of. The finding may be there beside it: then something about the user
// keeps it from being in force, and what it had before may still open the broker.
func userEnd(f *BridgeFacts, u *BridgeUser) (*contract.BridgeEnd, *Finding) {
	if u.User == nil {
		return nil, notMade()
	}
	problem := userProblem(u.User)
	if u.Binding == nil {
		if problem == nil {
			problem = notInForce(u.User)
		}
		return nil, problem
	}
	end := f.end(contract.BridgeEnd{
		Endpoints: []string{string(u.Binding.Data[v1alpha1.BindingURI])}, Version: versionOf(v1alpha1.MQTTv5),
		Username: string(u.Binding.Data[v1alpha1.BindingUsername]), Password: string(u.Binding.Data[v1alpha1.BindingPassword]),
		CAs: string(u.Binding.Data[v1alpha1.BindingCA]),
	})
	if u == &f.Remote {
		end.Version, end.CleanStart = versionOf(f.Spec.Protocol), f.Spec.CleanStart
	}
	return end, problem
}

// end completes what both ends have in common.
func (f *BridgeFacts) end(end contract.BridgeEnd) *contract.BridgeEnd {
	end.ClientIDPrefix = f.Spec.ClientIDPrefix
	end.KeepAliveSeconds = int(f.Spec.KeepAlive / time.Second)
	end.SessionExpirySeconds = uint32(min(f.Spec.SessionExpiry/time.Second, math.MaxUint32)) //nolint:gosec // Both bounds are held.
	return &end
}

// Versions of MQTT as CONNECT counts them.
const (
	level5   = 5
	level311 = 4
)

func versionOf(p v1alpha1.MQTTProtocolVersion) int {
	if p == v1alpha1.MQTTv311 {
		return level311
	}
	return level5
}

// userProblem is why somebody has to act before the user can be in force; nil where nobody has.
func userProblem(user *v1alpha1.MQTTUser) *Finding {
	c := meta.FindStatusCondition(user.Status.Conditions, string(v1alpha1.ConditionStalled))
	if c == nil || c.Status != metav1.ConditionTrue || c.ObservedGeneration != user.Generation {
		return nil
	}
	return find(v1alpha1.ConditionReason(c.Reason), "MQTTUser %s, by which the bridge connects: %s", user.Name, c.Message)
}

// isInForce reports whether the broker knows the user as it is.
func isInForce(user *v1alpha1.MQTTUser) bool {
	c := meta.FindStatusCondition(user.Status.Conditions, string(v1alpha1.ConditionReady))
	return c != nil && c.Status == metav1.ConditionTrue && c.ObservedGeneration == user.Generation
}

func notMade() *Finding {
	return find(v1alpha1.ReasonBridgeUserNotReady, "The MQTTUser by which the bridge connects has not been made yet.")
}

func notInForce(user *v1alpha1.MQTTUser) *Finding {
	text := "its broker has not answered yet."
	if c := meta.FindStatusCondition(user.Status.Conditions, string(v1alpha1.ConditionReady)); c != nil && c.ObservedGeneration == user.Generation {
		text = c.Message
	}
	return find(v1alpha1.ReasonBridgeUserNotReady, "MQTTUser %s, by which the bridge connects, is not in force yet: %s", user.Name, text)
}

// remoteEnd is the end that spec.remote tells of.
func remoteEnd(f *BridgeFacts) (*contract.BridgeEnd, *Finding) {
	end := f.end(contract.BridgeEnd{
		Endpoints: f.Spec.Endpoints, Version: versionOf(f.Spec.Protocol), ServerName: f.Spec.ServerName, CleanStart: f.Spec.CleanStart,
	})
	for _, read := range []func(*BridgeFacts, *contract.BridgeEnd) *Finding{readCredentials, readCA, readCertificate} {
		if problem := read(f, end); problem != nil {
			return nil, problem
		}
	}
	return end, nil
}

// opened is a Secret that the spec names; a finding where its label does not open it, or a key is missing.
func (f *BridgeFacts) opened(name string, keys ...string) (*corev1.Secret, *Finding) {
	secret := f.Referenced[name]
	if secret == nil {
		return nil, NotUsable(v1alpha1.ReasonSecretNotUsable, f.Bridge.Namespace, name)
	}
	for _, key := range keys {
		if _, found := secret.Data[key]; !found {
			return nil, find(v1alpha1.ReasonSecretKeyMissing, "Secret %s has no key %s: add it.", name, key)
		}
	}
	return secret, nil
}

// maxField is what one field of a CONNECT can carry [MQTT-1.5.6].
const maxField = 65535

func readCredentials(f *BridgeFacts, end *contract.BridgeEnd) *Finding {
	name := f.Spec.CredentialsSecret
	if name == "" {
		return nil
	}
	secret, problem := f.opened(name, RemoteUsernameKey, RemotePasswordKey)
	if problem != nil {
		return problem
	}
	for _, key := range []string{RemoteUsernameKey, RemotePasswordKey} {
		switch value := secret.Data[key]; {
		case len(value) == 0:
			return find(v1alpha1.ReasonPasswordInvalid, "The key %s of Secret %s is empty: write the remote broker's %s into it.", key, name, key)
		case len(value) > maxField:
			return find(v1alpha1.ReasonPasswordInvalid, "The key %s of Secret %s holds more than %d bytes, which MQTT cannot send.", key, name, maxField)
		case bytes.HasSuffix(value, []byte("\n")):
			return find(v1alpha1.ReasonPasswordInvalid, "The key %s of Secret %s ends with a line break: write it again without one, for instance with kubectl create secret --from-literal.", key, name)
		}
	}
	end.Username, end.Password = string(secret.Data[RemoteUsernameKey]), string(secret.Data[RemotePasswordKey])
	return nil
}

func readCA(f *BridgeFacts, end *contract.BridgeEnd) *Finding {
	ca := f.Spec.CA
	if ca.Name == "" {
		return nil
	}
	secret, problem := f.opened(ca.Name, ca.Key)
	if problem != nil {
		return problem
	}
	if end.CAs = certificates(secret.Data[ca.Key]); end.CAs == "" {
		return find(v1alpha1.ReasonRemoteCAInvalid, "The key %s of Secret %s holds no certificate, or something else beside: put the remote broker's CA certificates into it, PEM, at most 256 KiB, and nothing else.",
			ca.Key, ca.Name)
	}
	return nil
}

// certificates are those in a PEM text, without what stands between them; nothing where there are none, or too many, or
// there is anything else.
func certificates(text []byte) string {
	var kept strings.Builder
	block, rest := pem.Decode(text)
	for ; block != nil; block, rest = pem.Decode(rest) {
		if _, err := x509.ParseCertificate(block.Bytes); err != nil || block.Type != "CERTIFICATE" {
			return ""
		}
		kept.Write(pem.EncodeToMemory(&pem.Block{Type: block.Type, Bytes: block.Bytes}))
	}
	if len(bytes.TrimSpace(rest)) > 0 || kept.Len() > contract.MaxTrustBytes {
		return ""
	}
	return kept.String()
}

func readCertificate(f *BridgeFacts, end *contract.BridgeEnd) *Finding {
	name := f.Spec.CertificateSecret
	if name == "" {
		return nil
	}
	secret, problem := f.opened(name, corev1.TLSCertKey, corev1.TLSPrivateKeyKey)
	if problem != nil {
		return problem
	}
	pair := pki.Pair{Certificate: secret.Data[corev1.TLSCertKey], Key: secret.Data[corev1.TLSPrivateKeyKey]}
	switch _, err := pki.Check(pair, f.Now); {
	case err == nil:
	case errors.Is(err, pki.ErrMismatch):
		return find(v1alpha1.ReasonKeyPairMismatch, "Secret %s: %v: put the two that belong together into %s and %s.", name, err, corev1.TLSCertKey, corev1.TLSPrivateKeyKey)
	case errors.Is(err, pki.ErrExpired), errors.Is(err, pki.ErrNotYetValid):
		return find(v1alpha1.ReasonCertificateExpired, "Secret %s: %v: put one that is valid now there.", name, err)
	default:
		return find(v1alpha1.ReasonCertificateInvalid, "Secret %s: %v: put a PEM certificate into %s and its PEM key into %s.", name, err, corev1.TLSCertKey, corev1.TLSPrivateKeyKey)
	}
	end.Pair = contract.KeyPair{Certificate: string(pair.Certificate), PrivateKey: string(pair.Key)}
	return nil
}

// hold says whether the pods would do what a broker refuses them still: a route that comes before its rule would have
// its messages dropped as refused. What asks for no new rule never waits, so that a broker which is away keeps nobody from
// suspending the bridge or changing a password.
func hold(f *BridgeFacts, j *BridgeJudgement, prior *contract.Bridge) *Finding {
	var had, hadRemote []v1alpha1.ACLRule
	if prior != nil {
		had, hadRemote = localRules(prior), remoteRules(prior)
	}
	if problem := missing(&f.Local, j.LocalRules, had, prior == nil); problem != nil {
		return problem
	}
	if f.Spec.RemoteBroker == nil {
		return nil
	}
	// The rules that count are those of the broker that is meant now.
	isFirst := prior == nil || !slices.Equal(prior.Remote.Endpoints, j.Config.Remote.Endpoints)
	return missing(&f.Remote, j.RemoteRules, hadRemote, isFirst)
}

func missing(u *BridgeUser, needed, had []v1alpha1.ACLRule, isFirst bool) *Finding {
	if u.User == nil {
		return notMade()
	}
	if !isFirst && holdsAll(had, needed) || holdsAll(u.User.Spec.ACL, needed) && isInForce(u.User) {
		return nil
	}
	return notInForce(u.User)
}

func holdsAll(rules, wanted []v1alpha1.ACLRule) bool {
	return !slices.ContainsFunc(wanted, func(rule v1alpha1.ACLRule) bool { return !holdsRule(rules, rule) })
}

func holdsRule(rules []v1alpha1.ACLRule, wanted v1alpha1.ACLRule) bool {
	return slices.ContainsFunc(rules, func(rule v1alpha1.ACLRule) bool { return reflect.DeepEqual(rule, wanted) })
}

// Granted are the rules that a bridge's user gets: what is needed, and until every pod runs what needs no more, what it
// had before. So a route that goes never meets a refusal that would drop its last messages.
func Granted(u *BridgeUser, needed []v1alpha1.ACLRule, isSettled bool) []v1alpha1.ACLRule {
	if isSettled || u.User == nil {
		return needed
	}
	rules := slices.Clone(needed)
	for _, rule := range u.User.Spec.ACL {
		if !holdsRule(needed, rule) && len(rules) < maxRules {
			rules = append(rules, rule)
		}
	}
	return rules
}

// maxRules is what the schema allows.
const maxRules = 256

func localRules(cfg *contract.Bridge) []v1alpha1.ACLRule { return asRules(contract.BridgeRules(cfg)) }

// remoteRules are those of the other end: the routes as seen from there, without the topic by which replicas agree, who
// do that at the local end.
func remoteRules(cfg *contract.Bridge) []v1alpha1.ACLRule {
	mirrored := &contract.Bridge{Local: cfg.Remote, Remote: cfg.Local}
	for _, route := range cfg.Routes {
		route.LocalPrefix, route.RemotePrefix = route.RemotePrefix, route.LocalPrefix
		switch route.Direction {
		case contract.In:
			route.Direction = contract.Out
		case contract.Out:
			route.Direction = contract.In
		case contract.Both:
		}
		mirrored.Routes = append(mirrored.Routes, route)
	}
	rules := slices.DeleteFunc(contract.BridgeRules(mirrored), func(rule acl.Rule) bool { return rule.Filter == mirrored.LockTopic() })
	return asRules(rules)
}

// asRules are rules in the words of the API.
func asRules(rules []acl.Rule) []v1alpha1.ACLRule {
	result := make([]v1alpha1.ACLRule, 0, len(rules))
	for _, rule := range rules {
		wish := v1alpha1.ACLRule{Effect: v1alpha1.ACLEffect(rule.Effect), Filter: v1alpha1.TopicFilter(rule.Filter), Retain: rule.Retain}
		for _, action := range rule.Actions {
			wish.Actions = append(wish.Actions, v1alpha1.ACLAction(action))
		}
		if rule.MaxQoS != nil {
			wish.MaxQoS = new(int32(*rule.MaxQoS))
		}
		result = append(result, wish)
	}
	return result
}

// PodTrouble says what a pod that is not ready is waiting for. Messages of the kubelet vary from look to look, so only
// its reasons are repeated.
func PodTrouble(pod *corev1.Pod) string {
	reason := "is starting"
	for _, c := range pod.Status.Conditions {
		if c.Type == corev1.PodScheduled && c.Status == corev1.ConditionFalse {
			reason = "waits for a node (" + c.Reason + ")"
		}
	}
	for _, c := range pod.Status.ContainerStatuses {
		switch {
		case c.State.Waiting != nil && c.State.Waiting.Reason != "":
			reason = "waits (" + c.State.Waiting.Reason + ")"
		case c.State.Terminated != nil:
			reason = "has ended (" + c.State.Terminated.Reason + ")"
		}
	}
	if pod.DeletionTimestamp != nil {
		reason = "is ending"
	}
	return fmt.Sprintf("Pod %s %s; kubectl -n %s describe pod %s tells more.", pod.Name, reason, pod.Namespace, pod.Name)
}
