// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"runtime/debug"
	"strconv"
	"sync"
	"time"

	"github.com/mqtt-operator/mqtt-operator/broker-image/admin"
	"github.com/mqtt-operator/mqtt-operator/broker-image/contract"
	"github.com/mqtt-operator/mqtt-operator/broker-image/engine"
	"github.com/mqtt-operator/mqtt-operator/broker-image/health"
	"github.com/mqtt-operator/mqtt-operator/broker-image/logs"
)

const (
	defaultShutdown = 20 * time.Second
	// restAfter is how long a configuration must have been the newest before the memory that reading it took is given back.
	restAfter     = 3 * time.Second
	healthTimeout = 10 * time.Second
	// lastAnswers is how long an answer may take that is being given when the broker begins anew.
	lastAnswers = 3 * time.Second
)

// settings are the flags of serve.
type settings struct {
	configDir, data, adminListen, adminTLS, healthListen string
	profiling                                            profiling
	shutdown                                             time.Duration
}

func serve(ctx context.Context, args []string, errs io.Writer) error {
	var s settings

	flags := flag.NewFlagSet("serve", flag.ContinueOnError)
	flags.StringVar(&s.configDir, "config-dir", contract.ConfigDir, "directory with the configuration; watched for changes")
	flags.StringVar(&s.data, "data", contract.DataDir, "directory that keeps sessions over a restart; empty keeps nothing")
	flags.StringVar(&s.adminListen, "admin-listen", port(contract.AdminPort), "address of the admin endpoint; empty for none")
	flags.StringVar(&s.adminTLS, "admin-tls", contract.AdminTLSDir, "directory with tls.crt, tls.key and ca.crt of the admin endpoint")
	flags.StringVar(&s.healthListen, "health-listen", port(contract.HealthPort), "address of "+contract.LivePath+", "+contract.ReadyPath+" and "+contract.MetricsPath+"; empty for none")
	s.profiling.flags(flags)
	flags.DurationVar(&s.shutdown, "shutdown-timeout", defaultShutdown, "how long clients and the disk may take at the end")

	if err := parse(flags, args, errs, 0); err != nil {
		return err
	}

	if err := s.profiling.check(); err != nil {
		return err
	}

	logging := logs.NewJSON(errs)
	log := logging.Logger()
	log.Info("broker starts", "version", versionText())

	for {
		again, err := runBroker(ctx, &s, logging, log)
		if err == nil && !again {
			log.Info("broker has stopped")
		}

		if !again {
			return err
		}

		log.Info("broker begins anew with what was restored")
	}
}

func port(n int) string { return ":" + strconv.Itoa(n) }

// runBroker serves until the context ends, or until something was restored: then it is to be run again.
func runBroker(ctx context.Context, s *settings, logging *logs.Log, log *slog.Logger) (again bool, err error) {
	var keeper *admin.Keeper // the broker asks it, and it the broker

	broker, err := engine.New(engine.Options{
		Log: log, DataDir: s.data, Version: versionText(),
		ConfigFault: func() bool { return keeper.Running().Refused != nil },
	})
	if err != nil {
		return false, err
	}

	var release sync.Once

	// With ten thousand users a configuration is read from megabytes, which are garbage afterwards, and more of it than the
	// collector would look for in a broker that has little to do.
	tidy := time.AfterFunc(restAfter, debug.FreeOSMemory)
	defer tidy.Stop()

	keeper = admin.NewKeeper(func(config *contract.Config) error { //nolint:contextcheck // a socket is bound at once or not at all
		if err := broker.Apply(config); err != nil {
			return err
		}

		release.Do(releaseProgram)
		tidy.Reset(restAfter)
		logging.Set(config.Logging)
		log.Info("configuration applied", "revision", config.Revision, "listeners", len(config.Listeners), "users", len(config.Users))

		return nil
	})
	checker := newChecker(broker)

	saved := newArchive(broker, log)

	servers, err := openServers(s, keeper, broker, checker, saved, log)
	if err != nil {
		return false, errors.Join(err, stop(broker, s.shutdown)) //nolint:contextcheck // see stop
	}

	watching, stopWatching := context.WithCancel(ctx)
	watched := make(chan struct{})

	go func() {
		defer close(watched)

		(&watcher{dir: s.configDir, keeper: keeper, log: log}).run(watching)
	}()

	var restored *restoration

	select {
	case <-ctx.Done():
		log.Info("broker stops: clients are disconnected, sessions are written", "timeout", s.shutdown)
	case restored = <-saved.restored:
		log.Info("broker stops to begin anew with what is restored: clients are disconnected", "timeout", s.shutdown)
	case err = <-servers.failed:
	}

	checker.Off("the broker is shutting down")
	stopWatching()
	<-watched

	err = errors.Join(err, stop(broker, s.shutdown)) //nolint:contextcheck // see stop

	if restored != nil {
		restored.settle(err)
		servers.finish() //nolint:contextcheck // it is the end
	}

	servers.close()

	return restored != nil && ctx.Err() == nil, err
}

// stop has a deadline of its own: the context that it is called under has ended, which is why it is called.
func stop(broker *engine.Engine, patience time.Duration) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()

	return broker.Shutdown(ctx)
}

func newChecker(broker *engine.Engine) *health.Checker {
	credential := broker.ProbeCredential()

	return health.New(health.Broker{
		Username: credential.Username,
		Password: credential.Password,
		Storage:  func() string { return broker.Status().Storage },
		Targets: func() ([]health.Target, error) {
			doors, err := broker.Targets()
			targets := make([]health.Target, 0, len(doors))

			for _, d := range doors {
				targets = append(targets, health.Target(d))
			}

			return targets, err
		},
	})
}

