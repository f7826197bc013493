// SPDX-License-Identifier: Apache-2.0

package mqttbridge

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/mqtt-operator/mqtt-operator/api/v1alpha1"
	"github.com/mqtt-operator/mqtt-operator/broker-image/admin"
	"github.com/mqtt-operator/mqtt-operator/broker-image/contract"
	"github.com/mqtt-operator/mqtt-operator/controllers/desired"
	"github.com/mqtt-operator/mqtt-operator/controllers/verdict"
)

// askTimeout bounds how long one pod may take to answer; the others are asked at the same time.
const askTimeout = 2 * time.Second

// IndexSecret finds the bridges that name a Secret.
const IndexSecret = "spec.remote.secrets"

// +kubebuilder:rbac:groups="",resources=configmaps,verbs=create;delete;get;list;patch;watch
// +kubebuilder:rbac:groups="",resources=pods,verbs=get;list;watch
// +kubebuilder:rbac:groups="",resources=secrets,verbs=create;get;list;patch;watch
// +kubebuilder:rbac:groups=apps,resources=deployments,verbs=create;get;list;patch;watch
// +kubebuilder:rbac:groups=events.k8s.io,resources=events,verbs=create;patch
// +kubebuilder:rbac:groups=monitoring.coreos.com,resources=podmonitors;prometheusrules,verbs=create;delete;get;patch
// +kubebuilder:rbac:groups=mqtt-operator.io,resources=mqttbridges,verbs=get;list;watch
// +kubebuilder:rbac:groups=mqtt-operator.io,resources=mqttbridges/finalizers,verbs=update
// +kubebuilder:rbac:groups=mqtt-operator.io,resources=mqttbridges/status,verbs=patch
// +kubebuilder:rbac:groups=mqtt-operator.io,resources=mqttbrokers,verbs=get;list;watch
// +kubebuilder:rbac:groups=mqtt-operator.io,resources=mqttusers,verbs=create;delete;get;list;patch;watch
// +kubebuilder:rbac:groups=networking.k8s.io,resources=networkpolicies,verbs=create;delete;get;list;patch;watch

// observe reads everything and decides nothing.
func (r *Reconciler) observe(ctx context.Context, p *pass) error {
	// A bridge from before our own last word about it would not remember the revision that was used.
	if err := r.Writer.Seen(p.facts.Bridge); err != nil {
		return err
	}
	for _, read := range []func(context.Context, *pass) error{
		r.observeReferenced, r.observeOwn, r.observeUsers, r.observePods, r.observeOthers,
	} {
		if err := read(ctx, p); err != nil {
			return err
		}
	}
	p.isObserved = true
	return nil
}

// observeReferenced reads the Secrets that the spec names. The cache holds labelled ones only, and of those a reference
// opens only what people labelled for it: never the operator's own.
func (r *Reconciler) observeReferenced(ctx context.Context, p *pass) error {
	f := p.facts
	f.Referenced = map[string]*corev1.Secret{}
	for _, name := range f.Spec.ReferencedSecrets() {
		secret := &corev1.Secret{}
		err := r.Client.Get(ctx, client.ObjectKey{Namespace: f.Bridge.Namespace, Name: name}, secret)
		if client.IgnoreNotFound(err) != nil {
			return fmt.Errorf("secret %s: %w", name, err)
		}
		if err == nil && secret.Labels[v1alpha1.LabelAllow] == v1alpha1.AllowReference {
			f.Referenced[name] = secret
		}
	}
	return nil
}

// observeOwn reads the objects that the bridge controls.
func (r *Reconciler) observeOwn(ctx context.Context, p *pass) error {
	f := p.facts
	name := f.Bridge.Name
	for child, place := range map[string]**corev1.Secret{
		v1alpha1.BridgeConfigSecretName(name): &f.Config,
		v1alpha1.BridgeAdminSecretName(name):  &f.Admin,
	} {
		secret, err := own(ctx, r.Client, f.Bridge, child, &corev1.Secret{})
		if secret == nil && err == nil && f.Bridge.Status.Revision != nil {
			// It was there once. Perhaps only its label is gone, and with it its place in the cache: look past the cache
			// before drawing new keys.
			secret, err = own(ctx, r.Live, f.Bridge, child, &corev1.Secret{})
		}
		if err != nil {
			return err
		}
		*place = secret
	}
	var err error
	f.Deployment, err = own(ctx, r.Client, f.Bridge, v1alpha1.BridgeDeploymentName(name), &appsv1.Deployment{})
	return err
}

