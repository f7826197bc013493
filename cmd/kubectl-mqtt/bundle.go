// SPDX-License-Identifier: Apache-2.0

package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/mqtt-operator/mqtt-operator/api/v1alpha1"
	"github.com/mqtt-operator/mqtt-operator/broker-image/contract"
)

// operatorNamespace is where the operator is installed unless somebody chose otherwise.
const operatorNamespace = "mqtt-operator-system"

func supportBundle(s streams, open opener) *cobra.Command {
	f, file, operators := connection{}, "", operatorNamespace
	c := &cobra.Command{
		Use:   "support-bundle",
		Short: "Gather what somebody needs who helps with a problem, without secrets",
		Long: "Gather objects and their status, events, logs, metrics and configuration of the brokers and bridges of a namespace, and\n" +
			"the logs of the operator, in a tar.gz. No value of a Secret is in it: of Secrets there are names, types and sizes, of\n" +
			"users in the configuration no hashes, of certificates no keys; and what is a secret in any Secret of the namespace that\n" +
			"you may read is looked for in every file and removed. Names of clients, users, topics, hosts and addresses are in it:\n" +
			"look through it before you send it.\n\n" +
			"What could not be read is listed in the file INDEX of the bundle; then the exit code is 3.",
		Example: "  kubectl mqtt support-bundle -n factory\n" +
			"  kubectl mqtt support-bundle -n factory -f - | tar tz",
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			at, namespace, err := open(f)
			if err != nil {
				return &exit{exitUnknown, err}
			}
			b := &bundle{site: at, namespace: namespace, taken: at.now()}
			b.gather(c.Context(), operators)
			if err := c.Context().Err(); err != nil {
				return &exit{exitUnknown, err}
			}
			if file == "" {
				file = fmt.Sprintf("mqtt-support-%s-%s.tar.gz", namespace, b.taken.UTC().Format("20060102T150405Z"))
			}
			if err := b.writeTo(s, file); err != nil {
				return &exit{exitUnknown, err}
			}
			if len(b.missing) > 0 {
				sayf(s.err, "note: %s could not be read; INDEX in the bundle says which and why", plural(len(b.missing), "thing"))
				return &exit{code: exitIncomplete}
			}
			return nil
		},
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	f.clusterFlags(c)
	c.Flags().Lookup("namespace").Usage = "namespace to gather; empty: that of the context"
	c.Flags().StringVarP(&file, "file", "f", "", "where to write; -: standard output; empty: a name with namespace and time, here")
	c.Flags().StringVar(&operators, "operator-namespace", operators, "where the operator runs; empty: leave it out")
	return c
}

// bundle is what has been gathered.
type bundle struct {
	*site

	namespace string
	taken     time.Time
	files     []bundleFile
	missing   []string // what could not be read, and why
	censor    *censor
}

type bundleFile struct {
	name    string
	content []byte
}

func (b *bundle) add(name string, content []byte) {
	b.files = append(b.files, bundleFile{name, content})
}

func (b *bundle) lacks(what string, err error) {
	b.missing = append(b.missing, fmt.Sprintf("%s: %v", what, err))
}

// gather reads all there is. What cannot be read is noted; the rest is as useful without it.
func (b *bundle) gather(ctx context.Context, operators string) {
	secrets := b.secrets(ctx)
	b.censor = newCensor(secrets)
	brokers, bridges := &v1alpha1.MQTTBrokerList{}, &v1alpha1.MQTTBridgeList{}
	for _, kind := range []struct {
		name string
		list client.ObjectList
	}{
		{"mqttbrokers", brokers},
		{"mqttusers", &v1alpha1.MQTTUserList{}},
		{"mqttaccesspolicies", &v1alpha1.MQTTAccessPolicyList{}},
		{"mqttbridges", bridges},
		{"statefulsets", &appsv1.StatefulSetList{}},
		{"deployments", &appsv1.DeploymentList{}},
		{"services", &corev1.ServiceList{}},
		{"persistentvolumeclaims", &corev1.PersistentVolumeClaimList{}},
		{"events", &corev1.EventList{}},
	} {
		b.objects(ctx, kind.name, kind.list)
	}
	b.status(ctx)
	for i := range brokers.Items {
		b.configuration(&brokers.Items[i], secrets)
	}
	b.pods(ctx, b.namespace, client.MatchingLabels{v1alpha1.LabelName: v1alpha1.NameValue}, "")
	if operators != "" {
		b.pods(ctx, operators, client.MatchingLabels{v1alpha1.LabelName: v1alpha1.PartOfValue}, "operator/")
	}
}

