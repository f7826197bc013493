// SPDX-License-Identifier: Apache-2.0

package docs_test

import (
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"sigs.k8s.io/yaml"

	"github.com/mqtt-operator/mqtt-operator/api/v1alpha1"
	"github.com/mqtt-operator/mqtt-operator/broker-image/contract"
	"github.com/mqtt-operator/mqtt-operator/broker-image/engine"
)

const (
	notAlive        = " is not alive in this version"
	troubleshooting = "docs/troubleshooting.md"
)

func TestLinksLeadSomewhere(t *testing.T) {
	t.Parallel()

	for _, p := range pages(t) {
		for _, l := range p.links {
			if err := follow(t, p, l.target); err != nil {
				t.Errorf("%s:%d: link %s: %v", p.path, l.line, l.target, err)
			}
		}
	}
}

// follow looks up a link to a file of the repository; others it does not ask.
func follow(t *testing.T, from *page, target string) error {
	t.Helper()

	if strings.Contains(target, "://") || strings.HasPrefix(target, "mailto:") {
		return nil
	}

	file, anchor, _ := strings.Cut(target, "#")
	to := from

	if file != "" {
		name := path.Join(path.Dir(from.path), file)
		if path.IsAbs(file) || strings.HasPrefix(name, "..") {
			return errors.New("leaves the repository")
		}

		info, err := os.Stat(filepath.Join(root, name))
		if err != nil {
			return fmt.Errorf("%s is not there", name)
		}

		if anchor == "" {
			return nil
		}

		if info.IsDir() || !strings.HasSuffix(name, ".md") {
			return fmt.Errorf("%s is no page, so it has no headings", name)
		}

		to = onePage(t, name)
	}

	if !to.anchors[anchor] {
		return fmt.Errorf("%s has no heading #%s", to.path, anchor)
	}

	return nil
}

// Every page of docs/ must be found from its index, and the README must lead to the index.
func TestEveryPageIsInTheIndex(t *testing.T) {
	t.Parallel()

	index := onePage(t, "docs/README.md")

	for _, p := range pages(t) {
		if path.Dir(p.path) != "docs" || p.path == index.path {
			continue
		}

		if !slices.ContainsFunc(index.links, func(l link) bool { return l.target == path.Base(p.path) }) {
			t.Errorf("docs/README.md does not name %s", p.path)
		}
	}

	if !slices.ContainsFunc(onePage(t, "README.md").links, func(l link) bool { return l.target == "docs/README.md" }) {
		t.Error("README.md does not lead to docs/README.md")
	}
}

// opaque are the fields whose inside is described by Kubernetes or on another page.
var opaque = []string{
	"spec.listeners[].service.annotations", "spec.listeners[].anonymous.acl", "spec.listeners[].tls.selfManaged",
	"spec.pod.resources", "spec.pod.affinity", "spec.pod.topologySpreadConstraints", "spec.pod.tolerations",
	"spec.pod.nodeSelector", "spec.pod.labels", "spec.pod.annotations",
	"spec.listeners[].from", "spec.networkPolicy.metricsFrom",
	"spec.monitoring.podMonitor", "spec.monitoring.prometheusRule", "spec.monitoring.dashboard",
	"spec.allowedNamespaces.selector", "status.conditions", "status.listeners[].conditions",
}

