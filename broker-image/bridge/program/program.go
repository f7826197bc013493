// SPDX-License-Identifier: Apache-2.0

package program

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"runtime/debug"
	"strconv"
	"time"

	"github.com/mqtt-operator/mqtt-operator/broker-image/admin"
	"github.com/mqtt-operator/mqtt-operator/broker-image/bridge"
	"github.com/mqtt-operator/mqtt-operator/broker-image/contract"
	"github.com/mqtt-operator/mqtt-operator/broker-image/logs"
)

const usage = `mqtt-bridge moves messages between two MQTT brokers. In the image it is the command "mqtt-broker bridge".

  mqtt-bridge --config DIR|FILE        run under the configuration in FILE, or in ` + contract.BridgeFile + ` in DIR
  mqtt-bridge --check-config DIR|FILE  say whether a configuration is good, and if not, where
  mqtt-bridge --version                say which version this is

Flags:
`

const (
	healthTimeout = 10 * time.Second
	// memory is the amount that the collector of garbage tries to stay below; windows of large messages may need more.
	memory = 20 << 20
	// garbage in percent of what is in use, which is little: at the usual 100 the collector would run all the time.
	garbage = 300
)

// settings are the flags.
type settings struct {
	config, check, adminTLS, adminListen, healthListen string
	sayVersion                                         bool
	version                                            string
}

var errUsage = errors.New("wrong use")

// Run runs the bridge until ctx ends. version is what the linker has set, empty where it has set none; args are what
// stands behind the name of the program. It returns the exit status: 0, 1 for a failure, 2 for a wrong use; why is said
// in errs.
func Run(ctx context.Context, version string, args []string, out, errs io.Writer) int {
	switch err := command(ctx, version, args, out, errs); {
	case err == nil, errors.Is(err, flag.ErrHelp):
		return 0
	case errors.Is(err, errUsage):
		return 2
	default:
		_, _ = fmt.Fprintln(errs, "mqtt-bridge:", err)

		return 1
	}
}

func command(ctx context.Context, version string, args []string, out, errs io.Writer) error {
	s := settings{version: versionText(version)}

	flags := flag.NewFlagSet("mqtt-bridge", flag.ContinueOnError)
	flags.SetOutput(errs)
	flags.StringVar(&s.config, "config", contract.BridgeConfigDir, "file with the configuration, or its directory; watched for changes")
	flags.StringVar(&s.check, "check-config", "", "look at this configuration and do nothing else")
	flags.StringVar(&s.adminTLS, "admin-tls", "", "directory with tls.crt, tls.key and ca.crt of the admin endpoint; without it there is none")
	flags.StringVar(&s.adminListen, "admin-listen", port(contract.AdminPort), "address of the admin endpoint")
	flags.StringVar(&s.healthListen, "health-listen", port(contract.HealthPort), "address of "+contract.LivePath+", "+contract.ReadyPath+" and "+contract.MetricsPath+"; empty for none")
	flags.BoolVar(&s.sayVersion, "version", false, "say which version this is")
	flags.Usage = func() {
		_, _ = fmt.Fprint(errs, usage)

		flags.PrintDefaults()
	}

	switch err := flags.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		return err
	case err != nil:
		return errUsage // the flag set has said why
	case flags.NArg() > 0:
		_, _ = fmt.Fprintf(errs, "mqtt-bridge: %q is no flag\n", flags.Arg(0))

		return errUsage
	case s.sayVersion:
		_, _ = fmt.Fprintln(out, "mqtt-bridge", s.version)

		return nil
	case s.check != "":
		return check(s.check, out)
	}

	return serve(ctx, &s, errs)
}

func port(n int) string { return ":" + strconv.Itoa(n) }

func check(path string, out io.Writer) error {
	text, err := os.ReadFile(configFile(path))
	if err != nil {
		return fmt.Errorf("configuration: %w", err)
	}

	cfg, err := contract.ParseBridge(text)
	if err != nil {
		return err
	}

	_, _ = fmt.Fprintf(out, "revision %d\ndigest %s\n", cfg.Revision, contract.DigestOf(text))

	return nil
}

// serve runs the bridge until the context ends.
func serve(ctx context.Context, s *settings, errs io.Writer) error {
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(memory)
		debug.SetGCPercent(garbage)
	}

	logging := logs.NewJSON(errs)
	log := logging.Logger()
	log.Info("bridge starts", "version", s.version)

	b := bridge.New(bridge.Options{Log: log, Version: s.version}) //nolint:contextcheck // it ends by Close, which gives messages on their way a moment

	defer func() {
		b.Close()
		log.Info("bridge has stopped")
	}()

	keeper := admin.NewBridgeKeeper(func(cfg *contract.Bridge) error {
		if err := b.Apply(cfg); err != nil {
			return err
		}

		logging.Set(cfg.Logging)
		log.Info("configuration applied", "revision", cfg.Revision, "routes", len(cfg.Routes), "suspended", cfg.Suspended)

		return nil
	})

	failed := make(chan error, 2)

	if s.healthListen != "" {
		server := &http.Server{Handler: b.Handler(), ReadTimeout: healthTimeout, WriteTimeout: healthTimeout, MaxHeaderBytes: 8 << 10}
		if err := open("health", s.healthListen, server, failed, log); err != nil {
			return err
		}

		defer func() { _ = server.Close() }()
	}

	if s.adminTLS != "" {
		server, err := admin.NewServer(admin.BridgeHandler(keeper, b.Status), s.adminTLS)
		if err == nil {
			err = open("admin", s.adminListen, server, failed, log)
		}

		if err != nil {
			return err
		}

		defer func() { _ = server.Close() }()
	}

	watching, stop := context.WithCancel(ctx)
	defer stop()

	go (&watcher{path: s.config, keeper: keeper, log: log}).run(watching)

	select {
	case <-ctx.Done():
		log.Info("bridge stops: what is on its way gets a moment to arrive")

		return nil
	case err := <-failed:
		return err
	}
}

func open(name, address string, server *http.Server, failed chan<- error, log *slog.Logger) error {
	listener, err := net.Listen("tcp", address) //nolint:noctx // nothing to wait for
	if err != nil {
		return fmt.Errorf("%s endpoint: %w", name, err)
	}

	// What the library has to say is about single connections.
	server.ErrorLog = slog.NewLogLogger(log.Handler(), slog.LevelDebug)

	go func() {
		var err error
		if server.TLSConfig != nil {
			err = server.ServeTLS(listener, "", "")
		} else {
			err = server.Serve(listener)
		}

		if !errors.Is(err, http.ErrServerClosed) {
			failed <- fmt.Errorf("%s endpoint: %w", name, err)
		}
	}()

	log.Debug("endpoint open", "name", name, "address", listener.Addr().String())

	return nil
}

func versionText(version string) string {
	if version != "" {
		return version
	}

	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}

	return "(unknown)"
}