// servers are the HTTP servers beside the broker.
type servers struct {
	all    []*http.Server
	failed chan error // has room for each
}

func openServers(s *settings, keeper *admin.Keeper, broker *engine.Engine, checker *health.Checker, saved *archive, log *slog.Logger) (*servers, error) {
	opened := &servers{failed: make(chan error, 3)}

	if s.healthListen != "" {
		mux := http.NewServeMux()
		mux.Handle("/", checker.Handler())
		mux.Handle("GET "+contract.MetricsPath, broker.Metrics().Handler())

		server := &http.Server{
			Handler: mux, ReadTimeout: healthTimeout, WriteTimeout: healthTimeout, MaxHeaderBytes: 8 << 10,
		}
		if err := opened.open("health", s.healthListen, server, log); err != nil {
			return nil, err
		}
	}

	if err := s.profiling.open(opened, log); err != nil {
		opened.close()

		return nil, err
	}

	if s.adminListen != "" {
		started := time.Now()

		server, err := admin.NewServer(admin.Handler(keeper, func() admin.Status { return status(broker, started) }, tracing(broker), admin.WithClients(members{broker}), admin.WithSnapshots(saved), admin.WithRetained(retainer{broker}), admin.WithDrain(drainer{broker})), s.adminTLS)
		if err == nil {
			err = opened.open("admin", s.adminListen, server, log)
		}

		if err != nil {
			opened.close()

			return nil, err
		}
	}

	return opened, nil
}

func (s *servers) open(name, address string, server *http.Server, log *slog.Logger) error {
	listener, err := net.Listen("tcp", address) //nolint:noctx // nothing to wait for
	if err != nil {
		return fmt.Errorf("%s endpoint: %w", name, err)
	}

	// What the library has to say is about single connections.
	server.ErrorLog = slog.NewLogLogger(log.Handler(), slog.LevelDebug)
	s.all = append(s.all, server)

	go func() {
		var err error
		if server.TLSConfig != nil {
			err = server.ServeTLS(listener, "", "")
		} else {
			err = server.Serve(listener)
		}

		if !errors.Is(err, http.ErrServerClosed) {
			s.failed <- fmt.Errorf("%s endpoint: %w", name, err)
		}
	}()

	log.Debug("endpoint open", "name", name, "address", listener.Addr().String())

	return nil
}

// finish lets answers that are being given come to their end.
func (s *servers) finish() {
	ctx, cancel := context.WithTimeout(context.Background(), lastAnswers)
	defer cancel()

	for _, server := range s.all {
		_ = server.Shutdown(ctx)
	}
}

func (s *servers) close() {
	for _, server := range s.all {
		_ = server.Close()
	}
}

func status(broker *engine.Engine, started time.Time) admin.Status {
	now := broker.Status()
	said := admin.Status{
		Connections: now.Connections, Sessions: now.Sessions, Listeners: []admin.ListenerStatus{},
		Started: started, Version: versionText(), Storage: now.Storage,
		QueuedMessages: now.QueuedMessages, RetainedMessages: now.RetainedMessages, Draining: broker.DrainStatus().Draining,
	}

	for _, l := range now.Listeners {
		said.Listeners = append(said.Listeners, admin.ListenerStatus(l))
	}

	return said
}

// tracing has the engine's traces speak the admin endpoint's words.
func tracing(broker *engine.Engine) admin.TraceFunc {
	return func(ctx context.Context, filter admin.TraceFilter, emit func(admin.TraceEvent) error) error {
		err := broker.Trace(ctx, engine.TraceFilter{ClientID: filter.Client, TopicFilter: filter.Topic}, func(e engine.TraceEvent) error {
			return emit(admin.TraceEvent{
				Time: e.Time, Event: string(e.Kind), Client: e.Client, User: e.User, Listener: e.Listener, Remote: e.Remote,
				Version: e.Version, Topic: e.Topic, Filter: e.Filter, QoS: e.QoS, Retain: e.Retain, Dup: e.Dup, Size: e.Size,
				PacketID: e.PacketID, Packet: e.Packet, Code: e.Code, Reason: e.Reason, Count: e.Count,
			})
		})

		switch {
		case errors.Is(err, engine.ErrTraceBusy):
			return admin.ErrTraceBusy
		case errors.Is(err, engine.ErrTraceFilter):
			return fmt.Errorf("%w: %w", admin.ErrTraceFilter, err)
		default:
			return err
		}
	}
}

// members has the engine's clients speak the admin endpoint's words.
type members struct{ broker *engine.Engine }

// List is of admin.Clients.
func (m members) List(filter admin.ClientFilter) admin.ClientPage {
	found := m.broker.Clients(engine.ClientFilter(filter))
	page := admin.ClientPage{Clients: []admin.ConnectedClient{}, Next: found.Next}

	for i := range found.Clients {
		c := &found.Clients[i]
		page.Clients = append(page.Clients, admin.ConnectedClient{
			Client: c.ClientID, User: c.User, Listener: c.Listener, Remote: c.Remote, Version: c.Version, Since: c.Since,
			Subscriptions: c.Subscriptions, Queued: c.Queued, QueuedBytes: c.QueuedBytes, Inflight: c.Inflight,
		})
	}

	return page
}

// Disconnect is of admin.Clients.
func (m members) Disconnect(client string) bool { return m.broker.Disconnect(client) }
