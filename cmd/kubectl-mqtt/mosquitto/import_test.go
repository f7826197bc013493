// SPDX-License-Identifier: Apache-2.0

package mosquitto

import (
	"bytes"
	"encoding/base64"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/tools/txtar"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/yaml"

	"github.com/mqtt-operator/mqtt-operator/api/v1alpha1"
	"github.com/mqtt-operator/mqtt-operator/broker-image/acl"
	"github.com/mqtt-operator/mqtt-operator/controllers/verdict"
)

var update = flag.Bool("update", false, "write testdata anew")

// TestScenarios imports what each testdata/*.txtar holds (passwd and acl, or dynamic-security.json) and compares with the
// YAML behind it.
func TestScenarios(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no scenarios: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			archive, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			in := map[string][]byte{}
			got := &txtar.Archive{Comment: archive.Comment}
			for _, f := range archive.Files {
				if f.Name != "out.yaml" {
					in[f.Name] = f.Data
					got.Files = append(got.Files, f)
				}
			}
			result, err := scenario(in)
			if err != nil {
				t.Fatal(err)
			}
			text, err := result.YAML("Imported.")
			if err != nil {
				t.Fatal(err)
			}
			got.Files = append(got.Files, txtar.File{Name: "out.yaml", Data: text})
			decoded(t, text)
			if *update {
				if err := os.WriteFile(file, txtar.Format(got), 0o600); err != nil {
					t.Fatal(err)
				}
				return
			}
			if diff := cmp.Diff(string(txtar.Format(archive)), string(txtar.Format(got))); diff != "" {
				t.Errorf("differs from %s (-want +got); look, then run with -update:\n%s", file, diff)
			}
		})
	}
}

func scenario(in map[string][]byte) (*Result, error) {
	o := Options{Broker: "mq", Namespace: "factory", Prefix: string(bytes.TrimSpace(in["prefix"]))}
	if text, found := in["dynamic-security.json"]; found {
		return ImportDynsec(File{Name: "dynamic-security.json", Text: text}, o)
	}
	var rules *File
	if text, found := in["acl"]; found {
		rules = &File{Name: "acl", Text: text}
	}
	return Import(File{Name: "passwd", Text: in["passwd"]}, rules, o)
}

// objects are what a text of YAML holds.
type objects struct {
	secrets  []*corev1.Secret
	users    []*v1alpha1.MQTTUser
	policies []*v1alpha1.MQTTAccessPolicy
}

