// SPDX-License-Identifier: Apache-2.0

package bridges

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/mqtt-operator/mqtt-operator/broker-image/acl"
	"github.com/mqtt-operator/mqtt-operator/broker-image/contract"
)

// peer is a broker of somebody.
type peer struct {
	name, title string
	// get is its name for hack/peers.sh; empty: it is ours.
	get string
	// version says which one it is, for the page.
	version func() string
	// quick peers take part in the short form.
	quick bool
	// mqtt are the versions of the protocol that it speaks.
	mqtt []int
	// qos is the most that it takes and gives.
	qos byte
	// keeps says that sessions and messages outlive its process.
	keeps bool
	// mixes says that it sends what is new while it still sends what it has kept for a session that is back.
	mixes bool
	// loses says that a session that is back does not get all that was kept for it.
	loses bool
	// repeats says that it gives messages again whose acknowledgement is late, whatever the connection does.
	repeats bool
	// unordered says that messages of a topic overtake each other inside it, even when nothing happens.
	unordered bool
	// exactRetained peers give retained messages to subscriptions without a wildcard only.
	exactRetained bool
	// unflagged peers give what is retained as if it were not: a bridge takes it for a message like others.
	unflagged bool
	// rate is how many messages a second it stands when some of them have to wait; 0: as many as others.
	rate     int
	user     string
	password string
	// cannot are sentences for the page.
	cannot []string
	// command starts it, with its files in the directory of the remote.
	command func(t *testing.T, r *remote) (argv, env []string)
}

// remote is a peer that runs, with one listener.
type remote struct {
	*program
	peer   *peer
	port   int
	secure bool
}

// end is how it is reached.
func (r *remote) end(version int) end {
	return end{address: loopback(r.port), version: version, user: r.peer.user, password: r.peer.password, secure: r.secure}
}

// run starts a peer for a test.
func (p *peer) run(t *testing.T, secure bool) *remote {
	t.Helper()

	r := &remote{peer: p, port: freePort(t), secure: secure}
	r.program = &program{name: p.name, dir: directory(t)}
	r.argv, r.env = p.command(t, r)
	r.ready = func() error { return greet(r.end(p.mqtt[0])) }
	r.under(t)

	return r
}

// directory is one below the room: a test's own temporary directory may be in memory.
func directory(t *testing.T) string {
	t.Helper()

	dir, err := os.MkdirTemp(room, "run") //nolint:usetesting // see above
	if err != nil {
		t.Fatal(err)
	}

	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Log(err)
		}
	})

	return dir
}

func debianVersion(pkg string) func() string {
	return func() string {
		out, err := exec.CommandContext(context.Background(), "dpkg-query", "--show", "--showformat=${Version}", pkg).Output()
		if err != nil {
			return "unknown"
		}

		return "Debian " + string(out)
	}
}

func said(version string) func() string { return func() string { return version } }

var peers = []*peer{ours, mosquitto, mochi, nats, aedes, mosca, rabbitmq, activemq, ejabberd}

var (
	certFile = func() string { return filepath.Join(room, "tls.crt") }
	keyFile  = func() string { return filepath.Join(room, "tls.key") }
	caFile   = func() string { return filepath.Join(room, "ca.crt") }
)

var ours = &peer{
	name: "ours", title: "mqtt-broker", version: said("this revision"), quick: true, mqtt: []int{5, 4}, qos: 2, keeps: true,
	command: func(t *testing.T, r *remote) ([]string, []string) {
		t.Helper()

		return ourBroker(t, r.dir, r.port, r.secure), nil
	},
}

