// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	kjson "k8s.io/apimachinery/pkg/util/json"
	"k8s.io/apimachinery/pkg/util/jsonmergepatch"
	kyaml "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/mqtt-operator/mqtt-operator/api/v1alpha1"
)

// diffInfo is what diff prints with -o json. Fields are added, never changed.
type diffInfo struct {
	// Changes says that applying the files would change something, Disturbs that somebody who is connected would notice.
	Changes  bool `json:"changes"`
	Disturbs bool `json:"disturbs"`
	// Refused says that the API server takes an object not.
	Refused bool          `json:"refused"`
	Objects []*objectDiff `json:"objects"`
	// Notes are what could not be read, and what was not looked at.
	Notes []string `json:"notes,omitempty"`
}

// What becomes of an object.
const (
	diffCreated   = "created"
	diffChanged   = "changed"
	diffUnchanged = "unchanged"
	diffDeleted   = "deleted" // with --prune
	diffRefused   = "refused"
)

// objectDiff is one object of the files.
type objectDiff struct {
	Kind      string `json:"kind"`
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	// Action is created, changed, unchanged, deleted or refused.
	Action string `json:"action"`
	// Refusal is why the API server does not take it.
	Refusal string        `json:"refusal,omitempty"`
	Fields  []fieldChange `json:"fields,omitempty"`
	Effects []effect      `json:"effects,omitempty"`

	before, after *unstructured.Unstructured
}

// fieldChange is a field with another value. Before and After are absent where the object does not say it.
type fieldChange struct {
	// Field is a path; entries of lists are named by what tells them apart, such as spec.listeners[mqtts].port.
	Field  string `json:"field"`
	Before any    `json:"before,omitempty"`
	After  any    `json:"after,omitempty"`
	// Change is what the table of the API says of such a field: live, restart or scale.
	Change string `json:"change"`
}

// effect is something that would happen. Fields are added, never changed.
type effect struct {
	// What is a word for programs, such as PodsReplaced.
	What string `json:"what"`
	// Disturbs says that somebody who is connected notices.
	Disturbs bool   `json:"disturbs"`
	Text     string `json:"text"`
	// Pods that are replaced or ended, in that order.
	Pods []string `json:"pods,omitempty"`
	// Reason is the one that status.lastRestart will have.
	Reason string `json:"reason,omitempty"`
	// Clients is how many were connected to those pods at the last look.
	Clients int32 `json:"clients,omitempty"`
	// Window that it waits for, and when that opens.
	Window string       `json:"window,omitempty"`
	Opens  *metav1.Time `json:"opens,omitempty"`
	// Users whom it is about, as namespace/name.
	Users []string `json:"users,omitempty"`
}

// diffOptions are the flags of diff.
type diffOptions struct {
	connection

	files               []string
	output, manager     string
	recursive, prune    bool
	serverSide, forcing bool
}

func diff(s streams, open opener) *cobra.Command {
	o := diffOptions{}
	c := &cobra.Command{
		Use:   "diff -f FILE",
		Short: "Say what applying a file would change, and whom it would disturb",
		Long: "Say what kubectl apply of a file would change of the four kinds, and whom it would disturb: which pods are replaced,\n" +
			"in which order and when, which clients are disconnected, which rules narrow for whom. The API server is asked by a\n" +
			"dry run, so that what it refuses is refused here, too. Nothing is changed. Objects of other kinds are passed over.\n\n" +
			"Exit codes: 0 no change, 1 changes, 2 a wrong command line or file, 3 an object is refused, 4 no answer.",
		Example: "  kubectl mqtt diff -f plant.yaml -n factory\n" +
			"  kubectl mqtt diff -f deploy/ -R --prune\n" +
			"  kustomize build . | kubectl mqtt diff -f - -o json",
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if len(o.files) == 0 {
				return usage("-f is needed: a file, a directory, or - for standard input")
			}
			wanted, err := readObjects(o.files, o.recursive, c.InOrStdin())
			if err != nil {
				return &exit{exitUsage, err}
			}
			at, namespace, err := open(o.connection)
			if err != nil {
				return &exit{exitUnknown, err}
			}
			info, err := at.diff(c.Context(), &o, namespace, wanted)
			if err != nil {
				return err
			}
			if o.output != "" && o.output != wide {
				err = printAs(s.out, o.output, info)
			} else {
				info.print(s, o.output == wide)
			}
			if err != nil {
				return &exit{exitUnknown, err}
			}
			switch {
			case info.Refused:
				return &exit{code: exitIncomplete}
			case info.Changes:
				return &exit{code: exitNo}
			}
			return nil
		},
	}
	o.clusterFlags(c)
	c.Flags().StringSliceVarP(&o.files, "filename", "f", nil, "file, directory, or - for standard input; may be repeated")
	c.Flags().BoolVarP(&o.recursive, "recursive", "R", false, "directories with all that is below them")
	c.Flags().BoolVar(&o.prune, "prune", false, "take the files for all that there is to be in their namespaces: other objects of the four kinds are deleted")
	c.Flags().BoolVar(&o.serverSide, "server-side", false, "as kubectl apply --server-side")
	c.Flags().StringVar(&o.manager, "field-manager", "kubectl", "with --server-side: who applies")
	c.Flags().BoolVar(&o.forcing, "force-conflicts", false, "with --server-side: take fields from other managers")
	outputFlag(c, &o.output, wide)
	return c
}

