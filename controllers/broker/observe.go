// SPDX-License-Identifier: Apache-2.0

package mqttbroker

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
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

// +kubebuilder:rbac:groups="",resources=pods,verbs=get;list;watch
// +kubebuilder:rbac:groups="",resources=secrets;serviceaccounts,verbs=create;get;list;patch;watch
// +kubebuilder:rbac:groups="",resources=services,verbs=create;delete;get;list;patch;watch
// +kubebuilder:rbac:groups=apps,resources=statefulsets,verbs=create;get;list;patch;watch
// +kubebuilder:rbac:groups=events.k8s.io,resources=events,verbs=create;patch
// +kubebuilder:rbac:groups=mqtt-operator.io,resources=mqttaccesspolicies;mqttbrokers;mqttusers,verbs=get;list;watch
// +kubebuilder:rbac:groups=mqtt-operator.io,resources=mqttbrokers/finalizers;mqttusers/finalizers,verbs=update
// +kubebuilder:rbac:groups=mqtt-operator.io,resources=mqttbrokers/status;mqttusers/status,verbs=patch

// observe reads everything and decides nothing.
func (r *Reconciler) observe(ctx context.Context, p *pass) error {
	for _, read := range []func(context.Context, *verdict.Facts) error{
		r.observeSecrets, r.observeReferenced, r.observeUsers, r.observePolicies, r.observeStatefulSet, r.observeServices, r.observePods,
	} {
		if err := read(ctx, p.facts); err != nil {
			return err
		}
	}
	return nil
}

// observeSecrets reads the broker's own Secrets, each by its name: a list would walk over those of every user.
func (r *Reconciler) observeSecrets(ctx context.Context, f *verdict.Facts) error {
	name := f.Broker.Name
	for child, place := range map[string]**corev1.Secret{
		v1alpha1.CASecretName(name):       &f.CA,
		v1alpha1.TLSSecretName(name):      &f.TLS,
		v1alpha1.AdminCASecretName(name):  &f.AdminCA,
		v1alpha1.AdminTLSSecretName(name): &f.AdminTLS,
	} {
		secret, err := r.ownSecret(ctx, r.Client, f, child)
		if secret == nil && err == nil && f.Broker.Status.CA != nil {
			// It was there once. Perhaps only its label is gone, and with it its place in the cache: look past the
			// cache before drawing new keys.
			secret, err = r.ownSecret(ctx, r.Live, f, child)
		}
		if err != nil {
			return err
		}
		*place = secret
	}
	children := []string{v1alpha1.ConfigSecretName(name)}
	for shard := range contract.MaxShards {
		children = append(children, v1alpha1.UsersSecretName(name, shard))
	}
	for _, child := range children {
		secret, err := r.ownSecret(ctx, r.Client, f, child)
		if err != nil {
			return err
		}
		if secret != nil {
			f.ConfigSecrets = append(f.ConfigSecrets, *secret)
		}
	}
	return nil
}

// ownSecret is a Secret that the broker controls, or nil.
func (r *Reconciler) ownSecret(ctx context.Context, from client.Reader, f *verdict.Facts, name string) (*corev1.Secret, error) {
	secret := &corev1.Secret{}
	err := from.Get(ctx, client.ObjectKey{Namespace: f.Broker.Namespace, Name: name}, secret)
	switch {
	case client.IgnoreNotFound(err) != nil:
		return nil, fmt.Errorf("secret %s: %w", name, err)
	case err == nil && metav1.IsControlledBy(secret, f.Broker):
		return secret, nil
	default:
		return nil, nil
	}
}

// observeReferenced reads the Secrets that listeners name. The cache holds labelled ones only, and of those a
// reference opens only what people labelled for it: never the operator's own.
func (r *Reconciler) observeReferenced(ctx context.Context, f *verdict.Facts) error {
	f.Referenced = map[string]*corev1.Secret{}
	for _, l := range f.Spec.Listeners {
		if !l.Encrypted() || l.TLS.SelfManaged() {
			continue
		}
		secret := &corev1.Secret{}
		key := client.ObjectKey{Namespace: f.Broker.Namespace, Name: l.TLS.SecretName}
		if err := r.Client.Get(ctx, key, secret); client.IgnoreNotFound(err) != nil {
			return fmt.Errorf("secret %s: %w", key.Name, err)
		} else if err == nil && secret.Labels[v1alpha1.LabelAllow] == v1alpha1.AllowReference {
			f.Referenced[key.Name] = secret
		}
	}
	return nil
}