// ourBroker is our broker's command, with limits that hold what a test publishes while nobody takes it.
func ourBroker(t *testing.T, dir string, port int, secure bool) []string {
	t.Helper()

	listener := contract.Listener{
		Name: "tcp", Protocol: contract.TCP, Address: loopback(port),
		Anonymous: &contract.Anonymous{ACL: []acl.Rule{
			{Effect: acl.Allow, Actions: []acl.Action{acl.Publish, acl.Subscribe}, Filter: "#"},
		}},
	}
	pairs := map[string]contract.KeyPair{}

	if secure {
		cert, err1 := os.ReadFile(certFile())
		key, err2 := os.ReadFile(keyFile())

		if err := errors.Join(err1, err2); err != nil {
			t.Fatal(err)
		}

		pairs["bridges"] = contract.KeyPair{Certificate: string(cert), PrivateKey: string(key)}
		listener.Protocol = contract.TLS
		listener.TLS = &contract.ListenerTLS{Pair: "bridges", MinVersion: "1.3"}
	}

	c := &contract.Config{Broker: contract.Broker{
		Format: contract.Format, Name: "bridges", Revision: 1, Listeners: []contract.Listener{listener},
		Limits: contract.DefaultLimits(), Persistence: contract.Persistence{}.Resolved(), Logging: contract.DefaultLogging(),
	}, Pairs: pairs}
	c.Limits.MaxQueuedMessages = 1_000_000
	c.Limits.MaxQueuedBytes = 1 << 30

	bundle, err := contract.Render(c, 1)
	if err != nil {
		t.Fatal(err)
	}

	for name, content := range bundle {
		file(t, filepath.Join(dir, "config"), name, string(content))
	}

	return []string{brokerBinary, "dev", "--config", filepath.Join(dir, "config"), "--data", filepath.Join(dir, "data")}
}

const mosquittoPath = "/usr/sbin/mosquitto"

var mosquitto = &peer{
	name: "mosquitto", title: "Mosquitto", get: "mosquitto", version: debianVersion("mosquitto"), quick: true, mqtt: []int{5, 4}, qos: 2, keeps: true,
	command: func(t *testing.T, r *remote) ([]string, []string) {
		t.Helper()

		return []string{mosquittoPath, "-c", file(t, r.dir, "mosquitto.conf", mosquittoConfig(r.dir, r.port, r.secure))}, nil
	},
}

// mosquittoConfig has its store written when it ends; it keeps all that a test publishes meanwhile.
func mosquittoConfig(dir string, port int, secure bool) string {
	text := fmt.Sprintf(`listener %d 127.0.0.1
allow_anonymous true
set_tcp_nodelay true
max_queued_messages 0
max_queued_bytes 0
user root
log_dest stderr
log_type error
log_type warning
persistence true
persistence_location %s/
`, port, dir)
	if secure {
		text += fmt.Sprintf("certfile %s\nkeyfile %s\n", certFile(), keyFile())
	}

	return text
}

// pair are arguments for a program that speaks TLS if it gets two files more.
func (r *remote) pair(argv ...string) []string {
	if r.secure {
		return append(argv, certFile(), keyFile())
	}

	return argv
}

var mochi = &peer{
	name: "mochi", title: "mochi, as it comes", get: "mochi", version: said("v2.7.9"), quick: true, mqtt: []int{4}, qos: 2,
	unordered: true, loses: true,
	cannot: []string{
		"keeps sessions and messages in memory only: its storage hooks write after the acknowledgement",
		"keeps no order of what waits for a session: it sorts by whole seconds (with Mosquitto's own bridge as well)",
		"loses some of what waits for a session that is away (with Mosquitto's own bridge as well)",
		"MQTT 5 with a Receive Maximum, which a bridge needs: what it holds back when so much is on its way goes out with a later packet only, and if none comes, never; to a session that is back it sends more than the Receive Maximum. So a bridge speaks 3.1.1 with it",
	},
	command: func(t *testing.T, r *remote) ([]string, []string) {
		t.Helper()

		return r.pair(filepath.Join(programs, "mochi"), loopback(r.port)), nil
	},
}

