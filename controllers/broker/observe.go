// SPDX-License-Identifier: Apache-2.0

package mqttbroker

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/mqtt-operator/mqtt-operator/api/v1alpha1"
	"github.com/mqtt-operator/mqtt-operator/broker-image/admin"
	"github.com/mqtt-operator/mqtt-operator/broker-image/contract"
	"github.com/mqtt-operator/mqtt-operator/controllers/desired"
	"github.com/mqtt-operator/mqtt-operator/controllers/pki"
	"github.com/mqtt-operator/mqtt-operator/controllers/verdict"
)

// askTimeout bounds how long one pod may take to answer; the others are asked at the same time.
const askTimeout = 2 * time.Second

// +kubebuilder:rbac:groups="",resources=configmaps,verbs=create;delete;get;list;patch;watch
// +kubebuilder:rbac:groups="",resources=persistentvolumeclaims,verbs=get;list;patch;watch
// +kubebuilder:rbac:groups="",resources=pods,verbs=get;list;watch
// +kubebuilder:rbac:groups="",resources=secrets;serviceaccounts,verbs=create;get;list;patch;watch
// +kubebuilder:rbac:groups="",resources=services,verbs=create;delete;get;list;patch;watch
// +kubebuilder:rbac:groups=apps,resources=controllerrevisions,verbs=get
// +kubebuilder:rbac:groups=apps,resources=statefulsets,verbs=create;delete;get;list;patch;watch
// +kubebuilder:rbac:groups=cert-manager.io,resources=certificates,verbs=create;delete;get;patch
// +kubebuilder:rbac:groups=events.k8s.io,resources=events,verbs=create;patch
// +kubebuilder:rbac:groups=monitoring.coreos.com,resources=podmonitors;prometheusrules,verbs=create;delete;get;patch
// +kubebuilder:rbac:groups=mqtt-operator.io,resources=mqttaccesspolicies;mqttbrokers;mqttusers,verbs=get;list;watch
// +kubebuilder:rbac:groups=mqtt-operator.io,resources=mqttbrokers/finalizers;mqttusers/finalizers,verbs=update
// +kubebuilder:rbac:groups=mqtt-operator.io,resources=mqttbrokers/status;mqttusers/status,verbs=patch
// +kubebuilder:rbac:groups=networking.k8s.io,resources=networkpolicies,verbs=create;delete;get;list;patch;watch
// +kubebuilder:rbac:groups=policy,resources=poddisruptionbudgets,verbs=create;delete;get;list;patch;watch