// defaults are those of api/v1alpha1/facts.go, in the way the pages write them.
var defaults = map[string]any{
	"MQTTBroker spec.replicas":                                v1alpha1.DefaultReplicas,
	"MQTTBroker spec.listeners[].tls.minVersion":              v1alpha1.DefaultMinTLSVersion,
	"MQTTBroker spec.listeners[].tls.clientAuth":              v1alpha1.DefaultClientAuth,
	"MQTTBroker spec.listeners[].tls.usernameFrom":            v1alpha1.DefaultUsernameFrom,
	"MQTTBroker spec.listeners[].tls.issuerRef.kind":          v1alpha1.DefaultIssuerKind,
	"MQTTBroker spec.listeners[].tls.issuerRef.group":         v1alpha1.DefaultIssuerGroup,
	"MQTTBroker spec.authentication.jwt[].usernameClaim":      v1alpha1.DefaultUsernameClaim,
	"MQTTBroker spec.ca.clientGrace":                          fmt.Sprintf("%.0fh", v1alpha1.DefaultClientGrace.Hours()),
	"MQTTBroker spec.limits.maxPacketSize":                    strconv.FormatInt(v1alpha1.DefaultMaxPacketSize>>20, 10) + "Mi",
	"MQTTBroker spec.limits.receiveMaximum":                   v1alpha1.DefaultReceiveMaximum,
	"MQTTBroker spec.limits.topicAliasMaximum":                v1alpha1.DefaultTopicAliasMaximum,
	"MQTTBroker spec.limits.maxSessionExpiry":                 fmt.Sprintf("%.0fh", v1alpha1.DefaultMaxSessionExpiry.Hours()),
	"MQTTBroker spec.limits.maxQueuedMessages":                v1alpha1.DefaultMaxQueuedMessages,
	"MQTTBroker spec.limits.maxQueuedBytes":                   strconv.FormatInt(v1alpha1.DefaultMaxQueuedBytes>>20, 10) + "Mi",
	"MQTTBroker spec.limits.maxTopicLevels":                   v1alpha1.DefaultMaxTopicLevels,
	"MQTTBroker spec.limits.maxSubscriptionsPerClient":        v1alpha1.DefaultMaxSubscriptions,
	"MQTTBroker spec.limits.maxRetainedMessages":              v1alpha1.DefaultMaxRetainedMessages,
	"MQTTBroker spec.limits.maxRetainedBytes":                 strconv.FormatInt(v1alpha1.DefaultMaxRetainedBytes>>30, 10) + "Gi",
	"MQTTBroker spec.listeners[].websocket.path":              v1alpha1.DefaultWebSocketPath,
	"MQTTBroker spec.listeners[].proxyProtocol.mode":          v1alpha1.DefaultProxyProtocolMode,
	"MQTTBroker spec.persistence.sync":                        v1alpha1.DefaultPersistenceSync,
	"MQTTBroker spec.persistence.size":                        v1alpha1.DefaultVolumeSize,
	"MQTTBroker spec.persistence.retention.whenDeleted":       v1alpha1.DefaultVolumeRetention,
	"MQTTBroker spec.persistence.retention.whenScaled":        v1alpha1.DefaultVolumeRetention,
	"MQTTBroker spec.logging.level":                           v1alpha1.DefaultLogLevel,
	"MQTTBroker spec.logging.format":                          v1alpha1.DefaultLogFormat,
	"MQTTBroker spec.networkPolicy.enabled":                   v1alpha1.DefaultNetworkPolicy,
	"MQTTUser spec.authentication.password.secretRef.key":     v1alpha1.DefaultPasswordKey,
	"MQTTUser spec.acl[].maxQoS":                              v1alpha1.DefaultRuleMaxQoS,
	"MQTTUser spec.acl[].retain":                              v1alpha1.DefaultRuleRetain,
	"MQTTUser spec.authentication.password.hashSecretRef.key": v1alpha1.DefaultPasswordHashKey,
	"MQTTUser spec.authentication.certificate.validity":       fmt.Sprintf("%.0fh", v1alpha1.DefaultCertificateValidity.Hours()),

	"MQTTBridge spec.remote.protocolVersion":     v1alpha1.DefaultBridgeProtocol,
	"MQTTBridge spec.remote.keepAlive":           fmt.Sprintf("%.0fs", v1alpha1.DefaultBridgeKeepAlive.Seconds()),
	"MQTTBridge spec.remote.tls.caSecretRef.key": v1alpha1.DefaultCAKey,
	"MQTTBridge spec.remote.cleanStart":          false,
	"MQTTBridge spec.routes[].maxQoS":            v1alpha1.DefaultRouteMaxQoS,
	"MQTTBridge spec.routes[].retain":            v1alpha1.DefaultRouteRetain,
	"MQTTBridge spec.inflight":                   v1alpha1.DefaultBridgeInflight,
	"MQTTBridge spec.sessionExpiry":              fmt.Sprintf("%.0fh", v1alpha1.DefaultBridgeExpiry.Hours()),
	"MQTTBridge spec.replicas":                   v1alpha1.DefaultReplicas,
	"MQTTBridge spec.suspend":                    false,
	"MQTTBridge spec.logging.level":              v1alpha1.DefaultLogLevel,
	"MQTTBridge spec.logging.format":             v1alpha1.DefaultLogFormat,
	"MQTTBridge spec.networkPolicy.enabled":      v1alpha1.DefaultNetworkPolicy,
}