var nats = &peer{
	name: "nats", title: "NATS server", get: "nats", version: said("v2.15.2"), quick: true, mqtt: []int{4}, qos: 2, keeps: true,
	mixes: true, repeats: true,
	cannot: []string{
		"speaks no MQTT 5",
		"gives what a bridge had not acknowledged when the line was cut again after `ack_wait` only (30 s; 10 s here), behind what is newer; and again, too, what a slow bridge has not acknowledged by then",
	},
	command: func(t *testing.T, r *remote) ([]string, []string) {
		t.Helper()

		tls := ""
		if r.secure {
			tls = fmt.Sprintf(", tls { cert_file: %q, key_file: %q }", certFile(), keyFile())
		}

		config := file(t, r.dir, "nats.conf", fmt.Sprintf(`server_name: bridges
listen: 127.0.0.1:-1
jetstream { store_dir: %q, sync_interval: always }
mqtt { listen: %q, max_ack_pending: 1000, ack_wait: "10s"%s }
`, filepath.Join(r.dir, "store"), loopback(r.port), tls))

		return []string{filepath.Join(programs, "nats-server"), "-c", config}, nil
	},
}

var aedes = &peer{
	name: "aedes", title: "Aedes", get: "aedes", version: said("1.2.0"), quick: true, mqtt: []int{4}, qos: 2,
	mixes: true,
	cannot: []string{
		"speaks no MQTT 5",
		"keeps sessions and messages in memory unless a database is added",
		"keeps no order between what it has kept for a session and what is new when the session is back (with Mosquitto's own bridge as well)",
		"ends the connection of a session that is back where a message of it is acknowledged while it is about to note that it sends it",
	},
	command: func(t *testing.T, r *remote) ([]string, []string) {
		t.Helper()

		return r.pair("node", filepath.Join(programs, "aedes", "run.mjs"), strconv.Itoa(r.port)), nil
	},
}

var mosca = &peer{
	name: "mosca", title: "Mosca", get: "mosca", version: said("2.8.3"), mqtt: []int{4}, qos: 1,
	unordered: true, unflagged: true, rate: 20,
	cannot: []string{
		"speaks no MQTT 5",
		"knows no QoS 2: it never answers such a message, and grants 1 where 2 is asked for",
		"keeps no order: messages of a topic overtake each other inside it (with Mosquitto's own bridge as well)",
		"keeps sessions and messages in memory: its stores on disk do not build with a Node.js of today",
		"gives what is retained without the flag that says so: a bridge passes it on as a message like others",
		"looks through all that waits for a session at each message that it sends and at each acknowledgement, so that the work grows with the square: counted here with 20 messages a second",
	},
	command: func(t *testing.T, r *remote) ([]string, []string) {
		t.Helper()

		return r.pair("node", filepath.Join(programs, "mosca", "run.mjs"), strconv.Itoa(r.port)), nil
	},
}

const rabbitmqPath = "/usr/lib/rabbitmq/bin/rabbitmq-server"

