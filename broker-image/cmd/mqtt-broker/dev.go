// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"

	"github.com/mqtt-operator/mqtt-operator/broker-image/acl"
	"github.com/mqtt-operator/mqtt-operator/broker-image/contract"
	"github.com/mqtt-operator/mqtt-operator/broker-image/engine"
	"github.com/mqtt-operator/mqtt-operator/broker-image/logs"
)

const defaultListen = "127.0.0.1:1883"

// devSettings are the flags of dev.
type devSettings struct {
	listen, wsListen, tlsCert, tlsKey string
	data, config, metrics             string
	maxPacketSize                     uint
	receiveMaximum, aliases           uint
	serverKeepAlive                   uint
	profiling                         profiling
}

// dev runs a broker to try things out with.
func dev(ctx context.Context, args []string, out, errs io.Writer) error {
	var s devSettings

	usual := contract.DefaultLimits()
	flags := flag.NewFlagSet("dev", flag.ContinueOnError)
	flags.StringVar(&s.listen, "listen", defaultListen, "loopback address to listen on")
	flags.StringVar(&s.wsListen, "ws-listen", "", "loopback address to listen on for WebSocket, path "+contract.DefaultWebSocketPath)
	flags.StringVar(&s.tlsCert, "tls-cert", "", "file with the certificate chain, PEM; both listeners then speak TLS")
	flags.StringVar(&s.tlsKey, "tls-key", "", "file with the certificate's key, PEM")
	flags.UintVar(&s.maxPacketSize, "max-packet-size", uint(usual.MaxPacketSize), "largest packet to accept, in bytes")
	flags.UintVar(&s.receiveMaximum, "receive-maximum", uint(usual.ReceiveMaximum), "messages of QoS 1 and 2 that a client may send before it gets an answer")
	flags.UintVar(&s.aliases, "topic-alias-maximum", uint(usual.TopicAliasMaximum), "highest topic alias that a client may use")
	flags.UintVar(&s.serverKeepAlive, "server-keep-alive", 0, "seconds that replace the keep-alive that clients of MQTT 5 ask for; 0 leaves it to them")
	flags.StringVar(&s.data, "data", "", "directory that keeps sessions over a restart; empty keeps nothing")
	flags.StringVar(&s.metrics, "metrics-listen", "", "loopback address of /metrics; empty for none")
	s.profiling.flags(flags)
	flags.StringVar(&s.config, "config", "", "broker.json of a configuration to run instead, or its directory")

	if err := parse(flags, args, errs, 0); err != nil {
		return err
	}

	config, err := s.configuration(flags)
	if err == nil {
		err = s.profiling.check()
	}

	if err != nil {
		return err
	}

	logging := logs.New(errs)
	logging.Set(config.Logging)

	broker, err := engine.New(engine.Options{Log: logging.Logger(), DataDir: s.data, Version: versionText()})
	if err != nil {
		return err
	}

	if err := broker.Apply(config); err != nil { //nolint:contextcheck // a socket is bound at once or not at all
		return errors.Join(err, stop(broker, defaultShutdown)) //nolint:contextcheck // see stop
	}

	opened := &servers{failed: make(chan error, 2)}
	defer opened.close()

	if err := s.profiling.open(opened, logging.Logger()); err != nil {
		return errors.Join(err, stop(broker, defaultShutdown)) //nolint:contextcheck // see stop
	}

	if s.metrics != "" {
		mux := http.NewServeMux()
		mux.Handle(contract.MetricsPath, broker.Metrics().Handler())

		server := &http.Server{Handler: mux, ReadTimeout: healthTimeout, WriteTimeout: healthTimeout, MaxHeaderBytes: 8 << 10}
		if err := opened.open("metrics", s.metrics, server, logging.Logger()); err != nil {
			return errors.Join(err, stop(broker, defaultShutdown)) //nolint:contextcheck // see stop
		}
	}

	releaseProgram()

	for _, l := range broker.Status().Listeners {
		explain(out, l.Name, l.Address, s.config == "" && s.tlsCert == "")
	}

	<-ctx.Done()

	return stop(broker, defaultShutdown) //nolint:contextcheck // see stop
}