// objects adds a kind of object of the namespace; of those that are not ours, the ones that the operator made.
func (b *bundle) objects(ctx context.Context, name string, list client.ObjectList) {
	options := []client.ListOption{client.InNamespace(b.namespace)}
	switch list.(type) {
	case *appsv1.StatefulSetList, *appsv1.DeploymentList, *corev1.ServiceList, *corev1.PersistentVolumeClaimList:
		options = append(options, client.MatchingLabels{v1alpha1.LabelName: v1alpha1.NameValue})
	}
	if err := b.List(ctx, list, options...); err != nil {
		b.lacks(name, explained(err))
		return
	}
	_ = meta.EachListItem(list, func(o runtime.Object) error { // fails where the function does
		b.object("objects/"+name, o)
		return nil
	})
}

// object adds one object, without what nobody reads and what may repeat a secret.
func (b *bundle) object(folder string, o runtime.Object) {
	accessor, err := meta.Accessor(o)
	if err != nil {
		b.lacks(folder, err)
		return
	}
	if kinds, _, err := b.Scheme().ObjectKinds(o); err == nil { // what comes in a list does not say what it is
		o.GetObjectKind().SetGroupVersionKind(kinds[0])
	}
	accessor.SetManagedFields(nil)
	accessor.SetAnnotations(withoutLastApplied(accessor.GetAnnotations()))
	if pod, ok := o.(*corev1.Pod); ok {
		hideEnvironment(&pod.Spec)
	}
	if set, ok := o.(*appsv1.StatefulSet); ok {
		hideEnvironment(&set.Spec.Template.Spec)
	}
	if deployment, ok := o.(*appsv1.Deployment); ok {
		hideEnvironment(&deployment.Spec.Template.Spec)
	}
	text, err := yaml.Marshal(o)
	if err != nil {
		b.lacks(folder+"/"+accessor.GetName(), err)
		return
	}
	b.add(folder+"/"+accessor.GetName()+".yaml", text)
}

// withoutLastApplied drops the copy of the object that kubectl apply keeps: that of a Secret is the Secret.
func withoutLastApplied(annotations map[string]string) map[string]string {
	delete(annotations, corev1.LastAppliedConfigAnnotation)
	return annotations
}

// hideEnvironment keeps the names of variables.
func hideEnvironment(spec *corev1.PodSpec) {
	for _, containers := range [][]corev1.Container{spec.InitContainers, spec.Containers} {
		for i := range containers {
			for n := range containers[i].Env {
				if v := &containers[i].Env[n]; v.Value != "" {
					v.Value = removed
				}
			}
		}
	}
}

// status adds what kubectl mqtt status shows, and each bridge's.
func (b *bundle) status(ctx context.Context) {
	var text bytes.Buffer
	s := streams{out: &text, err: &text}
	infos, err := b.brokers(ctx, b.namespace, "", false)
	if err != nil {
		b.lacks("status", err)
		return
	}
	for _, i := range infos {
		i.print(s, b.now(), true)
		sayf(&text, "")
	}
	bridges := &v1alpha1.MQTTBridgeList{}
	if err := b.List(ctx, bridges, client.InNamespace(b.namespace)); err == nil { // it is noted where the objects are read
		for i := range bridges.Items {
			infoOf(&bridges.Items[i]).print(&text)
			sayf(&text, "")
		}
	}
	b.add("status.txt", text.Bytes())
}