var rabbitmq = &peer{
	name: "rabbitmq", title: "RabbitMQ", get: "rabbitmq", version: debianVersion("rabbitmq-server"), mqtt: []int{4}, qos: 1, keeps: true,
	exactRetained: true,
	cannot: []string{
		"speaks no MQTT 5 in this version (3.13 does)",
		"downgrades QoS 2 to 1",
		"gives retained messages to subscriptions without a wildcard only: none comes to a bridge with one",
	},
	command: func(t *testing.T, r *remote) ([]string, []string) {
		t.Helper()

		listener := fmt.Sprintf("listeners.tcp = none\nmqtt.listeners.tcp.default = %s\n", loopback(r.port))
		if r.secure {
			listener = fmt.Sprintf(`listeners.tcp = none
mqtt.listeners.tcp = none
mqtt.listeners.ssl.default = %s
ssl_options.cacertfile = %s
ssl_options.certfile = %s
ssl_options.keyfile = %s
`, loopback(r.port), caFile(), certFile(), keyFile())
		}

		file(t, r.dir, "rabbitmq.conf", listener+`mqtt.allow_anonymous = true
mqtt.prefetch = 1000
mqtt.tcp_listen_options.nodelay = true
mqtt.retained_message_store = rabbit_mqtt_retained_msg_store_dets
vm_memory_high_watermark.relative = 0.8
disk_free_limit.absolute = 50MB
log.file = false
log.console = true
log.console.level = warning
`)
		file(t, r.dir, "enabled_plugins", "[rabbitmq_mqtt].\n")

		// The cookie lets nodes speak with each other; this one speaks with none.
		cookie := file(t, r.dir, ".erlang.cookie", "bridges")
		if err := os.Chmod(cookie, 0o400); err != nil {
			t.Fatal(err)
		}

		names := freePort(t)
		env := []string{
			"HOME=" + r.dir, "RABBITMQ_BASE=" + r.dir, fmt.Sprintf("RABBITMQ_NODENAME=bridges%d@localhost", r.port),
			"RABBITMQ_MNESIA_BASE=" + filepath.Join(r.dir, "mnesia"), "RABBITMQ_LOG_BASE=" + r.dir,
			"RABBITMQ_CONFIG_FILE=" + filepath.Join(r.dir, "rabbitmq"),
			"RABBITMQ_ENABLED_PLUGINS_FILE=" + filepath.Join(r.dir, "enabled_plugins"),
			"RABBITMQ_CONF_ENV_FILE=/dev/null", "RABBITMQ_PID_FILE=" + filepath.Join(r.dir, "pid"),
			// Without this a shell stands between us and the node, and the node would outlive a kill.
			"RUNNING_UNDER_SYSTEMD=true",
			fmt.Sprintf("ERL_EPMD_PORT=%d", names), "ERL_EPMD_ADDRESS=127.0.0.1", fmt.Sprintf("RABBITMQ_DIST_PORT=%d", freePort(t)),
		}
		// The daemon that maps names to ports is the node's child here; a node that has to start it leaves it behind.
		script := fmt.Sprintf("setpriv --pdeathsig KILL epmd -port %d & exec %s", names, rabbitmqPath)

		return []string{"/bin/sh", "-c", script}, env
	},
}

