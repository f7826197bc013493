// SPDX-License-Identifier: Apache-2.0

package main

import (
	_ "embed"
	"encoding/base64"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"sigs.k8s.io/yaml"
)

const (
	packageName = "mqtt-operator"
	// channel is where releases go that nobody should depend on yet, by OLM's own convention.
	channel = "candidate"
	// minKubernetes is the chart's kubeVersion.
	minKubernetes = "1.32.0"
	repository    = "https://github.com/mqtt-operator/mqtt-operator"

	license = "# SPDX-License-Identifier: Apache-2.0\n"
	written = license + "# Written by hack/bundle.\n"

	// watchFlag takes the namespaces of the OperatorGroup, which OLM writes into an annotation of the pod; empty is all.
	watchFlag       = "--watch-namespaces=$(WATCH_NAMESPACES)"
	watchVariable   = "WATCH_NAMESPACES"
	watchAnnotation = "metadata.annotations['olm.targetNamespaces']"
)

var (
	//go:embed description.md
	description string
	//go:embed icon.svg
	icon []byte
)

func main() {
	manifests := flag.String("install", "config/default/operator.yaml", "what the chart renders; another one for a release")
	folder := flag.String("out", "bundle", "folder to write; what is in it goes")
	flag.Parse()
	if err := run(".", *manifests, *folder); err != nil {
		fmt.Fprintln(os.Stderr, "bundle:", err)
		os.Exit(1)
	}
}

// run reads config/ below root and writes the folder.
func run(root, manifests, folder string) error {
	install, err := read(manifests)
	if err != nil {
		return err
	}
	kinds, err := read(filepath.Join(root, "config", "crd", "bases", "*.yaml"))
	if err != nil {
		return err
	}
	samples, err := read(filepath.Join(root, "config", "samples", "*.yaml"))
	if err != nil {
		return err
	}
	files, err := bundle(install, kinds, samples)
	if err != nil {
		return err
	}

	if err := os.RemoveAll(folder); err != nil {
		return err
	}
	for name, text := range files {
		to := filepath.Join(folder, name)
		if err := os.MkdirAll(filepath.Dir(to), 0o750); err != nil {
			return err
		}
		if err := os.WriteFile(to, text, 0o644); err != nil { //nolint:gosec // for everybody to read
			return err
		}
	}
	return nil
}

// object is a manifest: some of it decoded, all of it as it was read.
type object struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	Metadata   struct {
		Name        string            `json:"name"`
		Labels      map[string]string `json:"labels,omitempty"`
		Annotations map[string]string `json:"annotations,omitempty"`
	} `json:"metadata"`
	all map[string]any
}

var separator = regexp.MustCompile(`(?m)^---\s*$`)

// read decodes every manifest in the files that a pattern names, in order.
func read(pattern string) ([]object, error) {
	paths, err := filepath.Glob(pattern)
	if err != nil {
		return nil, err
	}
	if len(paths) == 0 {
		return nil, fmt.Errorf("%s: no such file", pattern)
	}
	var objects []object
	for _, p := range paths {
		text, err := os.ReadFile(p)
		if err != nil {
			return nil, err
		}
		for _, document := range separator.Split(string(text), -1) {
			var o object
			if err := errors.Join(yaml.Unmarshal([]byte(document), &o), yaml.Unmarshal([]byte(document), &o.all)); err != nil {
				return nil, fmt.Errorf("%s: %w", p, err)
			}
			if o.Kind != "" {
				objects = append(objects, o)
			}
		}
	}
	return objects, nil
}

// as decodes a manifest into the type of its kind and refuses fields that the type does not have.
func as[T any](o object) (T, error) {
	var decoded T
	text, err := yaml.Marshal(o.all)
	if err == nil {
		err = yaml.UnmarshalStrict(text, &decoded)
	}
	if err != nil {
		return decoded, fmt.Errorf("%s %s: %w", o.Kind, o.Metadata.Name, err)
	}
	return decoded, nil
}

