// SPDX-License-Identifier: Apache-2.0

package apply

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"strings"
	"sync"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/resourceversion"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/apiutil"

	"github.com/mqtt-operator/mqtt-operator/api/v1alpha1"
	"github.com/mqtt-operator/mqtt-operator/controllers/verdict"
)

const (
	// FieldOwner is the field manager of everything that the operator writes.
	FieldOwner = "mqtt-operator"
	// DigestAnnotation holds the digest of what was last applied, so that a field which is no longer wanted is noticed
	// without keeping every object's managedFields in memory. Values of Secrets are not part of it.
	DigestAnnotation = "mqtt-operator.io/applied"
)

// ConflictError says that an object of the wanted name exists and is not ours.
type ConflictError struct{ Kind, Name string }

func (e *ConflictError) Error() string {
	return fmt.Sprintf("%s %s exists and was not made for this object; delete or rename it, then it is made within 15 s", e.Kind, e.Name)
}

// RefusedError says that the API server refused an object as invalid or forbidden: trying again does not help.
type RefusedError struct {
	Kind, Name string
	Err        error
}

func (e *RefusedError) Error() string {
	return fmt.Sprintf("the API server refused %s %s: %v", e.Kind, e.Name, e.Err)
}

func (e *RefusedError) Unwrap() error { return e.Err }

// ConflictRecheck is when a name that somebody else holds is tried again; no event tells that it got free.
const ConflictRecheck = 15 * time.Second

// Verdict turns the errors above into what a walk understands; others it returns as they are.
func Verdict(err error) error {
	var (
		conflict *ConflictError
		refused  *RefusedError
	)
	switch {
	case errors.As(err, &conflict):
		return &verdict.Waiting{Finding: verdict.Finding{Reason: v1alpha1.ReasonObjectConflict, Message: conflict.Error()}, For: ConflictRecheck}
	case errors.As(err, &refused):
		return &verdict.Stalled{Finding: verdict.Finding{Reason: v1alpha1.ReasonApplyRefused, Message: refused.Error()}}
	default:
		return err
	}
}

// Writer writes objects of one owner at a time.
type Writer struct {
	cached client.Client
	live   client.Reader
	// statuses says how new an object must be to hold what we last wrote into its status.
	statuses recent
}

// NewWriter takes the cached client that reads and writes, and a reader past the cache: the cache holds only Secrets
// with our label, and a foreign one must be seen before it is written over.
func NewWriter(cached client.Client, live client.Reader) *Writer {
	return &Writer{cached: cached, live: live}
}

// All makes the cluster hold objects, in order, controlled by owner, and returns those that it had to write. Where one
// of the names is somebody else's, none is written. It stops at the first error. What has a UID follows from how
// the object with that one stood: it is a conflict if that is gone by now. A StatefulSet or Deployment without one is a conflict if
// there is one.
func (w *Writer) All(ctx context.Context, owner client.Object, objects []client.Object) ([]client.Object, error) {
	ownerKind, err := apiutil.GVKForObject(owner, w.cached.Scheme())
	if err != nil {
		return nil, fmt.Errorf("owner: %w", err)
	}
	var plan []change
	for _, object := range objects {
		needed, err := w.compare(ctx, owner, ownerKind, object)
		if err != nil {
			return nil, err
		}
		if needed != nil {
			plan = append(plan, change{object, needed})
		}
	}
	var written []client.Object
	for _, c := range plan {
		if err := w.write(ctx, c.wanted); err != nil {
			return written, err
		}
		written = append(written, c.object)
	}
	return written, nil
}

// change is an object that differs from what stands in the cluster, and what is to be applied for it.
type change struct {
	object client.Object
	wanted *unstructured.Unstructured
}

// compare is what is to be applied for object, or nil where the cluster holds it already.
func (w *Writer) compare(ctx context.Context, owner client.Object, ownerKind schema.GroupVersionKind, object client.Object) (*unstructured.Unstructured, error) {
	kind, err := apiutil.GVKForObject(object, w.cached.Scheme())
	if err != nil {
		return nil, fmt.Errorf("object: %w", err)
	}
	cached, err := w.fromCache(ctx, object, kind)
	if err != nil {
		return nil, err
	}
	reference := *metav1.NewControllerRef(owner, ownerKind)
	if same, err := isSameSecret(reference, object, cached, kind); same || err != nil {
		return nil, err
	}
	wanted, err := asWanted(object, kind)
	if err != nil {
		return nil, err
	}
	wanted.SetOwnerReferences([]metav1.OwnerReference{reference})
	current, err := w.observe(ctx, object, cached, kind)
	switch {
	case err != nil:
		return nil, err
	case current == nil && object.GetUID() != "":
		return nil, behind(object, kind)
	case current == nil:
		return wanted, nil
	case !metav1.IsControlledBy(current, owner):
		return nil, &ConflictError{Kind: kind.Kind, Name: object.GetName()}
	case (object.GetUID() != "" || runsPods(kind)) && current.GetUID() != object.GetUID():
		return nil, behind(object, kind)
	}
	if isAsWanted(wanted, current) {
		return nil, nil
	}
	wanted.SetUID(current.GetUID()) // a precondition: not what came in its place meanwhile
	if kind.Kind == "Secret" {
		// A second one: keys, passwords and revisions follow from what the Secret held, so an old look at it must not
		// decide.
		wanted.SetResourceVersion(current.GetResourceVersion())
	}
	return wanted, nil
}