func TestFieldTables(t *testing.T) {
	t.Parallel()

	kinds := schemas(t)

	for kind, name := range map[string]string{"MQTTBroker": "docs/mqttbroker.md", "MQTTUser": "docs/mqttuser.md", "MQTTBridge": "docs/mqttbridge.md"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()

			p := onePage(t, name)
			wanted := map[string]map[string]bool{"field": {}, "refused for now": {}, "status": {}}

			walk(kinds[kind], "", func(field string, schema *apiextensionsv1.JSONSchemaProps) bool {
				switch {
				case isRefused(schema) && field != "":
					wanted["refused for now"][field] = true

					if !isRefusedWhole(schema) { // only some values are
						wanted["field"][field] = true
					}

					return !isRefusedWhole(schema)
				case strings.HasPrefix(field, "spec.") && !strings.HasSuffix(field, "[]"):
					wanted["field"][field] = true
				case strings.HasPrefix(field, "status.") && !strings.HasSuffix(field, "[]"):
					wanted["status"][field] = true
				}

				return !slices.Contains(opaque, field)
			})

			for heading, fields := range wanted {
				compare(t, p, kind, heading, fields)
			}
		})
	}
}

// compare holds the rows of a page's tables of one sort against the fields that they should have.
func compare(t *testing.T, p *page, kind, heading string, wanted map[string]bool) {
	t.Helper()

	seen := map[string]bool{}

	for _, table := range p.tablesOf(heading) {
		for _, r := range table.rows {
			field := strings.Trim(r.cells[0], "`")
			if seen[field] {
				t.Errorf("%s:%d: %s stands here twice", p.path, r.line, field)
			}

			seen[field] = true

			if !wanted[field] {
				t.Errorf("%s:%d: the schema of %s does not say of %s that it belongs under %q", p.path, r.line, kind, field, heading)
			}

			if value, ok := defaults[kind+" "+field]; ok && heading == "field" {
				text := fmt.Sprintf("`%v`", value)
				if i := table.column("default"); i < 0 || r.cells[i] != text {
					t.Errorf("%s:%d: the default of %s is %s", p.path, r.line, field, text)
				}
			}
		}
	}

	for _, field := range slices.Sorted(maps.Keys(wanted)) {
		if !seen[field] {
			t.Errorf("%s: no table %q has a row for %s", p.path, heading, field)
		}
	}
}

// A field that a page names in running text must be one of ours.
func TestNamedFieldsExist(t *testing.T) {
	t.Parallel()

	known := map[string]bool{}

	for _, schema := range schemas(t) {
		walk(schema, "", func(field string, _ *apiextensionsv1.JSONSchemaProps) bool {
			known[field] = true

			return true
		})
	}

	ours := regexp.MustCompile(`^(spec|status)(\.[A-Za-z]+(\[\])?)+`)

	for _, p := range pages(t) {
		if strings.HasPrefix(p.path, "docs/design/") {
			continue
		}

		for _, s := range p.spans {
			if field := ours.FindString(s.text); field != "" && !known[field] {
				t.Errorf("%s:%d: none of the four kinds has a field %s", p.path, s.line, field)
			}
		}
	}
}

// notYetProduced are the reasons that no controller gives now, each with what it waits for. Whoever makes a controller
// give one takes it out here and writes its entry in troubleshooting.md.
var notYetProduced = map[v1alpha1.ConditionReason]string{
	v1alpha1.ReasonReconciling:  "the first status is written at the end of the first pass",
	v1alpha1.ReasonDeleting:     "there are no finalizers, so a deleted object is gone at once",
	v1alpha1.ReasonRolloutStuck: "roll-outs have no deadline yet",
}

func TestEveryReasonIsExplained(t *testing.T) {
	t.Parallel()

	explained := explainedReasons(t)
	used := usedReasons(t)
	reasons := reasons(t)

	for name, reason := range reasons {
		why, later := notYetProduced[reason]

		switch {
		case later && why == "":
			t.Errorf("%s is not yet produced, and nobody says why", reason)
		case later && used[name]:
			t.Errorf("%s is said not to be produced yet, and a controller names %s", reason, name)
		case later && explained[string(reason)]:
			t.Errorf("%s is explained in %s and said not to be produced yet", reason, troubleshooting)
		case !later && !explained[string(reason)]:
			t.Errorf("%s does not explain %s", troubleshooting, reason)
		case !later && !used[name]:
			t.Errorf("%s is explained in %s, and no controller names %s", reason, troubleshooting, name)
		}
	}

	values := slices.Collect(maps.Values(reasons))
	for reason := range explained {
		if !slices.Contains(values, v1alpha1.ConditionReason(reason)) {
			t.Errorf("%s explains %s, which is no reason of api/v1alpha1/conditions.go", troubleshooting, reason)
		}
	}
}

