// SPDX-License-Identifier: Apache-2.0

// Command client is the application of the stories that need one inside a pod: it logs in with the token that the kubelet
// writes into the pod, says hello, answers what it is asked, and ends when it is told to. What it needs comes in the
// environment:
//
//	MQTT_ADDRESS  host:port of a TLS listener
//	MQTT_CA       file with the CA to trust
//	MQTT_TOKEN    file with the token, read before each connect
//	MQTT_TOPIC    it says "hello" there, listens below, and ends at a message on TOPIC/leave
//
// Its exit code is 0 if it was told to leave, and 1 if it was refused; why goes to standard error and into the pod's status.
package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/eclipse/paho.golang/packets"
	"github.com/eclipse/paho.golang/paho"
)

const patience = 30 * time.Second

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		// The kubelet puts it into the pod's status. Where there is none nobody misses it.
		_ = os.WriteFile("/dev/termination-log", []byte(err.Error()), 0o600)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	conn, err := dial(ctx, os.Getenv("MQTT_ADDRESS"), os.Getenv("MQTT_CA"))
	if err != nil {
		return err
	}
	token, err := os.ReadFile(os.Getenv("MQTT_TOKEN")) //nolint:gosec // the pod's author says where
	if err != nil {
		return err
	}
	topic, told, ended := os.Getenv("MQTT_TOPIC"), make(chan struct{}, 1), make(chan error, 1)
	client := paho.NewClient(paho.ClientConfig{
		Conn: packets.NewThreadSafeConn(conn), // paho pings at once: on a TLS connection it would write into another packet
		OnPublishReceived: []func(paho.PublishReceived) (bool, error){func(p paho.PublishReceived) (bool, error) {
			if p.Packet.Topic == topic+"/leave" {
				told <- struct{}{}
			}
			return true, nil
		}},
		OnServerDisconnect: func(d *paho.Disconnect) { ended <- fmt.Errorf("the broker disconnects with %#x", d.ReasonCode) },
		OnClientError:      func(err error) { ended <- err },
	})
	soon, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	answer, err := client.Connect(soon, &paho.Connect{KeepAlive: 30, CleanStart: true, Password: bytes.TrimSpace(token), PasswordFlag: true})
	switch {
	case answer != nil && answer.ReasonCode >= 0x80:
		return fmt.Errorf("refused with %#x", answer.ReasonCode)
	case err != nil:
		return err
	}
	if _, err := client.Subscribe(soon, &paho.Subscribe{Subscriptions: []paho.SubscribeOptions{{Topic: topic + "/#", QoS: 1}}}); err != nil {
		return err
	}
	if _, err := client.Publish(soon, &paho.Publish{Topic: topic, QoS: 1, Payload: []byte("hello")}); err != nil {
		return err
	}
	select {
	case <-told:
		return client.Disconnect(&paho.Disconnect{})
	case err := <-ended:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// dial tries for a while: a Service learns of a ready broker a moment after the broker itself.
func dial(ctx context.Context, address, ca string) (net.Conn, error) {
	text, err := os.ReadFile(ca) //nolint:gosec // as above
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(text) {
		return nil, errors.New("MQTT_CA holds no certificate")
	}
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	dialer := &tls.Dialer{Config: &tls.Config{MinVersion: tls.VersionTLS13, RootCAs: roots, ServerName: host}}
	again := time.NewTicker(time.Second)
	defer again.Stop()
	for end := time.Now().Add(patience); ; {
		conn, err := dialer.DialContext(ctx, "tcp", address)
		if err == nil {
			return conn, nil
		}
		if time.Now().After(end) {
			return nil, err
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-again.C:
		}
	}
}
