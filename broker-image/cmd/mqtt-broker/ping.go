// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/eclipse/paho.golang/packets"
	"github.com/eclipse/paho.golang/paho"

	"github.com/mqtt-operator/mqtt-operator/broker-image/bridge"
	"github.com/mqtt-operator/mqtt-operator/broker-image/contract"
)

const (
	pingTimeout = 10 * time.Second
	// pingPause is between one try and the next.
	pingPause = time.Second
	// refusedCode is the first reason code of MQTT 5 that refuses.
	refusedCode = 0x80
)

// pingSettings are the flags of ping.
type pingSettings struct {
	binding, url, username, passwordFile, caFile string
	topic, clientID                              string
	timeout, wait                                time.Duration
}

// ping sends a message to itself through a broker: CONNECT, SUBSCRIBE, PUBLISH with QoS 1, and the message back.
func ping(ctx context.Context, args []string, out, errs io.Writer) error {
	var s pingSettings

	flags := flag.NewFlagSet("ping", flag.ContinueOnError)
	flags.StringVar(&s.binding, "binding", "", "directory with a mounted binding Secret: uri, username, password, ca.crt, tls.crt and tls.key")
	flags.StringVar(&s.url, "url", "", "the broker, such as mqtts://mq.example.com:8883; mqtt, mqtts, ws or wss")
	flags.StringVar(&s.username, "username", "", "who to log in as")
	flags.StringVar(&s.passwordFile, "password-file", "", "file with the password")
	flags.StringVar(&s.caFile, "ca-file", "", "file with the CA to trust, PEM; without it the CAs that browsers trust")
	flags.StringVar(&s.topic, "topic", "ping", "topic to publish to, on which the user must be let publish and subscribe")
	flags.StringVar(&s.clientID, "client-id", "", "client identifier; empty lets the broker choose")
	flags.DurationVar(&s.timeout, "timeout", pingTimeout, "how long one try may take")
	flags.DurationVar(&s.wait, "wait", 0, "how long to try again after a failure, for a broker that is about to start")

	if err := parse(flags, args, errs, 0); err != nil {
		return err
	}

	if (s.binding == "") == (s.url == "") {
		_, _ = fmt.Fprintln(errs, "mqtt-broker ping: want one of --binding and --url")

		return errUsage
	}

	if s.binding != "" && (s.username != "" || s.passwordFile != "" || s.caFile != "") {
		_, _ = fmt.Fprintln(errs, "mqtt-broker ping: --username, --password-file and --ca-file belong to --url; a binding has its own")

		return errUsage
	}

	return s.untilAnswered(ctx, out, errs)
}

// untilAnswered tries until a message has come back or the time is over.
func (s *pingSettings) untilAnswered(ctx context.Context, out, errs io.Writer) error {
	last := time.Now().Add(s.wait)
	said := ""

	for {
		err := s.once(ctx, out)
		if err == nil || ctx.Err() != nil || time.Now().After(last) {
			return err
		}

		if said != err.Error() {
			said = err.Error()
			_, _ = fmt.Fprintln(errs, "not yet:", said)
		}

		select {
		case <-ctx.Done():
		case <-time.After(pingPause):
		}
	}
}

// end reads who and where, anew for every try: a binding may have changed since.
func (s *pingSettings) end() (*contract.BridgeEnd, error) {
	end := &contract.BridgeEnd{Endpoints: []string{s.url}, Username: s.username}

	for _, part := range []struct {
		to           *string
		key, file    string // in a binding, and by flag
		isObligatory bool
	}{
		{&end.Endpoints[0], "uri", "", true},
		{&end.Username, "username", "", true},
		{&end.Password, "password", s.passwordFile, false},
		{&end.CAs, "ca.crt", s.caFile, false},
		{&end.Pair.Certificate, "tls.crt", "", false},
		{&end.Pair.PrivateKey, "tls.key", "", false},
	} {
		path := part.file
		if s.binding != "" {
			path = filepath.Join(s.binding, part.key)
		}

		if path == "" {
			continue
		}

		text, err := os.ReadFile(path)
		if errors.Is(err, os.ErrNotExist) && s.binding != "" && !part.isObligatory {
			continue
		}

		if err != nil {
			return nil, err
		}

		*part.to = string(text)
	}

	if s.passwordFile != "" {
		end.Password = strings.TrimRight(end.Password, "\r\n")
	}

	return end, nil
}