// configuration is what the flags ask for.
func (s *devSettings) configuration(flags *flag.FlagSet) (*contract.Config, error) {
	if s.config != "" {
		var other error

		flags.Visit(func(f *flag.Flag) {
			if !slices.Contains([]string{"config", "data", "metrics-listen", "pprof-listen", "pprof-insecure"}, f.Name) {
				other = fmt.Errorf("--%s and --config exclude one another: a configuration has its own listeners and limits", f.Name)
			}
		})

		if other != nil {
			return nil, other
		}

		_, config, err := load(s.config)

		return config, err
	}

	for _, address := range []string{s.listen, s.wsListen, s.metrics} {
		if address != "" && !isLoopback(address) {
			return nil, fmt.Errorf("%s can be reached from outside, and this broker asks nobody for a password; "+
				"listen on 127.0.0.1, or say with --config who may come in", address)
		}
	}

	config := devConfig(s.listen)

	if err := s.limits(&config.Limits); err != nil {
		return nil, err
	}

	if s.wsListen != "" {
		config.Listeners = append(config.Listeners, contract.Listener{
			Name: "dev-ws", Protocol: contract.WS, Address: s.wsListen, Anonymous: config.Listeners[0].Anonymous,
		})
	}

	if err := s.encrypt(config); err != nil {
		return nil, err
	}

	err := config.Validate()

	return config, err
}

func (s *devSettings) limits(l *contract.Limits) error {
	for _, f := range []struct {
		name  string
		value uint
		most  uint
	}{
		{"max-packet-size", s.maxPacketSize, contract.MaxPacketSize},
		{"receive-maximum", s.receiveMaximum, 65535},
		{"topic-alias-maximum", s.aliases, 65535},
		{"server-keep-alive", s.serverKeepAlive, 65535},
	} {
		if f.value > f.most {
			return fmt.Errorf("--%s %d is too much: at most %d", f.name, f.value, f.most)
		}
	}

	l.MaxPacketSize = uint32(s.maxPacketSize)     //nolint:gosec // looked at above
	l.ReceiveMaximum = uint16(s.receiveMaximum)   //nolint:gosec // looked at above
	l.TopicAliasMaximum = uint16(s.aliases)       //nolint:gosec // looked at above
	l.ServerKeepAlive = uint16(s.serverKeepAlive) //nolint:gosec // looked at above

	return nil
}

// encrypt turns the listeners into such with TLS.
func (s *devSettings) encrypt(config *contract.Config) error {
	if s.tlsCert == "" && s.tlsKey == "" {
		return nil
	}

	if s.tlsCert == "" || s.tlsKey == "" {
		return errors.New("--tls-cert and --tls-key belong together: give both")
	}

	certificate, err := os.ReadFile(s.tlsCert)
	if err != nil {
		return err
	}

	key, err := os.ReadFile(s.tlsKey)
	if err != nil {
		return err
	}

	const pair = "dev"

	config.Pairs = map[string]contract.KeyPair{pair: {Certificate: string(certificate), PrivateKey: string(key)}}

	for i := range config.Listeners {
		l := &config.Listeners[i]
		l.TLS = &contract.ListenerTLS{Pair: pair, MinVersion: "1.2"}

		if l.Protocol == contract.WS {
			l.Protocol = contract.WSS
		} else {
			l.Protocol = contract.TLS
		}
	}

	return nil
}

func explain(out io.Writer, name, address string, anonymous bool) {
	_, _ = fmt.Fprintf(out, "Listener %q is open on %s.\n", name, address)

	host, port, err := net.SplitHostPort(address)
	if err != nil || !anonymous || name != "dev" {
		return
	}

	_, _ = fmt.Fprintf(out, `Anyone on this machine may use it. Try it in two other terminals:

  mosquitto_sub -h %[1]s -p %[2]s -t 'hello/#' -v
  mosquitto_pub -h %[1]s -p %[2]s -t hello/world -m 'it works'

Stop with Ctrl-C.
`, host, port)
}

func devConfig(address string) *contract.Config {
	rules := []acl.Rule{
		{Effect: acl.Allow, Actions: []acl.Action{acl.Publish, acl.Subscribe}, Filter: "#"},
		{Effect: acl.Allow, Actions: []acl.Action{acl.Subscribe}, Filter: "$SYS/#"},
	}

	return &contract.Config{Broker: contract.Broker{
		Format: contract.Format, Name: "dev", Revision: 1,
		Listeners: []contract.Listener{{
			Name: "dev", Protocol: contract.TCP, Address: address, Anonymous: &contract.Anonymous{ACL: rules},
		}},
		Limits:      contract.DefaultLimits(),
		Persistence: contract.Persistence{}.Resolved(),
		Logging:     contract.DefaultLogging(),
	}}
}

// isLoopback tells whether only this machine can reach the address. A name other than localhost is not asked for.
func isLoopback(address string) bool {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return false
	}

	ip := net.ParseIP(host)

	return host == "localhost" || (ip != nil && ip.IsLoopback())
}