// observe reads everything and decides nothing.
func (r *Reconciler) observe(ctx context.Context, p *pass) error {
	// A pass over a broker from before our own last word about it could not write its status, and one over ten thousand
	// users is too dear for that.
	if err := r.Writer.Seen(p.facts.Broker); err != nil {
		return err
	}
	for _, read := range []func(context.Context, *verdict.Facts) error{
		r.observeSecrets, r.observeReferenced, r.observeCertManager, r.observeCluster, r.observeUsers, r.observePolicies, r.observeOutdated,
		r.observeStatefulSet, r.observeServiceAccount, r.observeClaims, r.observeServices, r.observePods, r.observePrevious,
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
		v1alpha1.ClientCASecretName(name): &f.ClientCA,
		v1alpha1.TLSSecretName(name):      &f.TLS,
		v1alpha1.AdminCASecretName(name):  &f.AdminCA,
		v1alpha1.AdminTLSSecretName(name): &f.AdminTLS,
	} {
		secret, err := r.ownSecret(ctx, r.Client, f, child)
		isOptional := place == &f.ClientCA && f.Broker.Status.ClientCA == nil
		if secret == nil && err == nil && f.Broker.Status.CA != nil && !isOptional {
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

// observeReferenced reads the Secrets and ConfigMaps that the spec names. The cache holds labelled ones only, and of
// those a reference opens only what people labelled for it: never the operator's own.
func (r *Reconciler) observeReferenced(ctx context.Context, f *verdict.Facts) error {
	f.Referenced, f.ConfigMaps = map[string]*corev1.Secret{}, map[string]*corev1.ConfigMap{}
	for _, name := range f.Spec.ReferencedSecrets() {
		secret := &corev1.Secret{}
		if allowed, err := r.referenced(ctx, f, name, secret); err != nil {
			return fmt.Errorf("secret %s: %w", name, err)
		} else if allowed {
			f.Referenced[name] = secret
		}
	}
	for _, name := range f.Spec.ReferencedConfigMaps() {
		configMap := &corev1.ConfigMap{}
		if allowed, err := r.referenced(ctx, f, name, configMap); err != nil {
			return fmt.Errorf("configmap %s: %w", name, err)
		} else if allowed {
			f.ConfigMaps[name] = configMap
		}
	}
	return nil
}

// referenced reads an object and reports whether a reference opens it.
func (r *Reconciler) referenced(ctx context.Context, f *verdict.Facts, name string, object client.Object) (bool, error) {
	err := r.Client.Get(ctx, client.ObjectKey{Namespace: f.Broker.Namespace, Name: name}, object)
	return err == nil && object.GetLabels()[v1alpha1.LabelAllow] == v1alpha1.AllowReference, client.IgnoreNotFound(err)
}

// observeCertManager asks whether there is a cert-manager. Its kind may come and go while the operator runs.
func (r *Reconciler) observeCertManager(_ context.Context, f *verdict.Facts) error {
	if len(desired.Certificates(f)) == 0 {
		return nil
	}
	kind := desired.CertificateKind()
	_, err := r.Client.RESTMapper().RESTMapping(kind.GroupKind(), kind.Version)
	f.NoCertManager = meta.IsNoMatchError(err)
	if err != nil && !f.NoCertManager {
		return fmt.Errorf("kind %s: %w", kind.Kind, err)
	}
	return nil
}

// observeCluster reads who signs the tokens of ServiceAccounts, where the spec wants to know.
func (r *Reconciler) observeCluster(ctx context.Context, f *verdict.Facts) error {
	if len(f.Spec.Tokens.ServiceAccounts) > 0 {
		f.Cluster = r.Cluster.Keys(ctx)
	}
	return nil
}

// observeOutdated counts the users whose client certificate hangs on a client CA that is to go. It looks only while one
// is.
func (r *Reconciler) observeOutdated(ctx context.Context, f *verdict.Facts) error {
	if f.ClientCA == nil {
		return nil
	}
	ca := pki.ReadCA(f.ClientCA.Data)
	if ca.Phase != v1alpha1.CASwitching {
		return nil
	}
	for i := range f.Users {
		user := f.Users[i].User
		if user.Spec.Authentication.Certificate == nil {
			continue
		}
		binding := &corev1.Secret{}
		key := client.ObjectKey{Namespace: user.Namespace, Name: v1alpha1.BindingSecretName(user.Name)}
		if err := r.Client.Get(ctx, key, binding); client.IgnoreNotFound(err) != nil {
			return fmt.Errorf("secret %s: %w", key.Name, err)
		} else if err == nil && metav1.IsControlledBy(binding, user) && pki.IsIssuedBy(binding.Data[v1alpha1.BindingCert], ca.Old) &&
			!pki.IsOver(binding.Data[v1alpha1.BindingCert], f.Now) {
			f.Outdated++
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

func (r *Reconciler) observeServiceAccount(ctx context.Context, f *verdict.Facts) error {
	account := &corev1.ServiceAccount{}
	key := client.ObjectKey{Namespace: f.Broker.Namespace, Name: v1alpha1.ServiceAccountName(f.Broker.Name)}
	err := r.Client.Get(ctx, key, account)
	if client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("serviceaccount %s: %w", key.Name, err)
	}
	if err == nil && metav1.IsControlledBy(account, f.Broker) {
		f.ServiceAccount = account
	}
	return nil
}

// observeClaims reads the claims of the broker's volumes. Where they have to grow, those of its pods are looked for past
// the cache, too: who restored a volume by hand has perhaps made its claim without our labels.
func (r *Reconciler) observeClaims(ctx context.Context, f *verdict.Facts) error {
	if f.Spec.Persistence == nil {
		return nil
	}
	list := &corev1.PersistentVolumeClaimList{}
	if err := r.list(ctx, f, list, v1alpha1.BrokerSelector(f.Broker.Name)); err != nil {
		return err
	}
	found := map[string]corev1.PersistentVolumeClaim{}
	for i := range list.Items {
		found[list.Items[i].Name] = list.Items[i]
	}
	for ordinal := range f.Spec.Replicas {
		name, claim := v1alpha1.VolumeClaimName(f.Broker.Name, int(ordinal)), &corev1.PersistentVolumeClaim{}
		if _, known := found[name]; known || !f.IsOutgrown() {
			continue
		}
		switch err := r.Live.Get(ctx, client.ObjectKey{Namespace: f.Broker.Namespace, Name: name}, claim); {
		case client.IgnoreNotFound(err) != nil:
			return fmt.Errorf("persistentvolumeclaim %s: %w", name, err)
		case err == nil:
			found[name] = *claim
		}
	}
	for _, name := range slices.Sorted(maps.Keys(found)) {
		f.Claims = append(f.Claims, found[name])
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
		if isOurs(f, &list.Items[i]) {
			f.Pods = append(f.Pods, verdict.PodFacts{Pod: list.Items[i]})
		}
	}
	r.eachPod(ctx, f, func(ctx context.Context, pod *verdict.PodFacts, c *admin.Client) {
		status, err := c.Status(ctx)
		note(pod, status, err)
	})
	return nil
}

// observePrevious reads the pod template that the pods had before the one that is overdue: the controller of StatefulSets
// keeps it. It is asked for only then.
func (r *Reconciler) observePrevious(ctx context.Context, f *verdict.Facts) error {
	if !f.IsOverdue() {
		return nil
	}
	revision := &appsv1.ControllerRevision{}
	key := client.ObjectKey{Namespace: f.Broker.Namespace, Name: f.StatefulSet.Status.CurrentRevision}
	switch err := r.Live.Get(ctx, key, revision); {
	case apierrors.IsNotFound(err):
		return nil
	case err != nil:
		return fmt.Errorf("controllerrevision %s: %w", key.Name, err)
	case !metav1.IsControlledBy(revision, f.StatefulSet):
		return nil
	}
	patch := struct {
		Spec struct {
			Template *corev1.PodTemplateSpec `json:"template"`
		} `json:"spec"`
	}{}
	if err := json.Unmarshal(revision.Data.Raw, &patch); err != nil {
		return fmt.Errorf("controllerrevision %s: %w", key.Name, err)
	}
	f.Previous = patch.Spec.Template
	return nil
}

// isOurs reports whether a pod belongs to the StatefulSet, or to nobody while it bears the name of one that does: such are
// the pods whose StatefulSet is being made anew.
func isOurs(f *verdict.Facts, pod *corev1.Pod) bool {
	if owner := metav1.GetControllerOf(pod); owner != nil {
		return f.StatefulSet != nil && owner.UID == f.StatefulSet.UID
	}
	ordinal, found := strings.CutPrefix(pod.Name, v1alpha1.StatefulSetName(f.Broker.Name)+"-")
	_, err := strconv.ParseUint(ordinal, 10, 8)
	return found && err == nil
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
			Storage: status.Storage, Draining: status.Draining,
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
