// SPDX-License-Identifier: Apache-2.0

package desired

import (
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mqtt-operator/mqtt-operator/api/v1alpha1"
	"github.com/mqtt-operator/mqtt-operator/controllers/gen"
	"github.com/mqtt-operator/mqtt-operator/controllers/verdict"
)

// crowded is a broker with many users whose configuration stands in its Secrets.
func crowded(b *testing.B, users int) (*verdict.Facts, *verdict.Material) {
	b.Helper()
	f, m := &verdict.Facts{Broker: gen.Broker("factory", "mq", gen.WithListener(gen.Plain("plain", 1883))), Now: now}, &verdict.Material{}
	f.Spec = f.Broker.Resolved()
	for i := range users {
		user := gen.User("factory", fmt.Sprintf("user-%05d", i), "mq",
			gen.Allow("devices/%u/#", v1alpha1.ACLPublish, v1alpha1.ACLSubscribe), gen.Allow("commands/all", v1alpha1.ACLSubscribe))
		hash := fmt.Sprintf("$sha256$c2FsdHNhbHRzYWx0c2FsdA$%043d", i)
		f.Users = append(f.Users, verdict.UserFacts{User: user, Verifier: &corev1.Secret{
			ObjectMeta: metav1.ObjectMeta{Name: v1alpha1.VerifierSecretName(user.Name)}, Data: map[string][]byte{verdict.VerifierKey: []byte(hash)},
		}})
	}
	built, err := Build(f, m, verdict.Judge(f, m))
	if err != nil {
		b.Fatal(err)
	}
	for _, object := range built.Objects {
		if secret, ok := object.(*corev1.Secret); ok && secret.Type == v1alpha1.SecretTypeConfig {
			f.ConfigSecrets = append(f.ConfigSecrets, *secret)
		}
	}
	return f, m
}

// BenchmarkPass is what one look at a broker costs beside reading and writing: nothing has changed, or one user has.
func BenchmarkPass(b *testing.B) {
	for _, users := range []int{100, 1000, 10_000} {
		f, m := crowded(b, users)
		b.Run(fmt.Sprintf("%d users, nothing new", users), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := Build(f, m, verdict.Judge(f, m)); err != nil {
					b.Fatal(err)
				}
			}
		})
		f.Users[users/2].Verifier.Data[verdict.VerifierKey][10]++
		b.Run(fmt.Sprintf("%d users, one is new", users), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				built, err := Build(f, m, verdict.Judge(f, m))
				if err != nil || built.Revision != 2 {
					b.Fatal(err)
				}
			}
		})
	}
}