// ourKinds are those that are compared, in the order in which a person thinks of them.
var ourKinds = []string{"MQTTBroker", "MQTTAccessPolicy", "MQTTUser", "MQTTBridge"}

// readObjects reads all documents of all files. What stands in a file is nowhere repeated but for names: it may be a Secret.
func readObjects(paths []string, recursive bool, in io.Reader) ([]*unstructured.Unstructured, error) {
	var all []*unstructured.Unstructured
	for _, path := range paths {
		names, err := filesOf(path, recursive)
		if err != nil {
			return nil, err
		}
		for _, name := range names {
			var text []byte
			if name == "-" {
				text, err = io.ReadAll(in)
			} else {
				text, err = os.ReadFile(name)
			}
			if err != nil {
				return nil, err
			}
			objects, err := parseObjects(text)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", name, err)
			}
			all = append(all, objects...)
		}
	}
	return all, nil
}

// filesOf are the files that a path stands for, as kubectl sees it: of a directory those with YAML or JSON.
func filesOf(path string, recursive bool) ([]string, error) {
	if path == "-" {
		return []string{path}, nil
	}
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.IsDir() {
		return []string{path}, nil
	}
	var names []string
	err = filepath.WalkDir(path, func(name string, entry os.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && name != path && !recursive:
			return filepath.SkipDir
		case !entry.IsDir() && slices.Contains([]string{".yaml", ".yml", ".json"}, filepath.Ext(name)):
			names = append(names, name)
		}
		return nil
	})
	if err == nil && len(names) == 0 {
		err = fmt.Errorf("%s: holds no .yaml, .yml or .json file", path)
	}
	return names, err
}

func parseObjects(text []byte) ([]*unstructured.Unstructured, error) {
	reader, n := kyaml.NewYAMLReader(bufio.NewReader(bytes.NewReader(text))), 0
	var all []*unstructured.Unstructured
	for {
		document, err := reader.Read()
		if errors.Is(err, io.EOF) {
			return all, nil
		}
		if err != nil {
			return nil, fmt.Errorf("document %d: cannot be read", n+1)
		}
		n++
		content := map[string]any{}
		if len(bytes.TrimSpace(document)) == 0 {
			continue
		}
		converted, err := yaml.YAMLToJSONStrict(document)
		if err == nil {
			if string(converted) == "null" {
				continue // nothing but comments
			}
			err = kjson.Unmarshal(converted, &content)
		}
		if err != nil {
			return nil, fmt.Errorf("document %d: is no object in YAML or JSON", n)
		}
		object := &unstructured.Unstructured{Object: content}
		if object.GetKind() == "" || object.GetAPIVersion() == "" {
			return nil, fmt.Errorf("document %d: has no apiVersion and kind", n)
		}
		if !object.IsList() {
			all = append(all, object)
			continue
		}
		if err := object.EachListItem(func(item runtime.Object) error {
			if each, isObject := item.(*unstructured.Unstructured); isObject {
				all = append(all, each)
			}
			return nil
		}); err != nil {
			return nil, fmt.Errorf("document %d: its items are no objects", n)
		}
	}
}

