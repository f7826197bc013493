// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/eclipse/paho.golang/paho"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/mqtt-operator/mqtt-operator/api/v1alpha1"
	"github.com/mqtt-operator/mqtt-operator/broker-image/contract"
	"github.com/mqtt-operator/mqtt-operator/controllers/desired"
	"github.com/mqtt-operator/mqtt-operator/controllers/gen"
	"github.com/mqtt-operator/mqtt-operator/test/board"
)

var pictures = flag.String("pictures", "", "directory into which TestDashboards draws what the dashboards show")

const (
	// phase is how many scrapes each part of the story lasts; a scrape is made each second.
	phase = 20
	// rate stands in for Grafana's $__rate_interval, which is four scrapes or more.
	rate = "10s"
)

// quiet are the panels that show nothing in this story, each with the reason.
var quiet = map[string]string{
	"Bridges that are not ready": "the bridge is suspended, as its spec says",
	"Brokers that are not ready": "none is broken",
}

// TestDashboards: a real Prometheus scrapes brokers, a bridge and the operator under some load, and every panel of every dashboard
// that the operator makes or the chart ships has something to show.
func TestDashboards(t *testing.T) {
	t.Parallel()
	s := begin(t)
	wanted := &v1alpha1.Monitoring{Dashboard: &v1alpha1.MonitoringObject{Enabled: new(true)}}
	s.broker(func(b *v1alpha1.MQTTBroker) {
		b.Spec.Monitoring, b.Spec.Persistence = wanted, &v1alpha1.BrokerPersistence{Size: nil}
		b.Spec.Limits = &v1alpha1.BrokerLimits{MaxQueuedMessages: new(int32(1000))}
	})
	hub := gen.Broker(s.namespace, hubName)
	hub.Spec.Limits = &v1alpha1.BrokerLimits{MaxPacketSize: new(resource.MustParse("2Ki"))}
	s.create(hub)
	s.awaitReady(hub)
	s.user("machine", allow("telemetry/#"))
	s.user("archive", allow("telemetry/#"))
	s.userOf(hubName, "office", allow("#"))
	bridge := gen.Bridge(s.namespace, "link", brokerName, small, gen.ToBroker(v1alpha1.BrokerReference{Name: hubName}),
		gen.WithRoutes(gen.Between(gen.Route("telemetry", v1alpha1.RouteOut, "telemetry/#"), "", "plant/")),
		func(b *v1alpha1.MQTTBridge) { b.Spec.Monitoring = wanted })
	s.create(bridge)
	s.awaitReady(bridge)
	p := s.prometheus()
	p.pass(phase / 2)

	office, archive := s.connect("office"), s.connectAs("archive", session{clientID: "archive", expiry: 3600})
	s.mustSubscribe(office, "plant/#")
	s.mustSubscribe(archive, "telemetry/#")
	hush := s.load(6)
	p.pass(phase)
	s.sayf("the archive leaves; what is for it waits, and then is dropped")
	archive.leave()
	p.pass(phase)
	s.sayf("somebody tries passwords, and topics that are not his")
	s.annoy()
	p.pass(phase / 2)
	s.sayf("the bridge is suspended, and the archive comes back")
	s.update(bridge, func() { bridge.Spec.Suspend = new(true) })
	s.connectAs("archive", session{clientID: "archive", expiry: 3600, resume: true})
	p.pass(phase)
	s.update(bridge, func() { bridge.Spec.Suspend = nil })
	s.awaitReady(bridge)
	p.pass(phase)
	if n := hush(); n == 0 {
		t.Error("nothing was published")
	}
	p.pass(phase / 2)

	const caption = "Drawn from the dashboard's own queries, as a Prometheus answered them during a test with a small load; minutes and seconds."
	shown := map[string]bool{}
	for name, text := range map[string]string{
		"broker": s.dashboard(v1alpha1.DashboardName(brokerName)), "bridge": s.dashboard(v1alpha1.BridgeDashboardName(bridge.Name)),
		"operator": desired.OperatorDashboard(operatorNamespace, operatorName+"-[0-9a-z]+-[0-9a-z]+"),
	} {
		b, err := board.Read(text, rate, p.ask)
		if err != nil {
			t.Fatal(err)
		}
		for i := range b.Panels {
			panel := &b.Panels[i]
			shown[panel.Title] = shown[panel.Title] || len(panel.Series) > 0
			if len(panel.Series) == 0 && quiet[panel.Title] == "" {
				t.Errorf("%s: panel %s shows nothing", b.Title, panel.Title)
			}
		}
		b.Title = strings.ReplaceAll(b.Title, s.namespace, "factory")
		if *pictures != "" {
			file := filepath.Join(*pictures, "dashboard-"+name+".svg")
			picture := strings.ReplaceAll(string(b.SVG(caption)), s.namespace, "factory")
			if err := os.WriteFile(file, []byte(picture), 0o644); err != nil {
				t.Error(err)
			}
			s.sayf("wrote %s, %d KiB", file, len(picture)>>10)
		}
	}
	for panel := range quiet {
		if _, known := shown[panel]; !known {
			t.Errorf("no dashboard has the panel %s", panel)
		}
	}
}