var activemq = &peer{
	name: "activemq", title: "ActiveMQ Classic", get: "activemq", version: debianVersion("activemq"), mqtt: []int{4}, qos: 2, keeps: true,
	mixes: true,
	cannot: []string{
		"speaks no MQTT 5",
		"its Debian package has the MQTT connector, but not the codec: `libmqtt-client-java` has it, and must be on the class path",
		"writes a dot in a topic as a slash",
		"a message that was published around a restart may come behind the next one of its topic",
		"takes a message that it has to give again for a duplicate now and then after a restart, and moves it to its dead letter queue (`duplicate from store` in its log): that one does not come",
	},
	command: func(t *testing.T, r *remote) ([]string, []string) {
		t.Helper()

		scheme, security := "mqtt+nio", ""
		if r.secure {
			scheme = "mqtt+nio+ssl"
			store := filepath.Join(r.dir, "store.p12")
			security = fmt.Sprintf(`<sslContext><sslContext keyStore="file:%s" keyStoreType="pkcs12" keyStorePassword="bridges"/></sslContext>`, store)

			out, err := exec.CommandContext(t.Context(), "openssl", "pkcs12", "-export", "-in", certFile(), "-inkey", keyFile(),
				"-name", "bridges", "-passout", "pass:bridges", "-out", store).CombinedOutput()
			if err != nil {
				t.Fatalf("openssl: %v\n%s", err, out)
			}
		}

		config := file(t, r.dir, "broker.xml", fmt.Sprintf(`<beans xmlns="http://www.springframework.org/schema/beans"
  xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"
  xsi:schemaLocation="http://www.springframework.org/schema/beans http://www.springframework.org/schema/beans/spring-beans.xsd
    http://activemq.apache.org/schema/core http://activemq.apache.org/schema/core/activemq-core.xsd">
  <broker xmlns="http://activemq.apache.org/schema/core" brokerName="bridges" dataDirectory="%[1]s/data" useJmx="false">
    <destinationPolicy><policyMap><policyEntries>
      <policyEntry topic="&gt;" producerFlowControl="false"/>
    </policyEntries></policyMap></destinationPolicy>
    <persistenceAdapter><kahaDB directory="%[1]s/kahadb" journalDiskSyncStrategy="periodic"/></persistenceAdapter>
    %[4]s
    <transportConnectors><transportConnector name="mqtt" uri="%[2]s://%[3]s"/></transportConnectors>
  </broker>
</beans>
`, r.dir, scheme, loopback(r.port), security))
		logging := file(t, r.dir, "log4j.properties", `log4j.rootLogger=WARN, out
log4j.appender.out=org.apache.log4j.ConsoleAppender
log4j.appender.out.layout=org.apache.log4j.PatternLayout
log4j.appender.out.layout.ConversionPattern=%d %p %m%n
`)
		home := "/usr/share/activemq"
		classes := strings.Join([]string{home + "/lib/*", home + "/lib/optional/*", "/usr/share/java/mqtt-client.jar"}, ":")

		return []string{
			"java", "-Xmx512m", "-cp", classes, "-Dlog4j.configuration=file:" + logging, "-Dactivemq.home=" + home,
			"-Dactivemq.base=" + r.dir, "-Dactivemq.data=" + filepath.Join(r.dir, "data"),
			"org.apache.activemq.console.Main", "start", "xbean:file:" + config,
		}, nil
	},
}

var ejabberd = &peer{
	name: "ejabberd", title: "ejabberd's mod_mqtt", get: "ejabberd", version: debianVersion("ejabberd"), mqtt: []int{5, 4}, qos: 2,
	user: "bridge@localhost", password: "any",
	cannot: []string{
		"keeps sessions in memory: they end with its process (retained messages stay)",
		"needs a user name, even where anybody may come in",
	},
	command: func(t *testing.T, r *remote) ([]string, []string) {
		t.Helper()

		tls := ""
		if r.secure {
			tls = "    tls: true\n"

			cert, err1 := os.ReadFile(certFile())
			key, err2 := os.ReadFile(keyFile())
			ca, err3 := os.ReadFile(caFile())

			if err := errors.Join(err1, err2, err3); err != nil {
				t.Fatal(err)
			}

			tls += "certfiles: [" + file(t, r.dir, "tls.pem", string(cert)+string(ca)+string(key)) + "]\n"
		}

		config := file(t, r.dir, "ejabberd.yml", fmt.Sprintf(`hosts: [localhost]
loglevel: warning
auth_method: [anonymous]
anonymous_protocol: login_anon
allow_multiple_connections: true
modules:
  mod_mqtt:
    max_queue: infinity
    session_expiry: 1 hour
    access_publish: {"#": [{allow: all}]}
    access_subscribe: {"#": [{allow: all}]}
listen:
  - port: %d
    ip: 127.0.0.1
    module: mod_mqtt
%s`, r.port, tls))

		return []string{"erl", "-noinput", "-mnesia", "dir", strconv.Quote(filepath.Join(r.dir, "mnesia")), "-s", "ejabberd"}, []string{
			"HOME=" + r.dir, "EJABBERD_CONFIG_PATH=" + config, "EJABBERD_LOG_PATH=" + filepath.Join(r.dir, "ejabberd.own.log"),
			"SPOOL_DIR=" + r.dir, "ERL_LIBS=/usr/lib/x86_64-linux-gnu:/usr/lib/aarch64-linux-gnu",
		}
	},
}
