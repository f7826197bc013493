// SPDX-License-Identifier: Apache-2.0

package controllers_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/mqtt-operator/mqtt-operator/api/v1alpha1"
	"github.com/mqtt-operator/mqtt-operator/controllers/desired"
	"github.com/mqtt-operator/mqtt-operator/controllers/gen"
)

// storageClass makes a class of the world's own.
func (w *world) storageClass(grows bool) *storagev1.StorageClass {
	w.t.Helper()
	class := &storagev1.StorageClass{ObjectMeta: metav1.ObjectMeta{Name: w.namespace}, Provisioner: "example.com/disks", AllowVolumeExpansion: &grows}
	w.create(class)
	w.t.Cleanup(func() { _ = k8s.Delete(context.Background(), class) })
	return class
}

// grow asks for larger volumes.
func (w *world) grow(broker *v1alpha1.MQTTBroker, size string) {
	w.t.Helper()
	change(w, broker, func(b *v1alpha1.MQTTBroker) { b.Spec.Persistence.Size = new(resource.MustParse(size)) })
}

func (w *world) statefulSet() *appsv1.StatefulSet {
	w.t.Helper()
	set := &appsv1.StatefulSet{ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, Name: v1alpha1.StatefulSetName("mq")}}
	w.exists(set)
	return set
}

// sizes are what the StatefulSet makes, what the claim asks for and what it has.
func (w *world) sizes() string {
	w.t.Helper()
	claim := &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, Name: v1alpha1.VolumeClaimName("mq", 0)}}
	w.exists(claim)
	var texts []string
	for _, list := range []corev1.ResourceList{
		w.statefulSet().Spec.VolumeClaimTemplates[0].Spec.Resources.Requests, claim.Spec.Resources.Requests, claim.Status.Capacity,
	} {
		texts = append(texts, list.Storage().String())
	}
	return strings.Join(texts, " ")
}

// steady is a client that is connected.
type steady struct {
	w    *world
	conn net.Conn
	pod  *container
}

func (w *world) steady(user string) *steady {
	w.t.Helper()
	s := &steady{w: w, pod: w.kubelet.of("mq")}
	w.eventually(user+" connects", func() (err error) {
		var code byte
		s.conn, code, err = w.kubelet.open("mq", user, string(w.secret(v1alpha1.BindingSecretName(user)).Data[v1alpha1.BindingPassword]))
		if err == nil && code != 0 {
			err = fmt.Errorf("return code %d", code)
		}
		return err
	})
	w.t.Cleanup(func() { _ = s.conn.Close() })
	return s
}

// undisturbed asks the broker for a sign of life over the connection, and looks at the pod.
func (s *steady) undisturbed() {
	s.w.t.Helper()
	answer := make([]byte, 2)
	_, err := s.conn.Write([]byte{0xC0, 0})
	must(s.w.t, errors.Join(err, s.conn.SetReadDeadline(time.Now().Add(patience))))
	if _, err := io.ReadFull(s.conn, answer); err != nil || answer[0] != 0xD0 {
		s.w.t.Errorf("the client was disturbed: %x %v", answer, err)
	}
	if now := s.w.kubelet.pod("mq").UID; now != s.pod.pod.UID {
		s.w.t.Errorf("pod %s became %s", s.pod.pod.UID, now)
	}
}

// TestVolumesGrow while the pod goes on and its clients stay.
func TestVolumesGrow(t *testing.T) {
	w := newWorld(t)
	class := w.storageClass(true)
	broker, alice := gen.Broker(w.namespace, "mq", gen.WithVolume("1Gi", class.Name)), gen.User(w.namespace, "alice", "mq")
	w.create(broker, alice)
	w.ready(broker, alice)
	guest, before := w.steady("alice"), w.statefulSet()

	w.kubelet.slowDisk.Store(true)
	w.grow(broker, "2Gi")
	w.eventually("the status says what is still to happen", func() error {
		c := w.is(broker, v1alpha1.ConditionProgressing, metav1.ConditionTrue, v1alpha1.ReasonVolumeExpanding)
		if !strings.Contains(c.Message, "Volume data-mq-broker-0 has 1Gi and is to have 2Gi") {
			return errors.New(c.Message)
		}
		return nil
	})
	w.is(broker, v1alpha1.ConditionReady, metav1.ConditionFalse, v1alpha1.ReasonVolumeExpanding)
	w.is(broker, v1alpha1.ConditionAvailable, metav1.ConditionTrue, v1alpha1.ReasonPodsReady)
	w.kubelet.slowDisk.Store(false)
	w.ready(broker)

	after := w.statefulSet()
	if sizes := w.sizes(); sizes != "2Gi 2Gi 2Gi" {
		t.Errorf("sizes %s", sizes)
	}
	if after.UID == before.UID || w.kubelet.of("mq").pod.OwnerReferences[0].UID != after.UID {
		t.Error("another StatefulSet must have taken the pod over")
	}
	if broker.Status.LastRestart != nil {
		t.Errorf("nobody was restarted: %+v", broker.Status.LastRestart)
	}
	guest.undisturbed()

	// An equal size in other words is no change.
	w.grow(broker, "2147483648")
	w.settle()
	if now := w.statefulSet(); now.UID != after.UID {
		t.Error("2147483648 is as much as 2Gi")
	}

	// While nobody is at home, the volume grows, too.
	change(w, broker, func(b *v1alpha1.MQTTBroker) { b.Spec.Replicas = new(int32(0)) })
	w.is(broker, v1alpha1.ConditionReady, metav1.ConditionTrue, v1alpha1.ReasonHibernated)
	w.grow(broker, "3Gi")
	w.eventually("the StatefulSet makes larger volumes", func() error {
		if size := w.statefulSet().Spec.VolumeClaimTemplates[0].Spec.Resources.Requests.Storage().String(); size != "3Gi" {
			return errors.New(size)
		}
		return nil
	})
	change(w, broker, func(b *v1alpha1.MQTTBroker) { b.Spec.Replicas = nil })
	w.ready(broker)
	if sizes := w.sizes(); sizes != "3Gi 3Gi 3Gi" {
		t.Errorf("sizes %s", sizes)
	}
}

