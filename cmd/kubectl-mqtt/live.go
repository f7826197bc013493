// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/go-logr/logr"
	"github.com/spf13/cobra"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	_ "k8s.io/client-go/plugin/pkg/client/auth" // the ways to log in that a kubeconfig may name
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/mqtt-operator/mqtt-operator/api/v1alpha1"
	"github.com/mqtt-operator/mqtt-operator/broker-image/acl"
	"github.com/mqtt-operator/mqtt-operator/broker-image/contract"
	"github.com/mqtt-operator/mqtt-operator/controllers/verdict"
)

// connection says which cluster is asked, and where in it. The flags are those of kubectl, but for --as: that names a
// user of a broker here.
type connection struct{ kubeconfig, context, namespace, broker string }

func (f *connection) flags(c *cobra.Command) {
	f.clusterFlags(c)
	c.Flags().StringVar(&f.broker, "broker", "", "name of the MQTTBroker; may be left out where the namespace holds one alone")
}

// clusterFlags are those of a verb that is about no broker.
func (f *connection) clusterFlags(c *cobra.Command) {
	c.Flags().StringVar(&f.kubeconfig, "kubeconfig", "", "kubeconfig file; empty: as kubectl finds it")
	c.Flags().StringVar(&f.context, "context", "", "context of the kubeconfig; empty: the current one")
	c.Flags().StringVarP(&f.namespace, "namespace", "n", "", "namespace of the broker; empty: that of the context")
}

// opener gives a way to a cluster, and the namespace that is meant.
type opener func(connection) (*site, string, error)

// site is a cluster as the person who calls may use it.
type site struct {
	client.Client

	// dial connects to a port of a pod, through the API server.
	dial func(ctx context.Context, pod client.ObjectKey, port int) (net.Conn, error)
	// logs reads the end of what a container of a pod wrote; with previous, before it was restarted last.
	logs func(ctx context.Context, pod client.ObjectKey, container string, previous bool) ([]byte, error)
	now  func() time.Time
}

// cluster is the opener of the program.
func cluster(f connection) (*site, string, error) {
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	rules.ExplicitPath = f.kubeconfig
	overrides := &clientcmd.ConfigOverrides{CurrentContext: f.context}
	overrides.Context.Namespace = f.namespace
	loaded := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, overrides)
	namespace, _, err := loaded.Namespace()
	if err != nil {
		return nil, "", fmt.Errorf("kubeconfig: %w", err)
	}
	config, err := loaded.ClientConfig()
	if err != nil {
		return nil, "", fmt.Errorf("kubeconfig: %w", err)
	}
	config.UserAgent = "kubectl-mqtt/" + version
	log.SetLogger(logr.Discard()) // what the libraries would log is in the errors
	at, err := siteOf(config)
	if err != nil {
		return nil, "", err
	}
	return at, namespace, nil
}

// siteOf is the cluster of a configuration.
func siteOf(config *rest.Config) (*site, error) {
	scheme := runtime.NewScheme()
	if err := errors.Join(corev1.AddToScheme(scheme), appsv1.AddToScheme(scheme), v1alpha1.AddToScheme(scheme)); err != nil {
		return nil, fmt.Errorf("scheme: %w", err)
	}
	reader, err := client.New(config, client.Options{Scheme: scheme})
	if err != nil {
		return nil, fmt.Errorf("cluster: %w", err)
	}
	pods, err := newPodReach(config, scheme)
	if err != nil {
		return nil, fmt.Errorf("cluster: %w", err)
	}
	return &site{Client: reader, dial: pods.dial, logs: pods.logs, now: time.Now}, nil
}

// Where a configuration was read.
const (
	fromSecrets = "rendered" // the Secrets that the operator has written and that the broker reads
	fromObjects = "objects"  // computed from the objects, because the Secrets may not be read
)

// configInfo says what an answer was computed from, with -o json. Fields are added, never changed.
type configInfo struct {
	// Broker is namespace/name.
	Broker string `json:"broker"`
	// Source is "rendered" or "objects".
	Source string `json:"source"`
	// Revision of the configuration; 0 where the source is objects.
	Revision int64 `json:"revision,omitempty"`
	// Applied says whether every pod has answered this revision.
	Applied bool `json:"applied"`
	// Pods are the broker's pods with the revisions that they have answered.
	Pods []podInfo `json:"pods,omitempty"`
}

type podInfo struct {
	Name     string `json:"name"`
	Revision int64  `json:"revision,omitempty"`
}

// live is a broker with the configuration that it runs, or is about to.
type live struct {
	info   configInfo
	broker *v1alpha1.MQTTBroker
	config *contract.Config
	// objects are the users' objects by username, as far as the caller may list them.
	objects map[string]*v1alpha1.MQTTUser
	// byName are the same, and those that lost their username to another, by the name of the object.
	byName map[string]*v1alpha1.MQTTUser
}

// attempts is how often a configuration is read that changes meanwhile.
const attempts = 5