func (w *Writer) write(ctx context.Context, wanted *unstructured.Unstructured, options ...client.ApplyOption) error {
	options = append(options, client.FieldOwner(FieldOwner), client.ForceOwnership)
	err := w.cached.Apply(ctx, client.ApplyConfigurationFromUnstructured(wanted), options...)
	switch {
	case apierrors.IsInvalid(err), apierrors.IsForbidden(err) && !apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause):
		return &RefusedError{Kind: wanted.GetKind(), Name: wanted.GetName(), Err: err}
	case err != nil:
		return fmt.Errorf("%s %s: %w", wanted.GetKind(), wanted.GetName(), err)
	}
	return nil
}

// isSameSecret is the short way to the answer that nothing differs: a broker's users stand in megabytes of shards, most
// of which no change touches, and the bytes are compared before anything is made of them.
func isSameSecret(reference metav1.OwnerReference, object, cached client.Object, kind schema.GroupVersionKind) (bool, error) {
	wanted, isSecret := object.(*corev1.Secret)
	current, isCached := cached.(*corev1.Secret)
	if !isSecret || !isCached || !maps.EqualFunc(wanted.Data, current.Data, bytes.Equal) {
		return false, nil
	}
	want, err := asWanted(withoutValues(wanted), kind)
	if err != nil {
		return false, err
	}
	want.SetOwnerReferences([]metav1.OwnerReference{reference})
	have, err := asUnstructured(withoutValues(current), kind)
	return err == nil && isAsWanted(want, have), err
}

// withoutValues is a Secret with its keys alone.
func withoutValues(secret *corev1.Secret) *corev1.Secret {
	shell := *secret
	shell.Data = make(map[string][]byte, len(secret.Data))
	for key := range secret.Data {
		shell.Data[key] = []byte{}
	}
	return &shell
}

// fromCache is what the cache holds under the name of object, or nil.
func (w *Writer) fromCache(ctx context.Context, object client.Object, kind schema.GroupVersionKind) (client.Object, error) {
	found, err := w.blank(object, kind)
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", kind.Kind, object.GetName(), err)
	}
	switch err := w.cached.Get(ctx, client.ObjectKeyFromObject(object), found); {
	case apierrors.IsNotFound(err):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("%s %s: %w", kind.Kind, object.GetName(), err)
	default:
		return found, nil
	}
}

// blank is an object of that kind with nothing in it, untyped as the example is where the kind is no part of the scheme:
// those of cert-manager are not.
func (w *Writer) blank(example client.Object, kind schema.GroupVersionKind) (client.Object, error) {
	if _, untyped := example.(runtime.Unstructured); untyped {
		u := &unstructured.Unstructured{}
		u.SetGroupVersionKind(kind)
		return u, nil
	}
	empty, err := w.cached.Scheme().New(kind)
	if err != nil {
		return nil, err
	}
	typed, ok := empty.(client.Object)
	if !ok {
		return nil, fmt.Errorf("%T is no object", empty)
	}
	return typed, nil
}

// observe is the object of that name, or nil. What the cache does not hold is looked up live, by metadata only.
func (w *Writer) observe(ctx context.Context, object, cached client.Object, kind schema.GroupVersionKind) (*unstructured.Unstructured, error) {
	if cached != nil {
		return asUnstructured(cached, kind)
	}
	key := client.ObjectKeyFromObject(object)
	there := &metav1.PartialObjectMetadata{}
	there.SetGroupVersionKind(kind)
	err := w.live.Get(ctx, key, there)
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", kind.Kind, key.Name, err)
	}
	if kind.Kind == "Secret" && there.GetLabels()[v1alpha1.LabelAllow] == v1alpha1.AllowOwned {
		return nil, behind(object, kind)
	}
	found := &unstructured.Unstructured{}
	found.SetUID(there.GetUID())
	found.SetResourceVersion(there.GetResourceVersion())
	found.SetOwnerReferences(there.GetOwnerReferences())
	return found, nil
}