// TestAVolumeThatMayNotGrow: it is said in words, nothing is changed, and the broker goes on and takes changes.
func TestAVolumeThatMayNotGrow(t *testing.T) {
	w := newWorld(t)
	class := w.storageClass(false)
	broker, alice := gen.Broker(w.namespace, "mq", gen.WithVolume("1Gi", class.Name)), gen.User(w.namespace, "alice", "mq")
	w.create(broker, alice)
	w.ready(broker, alice)
	guest, before := w.steady("alice"), w.statefulSet().UID
	w.grow(broker, "2Gi")
	for _, kind := range []v1alpha1.ConditionType{v1alpha1.ConditionProgressing, v1alpha1.ConditionReady} {
		c := w.is(broker, kind, metav1.ConditionFalse, v1alpha1.ReasonVolumeExpansionRefused)
		for _, words := range []string{"data-mq-broker-0", class.Name, "stays at 1Gi", "nothing was changed", "must support resize", "allowVolumeExpansion: true"} {
			if !strings.Contains(c.Message, words) {
				t.Errorf("%s does not say %q: %s", kind, words, c.Message)
			}
		}
	}
	w.is(broker, v1alpha1.ConditionStalled, metav1.ConditionTrue, v1alpha1.ReasonVolumeExpansionRefused)

	change(w, broker, func(b *v1alpha1.MQTTBroker) { gen.WithListener(gen.Plain("mqtt", 1883))(b) })
	w.is(broker, v1alpha1.ConditionConfigApplied, metav1.ConditionTrue, v1alpha1.ReasonConfigApplied)
	w.settle()
	if sizes := w.sizes(); sizes != "1Gi 1Gi 1Gi" || w.statefulSet().UID != before {
		t.Errorf("something was changed: sizes %s", sizes)
	}
	guest.undisturbed()

	change(w, class, func(c *storagev1.StorageClass) { c.AllowVolumeExpansion = new(true) })
	w.eventually("it is tried again", func() error { // by itself each minute, and whenever somebody touches the broker
		change(w, broker, func(b *v1alpha1.MQTTBroker) {
			b.Annotations = map[string]string{"again": time.Now().Format(time.RFC3339Nano)}
		})
		if sizes := w.sizes(); sizes != "2Gi 2Gi 2Gi" {
			return errors.New(sizes)
		}
		return nil
	})
	w.ready(broker)
	guest.undisturbed()
}

// lastWords lets some more requests pass by which the operator writes, and then none: as if it had ended.
type lastWords struct {
	client.Client
	left, refused *atomic.Int64
}

func (l *lastWords) say() error {
	if l.left.Add(-1) >= 0 {
		return nil
	}
	l.refused.Add(1)
	return errors.New("the operator has ended")
}

func (l *lastWords) Apply(ctx context.Context, o runtime.ApplyConfiguration, options ...client.ApplyOption) error {
	if err := l.say(); err != nil {
		return err
	}
	return l.Client.Apply(ctx, o, options...)
}

func (l *lastWords) Delete(ctx context.Context, o client.Object, options ...client.DeleteOption) error {
	if err := l.say(); err != nil {
		return err
	}
	return l.Client.Delete(ctx, o, options...)
}

// TestAnOperatorThatEndsWhileAVolumeGrows, after whichever step: the next one goes on from there, also if it belongs to
// another release with another image.
func TestAnOperatorThatEndsWhileAVolumeGrows(t *testing.T) {
	w := newWorld(t)
	class := w.storageClass(true)
	broker, alice := gen.Broker(w.namespace, "mq", gen.WithVolume("1Gi", class.Name)), gen.User(w.namespace, "alice", "mq")
	w.create(broker, alice)
	w.ready(broker, alice)
	w.settle()
	undisturbed, image := w.steady("alice"), w.statefulSet().Annotations[desired.DefaultImageAnnotation]
	for step, name := range []string{"ask", "let the claim grow", "delete the StatefulSet", "make it anew"} {
		size := fmt.Sprintf("%dGi", step+2)
		var left, refused atomic.Int64
		left.Store(int64(step))
		w.between = func(c client.Client) client.Client { return &lastWords{Client: c, left: &left, refused: &refused} }
		w.startOperator()
		w.grow(broker, size)
		w.eventually("the operator ends before it can "+name, func() error {
			if refused.Load() == 0 {
				return fmt.Errorf("%d of %d requests are left", left.Load(), step)
			}
			return nil
		})
		w.between, w.image = nil, fmt.Sprintf("example.com/broker:%d", step+2)
		w.startOperator()
		w.eventually("the next one ends the work", func() error {
			if sizes := w.sizes(); sizes != strings.Repeat(size+" ", 2)+size {
				return errors.New(sizes)
			}
			return nil
		})
		w.ready(broker)
		w.settle()
		undisturbed.undisturbed()
		if now := w.statefulSet(); now.Annotations[desired.DefaultImageAnnotation] != image || now.Spec.Template.Spec.Containers[0].Image != image {
			t.Errorf("a broker that began with %s has %s now: it would be restarted", image, now.Spec.Template.Spec.Containers[0].Image)
		}
		if broker.Status.LastRestart != nil {
			t.Errorf("nobody was restarted: %+v", broker.Status.LastRestart)
		}
	}
}