// dashboard is what the operator made for Grafana.
func (s *story) dashboard(name string) string {
	s.Helper()
	var text string
	s.eventually(patience, "the dashboard "+name+" is there", func() error {
		object := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: s.namespace, Name: name}}
		if err := s.get(object); err != nil {
			return err
		}
		for _, text = range object.Data {
			return nil
		}
		return errors.New("it is empty")
	})
	return text
}

// load has machines publish, now with this QoS and now with that, until the function that it returns is called; it says how many
// messages there were.
func (s *story) load(machines int) (hush func() int64) {
	s.Helper()
	stop, counts := make(chan struct{}), make(chan int64, machines)
	for i := range machines {
		c := s.connectAs("machine", session{clientID: fmt.Sprintf("machine-%d", i)})
		go func() {
			tick := time.NewTicker(30 * time.Millisecond)
			defer tick.Stop()
			for n := int64(0); ; n++ {
				select {
				case <-stop:
					counts <- n
					return
				case <-tick.C:
				}
				m := &paho.Publish{
					Topic: fmt.Sprintf("telemetry/press-%d/state", i), QoS: byte(n % 3), Retain: n%50 == 0,
					Payload: []byte(strings.Repeat("x", 20+int(n%7)*30)),
				}
				if err := c.send(m); err != nil {
					s.Errorf("%s publishes: %v", c.name, err)
					counts <- n
					return
				}
			}
		}()
	}
	return func() int64 {
		close(stop)
		var sum int64
		for range machines {
			sum += <-counts
		}
		s.sayf("%d machines published %d messages", machines, sum)
		return sum
	}
}

// annoy is what a client does that means no good, or is set up badly.
func (s *story) annoy() {
	s.Helper()
	b, err := s.binding("machine")
	if err != nil {
		s.Fatal(err)
	}
	b.password = "wrong"
	for range 4 {
		if _, err := connectWith(b, session{}); refusedWith(err, badUserNameOrPassword) != nil {
			s.Errorf("a wrong password: %v", err)
		}
	}
	c := s.connectAs("machine", session{clientID: "stranger"})
	for range 20 {
		if err := refusedWith(c.publish("office/secrets", "x"), notAuthorized); err != nil {
			s.Errorf("a topic that is not his: %v", err)
		}
	}
	for range 3 { // the hub takes no packet of this size, so the bridge gives it up
		s.mustPublish(c, "telemetry/stranger", strings.Repeat("x", 4096))
	}
	if err := refusedWith(c.subscribe("office/#", 1), notAuthorized); err != nil {
		s.Errorf("a filter that is not his: %v", err)
	}
	c.leave()
}

// scraper is a Prometheus that runs.
type scraper struct {
	s     *story
	at    string
	begin time.Time
}

// prometheus scrapes the pods of the story and of the operator, with the labels that a PodMonitor gives them.
func (s *story) prometheus() *scraper {
	s.Helper()
	reader := s.token("reader")
	binding := &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: s.namespace},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: operatorName + ":" + operatorNamespace + ":metrics-reader"},
		Subjects:   []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Namespace: s.namespace, Name: "reader"}},
	}
	s.create(binding)
	s.Cleanup(func() { _ = kube.Delete(context.Background(), binding) })
	dir := s.TempDir()
	write := func(name string, text []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, text, 0o600); err != nil {
			s.Fatal(err)
		}
		return path
	}
	config, err := yaml.Marshal(map[string]any{
		"global": map[string]any{"scrape_interval": "1s", "scrape_timeout": "1s"},
		"scrape_configs": []any{
			map[string]any{"job_name": "pods", "static_configs": s.targets()},
			map[string]any{
				"job_name": "operator", "scheme": "https", "honor_labels": true, "static_configs": s.operatorTargets(),
				"tls_config":    map[string]any{"insecure_skip_verify": true},
				"authorization": map[string]any{"credentials_file": write("token", []byte(reader))},
			},
		},
	})
	if err != nil {
		s.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		s.Fatal(err)
	}
	p := &scraper{s: s, at: listener.Addr().String(), begin: time.Now()}
	_ = listener.Close()
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		s.Fatal(err)
	}
	cmd := exec.CommandContext(s.ctx, "prometheus", "--config.file="+write("prometheus.yaml", config), "--storage.tsdb.path="+filepath.Join(dir, "data"),
		"--web.listen-address="+p.at, "--log.level=warn")
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	if err := cmd.Start(); err != nil {
		s.Fatalf("%v; Debian's package prometheus has it", err)
	}
	s.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
		if text, _ := os.ReadFile(log.Name()); s.Failed() {
			s.Logf("Prometheus says:\n%s", text)
		}
	})
	return p
}