// diff asks the API server what would become of each object, and works out what follows from it.
func (s *site) diff(ctx context.Context, o *diffOptions, namespace string, wanted []*unstructured.Unstructured) (*diffInfo, error) {
	info, others, seen := &diffInfo{Objects: []*objectDiff{}}, map[string]int{}, map[string]bool{}
	for _, object := range wanted {
		if object.GroupVersionKind().Group != v1alpha1.GroupVersion.Group || !slices.Contains(ourKinds, object.GetKind()) {
			others[object.GetKind()]++
			continue
		}
		if object.GetName() == "" {
			return nil, usage("an %s of the files has no metadata.name", object.GetKind())
		}
		switch {
		case object.GetNamespace() == "":
			object.SetNamespace(namespace)
		case o.namespace != "" && object.GetNamespace() != o.namespace:
			return nil, usage("%s %s is of namespace %s, and -n says %s", object.GetKind(), object.GetName(), object.GetNamespace(), o.namespace)
		}
		d := &objectDiff{Kind: object.GetKind(), Namespace: object.GetNamespace(), Name: object.GetName()}
		if seen[d.key()] {
			return nil, usage("%s %s/%s stands twice in the files", d.Kind, d.Namespace, d.Name)
		}
		seen[d.key()] = true
		if err := s.dryRun(ctx, o, d, object, info); err != nil {
			return nil, err
		}
		info.Objects = append(info.Objects, d)
	}
	for _, kind := range slices.Sorted(maps.Keys(others)) {
		info.notef("%d of kind %s in the files: not looked at", others[kind], kind)
	}
	if o.prune {
		if err := s.pruned(ctx, info, seen); err != nil {
			return nil, err
		}
	}
	slices.SortStableFunc(info.Objects, func(a, b *objectDiff) int {
		return slices.Index(ourKinds, a.Kind) - slices.Index(ourKinds, b.Kind)
	})
	if err := s.foresee(ctx, info); err != nil {
		return nil, err
	}
	for _, d := range info.Objects {
		info.Changes = info.Changes || d.Action == diffCreated || d.Action == diffChanged || d.Action == diffDeleted
		info.Refused = info.Refused || d.Action == diffRefused
		for i := range d.Effects {
			info.Disturbs = info.Disturbs || d.Effects[i].Disturbs
		}
	}
	return info, nil
}

func (d *objectDiff) key() string { return d.Kind + " " + d.Namespace + "/" + d.Name }

func (i *diffInfo) notef(format string, args ...any) {
	if text := fmt.Sprintf(format, args...); !slices.Contains(i.Notes, text) {
		i.Notes = append(i.Notes, text)
	}
}

// dryRun has the API server say what the object would be. An error is one that leaves the question open; what the API server does
// not take stands in d.
func (s *site) dryRun(ctx context.Context, o *diffOptions, d *objectDiff, object *unstructured.Unstructured, info *diffInfo) error {
	live := &unstructured.Unstructured{}
	live.SetGroupVersionKind(object.GroupVersionKind())
	err := s.Get(ctx, client.ObjectKeyFromObject(object), live)
	stands := err == nil
	if err != nil && !apierrors.IsNotFound(err) {
		return &exit{exitUnknown, fmt.Errorf("%s: %w", d.key(), explained(err))}
	}
	strict := client.WithFieldValidation(s.Client, client.FieldValidation(metav1.FieldValidationStrict))
	after := object.DeepCopy()
	switch {
	case o.serverSide:
		options := []client.ApplyOption{client.DryRunAll, client.FieldOwner(o.manager)}
		if o.forcing {
			options = append(options, client.ForceOwnership)
		}
		err = strict.Apply(ctx, client.ApplyConfigurationFromUnstructured(after), options...)
	case !stands:
		err = strict.Create(ctx, after, client.DryRunAll)
	default:
		if live.GetAnnotations()[corev1.LastAppliedConfigAnnotation] == "" {
			for _, entry := range live.GetManagedFields() {
				if entry.Operation == metav1.ManagedFieldsOperationApply && entry.Subresource == "" {
					info.notef("%s was applied by %s on the server's side: --server-side --field-manager=%s says what that would do", d.key(), entry.Manager, entry.Manager)
				}
			}
		}
		var patch []byte
		if patch, err = threeWay(live, object); err != nil {
			return &exit{exitUnknown, fmt.Errorf("%s: %w", d.key(), err)}
		}
		if after = live.DeepCopy(); string(patch) != "{}" {
			err = strict.Patch(ctx, after, client.RawPatch(types.MergePatchType, patch), client.DryRunAll)
		}
	}
	switch {
	case isRefusal(err):
		d.Action, d.Refusal = diffRefused, refusalOf(err)
		return nil
	case err != nil:
		return &exit{exitUnknown, fmt.Errorf("%s: %w", d.key(), explained(err))}
	}
	d.after = after
	if !stands {
		d.Action = diffCreated
		return nil
	}
	d.before = live
	if d.Fields = changedFields(d.Kind, live, after); len(d.Fields) > 0 {
		d.Action = diffChanged
	} else {
		d.Action = diffUnchanged
	}
	return nil
}

// threeWay is the patch that kubectl apply would send: what the files say, without what they said when they were last applied and
// say no more.
func threeWay(live, wanted *unstructured.Unstructured) ([]byte, error) {
	current, err := live.MarshalJSON()
	if err != nil {
		return nil, err
	}
	modified, err := wanted.MarshalJSON()
	if err != nil {
		return nil, err
	}
	patch, err := jsonmergepatch.CreateThreeWayJSONMergePatch([]byte(live.GetAnnotations()[corev1.LastAppliedConfigAnnotation]), modified, current)
	if err != nil {
		return nil, errors.New("the annotation " + corev1.LastAppliedConfigAnnotation + " cannot be read")
	}
	return patch, nil
}