// bundle returns the files of the bundle by their names.
func bundle(install, kinds, samples []object) (map[string][]byte, error) {
	version, err := csv(install, kinds, samples)
	if err != nil {
		return nil, err
	}
	files := map[string][]byte{}
	put := func(name string, o any) {
		text, failed := yaml.Marshal(o)
		files[name] = append([]byte(written), text...)
		err = errors.Join(err, failed)
	}
	put("manifests/"+packageName+".clusterserviceversion.yaml", version)
	for _, o := range kinds {
		plural, group, _ := strings.Cut(o.Metadata.Name, ".")
		put("manifests/"+group+"_"+plural+".yaml", o.all)
	}
	free, failed := unbound(install)
	for _, o := range free {
		put("manifests/"+fileName(o), o.all)
	}
	put("metadata/annotations.yaml", map[string]any{"annotations": annotations})
	files["Dockerfile"] = dockerfile()
	return files, errors.Join(err, failed)
}

// annotations tell OLM where everything is; the image carries them as labels too.
var annotations = map[string]string{
	"operators.operatorframework.io.bundle.mediatype.v1":       "registry+v1",
	"operators.operatorframework.io.bundle.manifests.v1":       "manifests/",
	"operators.operatorframework.io.bundle.metadata.v1":        "metadata/",
	"operators.operatorframework.io.bundle.package.v1":         packageName,
	"operators.operatorframework.io.bundle.channels.v1":        channel,
	"operators.operatorframework.io.bundle.channel.default.v1": channel,
}

func dockerfile() []byte {
	var labels []string
	for key, value := range annotations {
		labels = append(labels, fmt.Sprintf("LABEL %s=%q\n", key, value))
	}
	slices.Sort(labels)
	return []byte(written + "#   docker buildx build --tag ghcr.io/mqtt-operator/mqtt-operator-bundle:VERSION bundle\n\nFROM scratch\n" +
		strings.Join(labels, "") + "COPY manifests /manifests/\nCOPY metadata /metadata/\n")
}

// namespacePart stands in the names of the chart's objects of the cluster, which OLM gives no namespace.
var namespacePart = regexp.MustCompile(`:mqtt-operator-system(:|$)`)

// unbound are the objects that OLM does not make itself: all but the Deployment, its ServiceAccount and what is bound to it.
func unbound(install []object) ([]object, error) {
	bound := map[string]bool{}
	for _, o := range install {
		if o.Kind == "ClusterRoleBinding" || o.Kind == "RoleBinding" {
			binding, err := as[rbacv1.RoleBinding](o)
			if err != nil {
				return nil, err
			}
			bound[binding.RoleRef.Kind+" "+binding.RoleRef.Name] = true
			bound[o.Kind+" "+o.Metadata.Name] = true
		}
	}
	var left []object
	for _, o := range install {
		if o.Kind == "Deployment" || o.Kind == "ServiceAccount" || bound[o.Kind+" "+o.Metadata.Name] {
			continue
		}
		o.Metadata.Name = namespacePart.ReplaceAllString(o.Metadata.Name, "$1")
		metadata := map[string]any{"name": o.Metadata.Name, "labels": o.Metadata.Labels}
		if len(o.Metadata.Annotations) > 0 {
			metadata["annotations"] = o.Metadata.Annotations
		}
		o.all["metadata"] = metadata
		left = append(left, o)
	}
	return left, nil
}

func fileName(o object) string {
	return strings.ReplaceAll(o.Metadata.Name, ":", "_") + "." + strings.ToLower(o.Kind) + ".yaml"
}

// permission is what one ServiceAccount may do.
type permission struct {
	ServiceAccountName string              `json:"serviceAccountName"`
	Rules              []rbacv1.PolicyRule `json:"rules"`
}