// observeOthers looks at what the bridge is part of.
func (r *Reconciler) observeOthers(ctx context.Context, p *pass) (err error) {
	p.circle, err = r.circles.of(ctx, r.Client, client.ObjectKeyFromObject(p.facts.Bridge), p.facts.Now)
	return err
}

// own is an object that owner controls, or nil.
func own[T client.Object](ctx context.Context, from client.Reader, owner client.Object, name string, into T) (none T, _ error) {
	err := from.Get(ctx, client.ObjectKey{Namespace: owner.GetNamespace(), Name: name}, into)
	switch {
	case client.IgnoreNotFound(err) != nil:
		return none, fmt.Errorf("%T %s: %w", into, name, err)
	case err == nil && metav1.IsControlledBy(into, owner):
		return into, nil
	default:
		return none, nil
	}
}

// observeUsers reads the users by which the bridge connects, with the bindings that their own reconciler wrote.
func (r *Reconciler) observeUsers(ctx context.Context, p *pass) error {
	bridge := p.facts.Bridge
	for name, place := range map[string]*verdict.BridgeUser{
		v1alpha1.BridgeUserName(bridge.Name):       &p.facts.Local,
		v1alpha1.BridgeRemoteUserName(bridge.Name): &p.facts.Remote,
	} {
		user, err := own(ctx, r.Client, bridge, name, &v1alpha1.MQTTUser{})
		if err != nil {
			return err
		}
		if user == nil || user.DeletionTimestamp != nil {
			continue
		}
		place.User = user
		if place.Binding, err = own(ctx, r.Client, user, v1alpha1.BindingSecretName(name), &corev1.Secret{}); err != nil {
			return err
		}
		if place.Binding != nil { // so the broker has let the user in, and is no secret
			place.Queue = r.queueOf(ctx, user)
		}
	}
	return nil
}

// queueOf is how many messages the broker of a user keeps for a session, 0 where it cannot be read: it may be in a namespace
// that the operator does not look after any more.
func (r *Reconciler) queueOf(ctx context.Context, user *v1alpha1.MQTTUser) int32 {
	broker := &v1alpha1.MQTTBroker{}
	key := client.ObjectKey{Namespace: user.BrokerNamespace(), Name: user.Spec.BrokerRef.Name}
	if err := r.Client.Get(ctx, key, broker); err != nil {
		return 0
	}
	return broker.Resolved().Limits.MaxQueuedMessages
}

// observePods reads the pods of the bridge and asks each how it is doing. One that is ending has no say any more.
func (r *Reconciler) observePods(ctx context.Context, p *pass) error {
	bridge := p.facts.Bridge
	list := &corev1.PodList{}
	if err := r.Client.List(ctx, list, client.InNamespace(bridge.Namespace), client.MatchingLabels(v1alpha1.BridgeSelector(bridge.Name))); err != nil {
		return fmt.Errorf("pods: %w", err)
	}
	for i := range list.Items {
		if pod := &list.Items[i]; isOf(pod, bridge.Name) {
			p.pods = append(p.pods, podFacts{pod: *pod})
		}
	}
	slices.SortFunc(p.pods, func(a, b podFacts) int { return cmp.Compare(a.pod.Name, b.pod.Name) })
	r.eachPod(ctx, p, func(ctx context.Context, pod *podFacts, c *admin.BridgeClient) {
		status, err := c.Status(ctx)
		pod.note(status, err)
	})
	p.facts.Floor, p.facts.IsSettled = p.floor(), p.everyPodRuns(text(p.facts.Config))
	return nil
}

