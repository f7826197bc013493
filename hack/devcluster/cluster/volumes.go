// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/mqtt-operator/mqtt-operator/hack/devcluster/kube"
)

// provisioner is the name by which storage classes ask for our volumes.
const provisioner = "devcluster.mqtt-operator/local"

const (
	provisionerAnnotation   = "volume.kubernetes.io/storage-provisioner"
	selectedNodeAnnotation  = "volume.kubernetes.io/selected-node"
	provisionedByAnnotation = "pv.kubernetes.io/provisioned-by"
)

// volumes makes, grows and deletes the volumes of one node. Each is a directory; its size is only noted.
type volumes struct {
	client *kube.Client
	node   string
	// dir is where the node has the directories.
	dir string
}

// The parts of the API's objects that are looked at.
type (
	claim struct {
		Metadata metadata `json:"metadata"`
		Spec     struct {
			VolumeName       string   `json:"volumeName"`
			StorageClassName string   `json:"storageClassName"`
			AccessModes      []string `json:"accessModes"`
			VolumeMode       string   `json:"volumeMode"`
			Resources        struct {
				Requests map[string]string `json:"requests"`
			} `json:"resources"`
		} `json:"spec"`
		Status struct {
			Phase    string            `json:"phase"`
			Capacity map[string]string `json:"capacity"`
		} `json:"status"`
	}
	volume struct {
		Metadata metadata `json:"metadata"`
		Spec     struct {
			Capacity map[string]string `json:"capacity"`
			Reclaim  string            `json:"persistentVolumeReclaimPolicy"`
			Local    struct {
				Path string `json:"path"`
			} `json:"local"`
		} `json:"spec"`
		Status struct {
			Phase string `json:"phase"`
		} `json:"status"`
	}
	class struct {
		Metadata    metadata `json:"metadata"`
		Reclaim     string   `json:"reclaimPolicy"`
		BindingMode string   `json:"volumeBindingMode"`
	}
	metadata struct {
		Name              string            `json:"name"`
		Namespace         string            `json:"namespace"`
		UID               string            `json:"uid"`
		Annotations       map[string]string `json:"annotations"`
		DeletionTimestamp string            `json:"deletionTimestamp"`
		ResourceVersion   string            `json:"resourceVersion"`
	}
	list[T any] struct {
		Metadata metadata `json:"metadata"`
		Items    []T      `json:"items"`
	}
)

const (
	claimsPath  = "/api/v1/persistentvolumeclaims"
	volumesPath = "/api/v1/persistentvolumes"
	classesPath = "/apis/storage.k8s.io/v1/storageclasses"
)

// run keeps the volumes as the claims want them. An error is told and tried again: the API server may be restarting.
func (v *volumes) run(ctx context.Context) {
	for ctx.Err() == nil {
		if err := v.follow(ctx); err != nil && ctx.Err() == nil {
			fmt.Println(time.Now().Format(time.RFC3339), "volumes:", err)
			select {
			case <-ctx.Done():
			case <-time.After(time.Second):
			}
		}
	}
}

const (
	// look bounds one look at all claims and volumes, and what it leads to.
	look = 20 * time.Second
	// recheck is when it is looked again if nothing is heard of: what a watch has missed must not wait for ever.
	recheck = 10 * time.Second
)

// follow works off the present state, and again after each change of it, until a watch ends.
func (v *volumes) follow(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	claimsVersion, volumesVersion, err := v.reconcile(ctx)
	if err != nil {
		return err
	}
	// One slot: a change that arrives during a pass causes exactly one more pass.
	changed := make(chan struct{}, 1)
	notify := func() {
		select {
		case changed <- struct{}{}:
		default:
		}
	}
	ended := make(chan error, 2)
	go func() { ended <- v.client.Watch(ctx, claimsPath, claimsVersion, notify) }()
	go func() { ended <- v.client.Watch(ctx, volumesPath, volumesVersion, notify) }()
	for {
		select {
		case err := <-ended:
			return err
		case <-changed:
		case <-time.After(recheck):
		}
		if _, _, err := v.reconcile(ctx); err != nil {
			return err
		}
	}
}