// observe reads everything that a question may need.
func observe(ctx context.Context, open opener, f connection) (*live, error) {
	reader, namespace, err := open(f)
	if err != nil {
		return nil, &exit{exitUnknown, err}
	}
	broker, err := findBroker(ctx, reader, namespace, f.broker)
	if err != nil {
		return nil, err
	}
	l := &live{broker: broker, info: configInfo{Broker: broker.Namespace + "/" + broker.Name, Source: fromSecrets}}
	users, listErr := l.listUsers(ctx, reader)
	err = fmt.Errorf("broker %s: %w", l.info.Broker, contract.ErrInconsistent)
	for n := 0; n < attempts && errors.Is(err, contract.ErrInconsistent); n++ {
		l.config, err = readSecrets(ctx, reader, broker)
	}
	switch {
	case err == nil:
		l.info.Revision = l.config.Revision
		l.pods()
		return l, nil
	case apierrors.IsForbidden(err):
		if listErr != nil {
			return nil, &exit{exitUnknown, fmt.Errorf("you may read neither the configuration of broker %s nor its users: %w", l.info.Broker, errors.Join(err, listErr))}
		}
		l.info.Source = fromObjects
		l.config, err = computed(ctx, reader, broker, users)
	case apierrors.IsNotFound(err):
		err = fmt.Errorf("broker %s has no configuration yet: see kubectl -n %s describe mqttbroker %s", l.info.Broker, broker.Namespace, broker.Name)
	case errors.Is(err, contract.ErrInconsistent):
		err = fmt.Errorf("the configuration of broker %s is being changed: ask again", l.info.Broker)
	}
	if err != nil {
		return nil, &exit{exitUnknown, err}
	}
	return l, nil
}

func findBroker(ctx context.Context, reader client.Reader, namespace, name string) (*v1alpha1.MQTTBroker, error) {
	if name != "" {
		broker := &v1alpha1.MQTTBroker{}
		if err := reader.Get(ctx, client.ObjectKey{Namespace: namespace, Name: name}, broker); err != nil {
			return nil, &exit{exitUnknown, explained(err)}
		}
		return broker, nil
	}
	list := &v1alpha1.MQTTBrokerList{}
	if err := reader.List(ctx, list, client.InNamespace(namespace)); err != nil {
		return nil, &exit{exitUnknown, explained(err)}
	}
	switch len(list.Items) {
	case 0:
		return nil, usage("namespace %s holds no MQTTBroker: name the right one with -n", namespace)
	case 1:
		return &list.Items[0], nil
	}
	names := make([]string, len(list.Items))
	for i := range list.Items {
		names[i] = list.Items[i].Name
	}
	return nil, usage("namespace %s holds more than one MQTTBroker: say --broker and one of %s", namespace, strings.Join(names, ", "))
}

// explained says what to do about a cluster that does not know our kinds.
func explained(err error) error {
	if meta.IsNoMatchError(err) {
		return errors.New("the cluster knows no MQTTBroker: is the mqtt-operator installed, and is this the right context?")
	}
	return err
}

// listUsers keeps the users of the broker, and gives them.
func (l *live) listUsers(ctx context.Context, reader client.Reader) ([]*v1alpha1.MQTTUser, error) {
	list := &v1alpha1.MQTTUserList{}
	if err := reader.List(ctx, list, client.InNamespace(l.broker.Namespace)); err != nil {
		return nil, err
	}
	var users []*v1alpha1.MQTTUser
	l.byName = map[string]*v1alpha1.MQTTUser{}
	for i := range list.Items {
		if user := &list.Items[i]; user.Spec.BrokerRef.Name == l.broker.Name {
			users = append(users, user)
			l.byName[user.Name] = user
		}
	}
	l.objects = verdict.Winners(users)
	return users, nil
}

// readSecrets is the configuration as the broker's pods mount it.
func readSecrets(ctx context.Context, reader client.Reader, broker *v1alpha1.MQTTBroker) (*contract.Config, error) {
	bundle := contract.Bundle{}
	read := func(name string) error {
		secret := &corev1.Secret{}
		if err := reader.Get(ctx, client.ObjectKey{Namespace: broker.Namespace, Name: name}, secret); err != nil {
			return err
		}
		for file, content := range secret.Data {
			if contract.IsFile(file) {
				bundle[file] = content
			}
		}
		return nil
	}
	if err := read(v1alpha1.ConfigSecretName(broker.Name)); err != nil {
		return nil, err
	}
	parts, err := contract.Parts(bundle)
	if err != nil {
		return nil, fmt.Errorf("the configuration of broker %s/%s cannot be read; is this plugin (%s) older than the operator? %w", broker.Namespace, broker.Name, version, err)
	}
	for n := range contract.MaxShards {
		if _, found := parts[contract.UsersFile(n)]; !found {
			continue
		}
		err := read(v1alpha1.UsersSecretName(broker.Name, n))
		if apierrors.IsNotFound(err) {
			err = fmt.Errorf("%w: %s", contract.ErrInconsistent, contract.UsersFile(n))
		}
		if err != nil {
			return nil, err
		}
	}
	config, err := contract.Parse(bundle)
	if err != nil && !errors.Is(err, contract.ErrInconsistent) {
		err = fmt.Errorf("the configuration of broker %s/%s cannot be read; is this plugin (%s) older than the operator? %w", broker.Namespace, broker.Name, version, err)
	}
	return config, err
}