// secrets adds what may be known of the Secrets, and gives them with what may not.
func (b *bundle) secrets(ctx context.Context) []corev1.Secret {
	list := &corev1.SecretList{}
	if err := b.List(ctx, list, client.InNamespace(b.namespace)); err != nil {
		if apierrors.IsForbidden(err) {
			err = fmt.Errorf("you may not see them, so there is no configuration in this bundle: %w", err)
		}
		b.lacks("secrets", err)
		return nil
	}
	for i := range list.Items {
		secret := &list.Items[i]
		known := secretInfo{
			Name: secret.Name, Type: string(secret.Type), Labels: secret.Labels, OwnedBy: owners(secret), Created: secret.CreationTimestamp.UTC().Format(time.RFC3339),
			Bytes: map[string]int{},
		}
		for key, content := range secret.Data {
			known.Bytes[key] = len(content)
		}
		text, err := yaml.Marshal(known)
		if err != nil {
			b.lacks("secrets/"+secret.Name, err)
			continue
		}
		b.add("objects/secrets/"+secret.Name+".yaml", text)
	}
	return list.Items
}

// secretInfo is what a bundle holds of a Secret.
type secretInfo struct {
	Name    string            `json:"name"`
	Type    string            `json:"type"`
	Labels  map[string]string `json:"labels,omitempty"`
	OwnedBy []string          `json:"ownedBy,omitempty"`
	Created string            `json:"created"`
	// Bytes is the size of each value.
	Bytes map[string]int `json:"bytes"`
}

func owners(o client.Object) (names []string) {
	for _, owner := range o.GetOwnerReferences() {
		names = append(names, owner.Kind+"/"+owner.Name)
	}
	return names
}

// configuration adds what a broker reads, without hashes and keys.
func (b *bundle) configuration(broker *v1alpha1.MQTTBroker, secrets []corev1.Secret) {
	if secrets == nil {
		return // that is noted
	}
	files := contract.Bundle{}
	for i := range secrets {
		name := secrets[i].Name
		isShard := false
		for n := range contract.MaxShards {
			isShard = isShard || name == v1alpha1.UsersSecretName(broker.Name, n)
		}
		if name != v1alpha1.ConfigSecretName(broker.Name) && !isShard {
			continue
		}
		for file, content := range secrets[i].Data {
			if contract.IsFile(file) {
				files[file] = content
			}
		}
	}
	config, err := contract.Parse(files)
	if err != nil {
		b.lacks("configuration of "+broker.Name, err)
		return
	}
	text, err := json.MarshalIndent(withoutSecrets(config), "", "  ")
	if err != nil {
		b.lacks("configuration of "+broker.Name, err)
		return
	}
	b.add("configuration/"+broker.Name+".json", append(text, '\n'))
}

// knownConfig is a configuration as it may be shown: built up from what may be, rather than cut down.
type knownConfig struct {
	contract.Broker

	// Certificates are those of the key pairs, PEM.
	Certificates map[string]string         `json:"certificates,omitempty"`
	Trust        map[string]contract.Trust `json:"trust,omitempty"`
	Policies     any                       `json:"policies,omitempty"`
	Users        []contract.User           `json:"users"`
}

func withoutSecrets(config *contract.Config) *knownConfig {
	known := &knownConfig{Broker: config.Broker, Certificates: map[string]string{}, Trust: config.Trust, Policies: config.Policies, Users: slices.Clone(config.Users)}
	for name := range config.Pairs {
		known.Certificates[name] = config.Pairs[name].Certificate
	}
	known.Authentication.JWT = slices.Clone(known.Authentication.JWT)
	for i := range known.Authentication.JWT {
		known.Authentication.JWT[i].JWKS = hidden(known.Authentication.JWT[i].JWKS)
	}
	if cluster := known.Authentication.ServiceAccounts; cluster != nil {
		shown := *cluster
		shown.JWKS = hidden(shown.JWKS)
		known.Authentication.ServiceAccounts = &shown
	}
	for i := range known.Users {
		hashes := make([]string, len(known.Users[i].Verifiers))
		for n := range hashes {
			hashes[n] = removed
		}
		known.Users[i].Verifiers = hashes
	}
	return known
}

