// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/mqtt-operator/mqtt-operator/controllers/pki"
)

// audience is what the tokens of the stories are for.
const audience = "urn:example:mqtt"

// issuerClient is somebody whom the issuer gives tokens to.
type issuerClient struct {
	ID     string `json:"id"`
	Secret string `json:"secret"`
	// Seconds is how long its tokens are valid.
	Seconds int `json:"seconds"`
}

// issuer is a real OpenID provider in a process of its own, at an address that pods reach.
type issuer struct {
	url     string
	ca      []byte
	clients []issuerClient
	dir     string
	input   io.Closer
	process *exec.Cmd
}

// issuer starts one for these clients.
func (s *story) issuer(clients ...issuerClient) *issuer {
	s.Helper()
	ca, err := pki.NewCA("the issuer's own", time.Now())
	if err != nil {
		s.Fatal(err)
	}
	host := s.nodeAddress()
	pair, err := pki.Issue(ca, pki.Request{CommonName: host, IPs: []net.IP{net.ParseIP(host)}, Server: true}, time.Now())
	if err != nil {
		s.Fatal(err)
	}
	i := &issuer{url: "https://" + net.JoinHostPort(host, freePort(s, host)), ca: ca.Certificate, clients: clients, dir: s.TempDir()}
	for name, content := range map[string][]byte{"tls.crt": pair.Certificate, "tls.key": pair.Key} {
		if err := os.WriteFile(filepath.Join(i.dir, name), content, 0o600); err != nil {
			s.Fatal(err)
		}
	}
	i.start(s)
	s.Cleanup(func() { i.stop() })
	return i
}

// nodeAddress is an address of this machine that pods reach too.
func (s *story) nodeAddress() string {
	s.Helper()
	nodes := &corev1.NodeList{}
	if err := kube.List(s.ctx, nodes); err != nil {
		s.Fatal(err)
	}
	for _, a := range nodes.Items[0].Status.Addresses {
		if a.Type == corev1.NodeInternalIP {
			return a.Address
		}
	}
	s.Fatal("the node has no address")
	return ""
}

func freePort(s *story, host string) string {
	s.Helper()
	l, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
	if err != nil {
		s.Fatalf("the issuer needs an address of the node, so these stories are told on it: %v", err)
	}
	defer func() { _ = l.Close() }()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	return port
}

// start runs the process; each start draws another key.
func (i *issuer) start(s *story) {
	s.Helper()
	clients, err := json.Marshal(i.clients)
	if err != nil {
		s.Fatal(err)
	}
	i.process = exec.Command("node", filepath.Join("issuer", "issuer.js"))
	i.process.Env = append(os.Environ(), "ISSUER="+i.url, "AUDIENCE="+audience, "CLIENTS="+string(clients), "MODULES="+os.Getenv("ISSUER_MODULES"),
		"TLS_CERT="+filepath.Join(i.dir, "tls.crt"), "TLS_KEY="+filepath.Join(i.dir, "tls.key"))
	i.process.Stderr = os.Stderr
	if i.input, err = i.process.StdinPipe(); err != nil {
		s.Fatal(err)
	}
	output, err := i.process.StdoutPipe()
	if err != nil {
		s.Fatal(err)
	}
	if err := i.process.Start(); err != nil {
		s.Fatalf("the issuer does not start (it needs Node.js, and ISSUER_MODULES as hack/e2e.sh sets it): %v", err)
	}
	if line, err := bufio.NewReader(output).ReadString('\n'); err != nil || line != "ready\n" {
		s.Fatalf("the issuer says %q: %v", line, err)
	}
}

// stop ends the process: the issuer is out.
func (i *issuer) stop() {
	_ = i.input.Close()
	_ = i.process.Wait()
}

// kill ends the process as a crash does: no connection is closed in order.
func (i *issuer) kill(s *story) {
	s.Helper()
	if err := i.process.Process.Kill(); err != nil {
		s.Fatal(err)
	}
	i.stop()
}

// token gives the client a fresh one.
func (i *issuer) token(s *story, id string) string {
	s.Helper()
	token, err := i.ask(s.ctx, id)
	if err != nil {
		s.Fatalf("the issuer gives %s no token: %v", id, err)
	}
	s.secrets.keep("a token of "+id, token)
	return token
}

func (i *issuer) client() *http.Client {
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(i.ca)
	return &http.Client{Timeout: answerTime, Transport: &http.Transport{TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS13, RootCAs: roots}}}
}

// keys are the issuer's public keys, as it serves them.
func (i *issuer) keys(s *story) string {
	s.Helper()
	client := i.client()
	defer client.CloseIdleConnections()
	response, err := client.Get(i.url + "/jwks")
	if err != nil {
		s.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != http.StatusOK {
		s.Fatalf("the issuer's keys: %s, %v", response.Status, err)
	}
	return string(text)
}

func (i *issuer) ask(ctx context.Context, id string) (string, error) {
	client := i.client()
	defer client.CloseIdleConnections()
	form := strings.NewReader(url.Values{"grant_type": {"client_credentials"}}.Encode())
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, i.url+"/token", form)
	if err != nil {
		return "", err
	}
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	for _, c := range i.clients {
		if c.ID == id {
			request.SetBasicAuth(c.ID, c.Secret)
		}
	}
	response, err := client.Do(request)
	if err != nil {
		return "", err
	}
	defer func() { _ = response.Body.Close() }()
	answer := struct {
		Token string `json:"access_token"`
	}{}
	if err := json.NewDecoder(response.Body).Decode(&answer); err != nil {
		return "", err
	}
	if answer.Token == "" {
		return "", errors.New(response.Status)
	}
	return answer.Token, nil
}

// String names the issuer and no secret.
func (i *issuer) String() string { return fmt.Sprintf("issuer %s", i.url) }
