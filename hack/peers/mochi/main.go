// SPDX-License-Identifier: Apache-2.0

// Command mochi runs the mochi server as its library makes it, for comparison and for bridges:
//
//	mochi ADDRESS [CERTIFICATE KEY]
package main

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"os"
	"os/signal"
	"syscall"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/hooks/auth"
	"github.com/mochi-mqtt/server/v2/listeners"
)

func main() {
	if err := serve(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "mochi:", err)
		os.Exit(1)
	}
}

func serve(args []string) error {
	if len(args) != 1 && len(args) != 3 {
		return errors.New("mochi ADDRESS [CERTIFICATE KEY]")
	}
	capabilities := mqtt.NewDefaultServerCapabilities()
	capabilities.MaximumInflight = math.MaxUint16
	server := mqtt.New(&mqtt.Options{
		Capabilities: capabilities,
		Logger:       slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError})),
	})
	if err := server.AddHook(new(auth.AllowHook), nil); err != nil {
		return err
	}
	config := listeners.Config{ID: "listener", Address: args[0]}
	if len(args) == 3 {
		pair, err := tls.LoadX509KeyPair(args[1], args[2])
		if err != nil {
			return err
		}
		config.TLSConfig = &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}
	}
	if err := server.AddListener(listeners.NewTCP(config)); err != nil {
		return err
	}
	if err := server.Serve(); err != nil {
		return err
	}
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM, os.Interrupt)
	<-signals
	return server.Close()
}