// runsPods tells of which kinds a caller has to know how they stand, since what he wishes of them follows from it: by the UID
// of the one that he has looked at, none where there was none. A StatefulSet that is taken for one that does not exist yet would
// get another template with no word about why pods are replaced, and outside of the maintenance windows.
func runsPods(kind schema.GroupVersionKind) bool {
	return kind.Group == appsv1.GroupName
}

// behind is a conflict: what was looked at is not what stands. The next look sees more.
func behind(object client.Object, kind schema.GroupVersionKind) error {
	return apierrors.NewConflict(schema.GroupResource{Group: kind.Group, Resource: strings.ToLower(kind.Kind)}, object.GetName(), errors.New("it was looked at before it stood as it does"))
}

// Prune deletes those of candidates that owner controls and that are not among wanted.
func (w *Writer) Prune(ctx context.Context, owner client.Object, candidates, wanted []client.Object) error {
	keep := map[string]bool{}
	for _, object := range wanted {
		keep[fmt.Sprintf("%T/%s", object, object.GetName())] = true
	}
	for _, object := range candidates {
		if keep[fmt.Sprintf("%T/%s", object, object.GetName())] || !metav1.IsControlledBy(object, owner) || object.GetDeletionTimestamp() != nil {
			continue
		}
		uid := object.GetUID()
		if err := w.cached.Delete(ctx, object, client.Preconditions{UID: &uid}); client.IgnoreNotFound(err) != nil {
			return fmt.Errorf("%T %s: %w", object, object.GetName(), err)
		}
	}
	return nil
}

// TakeBack deletes the object of that kind and name where owner controls it. A kind that the cluster does not have needs no
// deleting.
func (w *Writer) TakeBack(ctx context.Context, owner, object client.Object) error {
	err := w.cached.Get(ctx, client.ObjectKeyFromObject(object), object)
	switch {
	case apierrors.IsNotFound(err), meta.IsNoMatchError(err):
		return nil
	case err != nil:
		return fmt.Errorf("%T %s: %w", object, object.GetName(), err)
	default:
		return w.Prune(ctx, owner, []client.Object{object}, nil)
	}
}

// Grow lets a claim ask for a larger volume; with dry it only asks whether that would be taken. A [RefusedError] says that
// it is not.
func (w *Writer) Grow(ctx context.Context, claim *corev1.PersistentVolumeClaim, size resource.Quantity, dry bool) error {
	wanted := &unstructured.Unstructured{Object: map[string]any{"spec": map[string]any{
		"resources": map[string]any{"requests": map[string]any{string(corev1.ResourceStorage): size.String()}},
	}}}
	wanted.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("PersistentVolumeClaim"))
	wanted.SetName(claim.Name)
	wanted.SetNamespace(claim.Namespace)
	wanted.SetUID(claim.UID) // a precondition: not what came in its place meanwhile
	if dry {
		return w.write(ctx, wanted, client.DryRunAll)
	}
	return w.write(ctx, wanted)
}

// Orphan deletes an object that owner controls, and leaves alone what that object controls itself. It is a conflict if the
// object is another one by now than the one that was looked at.
func (w *Writer) Orphan(ctx context.Context, owner, object client.Object) error {
	if !metav1.IsControlledBy(object, owner) || object.GetDeletionTimestamp() != nil {
		return nil
	}
	uid, version := object.GetUID(), object.GetResourceVersion()
	err := w.cached.Delete(ctx, object, client.Preconditions{UID: &uid, ResourceVersion: &version}, client.PropagationPolicy(metav1.DeletePropagationOrphan))
	if client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("%T %s: %w", object, object.GetName(), err)
	}
	return nil
}

// Status writes the status of object by server-side apply. The object's resourceVersion is a precondition: a status
// computed from an old look at the object is not written.
func (w *Writer) Status(ctx context.Context, object client.Object) error {
	kind, err := apiutil.GVKForObject(object, w.cached.Scheme())
	if err != nil {
		return fmt.Errorf("status: %w", err)
	}
	whole, err := asUnstructured(object, kind)
	if err != nil {
		return err
	}
	wanted := &unstructured.Unstructured{Object: map[string]any{"status": whole.Object["status"]}}
	wanted.SetGroupVersionKind(kind)
	wanted.SetName(object.GetName())
	wanted.SetNamespace(object.GetNamespace())
	wanted.SetResourceVersion(object.GetResourceVersion())
	err = w.cached.Status().Apply(ctx, client.ApplyConfigurationFromUnstructured(wanted), client.FieldOwner(FieldOwner), client.ForceOwnership)
	if client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("status: %w", err)
	}
	if err == nil {
		w.statuses.put(object.GetUID(), wanted.GetResourceVersion())
	}
	return nil
}