// explainedReasons are the headings that are one word of code, and the first cells of the tables of reasons.
func explainedReasons(t *testing.T) map[string]bool {
	t.Helper()

	p := onePage(t, troubleshooting)
	found := map[string]bool{}

	content, err := os.ReadFile(filepath.Join(root, troubleshooting))
	if err != nil {
		t.Fatal(err)
	}

	for _, heading := range regexp.MustCompile("(?m)^#+ `(\\w+)`$").FindAllStringSubmatch(string(content), -1) {
		found[heading[1]] = true
	}

	for _, table := range p.tablesOf("reason") {
		for _, r := range table.rows {
			found[strings.Trim(r.cells[0], "`")] = true
		}
	}

	return found
}

// reasons are the constants of conditions.go, by the name of the constant.
func reasons(t *testing.T) map[string]v1alpha1.ConditionReason {
	t.Helper()

	file, err := parser.ParseFile(token.NewFileSet(), root+"/api/v1alpha1/conditions.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}

	found := map[string]v1alpha1.ConditionReason{}

	ast.Inspect(file, func(node ast.Node) bool {
		spec, ok := node.(*ast.ValueSpec)
		if !ok {
			return true
		}

		if kind, ok := spec.Type.(*ast.Ident); !ok || kind.Name != "ConditionReason" {
			return false
		}

		text, err := strconv.Unquote(spec.Values[0].(*ast.BasicLit).Value)
		if err != nil {
			t.Fatal(err)
		}

		found[spec.Names[0].Name] = v1alpha1.ConditionReason(text)

		return false
	})

	if len(found) == 0 {
		t.Fatal("no reasons in conditions.go")
	}

	return found
}

// usedReasons are the constants that the controllers name.
func usedReasons(t *testing.T) map[string]bool {
	t.Helper()

	found := map[string]bool{}
	constant := regexp.MustCompile(`v1alpha1\.(Reason\w+)`)

	err := filepath.WalkDir(filepath.Join(root, "controllers"), func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}

		content, err := os.ReadFile(path)
		for _, name := range constant.FindAllStringSubmatch(string(content), -1) {
			found[name[1]] = true
		}

		return err
	})
	if err != nil {
		t.Fatal(err)
	}

	return found
}

// Every Secret that the operator writes has its line in secrets.md, with its type, and so has every key of a binding.
func TestEverySecretIsNamed(t *testing.T) {
	t.Parallel()

	p := onePage(t, "docs/secrets.md")
	types, keys := map[string]string{}, map[string]bool{}

	for _, table := range p.tablesOf("Secret") {
		column := table.column("type")
		if column < 0 {
			continue
		}

		for _, r := range table.rows {
			for _, found := range codeSpan.FindAllStringSubmatch(r.cells[0], -1) {
				types[found[1]] = strings.Trim(r.cells[column], "`")
			}
		}
	}

	for _, table := range p.tablesOf("key") {
		for _, r := range table.rows {
			keys[strings.Trim(r.cells[0], "`")] = true
		}
	}

	for name, kind := range map[string]corev1.SecretType{
		v1alpha1.ConfigSecretName("<broker>"):    v1alpha1.SecretTypeConfig,
		v1alpha1.UsersSecretName("<broker>", 0):  v1alpha1.SecretTypeConfig,
		v1alpha1.UsersSecretName("<broker>", 15): v1alpha1.SecretTypeConfig,
		v1alpha1.CASecretName("<broker>"):        v1alpha1.SecretTypeCA,
		v1alpha1.ClientCASecretName("<broker>"):  v1alpha1.SecretTypeCA,
		v1alpha1.AdminCASecretName("<broker>"):   v1alpha1.SecretTypeCA,
		v1alpha1.TLSSecretName("<broker>"):       corev1.SecretTypeTLS,
		v1alpha1.AdminTLSSecretName("<broker>"):  corev1.SecretTypeTLS,
		v1alpha1.BindingSecretName("<user>"):     v1alpha1.SecretTypeBinding,
		v1alpha1.VerifierSecretName("<user>"):    v1alpha1.SecretTypeVerifier,

		v1alpha1.BridgeConfigSecretName("<bridge>"): v1alpha1.SecretTypeConfig,
		v1alpha1.BridgeAdminSecretName("<bridge>"):  v1alpha1.SecretTypeCA,
	} {
		if types[name] != string(kind) {
			t.Errorf("%s: no row says that %s is a Secret of type %s", p.path, name, kind)
		}
	}

	for _, key := range []string{
		v1alpha1.BindingType, v1alpha1.BindingProvider, v1alpha1.BindingHost, v1alpha1.BindingPort, v1alpha1.BindingURI,
		v1alpha1.BindingUsername, v1alpha1.BindingPassword, v1alpha1.BindingCA,
	} {
		if !keys[key] {
			t.Errorf("%s: no row speaks of the key %s of a binding", p.path, key)
		}
	}
}