// reconcile does for each claim and volume what is to be done. What fails for one holds up no other.
func (v *volumes) reconcile(ctx context.Context) (claimsVersion, volumesVersion string, err error) {
	ctx, cancel := context.WithTimeout(ctx, look)
	defer cancel()
	var claims list[claim]
	var existing list[volume]
	var classes list[class]
	for path, into := range map[string]any{claimsPath: &claims, volumesPath: &existing, classesPath: &classes} {
		if err := v.client.Get(ctx, path, into); err != nil {
			return "", "", err
		}
	}
	var failed []error
	byName := map[string]volume{}
	for _, pv := range existing.Items {
		byName[pv.Metadata.Name] = pv
		if v.expired(pv) {
			failed = append(failed, v.remove(ctx, pv))
		}
	}
	byClass := map[string]class{}
	for _, c := range classes.Items {
		byClass[c.Metadata.Name] = c
	}
	for _, pvc := range claims.Items {
		if _, made := byName[volumeName(pvc)]; !made && v.wanted(pvc, byClass[pvc.Spec.StorageClassName]) {
			failed = append(failed, v.create(ctx, pvc, byClass[pvc.Spec.StorageClassName]))
		}
		if pv := byName[pvc.Spec.VolumeName]; v.grown(pvc, pv) {
			failed = append(failed, v.grow(ctx, pvc, pv))
		}
	}
	return claims.Metadata.ResourceVersion, existing.Metadata.ResourceVersion, errors.Join(failed...)
}

func volumeName(pvc claim) string { return "pvc-" + pvc.Metadata.UID }

// wanted is whether a claim waits for a volume on this node.
func (v *volumes) wanted(pvc claim, c class) bool {
	if pvc.Metadata.Annotations[provisionerAnnotation] != provisioner || pvc.Metadata.DeletionTimestamp != "" ||
		pvc.Spec.VolumeName != "" || pvc.Spec.VolumeMode == "Block" {
		return false
	}
	selected := pvc.Metadata.Annotations[selectedNodeAnnotation]
	// A class that binds at once leaves the choice to us; the scheduler then follows the volume.
	return selected == v.node || selected == "" && c.BindingMode == "Immediate"
}

func (v *volumes) ours(pv volume) bool {
	return pv.Metadata.Annotations[provisionedByAnnotation] == provisioner && pv.Spec.Local.Path == v.path(pv.Metadata.Name)
}

func (v *volumes) path(name string) string { return filepath.Join(v.dir, name) }

// expired is whether the claim of a volume is gone, and the volume is to go with it.
func (v *volumes) expired(pv volume) bool {
	return v.ours(pv) && pv.Status.Phase == "Released" && pv.Spec.Reclaim == "Delete"
}

// grown is whether a claim asks for another size than it is noted to have; the API server lets it only ask for more.
func (v *volumes) grown(pvc claim, pv volume) bool {
	return v.ours(pv) && pvc.Status.Phase == "Bound" &&
		pvc.Spec.Resources.Requests["storage"] != pvc.Status.Capacity["storage"]
}

func (v *volumes) create(ctx context.Context, pvc claim, c class) error {
	name := volumeName(pvc)
	// As a fresh disk is mounted: root's, and only fsGroup opens it to a pod that is not root.
	if err := os.MkdirAll(v.path(name), 0o755); err != nil {
		return err
	}
	return v.client.Apply(ctx, volumesPath+"/"+name, kube.Object{
		"apiVersion": "v1", "kind": "PersistentVolume",
		"metadata": object{"name": name, "annotations": object{provisionedByAnnotation: provisioner}},
		"spec": object{
			"capacity":                      object{"storage": pvc.Spec.Resources.Requests["storage"]},
			"accessModes":                   pvc.Spec.AccessModes,
			"persistentVolumeReclaimPolicy": c.Reclaim,
			"storageClassName":              pvc.Spec.StorageClassName,
			"claimRef": object{
				"apiVersion": "v1", "kind": "PersistentVolumeClaim",
				"namespace": pvc.Metadata.Namespace, "name": pvc.Metadata.Name, "uid": pvc.Metadata.UID,
			},
			"local": object{"path": v.path(name)},
			"nodeAffinity": object{"required": object{"nodeSelectorTerms": []object{{"matchExpressions": []object{{
				"key": "kubernetes.io/hostname", "operator": "In", "values": []string{v.node},
			}}}}}},
		},
	})
}

func (v *volumes) remove(ctx context.Context, pv volume) error {
	if err := os.RemoveAll(v.path(pv.Metadata.Name)); err != nil {
		return err
	}
	return v.client.Delete(ctx, volumesPath+"/"+pv.Metadata.Name)
}

func (v *volumes) grow(ctx context.Context, pvc claim, pv volume) error {
	size := object{"storage": pvc.Spec.Resources.Requests["storage"]}
	err := v.client.Patch(ctx, volumesPath+"/"+pv.Metadata.Name, kube.Object{"spec": object{"capacity": size}})
	if err != nil {
		return err
	}
	path := "/api/v1/namespaces/" + pvc.Metadata.Namespace + "/persistentvolumeclaims/" + pvc.Metadata.Name + "/status"
	return v.client.Patch(ctx, path, kube.Object{"status": object{"capacity": size, "conditions": nil}})
}