// isOf reports whether a pod is one of the bridge's that is meant to go on. It belongs to a ReplicaSet, which the operator
// has no right to read; its name begins with that of the Deployment. Who lies about that has no certificate of ours, and is
// not believed.
func isOf(pod *corev1.Pod, bridge string) bool {
	owner := metav1.GetControllerOf(pod)
	return owner != nil && owner.Kind == "ReplicaSet" && strings.HasPrefix(owner.Name, v1alpha1.BridgeDeploymentName(bridge)+"-") &&
		pod.DeletionTimestamp == nil && pod.Status.Phase != corev1.PodFailed && pod.Status.Phase != corev1.PodSucceeded
}

// eachPod talks to every pod that has an address, to all at the same time.
func (r *Reconciler) eachPod(ctx context.Context, p *pass, talk func(context.Context, *podFacts, *admin.BridgeClient)) {
	if len(p.pods) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	trust, err := adminTLS(p.facts)
	var all sync.WaitGroup
	for i := range p.pods {
		pod := &p.pods[i]
		switch {
		case err != nil:
			pod.problem = err
		case pod.pod.Status.PodIP == "":
			pod.problem = errors.New("the pod has no address yet")
		default:
			all.Go(func() { talk(ctx, pod, admin.NewBridgeClient(r.AdminAddress(&pod.pod), trust.Clone())) })
		}
	}
	all.Wait()
}

// adminTLS is the operator's end of the admin connection.
func adminTLS(f *verdict.BridgeFacts) (*tls.Config, error) {
	if f.Admin == nil {
		return nil, errors.New("the operator has no certificate for the admin endpoint yet")
	}
	pair, err := tls.X509KeyPair(f.Admin.Data[desired.ClientCertKey], f.Admin.Data[desired.ClientKeyKey])
	if err != nil {
		return nil, fmt.Errorf("secret %s: %w", f.Admin.Name, err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(f.Admin.Data[desired.CACertKey])
	return &tls.Config{
		MinVersion:   tls.VersionTLS13,
		ServerName:   desired.BridgeServerName(f.Bridge.Namespace, f.Bridge.Name),
		Certificates: []tls.Certificate{pair},
		RootCAs:      roots,
	}, nil
}

// note writes down what a pod said, or why it said nothing.
func (pod *podFacts) note(status admin.BridgeStatus, err error) {
	pod.problem = err
	if err == nil || status.Digest != "" {
		pod.answer = &status
	}
}

// runs reports whether the pod said that it runs this very configuration.
func (pod *podFacts) runs(text []byte) bool {
	return pod.answer != nil && len(text) > 0 && pod.answer.Digest == contract.DigestOf(text)
}

func (pod *podFacts) isReady() bool {
	for _, c := range pod.pod.Status.Conditions {
		if c.Type == corev1.PodReady {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}

// everyPodRuns reports whether each pod that is there runs this very configuration. Those to come begin with it.
func (p *pass) everyPodRuns(text []byte) bool {
	for i := range p.pods {
		if !p.pods[i].runs(text) {
			return false
		}
	}
	return true
}

// floor is the highest revision that is known to have been used for something else than what stands in the Secret, or
// for it.
func (p *pass) floor() int64 {
	var floor int64
	if revision := p.before.Revision; revision != nil && revision.Desired != nil {
		floor = *revision.Desired
	}
	stands := text(p.facts.Config)
	prior, _ := contract.BridgeRevision(stands)
	for i := range p.pods {
		answer := p.pods[i].answer
		if answer == nil {
			continue
		}
		floor = max(floor, answer.Revision)
		if answer.Revision == prior && prior > 0 && !p.pods[i].runs(stands) {
			floor = max(floor, prior+1) // the Secret came from a backup: one number, two configurations
		}
	}
	return floor
}

// text is the configuration that stands in the Secret.
func text(config *corev1.Secret) []byte {
	if config == nil {
		return nil
	}
	return config.Data[contract.BridgeFile]
}