// discovery are the rules of Kubernetes' own role system:service-account-issuer-discovery, which OLM cannot bind.
var discovery = []rbacv1.PolicyRule{{
	Verbs: []string{"get"},
	NonResourceURLs: []string{
		"/.well-known/openid-configuration", "/.well-known/openid-configuration/", "/openid/v1/jwks", "/openid/v1/jwks/",
	},
}}

// rights returns what is granted where the operator works, and what in the whole cluster.
func rights(install []object) (inNamespaces, inCluster []permission, err error) {
	rules := map[string][]rbacv1.PolicyRule{"ClusterRole system:service-account-issuer-discovery": discovery}
	for _, o := range install {
		if o.Kind == "ClusterRole" || o.Kind == "Role" {
			role, err := as[rbacv1.Role](o)
			if err != nil {
				return nil, nil, err
			}
			rules[o.Kind+" "+o.Metadata.Name] = role.Rules
		}
	}
	for _, o := range install {
		if o.Kind != "ClusterRoleBinding" && o.Kind != "RoleBinding" {
			continue
		}
		binding, err := as[rbacv1.RoleBinding](o)
		if err != nil {
			return nil, nil, err
		}
		granted, known := rules[binding.RoleRef.Kind+" "+binding.RoleRef.Name]
		if !known || len(binding.Subjects) != 1 || binding.Subjects[0].Kind != rbacv1.ServiceAccountKind {
			return nil, nil, fmt.Errorf("%s %s: want a role that is here, bound to one ServiceAccount", o.Kind, o.Metadata.Name)
		}
		p := permission{ServiceAccountName: binding.Subjects[0].Name, Rules: granted}
		// The operator's own role is one of the cluster in scope Cluster alone; what the metrics and the issuer need is
		// always.
		if needsCluster(granted) {
			inCluster = append(inCluster, p)
		} else {
			inNamespaces = append(inNamespaces, p)
		}
	}
	return inNamespaces, inCluster, nil
}

// needsCluster tells whether a Role could not hold the rules.
func needsCluster(rules []rbacv1.PolicyRule) bool {
	return slices.ContainsFunc(rules, func(r rbacv1.PolicyRule) bool {
		return len(r.NonResourceURLs) > 0 || slices.Contains(r.Resources, "tokenreviews") || slices.Contains(r.Resources, "subjectaccessreviews")
	})
}

// owned describes a kind to people.
type owned struct {
	Name        string `json:"name"`
	Version     string `json:"version"`
	Kind        string `json:"kind"`
	DisplayName string `json:"displayName"`
	Description string `json:"description"`
}

func ownedKinds(kinds []object) ([]owned, error) {
	var all []owned
	for _, o := range kinds {
		crd, err := as[apiextensionsv1.CustomResourceDefinition](o)
		if err != nil {
			return nil, err
		}
		newest := crd.Spec.Versions[len(crd.Spec.Versions)-1]
		all = append(all, owned{
			Name: crd.Name, Version: newest.Name, Kind: crd.Spec.Names.Kind, Description: newest.Schema.OpenAPIV3Schema.Description,
			DisplayName: "MQTT " + strings.TrimPrefix(crd.Spec.Names.Kind, "MQTT"),
		})
	}
	return all, nil
}

// examples are what a console offers to begin with: the samples, in no namespace.
func examples(samples []object) (string, error) {
	var all []map[string]any
	for _, o := range samples {
		if strings.HasPrefix(o.APIVersion, "mqtt-operator.io/") {
			o.all["metadata"] = map[string]any{"name": o.Metadata.Name}
			all = append(all, o.all)
		}
	}
	text, err := json.MarshalIndent(all, "", "  ")
	return string(text), err
}

