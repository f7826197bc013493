// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	mqtt3 "github.com/eclipse/paho.mqtt.golang"

	"github.com/mqtt-operator/mqtt-operator/api/v1alpha1"
	"github.com/mqtt-operator/mqtt-operator/controllers/gen"
)

// speaker is a real client: it can say one thing on a topic, and hear one that is kept there.
type speaker interface {
	says(ctx context.Context, topic, text string) error
	hears(ctx context.Context, topic string) (string, error)
}

// TestRealClients: what people use speaks to the broker in every version of the protocol, through TLS.
func TestRealClients(t *testing.T) {
	t.Parallel()
	s := begin(t)
	s.broker()
	s.user("anna", allow("talk/#"), gen.Allow("kept", v1alpha1.ACLSubscribe))
	s.user("host", allow("#"))
	b := mustBinding(s, "anna")
	ca := filepath.Join(t.TempDir(), "ca.crt")
	if err := os.WriteFile(ca, b.ca, 0o600); err != nil {
		t.Fatal(err)
	}
	host := s.connect("host")
	if err := host.retain("kept", "for those who come"); err != nil {
		t.Fatal(err)
	}
	s.mustSubscribe(host, "talk/#")

	python, err := filepath.Abs(filepath.Join("testdata", "client.py"))
	if err != nil {
		t.Fatal(err)
	}
	for name, client := range map[string]speaker{
		"paho.golang 5":          paho5{s, "anna"},
		"paho.mqtt.golang 3.1":   paho3{b, 3},
		"paho.mqtt.golang 3.1.1": paho3{b, 4},
		"mosquitto 3.1":          mosquitto{b, ca, "mqttv31"},
		"mosquitto 3.1.1":        mosquitto{b, ca, "mqttv311"},
		"mosquitto 5":            mosquitto{b, ca, "mqttv5"},
		"python paho 3.1":        pythonPaho{b, ca, python, "3.1"},
		"python paho 3.1.1":      pythonPaho{b, ca, python, "3.1.1"},
		"python paho 5":          pythonPaho{b, ca, python, "5"},
	} {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		topic := "talk/" + strings.NewReplacer(" ", "-", ".", "").Replace(name)
		text := "hello from " + name
		start := time.Now()
		if err := client.says(ctx, topic, text); err != nil {
			t.Errorf("%s cannot publish: %v", name, err)
			cancel()
			continue
		}
		s.hears(host, topic, text)
		if got, err := client.hears(ctx, "kept"); err != nil || got != "for those who come" {
			t.Errorf("%s heard %q: %v", name, got, err)
		}
		if got, err := client.hears(ctx, "forbidden"); err == nil {
			t.Errorf("%s heard %q on a topic that it may not read", name, got)
		}
		s.sayf("%s: says, hears and is refused, in %.2fs", name, time.Since(start).Seconds())
		cancel()
	}
}

type paho5 struct {
	s    *story
	user string
}

func (p paho5) says(_ context.Context, topic, text string) error {
	c, err := p.s.tryConnect(p.user, session{})
	if err != nil {
		return err
	}
	defer c.leave()
	return c.send(message(topic, text, 2))
}

func (p paho5) hears(ctx context.Context, topic string) (string, error) {
	c, err := p.s.tryConnect(p.user, session{})
	if err != nil {
		return "", err
	}
	defer c.leave()
	if err := c.subscribe(topic, 2); err != nil {
		return "", err
	}
	select {
	case m := <-c.messages:
		return string(m.Payload), nil
	case <-ctx.Done():
		return "", ctx.Err()
	}
}

type paho3 struct {
	binding binding
	version uint
}

func (p paho3) connect() (mqtt3.Client, error) {
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(p.binding.ca)
	options := mqtt3.NewClientOptions().AddBroker("ssl://" + p.binding.host + ":" + p.binding.port).
		SetTLSConfig(&tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots, ServerName: p.binding.host}).
		SetClientID("three-" + random(4)).SetUsername(p.binding.username).SetPassword(p.binding.password).
		SetProtocolVersion(p.version).SetAutoReconnect(false).SetConnectRetry(false)
	c := mqtt3.NewClient(options)
	return c, done(c.Connect())
}

func done(token mqtt3.Token) error {
	if !token.WaitTimeout(answerTime) {
		return errors.New("no answer")
	}
	return token.Error()
}

func (p paho3) says(_ context.Context, topic, text string) error {
	c, err := p.connect()
	if err != nil {
		return err
	}
	defer c.Disconnect(100)
	return done(c.Publish(topic, 2, false, text))
}

func (p paho3) hears(ctx context.Context, topic string) (string, error) {
	c, err := p.connect()
	if err != nil {
		return "", err
	}
	defer c.Disconnect(100)
	heard := make(chan string, 1)
	token := c.Subscribe(topic, 2, func(_ mqtt3.Client, m mqtt3.Message) { heard <- string(m.Payload()) })
	if err := done(token); err != nil {
		return "", err
	}
	if granted, ok := token.(*mqtt3.SubscribeToken); ok && granted.Result()[topic] == 0x80 {
		return "", errors.New("refused")
	}
	select {
	case text := <-heard:
		return text, nil
	case <-ctx.Done():
		return "", ctx.Err()
	}
}

type mosquitto struct {
	binding     binding
	ca, version string
}

func (m mosquitto) run(ctx context.Context, program string, args ...string) (string, error) {
	args = append([]string{
		"-V", m.version, "-h", m.binding.host, "-p", m.binding.port, "--cafile", m.ca,
		"-u", m.binding.username, "-P", m.binding.password, "-q", "1",
	}, args...)
	return output(exec.CommandContext(ctx, program, args...))
}

func (m mosquitto) says(ctx context.Context, topic, text string) error {
	_, err := m.run(ctx, "mosquitto_pub", "-t", topic, "-m", text)
	return err
}

func (m mosquitto) hears(ctx context.Context, topic string) (string, error) {
	return m.run(ctx, "mosquitto_sub", "-t", topic, "-C", "1", "-W", "20")
}

type pythonPaho struct {
	binding             binding
	ca, script, version string
}

func (p pythonPaho) run(ctx context.Context, args ...string) (string, error) {
	// Debian's own Python is the one that python3-paho-mqtt belongs to.
	command := exec.CommandContext(ctx, "/usr/bin/python3", append([]string{p.script, p.version}, args...)...)
	command.Env = append(os.Environ(), "MQTT_HOST="+p.binding.host, "MQTT_PORT="+p.binding.port, "MQTT_CA="+p.ca,
		"MQTT_USERNAME="+p.binding.username, "MQTT_PASSWORD="+p.binding.password)
	return output(command)
}

func (p pythonPaho) says(ctx context.Context, topic, text string) error {
	_, err := p.run(ctx, "say", topic, text)
	return err
}

func (p pythonPaho) hears(ctx context.Context, topic string) (string, error) {
	return p.run(ctx, "hear", topic)
}

// output is what a program printed; what it said on standard error is in the error.
func output(command *exec.Cmd) (string, error) {
	var complaints strings.Builder
	command.Stderr = &complaints
	text, err := command.Output()
	if err == nil && strings.Contains(complaints.String(), "denied") { // mosquitto_sub ends as if all were well
		err = errors.New("refused")
	}
	if err != nil {
		err = fmt.Errorf("%s: %w: %s", filepath.Base(command.Path), err, strings.TrimSpace(complaints.String()))
	}
	return strings.TrimSpace(string(text)), err
}