// computed is what the operator would render from the objects, as far as access goes.
func computed(ctx context.Context, reader client.Reader, broker *v1alpha1.MQTTBroker, users []*v1alpha1.MQTTUser) (*contract.Config, error) {
	policies, err := policiesOf(ctx, reader, broker, users)
	if err != nil {
		return nil, err
	}
	binding := verdict.NewPolicies(policies)
	resolved := broker.Resolved()
	config := &contract.Config{Broker: contract.Broker{
		Name: broker.Namespace + "/" + broker.Name, Limits: contract.Limits{MaxTopicLevels: int(resolved.Limits.MaxTopicLevels)},
	}}
	for i := range resolved.Listeners {
		listener := contract.Listener{Name: resolved.Listeners[i].Name}
		if anonymous := resolved.Listeners[i].Anonymous; anonymous.Enabled {
			listener.Anonymous = &contract.Anonymous{ACL: verdict.Rules(anonymous.Rules)}
		}
		config.Listeners = append(config.Listeners, listener)
	}
	config.Policies = map[string][]acl.Rule{}
	for _, policy := range policies {
		config.Policies[verdict.PolicyKey(policy)] = verdict.Rules(policy.Resolved().Rules)
	}
	winners := verdict.Winners(users)
	for _, user := range users {
		if winners[user.Username()] != user {
			continue
		}
		names, problem := binding.Of(user)
		if problem != nil { // it keeps the rules that it had
			return nil, fmt.Errorf("which rules hold for MQTTUser %s, only the rendered configuration says: ask somebody who may read Secret %s. %s",
				user.Name, v1alpha1.ConfigSecretName(broker.Name), problem.Message)
		}
		entry := verdict.Entry(user, verdict.Credentials{}, names, time.Now())
		if verdict.EntryProblem(entry) != nil {
			continue
		}
		config.Users = append(config.Users, *entry)
	}
	slices.SortFunc(config.Users, func(a, b contract.User) int { return strings.Compare(a.Username, b.Username) })
	return config, nil
}

// policiesOf are the policies of every namespace that holds a user of the broker.
func policiesOf(ctx context.Context, reader client.Reader, broker *v1alpha1.MQTTBroker, users []*v1alpha1.MQTTUser) ([]*v1alpha1.MQTTAccessPolicy, error) {
	namespaces := map[string]bool{broker.Namespace: true}
	for _, user := range users {
		namespaces[user.Namespace] = true
	}
	var policies []*v1alpha1.MQTTAccessPolicy
	for _, namespace := range slices.Sorted(maps.Keys(namespaces)) {
		list := &v1alpha1.MQTTAccessPolicyList{}
		if err := reader.List(ctx, list, client.InNamespace(namespace)); err != nil {
			return nil, fmt.Errorf("you may not see the access policies of namespace %s, and only the rendered configuration says whom they bind: ask somebody who may read Secret %s: %w",
				namespace, v1alpha1.ConfigSecretName(broker.Name), err)
		}
		for i := range list.Items {
			policies = append(policies, &list.Items[i])
		}
	}
	return policies, nil
}

// pods notes which pod runs what.
func (l *live) pods() {
	l.info.Applied = true
	for i := range l.broker.Status.Pods {
		pod := podInfo{Name: l.broker.Status.Pods[i].Name}
		if revision := l.broker.Status.Pods[i].ConfigRevision; revision != nil {
			pod.Revision = *revision
		}
		l.info.Applied = l.info.Applied && pod.Revision == l.info.Revision
		l.info.Pods = append(l.info.Pods, pod)
	}
	l.info.Applied = l.info.Applied && len(l.info.Pods) > 0
}

// note says in one line what an answer rests on.
func (l *live) note() string {
	if l.info.Source == fromObjects {
		return fmt.Sprintf("from the objects, not from what broker %s runs: you may not read Secret %s", l.info.Broker, v1alpha1.ConfigSecretName(l.broker.Name))
	}
	text := fmt.Sprintf("revision %d of broker %s", l.info.Revision, l.info.Broker)
	switch {
	case len(l.info.Pods) == 0:
		return text + ", which has no pods"
	case l.info.Applied:
		return text + ", which all of its pods run"
	}
	var behind []string
	for _, pod := range l.info.Pods {
		switch pod.Revision {
		case l.info.Revision:
		case 0:
			behind = append(behind, pod.Name+" has not answered yet")
		default:
			behind = append(behind, fmt.Sprintf("%s answered %d last", pod.Name, pod.Revision))
		}
	}
	return text + ", which not every pod is known to run: " + strings.Join(behind, ", ")
}