// csv is the ClusterServiceVersion.
func csv(install, kinds, samples []object) (map[string]any, error) {
	var deployment appsv1.Deployment
	found := 0
	for _, o := range install {
		if o.Kind == "Deployment" {
			var err error
			if deployment, err = as[appsv1.Deployment](o); err != nil {
				return nil, err
			}
			found++
		}
	}
	if found != 1 || len(deployment.Spec.Template.Spec.Containers) != 1 {
		return nil, fmt.Errorf("found %d Deployments, want one with one container", found)
	}
	version := deployment.Labels["app.kubernetes.io/version"]
	container := &deployment.Spec.Template.Spec.Containers[0]
	images, err := relatedImages(container)
	if err != nil {
		return nil, err
	}
	watchWhatOLMSays(container)
	inNamespaces, inCluster, err := rights(install)
	if err != nil {
		return nil, err
	}
	crds, err := ownedKinds(kinds)
	if err != nil {
		return nil, err
	}
	begin, err := examples(samples)
	if err != nil {
		return nil, err
	}
	return map[string]any{
		"apiVersion": "operators.coreos.com/v1alpha1",
		"kind":       "ClusterServiceVersion",
		"metadata": map[string]any{
			"name": packageName + ".v" + version,
			"labels": map[string]string{
				"operatorframework.io/arch.amd64": "supported", "operatorframework.io/arch.arm64": "supported",
				"operatorframework.io/os.linux": "supported",
			},
			"annotations": map[string]string{
				"alm-examples":   begin,
				"capabilities":   "Seamless Upgrades",
				"categories":     "Streaming & Messaging",
				"containerImage": container.Image,
				"description":    "Runs MQTT brokers on Kubernetes from four kinds of object",
				"repository":     repository,
				"support":        "mqtt-operator",
			},
		},
		"spec": map[string]any{
			"version":        version,
			"displayName":    "MQTT Operator",
			"description":    description,
			"keywords":       []string{"mqtt", "broker", "operator", "iot", "messaging"},
			"maturity":       "alpha",
			"minKubeVersion": minKubernetes,
			"provider":       map[string]string{"name": "mqtt-operator", "url": repository},
			"links": []map[string]string{
				{"name": "Documentation", "url": repository + "/tree/main/docs"},
				{"name": "Source", "url": repository},
			},
			"icon":                      []map[string]string{{"base64data": base64.StdEncoding.EncodeToString(icon), "mediatype": "image/svg+xml"}},
			"relatedImages":             images,
			"installModes":              installModes(),
			"customresourcedefinitions": map[string]any{"owned": crds},
			"install": map[string]any{
				"strategy": "deployment",
				"spec": map[string]any{
					"deployments":        []any{map[string]any{"name": deployment.Name, "label": deployment.Labels, "spec": deployment.Spec}},
					"permissions":        inNamespaces,
					"clusterPermissions": inCluster,
				},
			},
		},
	}, nil
}

// watchWhatOLMSays lets the operator look after the namespaces of the OperatorGroup.
func watchWhatOLMSays(container *corev1.Container) {
	container.Args = append(container.Args, watchFlag)
	container.Env = append(container.Env, corev1.EnvVar{Name: watchVariable, ValueFrom: &corev1.EnvVarSource{
		FieldRef: &corev1.ObjectFieldSelector{FieldPath: watchAnnotation},
	}})
}

// relatedImages are what a cluster without a way out has to mirror.
func relatedImages(container *corev1.Container) ([]map[string]string, error) {
	const option = "--broker-image="
	at := slices.IndexFunc(container.Args, func(a string) bool { return strings.HasPrefix(a, option) })
	if at < 0 {
		return nil, errors.New("the operator has no " + option)
	}
	var images []map[string]string
	for _, image := range []string{container.Image, strings.TrimPrefix(container.Args[at], option)} {
		name, _, _ := strings.Cut(path.Base(image), ":")
		images = append(images, map[string]string{"name": name, "image": image})
	}
	return images, nil
}

func installModes() []map[string]any {
	var modes []map[string]any
	for _, mode := range []string{"OwnNamespace", "SingleNamespace", "MultiNamespace", "AllNamespaces"} {
		modes = append(modes, map[string]any{"type": mode, "supported": true})
	}
	return modes
}