func target(ip string, port int, namespace, pod string) any {
	return map[string]any{
		"targets": []any{net.JoinHostPort(ip, strconv.Itoa(port))}, "labels": map[string]any{"namespace": namespace, "pod": pod},
	}
}

// targets are the pods of brokers and bridges.
func (s *story) targets() []any {
	s.Helper()
	pods := &corev1.PodList{}
	if err := kube.List(s.ctx, pods, client.InNamespace(s.namespace)); err != nil {
		s.Fatal(err)
	}
	var list []any
	for i := range pods.Items {
		list = append(list, target(pods.Items[i].Status.PodIP, contract.HealthPort, s.namespace, pods.Items[i].Name))
	}
	if len(list) != 3 {
		s.Fatalf("there are %d pods, and not those of two brokers and a bridge", len(list))
	}
	return list
}

func (s *story) operatorTargets() []any {
	s.Helper()
	pods, err := s.operatorPods()
	if err != nil {
		s.Fatal(err)
	}
	var list []any
	for i := range pods {
		list = append(list, target(pods[i].Status.PodIP, 8443, operatorNamespace, pods[i].Name))
	}
	return list
}

// pass waits until every pod was scraped so many times more.
func (p *scraper) pass(scrapes int) {
	p.s.Helper()
	since := time.Now()
	p.s.eventually(patience+time.Duration(scrapes)*3*time.Second, fmt.Sprintf("every pod was scraped %d times", scrapes), func() error {
		seconds := int(time.Since(since).Seconds())
		if seconds < 1 {
			return errors.New("it has just begun")
		}
		var answer []struct {
			Value [2]any `json:"value"`
		}
		err := p.get("query", url.Values{"query": {fmt.Sprintf(`min(count_over_time(up[%ds]))`, seconds)}}, &answer)
		if err != nil || len(answer) != 1 {
			return errors.Join(fmt.Errorf("%d answers", len(answer)), err)
		}
		if n, _ := strconv.ParseFloat(fmt.Sprint(answer[0].Value[1]), 64); n < float64(scrapes) {
			return fmt.Errorf("one was scraped %g times", n)
		}
		return nil
	})
}

// ask has a query answered for each second since the beginning.
func (p *scraper) ask(expr string) ([]board.Answer, error) {
	var series []struct {
		Metric map[string]string `json:"metric"`
		Values [][2]any          `json:"values"`
	}
	unix := func(t time.Time) string { return strconv.FormatInt(t.Unix(), 10) }
	if err := p.get("query_range", url.Values{"query": {expr}, "start": {unix(p.begin)}, "end": {unix(time.Now())}, "step": {"2"}}, &series); err != nil {
		return nil, err
	}
	var list []board.Answer
	for _, one := range series {
		answer := board.Answer{Labels: one.Metric}
		for _, value := range one.Values {
			at, _ := value[0].(float64)
			v, err := strconv.ParseFloat(fmt.Sprint(value[1]), 64)
			if err != nil {
				return nil, err
			}
			if !math.IsNaN(v) {
				answer.Points = append(answer.Points, board.Point{At: at, Value: v})
			}
		}
		if len(answer.Points) > 0 {
			list = append(list, answer)
		}
	}
	slices.SortFunc(list, func(a, b board.Answer) int { return strings.Compare(fmt.Sprint(a.Labels), fmt.Sprint(b.Labels)) })
	return list, nil
}

// get asks Prometheus, and reads the result of its answer.
func (p *scraper) get(what string, query url.Values, result any) error {
	request, err := http.NewRequestWithContext(p.s.ctx, http.MethodGet, "http://"+p.at+"/api/v1/"+what+"?"+query.Encode(), http.NoBody)
	if err != nil {
		return err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	answer := struct {
		Error string `json:"error"`
		Data  struct {
			Result any `json:"result"`
		} `json:"data"`
	}{}
	answer.Data.Result = result
	if err := json.NewDecoder(response.Body).Decode(&answer); err != nil {
		return err
	}
	if answer.Error != "" {
		return errors.New(answer.Error)
	}
	return nil
}