// hidden stands where a text was that may hold a secret: a key set ought to have public keys alone.
func hidden(text string) string {
	if text == "" {
		return ""
	}
	return removed
}

// pods adds pods with their logs and metrics.
func (b *bundle) pods(ctx context.Context, namespace string, labels client.MatchingLabels, folder string) {
	pods, err := b.podsOf(ctx, namespace, labels)
	if err != nil {
		b.lacks("pods of namespace "+namespace, err)
		return
	}
	for i := range pods {
		pod := &pods[i]
		key := client.ObjectKeyFromObject(pod)
		restarts := map[string]int32{}
		for _, c := range pod.Status.ContainerStatuses {
			restarts[c.Name] = c.RestartCount
		}
		for n := range pod.Spec.Containers {
			container := pod.Spec.Containers[n].Name
			b.log(ctx, folder, key, container, false)
			if restarts[container] > 0 {
				b.log(ctx, folder, key, container, true)
			}
		}
		if folder == "" && pod.Status.Phase == corev1.PodRunning {
			if text, err := b.metrics(ctx, key); err != nil {
				b.lacks("metrics of pod "+pod.Name, err)
			} else {
				b.add("metrics/"+pod.Name+".txt", text)
			}
		}
		b.object(folder+"objects/pods", pod)
	}
}

func (b *bundle) log(ctx context.Context, folder string, pod client.ObjectKey, container string, previous bool) {
	ctx, cancel := context.WithTimeout(ctx, reachPatience)
	defer cancel()
	name := fmt.Sprintf("%slogs/%s-%s", folder, pod.Name, container)
	if previous {
		name += "-previous"
	}
	text, err := b.logs(ctx, pod, container, previous)
	if err != nil {
		b.lacks(name, err)
		return
	}
	b.add(name+".txt", text)
}

// writeTo writes the archive, and says where.
func (b *bundle) writeTo(s streams, file string) error {
	if file == "-" {
		return b.archive(s.out)
	}
	out, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("bundle: %w", err)
	}
	err = b.archive(out)
	if closed := out.Close(); err == nil {
		err = closed
	}
	if err != nil {
		_ = os.Remove(file)
		return fmt.Errorf("bundle: %w", err)
	}
	sayf(s.out, "%s holds %s; look through it before you send it", file, plural(len(b.files)+1, "file"))
	return nil
}

func (b *bundle) archive(w io.Writer) error {
	slices.SortStableFunc(b.files, func(x, y bundleFile) int { return strings.Compare(x.name, y.name) })
	root := "mqtt-support-" + b.namespace
	zipped := gzip.NewWriter(w)
	archive := tar.NewWriter(zipped)
	for _, file := range slices.Insert(slices.Clone(b.files), 0, bundleFile{"INDEX", b.index()}) {
		content := b.censor.remove(string(file.content))
		head := &tar.Header{Name: path.Join(root, b.censor.remove(file.name)), Mode: 0o600, Size: int64(len(content)), ModTime: b.taken.UTC()}
		if err := archive.WriteHeader(head); err != nil {
			return err
		}
		if _, err := io.WriteString(archive, content); err != nil {
			return err
		}
	}
	if err := archive.Close(); err != nil {
		return err
	}
	return zipped.Close()
}

func (b *bundle) index() []byte {
	var text bytes.Buffer
	sayf(&text, "Support bundle of namespace %s, taken %s by kubectl-mqtt %s.", b.namespace, b.taken.UTC().Format(time.RFC3339), version)
	sayf(&text, "Values of Secrets are not in it. Names of clients, users, topics, hosts and addresses are.\n")
	for _, file := range b.files {
		sayf(&text, "%9d  %s", len(file.content), file.name)
	}
	if len(b.missing) > 0 {
		sayf(&text, "\nWhat could not be read:")
		for _, what := range b.missing {
			sayf(&text, "  %s", what)
		}
	}
	return text.Bytes()
}