func (r *Reconciler) observeStatefulSet(ctx context.Context, f *verdict.Facts) error {
	set := &appsv1.StatefulSet{}
	key := client.ObjectKey{Namespace: f.Broker.Namespace, Name: v1alpha1.StatefulSetName(f.Broker.Name)}
	err := r.Client.Get(ctx, key, set)
	if client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("statefulset %s: %w", key.Name, err)
	}
	if err == nil && metav1.IsControlledBy(set, f.Broker) {
		f.StatefulSet = set
	}
	return nil
}

func (r *Reconciler) observeServices(ctx context.Context, f *verdict.Facts) error {
	list := &corev1.ServiceList{}
	if err := r.list(ctx, f, list, v1alpha1.BrokerLabels(f.Broker.Name)); err != nil {
		return err
	}
	f.Services = list.Items
	return nil
}

// observePods reads the pods that belong to the StatefulSet and asks each what it runs.
func (r *Reconciler) observePods(ctx context.Context, f *verdict.Facts) error {
	list := &corev1.PodList{}
	if err := r.list(ctx, f, list, v1alpha1.BrokerSelector(f.Broker.Name)); err != nil {
		return err
	}
	for i := range list.Items {
		if f.StatefulSet != nil && metav1.IsControlledBy(&list.Items[i], f.StatefulSet) {
			f.Pods = append(f.Pods, verdict.PodFacts{Pod: list.Items[i]})
		}
	}
	r.eachPod(ctx, f, func(ctx context.Context, pod *verdict.PodFacts, c *admin.Client) {
		status, err := c.Status(ctx)
		note(pod, status, err)
	})
	return nil
}

// eachPod talks to every pod that has an address, to all at the same time.
func (r *Reconciler) eachPod(ctx context.Context, f *verdict.Facts, talk func(context.Context, *verdict.PodFacts, *admin.Client)) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	trust, err := adminTLS(f)
	var all sync.WaitGroup
	for i := range f.Pods {
		pod := &f.Pods[i]
		switch {
		case err != nil:
			pod.Problem = err
		case pod.Pod.Status.PodIP == "":
			pod.Problem = errors.New("the pod has no address yet")
		default:
			all.Go(func() { talk(ctx, pod, admin.NewClient(r.AdminAddress(&pod.Pod), trust.Clone())) })
		}
	}
	all.Wait()
}

// adminTLS is the operator's end of the admin connection.
func adminTLS(f *verdict.Facts) (*tls.Config, error) {
	if f.AdminCA == nil {
		return nil, errors.New("the operator has no certificate for the admin endpoint yet")
	}
	pair, err := tls.X509KeyPair(f.AdminCA.Data[desired.ClientCertKey], f.AdminCA.Data[desired.ClientKeyKey])
	if err != nil {
		return nil, fmt.Errorf("secret %s: %w", f.AdminCA.Name, err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(f.AdminCA.Data[desired.CACertKey])
	return &tls.Config{
		MinVersion:   tls.VersionTLS13,
		ServerName:   desired.AdminServerName(f.Broker.Namespace, f.Broker.Name),
		Certificates: []tls.Certificate{pair},
		RootCAs:      roots,
	}, nil
}

// note writes down what a pod said, or why it said nothing. What goes into status must not vary between equal passes,
// and the text of a network error holds ephemeral ports, so only its kind is kept.
func note(pod *verdict.PodFacts, status admin.Status, err error) {
	pod.Problem = err
	if err == nil || status.Digest != "" {
		pod.Answer = &verdict.Answer{
			Revision: status.Revision, Digest: status.Digest,
			Connections: int32(status.Connections), Sessions: int32(status.Sessions), //nolint:gosec // Bounded by file descriptors.
		}
	}
}

func (r *Reconciler) list(ctx context.Context, f *verdict.Facts, list client.ObjectList, labels map[string]string) error {
	if err := r.Client.List(ctx, list, client.InNamespace(f.Broker.Namespace), client.MatchingLabels(labels)); err != nil {
		kind, _, _ := strings.Cut(strings.TrimPrefix(fmt.Sprintf("%T", list), "*v1."), "List")
		return fmt.Errorf("%s: %w", kind, err)
	}
	return nil
}