// The configuration that broker.md shows must be one that the broker takes, digest and all.
func TestBrokerConfigurations(t *testing.T) {
	t.Parallel()

	found := 0

	for _, p := range pages(t) {
		bundle := contract.Bundle{}

		for _, b := range p.blocks {
			switch {
			case b.language != "json":
			case strings.Contains(b.text, `"users":`):
				bundle[contract.UsersFile(0)] = []byte(b.text)
			case strings.Contains(b.text, `"format":`):
				found++
				bundle[contract.BrokerFile] = []byte(b.text)

				config, err := contract.Parse(bundle)
				if err == nil {
					err = engine.Check(config)
				}

				if err != nil {
					t.Errorf("%s:%d: %v", p.path, b.line, err)
				}
			default:
				t.Errorf("%s:%d: JSON that is no part of a configuration", p.path, b.line)
			}
		}
	}

	if found == 0 {
		t.Error("no page shows a configuration")
	}
}

// A command that a page tells people to type must exist, and so must a room that it names.
func TestCommandsAndRoomsExist(t *testing.T) {
	t.Parallel()

	makefile, err := os.ReadFile(filepath.Join(root, "Makefile"))
	if err != nil {
		t.Fatal(err)
	}

	target := regexp.MustCompile(`^make ([a-z0-9-]+)`)

	for _, p := range pages(t) {
		texts := slices.Clone(p.spans)

		for _, b := range p.blocks {
			for line := range strings.Lines(b.text) {
				texts = append(texts, span{line: b.line, text: line})
			}
		}

		for _, s := range texts {
			if found := target.FindStringSubmatch(s.text); len(found) > 0 && !strings.Contains(string(makefile), "\n"+found[1]+":") {
				t.Errorf("%s:%d: there is no make %s", p.path, s.line, found[1])
			}
		}

		for _, table := range p.tablesOf("room") {
			for _, r := range table.rows {
				if _, err := os.Stat(filepath.Join(root, strings.Trim(r.cells[0], "`"))); err != nil {
					t.Errorf("%s:%d: %s is not there", p.path, r.line, r.cells[0])
				}
			}
		}
	}
}

// What belongs to one computer alone has no place on a page.
func TestPagesNameNoPrivatePlace(t *testing.T) {
	t.Parallel()

	private := regexp.MustCompile(`/(work|root|home/\w+)/`)

	for _, p := range pages(t) {
		content, err := os.ReadFile(filepath.Join(root, p.path))
		if err != nil {
			t.Fatal(err)
		}

		if found := private.FindString(string(content)); found != "" {
			t.Errorf("%s names %s", p.path, found)
		}
	}
}

// schemas are those of the four kinds.
func schemas(t *testing.T) map[string]*apiextensionsv1.JSONSchemaProps {
	t.Helper()

	found := map[string]*apiextensionsv1.JSONSchemaProps{}
	for _, crd := range crds(t) {
		found[crd.Spec.Names.Kind] = crd.Spec.Versions[0].Schema.OpenAPIV3Schema
	}

	return found
}

func crds(t *testing.T) []*apiextensionsv1.CustomResourceDefinition {
	t.Helper()

	files, err := filepath.Glob(root + "/config/crd/bases/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no definitions in config/crd/bases: %v", err)
	}

	var found []*apiextensionsv1.CustomResourceDefinition

	for _, name := range files {
		content, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}

		crd := &apiextensionsv1.CustomResourceDefinition{}
		if err := yaml.UnmarshalStrict(content, crd); err != nil {
			t.Fatalf("%s: %v", name, err)
		}

		found = append(found, crd)
	}

	return found
}

// walk visits a schema and everything in it; visit says whether to go on below.
func walk(schema *apiextensionsv1.JSONSchemaProps, place string, visit func(string, *apiextensionsv1.JSONSchemaProps) bool) {
	if !visit(place, schema) {
		return
	}

	for name, field := range schema.Properties {
		walk(&field, strings.TrimPrefix(place+"."+name, "."), visit)
	}

	if schema.Items != nil {
		walk(schema.Items.Schema, place+"[]", visit)
	}
}

// isRefused tells whether a rule refuses the field, or some values of it, because nothing carries them out yet.
func isRefused(schema *apiextensionsv1.JSONSchemaProps) bool {
	return slices.ContainsFunc(schema.XValidations, func(r apiextensionsv1.ValidationRule) bool { return strings.Contains(r.Message, notAlive) })
}

func isRefusedWhole(schema *apiextensionsv1.JSONSchemaProps) bool {
	return slices.ContainsFunc(schema.XValidations, func(r apiextensionsv1.ValidationRule) bool { return r.Rule == "false" })
}
