// SPDX-License-Identifier: Apache-2.0

package olm

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/operator-framework/api/pkg/manifests"
	"github.com/operator-framework/api/pkg/operators/v1alpha1"
	"github.com/operator-framework/api/pkg/validation"
	interfaces "github.com/operator-framework/api/pkg/validation/interfaces"
	"sigs.k8s.io/yaml"
)

const bundle = "../../bundle"

// validators are all there are, but for one that their authors gave up (community) and one that pulls the images.
var validators = interfaces.Validators{
	validation.ClusterServiceVersionValidator,
	validation.CustomResourceDefinitionValidator,
	validation.BundleValidator,
	validation.OperatorHubV2Validator,
	validation.StandardCapabilitiesValidator,
	validation.StandardCategoriesValidator,
	validation.ObjectValidator,
	validation.OperatorGroupValidator,
	validation.AlphaDeprecatedAPIsValidator,
	validation.GoodPracticesValidator,
}

// noVersion begins a warning about rules for events. A rule names a group and no version; this one is for the group in which
// events have been since v1, and the validator takes it for the older version of it.
const noVersion = "this bundle is using APIs which were deprecated and removed in v1.25. More info: " +
	"https://kubernetes.io/docs/reference/using-api/deprecation-guide/#v1-25. Migrate the API(s) for events: ([" +
	`"ClusterServiceVersion.Spec.InstallStrategy.StrategySpec.Permissions[`

// findings are the errors and warnings about a folder. Warnings count, all but one.
func findings(folder string) ([]string, error) {
	loaded, err := manifests.GetBundleFromDir(folder)
	if err != nil {
		return nil, err
	}
	var found []string
	for _, result := range validators.Validate(loaded.ObjectsToValidate()...) {
		for _, problem := range append(result.Errors, result.Warnings...) {
			if text := fmt.Sprintf("%s: %v", result.Name, problem); !strings.Contains(text, noVersion) {
				found = append(found, text)
			}
		}
	}
	return found, nil
}

func TestValidatorsFindNothing(t *testing.T) {
	found, err := findings(bundle)
	if err != nil {
		t.Fatal(err)
	}
	for _, problem := range found {
		t.Error(problem)
	}
}

// That they find nothing would say little if they did not look.
func TestValidatorsFindWhatIsWrong(t *testing.T) {
	const version = "manifests/mqtt-operator.clusterserviceversion.yaml"
	cases := map[string]struct{ reason, file, from, to, want string }{
		"a kind that is not there":   {"OLM would refuse the bundle", version, "kind: MQTTUser\n", "kind: MQTTPerson\n", "not found in bundle"},
		"a capability nobody knows":  {"the hub would refuse it", version, "capabilities: Seamless Upgrades", "capabilities: Everything", "Everything"},
		"a category nobody knows":    {"as above", version, "categories: Streaming & Messaging", "categories: Toys", "Toys"},
		"no way to install":          {"nobody could install it", version, "supported: true", "supported: false", "none of InstallModeTypes are supported"},
		"a channel of one's own":     {"people could not tell what it promises", "metadata/annotations.yaml", "candidate", "ours", `"ours"`},
		"a budget that blocks":       {"nodes could not be drained", "manifests/mqtt-operator.poddisruptionbudget.yaml", "maxUnavailable: 1", "maxUnavailable: 0", "maxUnavailable field cannot be set to 0"},
		"an example of another kind": {"a console would offer what is not there", version, `"kind": "MQTTBroker"`, `"kind": "Broker"`, "example must have a provided API"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			folder := filepath.Join(t.TempDir(), "bundle")
			if err := os.CopyFS(folder, os.DirFS(bundle)); err != nil {
				t.Fatal(err)
			}
			path := filepath.Join(folder, c.file)
			text, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			changed := strings.ReplaceAll(string(text), c.from, c.to)
			if changed == string(text) {
				t.Fatalf("%s has no %q", c.file, c.from)
			}
			if err := os.WriteFile(path, []byte(changed), 0o600); err != nil {
				t.Fatal(err)
			}
			found, err := findings(folder)
			if err != nil {
				found = append(found, err.Error())
			}
			if !slices.ContainsFunc(found, func(s string) bool { return strings.Contains(s, c.want) }) {
				t.Errorf("found %q, want one with %q: %s", found, c.want, c.reason)
			}
		})
	}
}

// A field that OLM does not know would be dropped in silence.
func TestNoFieldIsUnknown(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(bundle, "manifests/mqtt-operator.clusterserviceversion.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var version v1alpha1.ClusterServiceVersion
	if err := yaml.UnmarshalStrict(text, &version); err != nil {
		t.Fatal(err)
	}
	if len(version.Spec.CustomResourceDefinitions.Owned) != 4 || len(version.Spec.RelatedImages) != 2 || version.Spec.Version.String() == "0.0.0" {
		t.Errorf("got %+v", version.Spec)
	}
}