// Seen is to be asked where a status needs no writing: it is a conflict when object is older than the status that we
// wrote last. What was compared then was not what stands in the cluster, and nothing would wake the reconciler again.
func (w *Writer) Seen(object client.Object) error {
	written := w.statuses.get(object.GetUID())
	if order, err := resourceversion.CompareResourceVersion(object.GetResourceVersion(), written); err == nil && order < 0 {
		return apierrors.NewConflict(schema.GroupResource{Group: v1alpha1.GroupVersion.Group, Resource: "status"}, object.GetName(),
			errors.New("the cache is behind our own last write"))
	}
	return nil
}

// remembered is how many writes of a status are remembered: more than can happen before the cache has caught up.
const remembered = 1024

// recent holds the resource versions that our last writes gave to objects. The zero value is ready.
type recent struct {
	mu       sync.Mutex
	versions map[types.UID]string
	ring     [remembered]types.UID
	next     int
}

func (r *recent) put(uid types.UID, version string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.versions == nil {
		r.versions = map[types.UID]string{}
	}
	if _, found := r.versions[uid]; !found {
		delete(r.versions, r.ring[r.next])
		r.ring[r.next] = uid
		r.next = (r.next + 1) % remembered
	}
	r.versions[uid] = version
}

func (r *recent) get(uid types.UID) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.versions[uid]
}

// asWanted is object as it is applied: no status, no server-side metadata, with the digest of it all.
func asWanted(object client.Object, kind schema.GroupVersionKind) (*unstructured.Unstructured, error) {
	wanted, err := asUnstructured(object, kind)
	if err != nil {
		return nil, err
	}
	unstructured.RemoveNestedField(wanted.Object, "status")
	unstructured.RemoveNestedField(wanted.Object, "metadata", "creationTimestamp")
	unstructured.RemoveNestedField(wanted.Object, "metadata", "uid") // says which one was looked at, and is no wish
	dropNulls(wanted.Object)
	digested := wanted.DeepCopy()
	if data, found := digested.Object["data"].(map[string]any); found && kind.Kind == "Secret" {
		for key := range data {
			data[key] = ""
		}
	}
	text, err := json.Marshal(digested.Object)
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", kind.Kind, object.GetName(), err)
	}
	sum := sha256.Sum256(text)
	annotations := wanted.GetAnnotations()
	if annotations == nil {
		annotations = map[string]string{}
	}
	annotations[DigestAnnotation] = hex.EncodeToString(sum[:8])
	wanted.SetAnnotations(annotations)
	return wanted, nil
}

func asUnstructured(object client.Object, kind schema.GroupVersionKind) (*unstructured.Unstructured, error) {
	content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(object)
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", kind.Kind, object.GetName(), err)
	}
	result := &unstructured.Unstructured{Object: content}
	result.SetGroupVersionKind(kind)
	return result, nil
}

// isAsWanted reports whether every field that is wanted stands in current. A field that was wanted once and is not
// any more shows in the digest, which is one of the fields.
func isAsWanted(wanted, current *unstructured.Unstructured) bool {
	if data, found := wanted.Object["data"].(map[string]any); found && wanted.GetKind() == "Secret" {
		if present, _ := current.Object["data"].(map[string]any); len(present) != len(data) {
			return false
		}
	}
	return contains(current.Object, wanted.Object)
}

func contains(current, wanted any) bool {
	switch wanted := wanted.(type) {
	case map[string]any:
		current, ok := current.(map[string]any)
		if !ok {
			return len(wanted) == 0 && current == nil
		}
		for key, value := range wanted {
			if !contains(current[key], value) {
				return false
			}
		}
		return true
	case []any:
		current, ok := current.([]any)
		if !ok || len(current) != len(wanted) {
			return len(wanted) == 0 && len(current) == 0
		}
		for i, value := range wanted {
			if !contains(current[i], value) {
				return false
			}
		}
		return true
	default:
		return current == wanted
	}
}

// dropNulls removes what the typed objects write for "not set": in a server-side apply a null would be a wish.
func dropNulls(object map[string]any) {
	for key, value := range object {
		switch value := value.(type) {
		case nil:
			delete(object, key)
		case map[string]any:
			dropNulls(value)
		case []any:
			for _, item := range value {
				if child, ok := item.(map[string]any); ok {
					dropNulls(child)
				}
			}
		}
	}
}