// isRefusal tells an answer from the lack of one.
func isRefusal(err error) bool {
	return apierrors.IsInvalid(err) || apierrors.IsBadRequest(err) || apierrors.IsConflict(err) || apierrors.IsNotFound(err)
}

// refusalOf is what the API server said, without the words that say once more which object it is about.
func refusalOf(err error) string {
	var status apierrors.APIStatus
	if errors.As(err, &status) && status.Status().Details != nil && len(status.Status().Details.Causes) > 0 {
		var causes []string
		for _, cause := range status.Status().Details.Causes {
			text := cause.Message
			if cause.Field != "" && !strings.HasPrefix(text, cause.Field) {
				text = cause.Field + ": " + text
			}
			if !slices.Contains(causes, text) {
				causes = append(causes, text)
			}
		}
		return strings.Join(causes, "; ")
	}
	return err.Error()
}

// pruned adds the objects that the files do not name and that nobody else owns.
func (s *site) pruned(ctx context.Context, info *diffInfo, seen map[string]bool) error {
	namespaces := map[string]bool{}
	for _, d := range info.Objects {
		namespaces[d.Namespace] = true
	}
	for _, namespace := range slices.Sorted(maps.Keys(namespaces)) {
		for _, kind := range ourKinds {
			list := &unstructured.UnstructuredList{}
			list.SetGroupVersionKind(v1alpha1.GroupVersion.WithKind(kind + "List"))
			if err := s.List(ctx, list, client.InNamespace(namespace)); err != nil {
				return &exit{exitUnknown, explained(err)}
			}
			for i := range list.Items {
				object := &list.Items[i]
				d := &objectDiff{Kind: kind, Namespace: namespace, Name: object.GetName(), Action: diffDeleted, before: object}
				if !seen[d.key()] && metav1.GetControllerOf(object) == nil {
					info.Objects = append(info.Objects, d)
				}
			}
		}
	}
	return nil
}

// print is for people.
func (i *diffInfo) print(s streams, all bool) {
	changed, silent := 0, true
	for _, d := range i.Objects {
		if d.Action == diffUnchanged && !all && len(d.Effects) == 0 {
			continue
		}
		if !silent {
			sayf(s.out, "")
		}
		silent = false
		if d.Action != diffUnchanged {
			changed++
		}
		d.print(s)
	}
	if !silent {
		sayf(s.out, "")
	}
	switch {
	case changed == 0:
		sayf(s.out, "Nothing would change.")
	case i.Refused:
		s.tellf(bad, "The API server refuses what stands here.")
	case i.Disturbs:
		s.tellf(warning, "%s would change, and who is connected would notice.", plural(changed, "object"))
	default:
		s.tellf(well, "%s would change, and nobody who is connected would notice.", plural(changed, "object"))
	}
	for _, note := range i.Notes {
		sayf(s.err, "note: %s", note)
	}
}

func (d *objectDiff) print(s streams) {
	tones := map[string]tone{diffRefused: bad, diffDeleted: warning}
	s.tellf(tones[d.Action], "%s %s/%s: %s", d.Kind, d.Namespace, d.Name, d.Action)
	if d.Refusal != "" {
		sayf(s.out, "  %s", oneLine(d.Refusal))
	}
	if len(d.Fields) > 0 {
		rows := [][]string{{"  FIELD", "BEFORE", "AFTER", "CHANGE"}}
		for _, f := range d.Fields {
			rows = append(rows, []string{"  " + f.Field, cell(f.Before), cell(f.After), f.Change})
		}
		s.tonedTable(rows, nil)
	}
	for n := range d.Effects {
		if e := &d.Effects[n]; e.Disturbs {
			s.tellf(warning, "  ! %s", e.Text)
		} else {
			sayf(s.out, "  - %s", e.Text)
		}
	}
}

// longestCell is how much of a value stands in a table; -o json has all of it.
const longestCell = 60

// cell is a value of a field as it can stand in a table.
func cell(value any) string {
	var text string
	switch value := value.(type) {
	case nil:
		return "-"
	case string:
		text = shown(value)
	default:
		var b bytes.Buffer
		encoder := json.NewEncoder(&b)
		encoder.SetEscapeHTML(false)
		_ = encoder.Encode(value) // it came as JSON
		text = oneLine(b.String())
	}
	if runes := []rune(text); len(runes) > longestCell {
		return string(runes[:longestCell-1]) + "…"
	}
	return text
}