// once goes the way of one message.
func (s *pingSettings) once(ctx context.Context, out io.Writer) error {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()

	end, err := s.end()
	if err != nil {
		return err
	}

	begin := time.Now()

	conn, err := bridge.Dial(ctx, end, end.Endpoints[0])
	if err != nil {
		return err
	}

	// The library does not end with the context while it waits for CONNACK.
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	defer conn.Close()

	p := &pinger{endpoint: end.Endpoints[0], topic: s.topic, body: []byte(rand.Text()), back: make(chan struct{}, 1), lost: make(chan error, 1)}

	client := paho.NewClient(paho.ClientConfig{
		Conn: packets.NewThreadSafeConn(conn), PacketTimeout: s.timeout,
		OnPublishReceived:  []func(paho.PublishReceived) (bool, error){p.received},
		OnClientError:      p.ended,
		OnServerDisconnect: func(d *paho.Disconnect) { p.ended(bridge.Refusal(p.endpoint, d.ReasonCode, "")) },
	})

	if err := p.connect(ctx, client, end, s.clientID); err != nil {
		return err
	}

	connected := time.Now()

	if err := p.exchange(ctx, client); err != nil {
		return err
	}

	_, _ = fmt.Fprintf(out, "%s: connected in %d ms, the message came back in %d ms\n", p.endpoint,
		connected.Sub(begin).Milliseconds(), time.Since(connected).Milliseconds())

	return client.Disconnect(&paho.Disconnect{})
}

// pinger waits for its own message.
type pinger struct {
	endpoint, topic string
	body            []byte
	back            chan struct{}
	lost            chan error
}

func (p *pinger) received(m paho.PublishReceived) (bool, error) {
	// Others may publish there too.
	if m.Packet.Topic == p.topic && bytes.Equal(m.Packet.Payload, p.body) {
		select {
		case p.back <- struct{}{}:
		default:
		}
	}

	return true, nil
}

func (p *pinger) ended(err error) {
	select {
	case p.lost <- err:
	default:
	}
}

func (p *pinger) connect(ctx context.Context, client *paho.Client, end *contract.BridgeEnd, id string) error {
	ack, err := client.Connect(ctx, &paho.Connect{
		ClientID: id, CleanStart: true, KeepAlive: 30,
		Username: end.Username, UsernameFlag: end.Username != "",
		Password: []byte(end.Password), PasswordFlag: end.Password != "",
	})

	switch {
	case ack != nil && ack.ReasonCode >= refusedCode:
		said := ""
		if ack.Properties != nil {
			said = ack.Properties.ReasonString
		}

		return bridge.Refusal(p.endpoint, ack.ReasonCode, said)
	case err != nil:
		return fmt.Errorf("%s: CONNECT: %w", p.endpoint, err)
	default:
		return nil
	}
}

// exchange subscribes, publishes and waits.
func (p *pinger) exchange(ctx context.Context, client *paho.Client) error {
	granted, err := client.Subscribe(ctx, &paho.Subscribe{Subscriptions: []paho.SubscribeOptions{{Topic: p.topic, QoS: 1}}})
	if granted != nil && len(granted.Reasons) == 1 && granted.Reasons[0] >= refusedCode {
		return p.refused("subscribe", granted.Reasons[0])
	}

	if err != nil {
		return fmt.Errorf("%s: SUBSCRIBE: %w", p.endpoint, err)
	}

	taken, err := client.Publish(ctx, &paho.Publish{Topic: p.topic, QoS: 1, Payload: p.body})
	if taken != nil && taken.ReasonCode >= refusedCode {
		return p.refused("publish", taken.ReasonCode)
	}

	if err != nil {
		return fmt.Errorf("%s: PUBLISH: %w", p.endpoint, err)
	}

	select {
	case <-p.back:
		return nil
	case err := <-p.lost:
		return fmt.Errorf("%s: the connection ended before the message came back: %w", p.endpoint, err)
	case <-ctx.Done():
		return fmt.Errorf("%s: the message was taken and did not come back in time", p.endpoint)
	}
}

func (p *pinger) refused(what string, code byte) error {
	return fmt.Errorf("%s: the broker does not let this user %s on %q (reason code 0x%02x); give it a rule that does", p.endpoint, what, p.topic, code)
}
