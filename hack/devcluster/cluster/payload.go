// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os/exec"
	"time"

	"github.com/mqtt-operator/mqtt-operator/hack/devcluster/kube"
	"github.com/mqtt-operator/mqtt-operator/hack/devcluster/machine"
)

// startTimeout bounds the whole start. A cached start takes well under a minute; a machine busy with builds, longer.
const startTimeout = 5 * time.Minute

// Payload is what runs in the machine: it starts everything in order, says when all is well, and then looks after the
// services and the volumes until the machine ends. It returns only if the start fails.
func Payload(p Plan) error {
	payload := machine.NewPayload(p.Layout.Dir)
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()

	failed := make(chan error, 1)
	go func() { failed <- p.start(ctx, payload) }()
	var err error
	select {
	case err = <-failed:
	case err = <-payload.Broken():
	}
	if err != nil {
		payload.Fail(err)
		return err
	}
	payload.Ready()
	select {}
}

func (p Plan) start(ctx context.Context, payload *machine.Payload) error {
	forever := context.Background()
	c, n := p.controlPlane(), p.node()

	payload.Step("starting etcd and the container runtime")
	payload.Start(forever, c.etcd())
	payload.Start(forever, n.runtime())
	if err := until(ctx, "etcd", func(ctx context.Context) error { return answers(ctx, etcdEndpoint+"/health") }); err != nil {
		return err
	}

	payload.Step("starting the API server")
	payload.Start(forever, c.apiserver())
	runtimeReady := make(chan error, 1)
	go func() { runtimeReady <- p.importPause(ctx) }()
	client, err := kube.NewClient(server(c.Address), c.pki("ca.crt"), c.pki("admin.crt"), c.pki("admin.key"))
	if err != nil {
		return err
	}
	err = until(ctx, "kube-apiserver", func(ctx context.Context) error { return client.Healthy(ctx, "/readyz") })
	if err != nil {
		return err
	}
	if err := <-runtimeReady; err != nil {
		return err
	}

	payload.Step("starting the controllers, the kubelet, kube-proxy and CoreDNS")
	services := append(c.controllers(), n.agents()...)
	for _, service := range append(services, c.dns()) {
		payload.Start(forever, service)
	}
	for _, o := range c.objects() {
		err := until(ctx, "kube-apiserver", func(ctx context.Context) error { return client.Apply(ctx, o.path, o.object) })
		if err != nil {
			return err
		}
	}
	go (&volumes{client: client, node: n.NodeName(), dir: volumesDir}).run(forever)

	payload.Step("waiting for the node, its rules for Services, and name resolution")
	if err := until(ctx, "kubelet", func(ctx context.Context) error { return nodeReady(ctx, client, n.NodeName()) }); err != nil {
		return err
	}
	// This name, asked for at this address, needs kube-proxy's rules, CoreDNS and its view of the API.
	if err := until(ctx, "coredns", func(ctx context.Context) error {
		return resolves(ctx, p.Family, "kubernetes.default.svc."+domain+".")
	}); err != nil {
		return err
	}
	// No pod can be made in a namespace before this exists.
	return until(ctx, "kube-controller-manager", func(ctx context.Context) error {
		return client.Healthy(ctx, "/api/v1/namespaces/default/serviceaccounts/default")
	})
}

// importPause waits for the container runtime and gives it the image that every pod needs.
func (p Plan) importPause(ctx context.Context) error {
	ctr := p.executable("containerd", "ctr")
	run := func(ctx context.Context, args ...string) error {
		args = append([]string{"--address=" + containerdSocket, "--namespace=k8s.io"}, args...)
		if output, err := exec.CommandContext(ctx, ctr, args...).CombinedOutput(); err != nil {
			return fmt.Errorf("ctr: %w: %s", err, output)
		}
		return nil
	}
	err := until(ctx, "containerd", func(ctx context.Context) error { return run(ctx, "version") })
	if err != nil {
		return err
	}
	return run(ctx, "images", "import", p.pauseArchive())
}

// until asks again until there is no error. The last answer, and whose log to read, are in the error when time is up.
func until(ctx context.Context, component string, ask func(context.Context) error) error {
	for {
		one, cancel := context.WithTimeout(ctx, 10*time.Second)
		err := ask(one)
		cancel()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s: not ready after %s: %w: see: devcluster logs %s", component, startTimeout, err, component)
		case <-time.After(100 * time.Millisecond):
		}
	}
}

func answers(ctx context.Context, url string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	_, _ = io.Copy(io.Discard, response.Body)
	if response.StatusCode != http.StatusOK {
		return errors.New(response.Status)
	}
	return nil
}

func nodeReady(ctx context.Context, client *kube.Client, name string) error {
	var node struct {
		Status struct {
			Conditions []struct {
				Type    string `json:"type"`
				Status  string `json:"status"`
				Message string `json:"message"`
			} `json:"conditions"`
		} `json:"status"`
	}
	if err := client.Get(ctx, "/api/v1/nodes/"+name, &node); err != nil {
		return err
	}
	for _, condition := range node.Status.Conditions {
		if condition.Type != "Ready" {
			continue
		}
		if condition.Status == "True" {
			return nil
		}
		return fmt.Errorf("node %s: %s", name, condition.Message)
	}
	return fmt.Errorf("node %s: has not reported yet", name)
}

// resolves asks for the name of the API server.
func resolves(ctx context.Context, family Family, name string) error {
	resolver := &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		var dialer net.Dialer
		return dialer.DialContext(ctx, network, net.JoinHostPort(family.dnsService(), "53"))
	}}
	addresses, err := resolver.LookupHost(ctx, name)
	if err != nil {
		return err
	}
	if len(addresses) != 1 || addresses[0] != family.serverService() {
		return fmt.Errorf("%s resolves to %v, want %s", name, addresses, family.serverService())
	}
	return nil
}