// decoded reads YAML as strictly as can be, and holds every object against the schema of its kind.
func decoded(t *testing.T, text []byte) *objects {
	t.Helper()
	all := &objects{}
	names := map[string]bool{}
	add := func(kind, name string) {
		if names[kind+"/"+name] {
			t.Errorf("%s %s stands there twice", kind, name)
		}
		names[kind+"/"+name] = true
	}
	reader := utilyaml.NewYAMLReader(newReader(text))
	for {
		document, err := reader.Read()
		if err == io.EOF { //nolint:errorlint // this reader gives it as it is
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		head := metav1.TypeMeta{}
		if err := yaml.Unmarshal(document, &head); err != nil {
			t.Fatalf("%v\n%s", err, document)
		}
		var object any
		switch head.Kind {
		case "": // the comments above the first object
			continue
		case "Secret":
			secret := &corev1.Secret{}
			object, all.secrets = secret, append(all.secrets, secret)
		case "MQTTUser":
			user := &v1alpha1.MQTTUser{}
			object, all.users = user, append(all.users, user)
		case "MQTTAccessPolicy":
			policy := &v1alpha1.MQTTAccessPolicy{}
			object, all.policies = policy, append(all.policies, policy)
		default:
			t.Fatalf("kind %q\n%s", head.Kind, document)
		}
		if err := yaml.UnmarshalStrict(document, object); err != nil {
			t.Fatalf("%v\n%s", err, document)
		}
		add(head.Kind, object.(metav1.Object).GetName())
		if head.Kind != "Secret" {
			schemaOf(t, head.Kind).accept(t, document)
		}
	}
	for _, user := range all.users {
		if ref := user.Spec.Authentication.Password.HashSecretRef; !names["Secret/"+ref.Name] {
			t.Errorf("user %s: no Secret %s", user.Name, ref.Name)
		}
		for _, ref := range user.Spec.PolicyRefs {
			if !names["MQTTAccessPolicy/"+ref.Name] {
				t.Errorf("user %s: no policy %s", user.Name, ref.Name)
			}
		}
	}
	return all
}

// rulesOf are the rules of a user in the order in which the broker asks them.
func (o *objects) rulesOf(t *testing.T, user *v1alpha1.MQTTUser) *acl.Policy {
	t.Helper()
	compile := func(rules []v1alpha1.ResolvedRule) *acl.Policy {
		p, err := acl.Compile(verdict.Rules(rules))
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	parts := []*acl.Policy{compile(user.Resolved().Rules)}
	for _, ref := range user.Spec.PolicyRefs {
		for _, policy := range o.policies {
			if policy.Name == ref.Name {
				parts = append(parts, compile(policy.Resolved().Rules))
			}
		}
	}
	selected := slices.Clone(o.policies)
	slices.SortFunc(selected, func(a, b *v1alpha1.MQTTAccessPolicy) int { return strings.Compare(a.Name, b.Name) })
	for _, policy := range selected {
		if policy.Spec.UserSelector == nil {
			continue
		}
		selector, err := metav1.LabelSelectorAsSelector(policy.Spec.UserSelector)
		if err != nil {
			t.Fatal(err)
		}
		if selector.Matches(labels.Set(user.Labels)) {
			parts = append(parts, compile(policy.Resolved().Rules))
		}
	}
	return acl.Join(parts...)
}

var goodHash = "$7$101$" + base64.StdEncoding.EncodeToString([]byte("twelve bytes")) + "$" + base64.StdEncoding.EncodeToString(bytes.Repeat([]byte("h"), 64))

func TestBadFilesAreRefusedWithTheirLine(t *testing.T) {
	passwd := "alice:" + goodHash + "\n"
	for name, tc := range map[string]struct {
		in   map[string]string
		want string
	}{
		"no colon":             {map[string]string{"passwd": "# users\nhunter2\n"}, "passwd:2: has no colon"},
		"a binary":             {map[string]string{"passwd": "\xff\xfe"}, "passwd:1: is not UTF-8"},
		"an unknown word":      {map[string]string{"passwd": passwd, "acl": "\ntopics read a"}, "acl:2: topics is none of"},
		"an unknown access":    {map[string]string{"passwd": passwd, "acl": "topic reed a"}, "acl:1: reed is none of"},
		"a bad filter":         {map[string]string{"passwd": passwd, "acl": "topic read a/#/b"}, "acl:1: "},
		"no topic":             {map[string]string{"passwd": passwd, "acl": "topic"}, "acl:1: topic without a topic"},
		"no user":              {map[string]string{"passwd": passwd, "acl": "user"}, "acl:1: user without a name"},
		"an ACL that is bytes": {map[string]string{"passwd": passwd, "acl": "topic \xff"}, "acl:1: is not UTF-8"},
		"JSON that ends":       {map[string]string{"dynamic-security.json": "{\n\"clients\": ["}, "dynamic-security.json:2: "},
		"JSON that is broken":  {map[string]string{"dynamic-security.json": "{\n\"clients\": [}"}, "dynamic-security.json:2: invalid character"},
		"JSON of another kind": {map[string]string{"dynamic-security.json": "[]"}, "dynamic-security.json:1: is not the configuration"},
		"a type that is wrong": {map[string]string{"dynamic-security.json": "{\"clients\":\n \"hunter2\"}"}, "dynamic-security.json:2: clients: a string does not fit here"},
		"text behind":          {map[string]string{"dynamic-security.json": "{}\n{}"}, "dynamic-security.json:2: there is text"},
		"a bad prefix":         {map[string]string{"passwd": passwd, "prefix": "Plant_"}, `"Plant_" is no prefix`},
	} {
		t.Run(name, func(t *testing.T) {
			in := map[string][]byte{}
			for file, text := range tc.in {
				in[file] = []byte(text)
			}
			_, err := scenario(in)
			if err == nil || !strings.HasPrefix(err.Error(), tc.want) || strings.Contains(err.Error(), "hunter2") {
				t.Errorf("got %v, want %s…, and nothing that might be a password", err, tc.want)
			}
		})
	}
}

func TestLinesThatCannotBeUsedAreReportedAndTellNoPassword(t *testing.T) {
	for name, tc := range map[string]struct{ line, want string }{
		"plain text":            {"alice:hunter2", "plain text"},
		"no password":           {"alice:", "there is no password"},
		"another hash":          {"alice:$2b$12$hunter2", "none that Mosquitto writes"},
		"no iterations":         {"alice:$7$x$hunter2$hunter2", "the iterations are no number"},
		"a damaged salt":        {"alice:$6$hunter2!$hunter2", "the salt must be"},
		"a short hash":          {"alice:$6$aHVudGVyMmh1bnRlcg==$aHVudGVyMg==", "the hash must be"},
		"a wildcard":            {"a+b:" + goodHash, `holds '+'`},
		"a broker's name":       {"$SYS:" + goodHash, "begins with $"},
		"a control character":   {"a\tb:" + goodHash, "control character"},
		"the same name again":   {"twice:" + goodHash, "stands in line 1 already"},
		"an iteration too many": {"alice:$7$1000001$aHVudGVyMg==$aHVudGVyMg==", "are outside 1 to"},
		"a second spelling":     {"alice:$7$0101$aHVudGVyMg==$aHVudGVyMg==", "the iterations are no number"},
		"argon2 of another age": {"alice:$argon2id$v=16$m=1,t=1,p=1$hunter2$hunter2", "argon2 version"},
	} {
		t.Run(name, func(t *testing.T) {
			r, err := scenario(map[string][]byte{"passwd": []byte("twice:" + goodHash + "\n" + tc.line + "\n")})
			if err != nil {
				t.Fatal(err)
			}
			text := fmt.Sprint(r.Reports)
			if len(r.Reports) != 1 || r.Reports[0].Line != 2 || !strings.Contains(text, tc.want) || strings.Contains(text, "hunter2") {
				t.Errorf("got %s, want line 2 and %q, and no password", text, tc.want)
			}
			if len(r.Objects) != 2 {
				t.Errorf("%d objects, want those of the good user alone", len(r.Objects))
			}
		})
	}
}

func TestNames(t *testing.T) {
	long := strings.Repeat("l", 80)
	names := objectNames("p-", []string{"alice", "Alice", "alice!", "bob.smith", "ÄÖÜ", long, "alice"})
	for text, want := range map[string]string{"alice": "p-alice", "bob.smith": "p-bob.smith", "Alice": "p-alice-", "alice!": "p-alice-", "ÄÖÜ": "p-x-"} {
		if rest, found := strings.CutPrefix(names[text], want); !found || rest != "" && len(rest) != hashLen {
			t.Errorf("%q becomes %q, want %q and perhaps a sum", text, names[text], want)
		}
	}
	if len(names) != 6 || len(names[long]) > maxName {
		t.Errorf("%v", names)
	}
	seen := map[string]bool{}
	for text, name := range names {
		if seen[name] {
			t.Errorf("%q shares the name %q", text, name)
		}
		seen[name] = true
		if alone := objectNames("p-", []string{text})[text]; alone != name {
			t.Errorf("%q is %q alone and %q beside others: a name must not change when a line is added", text, alone, name)
		}
	}
	// Somebody has the very name that would be derived.
	derived := objectNames("", []string{"Alice"})["Alice"]
	if both := objectNames("", []string{"Alice", derived}); both["Alice"] == both[derived] || both[derived] != derived {
		t.Errorf("%v", both)
	}
}

func TestManyRulesSpillIntoPolicies(t *testing.T) {
	text := strings.Builder{}
	text.WriteString("user alice\ntopic deny last\n")
	for i := range 600 {
		fmt.Fprintf(&text, "topic read t/%d\n", i)
	}
	for i := range 300 {
		fmt.Fprintf(&text, "pattern read p/%d/%%u\n", i)
	}
	r, err := scenario(map[string][]byte{"passwd": []byte("alice:" + goodHash), "acl": []byte(text.String())})
	if err != nil {
		t.Fatal(err)
	}
	out, err := r.YAML("x")
	if err != nil {
		t.Fatal(err)
	}
	all := decoded(t, out)
	if len(all.users) != 1 || len(all.users[0].Spec.ACL) != 256 || len(all.users[0].Spec.PolicyRefs) != 2 || len(all.policies) != 4 || !r.Complete() {
		t.Fatalf("%d users, %d policies, %v", len(all.users), len(all.policies), r.Reports)
	}
	rules := all.rulesOf(t, all.users[0])
	for topic, want := range map[string]bool{"t/0": true, "t/599": true, "p/299/alice": true, "p/299/bob": false, "last": false} {
		if got := rules.Deliver(acl.Subject{Username: "alice"}, topic).Allowed; got != want {
			t.Errorf("deliver %s: %t, want %t", topic, got, want)
		}
	}
	for i := range 4000 {
		fmt.Fprintf(&text, "topic read u/%d\n", i)
	}
	r, err = scenario(map[string][]byte{"passwd": []byte("alice:" + goodHash), "acl": []byte(text.String())})
	if err != nil || len(r.Reports) != 1 || !strings.Contains(r.Reports[0].Problem, "The user is left out") {
		t.Errorf("more rules than 17 objects hold: %v %v", err, r.Reports)
	}
}

// topics is a small world.
func topics(depth int, first []string) []string {
	words := []string{"a", "b", "", "alice", "c1", "dev-alice"}
	all := slices.Clone(first)
	level := first
	for range depth - 1 {
		var next []string
		for _, t := range level {
			for _, w := range words {
				next = append(next, t+"/"+w)
			}
		}
		all, level = append(all, next...), next
	}
	return slices.DeleteFunc(all, func(t string) bool { return acl.ValidateTopic(t) != nil })
}

// matches is the rule of MQTT 4.7, said once more.
func matches(filter, topic string) bool {
	f, t := strings.Split(filter, "/"), strings.Split(topic, "/")
	if strings.HasPrefix(topic, "$") && (f[0] == "+" || f[0] == "#") {
		return false
	}
	for i, level := range f {
		switch {
		case level == "#":
			return true
		case i >= len(t):
			return false
		case level != "+" && level != t[i]:
			return false
		}
	}
	return len(f) == len(t)
}

// asMosquitto answers like Mosquitto for one message: own lines, then patterns, deny first in each.
func asMosquitto(own, patterns []entry, username, clientID, topic string, write bool) bool {
	allowed, denied := among(own, topic, write, strings.NewReplacer())
	if allowed || denied {
		return !denied
	}
	allowed, denied = among(patterns, topic, write, strings.NewReplacer("%u", username, "%c", clientID))
	return allowed && !denied
}

func among(entries []entry, topic string, write bool, tokens *strings.Replacer) (allowed, denied bool) {
	for _, e := range entries {
		if matches(tokens.Replace(e.topic), topic) {
			denied = denied || e.denies()
			allowed = allowed || (write && e.access.write) || (!write && e.access.read)
		}
	}
	return allowed, denied
}

func drawFilter(random *rand.Rand, words []string) string {
	levels := make([]string, 1+random.IntN(3))
	for i := range levels {
		levels[i] = words[random.IntN(len(words))]
	}
	if random.IntN(5) == 0 {
		levels[len(levels)-1] = "#"
	}
	if text := strings.Join(levels, "/"); text != "" {
		return text
	}
	return "a"
}

// TestMeaningStaysTheSame compares, for random files, what the imported rules answer with what Mosquitto would answer.
// Where something was reported they may only be narrower.
func TestMeaningStaysTheSame(t *testing.T) {
	random := rand.New(rand.NewPCG(7, 11))
	world := topics(3, []string{"a", "b", "alice", "$SYS", "dev-alice", "c1", ""})
	access := []string{"read ", "write ", "readwrite ", "deny ", "deny ", ""}
	plain := []string{"a", "b", "+", "", "alice"}
	tokens := append([]string{"%u", "%c", "%u"}, plain...)
	odd := append([]string{"dev-%u", "x%c", "$SYS"}, tokens...)
	complete := 0
	for game := range 400 {
		words, patternWords := plain, tokens
		if game%2 == 1 {
			words, patternWords = odd, odd
		}
		text := strings.Builder{}
		for range random.IntN(3) {
			fmt.Fprintf(&text, "topic %s%s\n", access[random.IntN(6)], drawFilter(random, words))
		}
		text.WriteString("user alice\n")
		for range random.IntN(5) {
			fmt.Fprintf(&text, "topic %s%s\n", access[random.IntN(6)], drawFilter(random, words))
			if random.IntN(2) == 0 {
				fmt.Fprintf(&text, "pattern %s%s\n", access[random.IntN(6)], drawFilter(random, patternWords))
			}
		}
		file, err := parseACL(File{Name: "acl", Text: []byte(text.String())})
		if err != nil {
			t.Fatalf("%v\n%s", err, text.String())
		}
		r, err := scenario(map[string][]byte{"passwd": []byte("alice:" + goodHash), "acl": []byte(text.String())})
		if err != nil {
			t.Fatal(err)
		}
		out, err := r.YAML("x")
		if err != nil {
			t.Fatal(err)
		}
		all := decoded(t, out)
		rules := all.rulesOf(t, all.users[0])
		who := acl.Subject{Username: "alice", ClientID: "c1"}
		if r.Complete() {
			complete++
		}
		for _, topic := range world {
			for _, write := range []bool{true, false} {
				want := asMosquitto(file.section("alice").entries, file.patterns, "alice", "c1", topic, write)
				got := rules.Deliver(who, topic).Allowed
				if write {
					got = rules.Publish(who, topic, 0, false).Allowed
				}
				if got && !want || want && !got && r.Complete() {
					t.Fatalf("%q (write %t): ours says %t, Mosquitto %t\n%s\n%s", topic, write, got, want, text.String(), out)
				}
			}
		}
	}
	if complete < 200 {
		t.Errorf("only %d of 400 files were carried over completely: the test shows too little", complete)
	}
}

func TestTheOrderOfMosquitto(t *testing.T) {
	for name, tc := range map[string]struct {
		acl, topic string
		want       bool
		reason     string
	}{
		"own deny behind own allow":      {"user alice\ntopic a/#\ntopic deny a/x", "a/x", false, "a deny line decides wherever it stands"},
		"own allow, pattern deny":        {"pattern deny a/#\nuser alice\ntopic a/x", "a/x", true, "the user's own lines are asked before the patterns"},
		"own deny, pattern allow":        {"user alice\ntopic deny a/x\npattern a/#", "a/x", false, "the user's own lines are asked before the patterns"},
		"pattern deny, name in a level":  {"pattern dev-%u/#\npattern deny +/x", "dev-alice/x", false, "a pattern that is written out for the user is still a pattern"},
		"name in a level denies":         {"pattern dev-%u/#\npattern deny dev-%u/x", "dev-alice/x", false, "so is one that denies"},
		"name in a level, behind deny":   {"pattern deny +/x\npattern dev-%u/#", "dev-alice/y", true, "what the deny does not match is allowed"},
		"two sections of one user":       {"user alice\ntopic a\nuser bob\ntopic b\nuser alice\ntopic deny a", "a", false, "the second section goes on where the first ended"},
		"the lines above the first user": {"topic a/#\nuser bob\ntopic b", "a/x", false, "they are for clients without a name"},
		"a user without a section":       {"user bob\ntopic b", "b", false, "with an ACL file nothing is allowed that it does not name"},
	} {
		t.Run(name, func(t *testing.T) {
			r, err := scenario(map[string][]byte{"passwd": []byte("alice:" + goodHash), "acl": []byte(tc.acl)})
			if err != nil {
				t.Fatal(err)
			}
			out, err := r.YAML("x")
			if err != nil {
				t.Fatal(err)
			}
			all := decoded(t, out)
			if got := all.rulesOf(t, all.users[0]).Publish(acl.Subject{Username: "alice"}, tc.topic, 0, false).Allowed; got != tc.want {
				t.Errorf("%t, want %t: %s\n%s", got, tc.want, tc.reason, out)
			}
		})
	}
}

// TestANameThatBecomesAToken: a name is put into a pattern, and makes a token with what stands before it.
func TestANameThatBecomesAToken(t *testing.T) {
	for name, tc := range map[string]struct {
		user, acl, topic string
		want             bool
		reason           string
	}{
		"it denies":                  {"u", "pattern a/#\npattern %u/#\npattern deny %%u/x", "u/x", false, "what cannot be said is denied by something wider"},
		"it denies elsewhere":        {"u", "pattern a/#\npattern deny %%u/x", "a/y", true, "and by nothing wider than it has to be"},
		"it allows":                  {"u", "pattern %%u/#\npattern a", "u/x", false, "who is called u must not get a topic of his name for the topic %u"},
		"what follows is a part":     {"client", "pattern deny %%u/x\npattern #", "client/x", false, "%client begins with %c"},
		"the level is none":          {"alice", "pattern deny %%u/x\npattern +/x", "%alice/x", false, "most names become no token, and the filter stays what it is"},
		"the level is none, beside":  {"alice", "pattern deny %%u/x\npattern +/x", "bob/x", true, "as above"},
		"a token of its own is kept": {"u", "pattern deny dev-%u/%c\npattern #", "dev-u/c1", false, "the client's identifier is a whole level"},
	} {
		t.Run(name, func(t *testing.T) {
			r, err := scenario(map[string][]byte{"passwd": []byte(tc.user + ":" + goodHash), "acl": []byte("user " + tc.user + "\n" + tc.acl)})
			if err != nil {
				t.Fatal(err)
			}
			out, err := r.YAML("x")
			if err != nil {
				t.Fatal(err)
			}
			all := decoded(t, out)
			if got := all.rulesOf(t, all.users[0]).Publish(acl.Subject{Username: tc.user, ClientID: "c1"}, tc.topic, 0, false).Allowed; got != tc.want {
				t.Errorf("%t, want %t: %s\n%s", got, tc.want, tc.reason, out)
			}
		})
	}
}

// FuzzImport shows that no input makes text that is not YAML of our kinds, or shows a password.
func FuzzImport(f *testing.F) {
	f.Add("u:"+goodHash, "user u\ntopic read a/#\npattern deny x-%u/%c")
	f.Add("a b:"+goodHash, "topic read a\u2028b\nuser a b\ntopic \u0085/x \x7f\npattern write $SYS/%c")
	f.Add("u:"+goodHash, "topic \u2028")
	f.Add("u:"+goodHash, "pattern deny %%u/x\npattern %%u/%c")
	f.Add("- x: y:"+goodHash, "user - x\ntopic read # --- x\ntopic readwrite 'a\"/\\n")
	f.Fuzz(func(t *testing.T, passwd, rules string) {
		r, err := scenario(map[string][]byte{"passwd": []byte(passwd), "acl": []byte(rules)})
		if err != nil {
			return
		}
		out, err := r.YAML("x")
		if err != nil {
			t.Fatal(err)
		}
		all := decoded(t, out)
		if n := len(all.secrets) + len(all.users) + len(all.policies); n != len(r.Objects) {
			t.Errorf("%d objects were read, %d were written\n%s", n, len(r.Objects), out)
		}
		for _, user := range all.users {
			all.rulesOf(t, user)
		}
	})
}
