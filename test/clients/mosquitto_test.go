// SPDX-License-Identifier: Apache-2.0

package clients

import (
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// mosquitto is how its programs reach one broker in one version of the protocol.
type mosquitto struct {
	t       *testing.T
	version string
	where   []string
}

// mosquittoEach tells a story in each version.
func mosquittoEach(t *testing.T, story func(t *testing.T, m mosquitto, topic string)) {
	t.Helper()
	need(t, "mosquitto_pub", "mosquitto-clients")
	need(t, "mosquitto_sub", "mosquitto-clients")

	for _, version := range []string{"mqttv31", "mqttv311", "mqttv5"} {
		t.Run(version, func(t *testing.T) {
			t.Parallel()

			b := plain(t)
			story(t, mosquitto{t, version, []string{"-h", b.host(), "-p", b.port(), "-V", version}}, own())
		})
	}
}

func (m mosquitto) args(more ...string) []string {
	return append(append([]string{}, m.where...), more...)
}

func (m mosquitto) pub(args ...string) {
	m.t.Helper()
	call(m.t, "", "mosquitto_pub", m.args(args...)...)
}

// sub gives a mosquitto_sub that has subscribed. What it gets it prints as lines that begin with "got ".
func (m mosquitto) sub(args ...string) *process {
	m.t.Helper()

	// Its output is a pipe, and it would keep lines back.
	line := append([]string{"-oL", "mosquitto_sub", "-d", "-F", "got %t %q %r %p"}, m.args(args...)...)
	p := beside(m.t, "stdbuf", line...)
	p.line("Subscribed (")

	return p
}

func (m mosquitto) expect(p *process, want ...string) {
	m.t.Helper()

	for _, w := range want {
		if got := p.line("got "); got != w {
			m.t.Fatalf("got %q, want %q", got, w)
		}
	}
}

func TestMosquittoExchange(t *testing.T) {
	mosquittoEach(t, func(_ *testing.T, m mosquitto, topic string) {
		for sent := range 3 {
			for granted := range 3 {
				on := fmt.Sprintf("%s/%d/%d", topic, sent, granted)
				p := m.sub("-t", on, "-q", strconv.Itoa(granted))
				m.pub("-t", on, "-q", strconv.Itoa(sent), "-m", "it works")
				m.expect(p, fmt.Sprintf("%s %d 0 it works", on, min(sent, granted)))
				p.kill()
			}
		}
	})
}

func TestMosquittoManyLines(t *testing.T) {
	const lines = 1000

	mosquittoEach(t, func(t *testing.T, m mosquitto, topic string) {
		t.Helper()

		var all strings.Builder
		for i := range lines {
			fmt.Fprintf(&all, "line %d\n", i)
		}

		for qos := range 3 {
			on := fmt.Sprintf("%s/%d", topic, qos)
			p := m.sub("-t", on, "-q", "2")
			call(t, all.String(), "mosquitto_pub", m.args("-t", on, "-q", strconv.Itoa(qos), "-l")...)

			for i := range lines {
				m.expect(p, fmt.Sprintf("%s %d 0 line %d", on, qos, i))
			}

			p.kill()
		}
	})
}

func TestMosquittoRetained(t *testing.T) {
	mosquittoEach(t, func(_ *testing.T, m mosquitto, topic string) {
		for qos := range 3 {
			q := strconv.Itoa(qos)
			on := topic + "/" + q

			m.pub("-t", on, "-q", q, "-r", "-m", "kept")
			late := m.sub("-t", on, "-q", "2")
			m.expect(late, fmt.Sprintf("%s %d 1 kept", on, qos))

			// Those who are there already get it as news.
			m.pub("-t", on, "-q", q, "-r", "-m", "changed")
			m.expect(late, fmt.Sprintf("%s %d 0 changed", on, qos))
			late.kill()

			m.pub("-t", on, "-q", q, "-r", "-n")
			later := m.sub("-t", on, "-q", "2")
			m.pub("-t", on, "-q", q, "-m", "first")
			m.expect(later, fmt.Sprintf("%s %d 0 first", on, qos))
			later.kill()
		}
	})
}

func TestMosquittoWill(t *testing.T) {
	mosquittoEach(t, func(_ *testing.T, m mosquitto, topic string) {
		heir := m.sub("-t", topic+"/will/+", "-q", "2")

		for qos := range 3 {
			q := strconv.Itoa(qos)
			on := topic + "/will/" + q
			// Not by stdbuf: it is the client itself that must die, and stdbuf becomes the client.
			testator := m.sub("-t", topic+"/other", "--will-topic", on, "--will-payload", "farewell", "--will-qos", q)
			testator.kill()
			m.expect(heir, fmt.Sprintf("%s %d 0 farewell", on, qos))
		}

		// Who says goodbye leaves none: -E ends with a DISCONNECT.
		call(m.t, "", "mosquitto_sub", m.args("-t", topic+"/other", "-E", "--will-topic", topic+"/will/none", "--will-payload", "no")...)
		m.pub("-t", topic+"/will/after", "-m", "after")
		m.expect(heir, topic+"/will/after 0 0 after")
	})
}

func TestMosquittoWildcards(t *testing.T) {
	mosquittoEach(t, func(_ *testing.T, m mosquitto, topic string) {
		p := m.sub("-t", topic+"/a/+/c", "-t", topic+"/b/#")

		for _, level := range []string{"a/c", "a/1/2/c", "a/1/c/d", "c/b", "a/1/c", "b", "b/1/2", "a//c"} {
			m.pub("-t", topic+"/"+level, "-m", level)
		}

		for _, level := range []string{"a/1/c", "b", "b/1/2", "a//c"} {
			m.expect(p, fmt.Sprintf("%s/%s 0 0 %s", topic, level, level))
		}
	})
}

// TestMosquittoOffline: who subscribed once and went away finds everything on coming back, in order.
func TestMosquittoOffline(t *testing.T) {
	mosquittoEach(t, func(t *testing.T, m mosquitto, topic string) {
		t.Helper()

		for qos := 1; qos < 3; qos++ {
			q := strconv.Itoa(qos)
			session := []string{"-c", "-i", topic + q, "-t", topic + "/" + q, "-q", q}
			call(t, "", "mosquitto_sub", m.args(append(session, "-E")...)...)

			var lines, want strings.Builder
			for i := range 100 {
				fmt.Fprintf(&lines, "%d\n", i)
				fmt.Fprintf(&want, "%s %d\n", q, i)
			}

			call(t, lines.String(), "mosquitto_pub", m.args("-t", topic+"/"+q, "-q", q, "-l")...)

			got := call(t, "", "mosquitto_sub", m.args(append(session, "-C", "100", "-F", "%q %p")...)...)
			if diff := cmp.Diff(want.String(), got); diff != "" {
				t.Errorf("QoS %d (-want +got):\n%s", qos, diff)
			}
		}
	})
}

func TestMosquittoLargeAndOdd(t *testing.T) {
	mosquittoEach(t, func(t *testing.T, m mosquitto, topic string) {
		t.Helper()

		for name, payload := range map[string]string{
			"large": strings.Repeat("0123456789abcdef", 1<<14), "empty": "", "not a text": "\x00\xff\xfe\n\n\x80",
		} {
			p := m.sub("-t", topic, "-q", "1", "-F", "got %x")

			how := "-s"
			if payload == "" {
				how = "-n"
			}

			call(t, payload, "mosquitto_pub", m.args("-t", topic, "-q", "1", how)...)

			if got := p.line("got "); got != fmt.Sprintf("%x", payload) {
				t.Errorf("%s: %d characters came, %d were sent", name, len(got)/2, len(payload))
			}

			p.kill()
		}
	})
}

func TestMosquittoProperties(t *testing.T) {
	need(t, "mosquitto_pub", "mosquitto-clients")

	b := plain(t)
	m := mosquitto{t, "mqttv5", []string{"-h", b.host(), "-p", b.port(), "-V", "mqttv5"}}
	topic := own()
	p := m.sub("-t", topic, "-q", "1", "-D", "subscribe", "subscription-identifier", "7",
		"-F", "got %C|%D|%F|%R|%P|%S|%p")
	m.pub(
		"-t", topic, "-q", "1", "-m", "{}",
		"-D", "publish", "content-type", "application/json", "-D", "publish", "correlation-data", "id-1",
		"-D", "publish", "payload-format-indicator", "1", "-D", "publish", "response-topic", topic+"/answer",
		"-D", "publish", "user-property", "a", "1", "-D", "publish", "user-property", "b", "2", "-D", "publish", "user-property", "a", "3",
	)

	if want, got := "application/json|id-1|1|"+topic+"/answer|a:1 b:2 a:3|7|{}", p.line("got "); got != want {
		t.Errorf("got %q, want %q", got, want)
	}

	// A message that lives longer than this test arrives with what is left of its life.
	call(t, "", "mosquitto_sub", m.args("-c", "-i", topic+"e", "-t", topic+"/e", "-q", "1", "-E")...)
	m.pub("-t", topic+"/e", "-q", "1", "-m", "x", "-D", "publish", "message-expiry-interval", "1000")

	left := strings.TrimSpace(call(t, "", "mosquitto_sub", m.args("-c", "-i", topic+"e", "-t", topic+"/e", "-q", "1", "-C", "1", "-F", "%E")...))
	if seconds, err := strconv.Atoi(left); err != nil || seconds > 1000 || seconds < 900 {
		t.Errorf("the message has %q seconds left, want nearly 1000", left)
	}
}

// TestMosquittoRequest: mosquitto_rr asks, somebody answers.
func TestMosquittoRequest(t *testing.T) {
	need(t, "mosquitto_rr", "mosquitto-clients")

	for _, version := range []string{"mqttv311", "mqttv5"} {
		t.Run(version, func(t *testing.T) {
			t.Parallel()

			b := plain(t)
			m := mosquitto{t, version, []string{"-h", b.host(), "-p", b.port(), "-V", version}}
			topic := own()
			server := m.sub("-t", topic+"/ask")
			asking := beside(t, "stdbuf", append([]string{"-oL", "mosquitto_rr"}, m.args("-t", topic+"/ask", "-e", topic+"/answer", "-m", "question", "-F", "got %p")...)...)
			m.expect(server, topic+"/ask 0 0 question")
			m.pub("-t", topic+"/answer", "-m", "answer")
			m.expect(asking, "answer")
		})
	}
}

func TestMosquittoTLS(t *testing.T) {
	need(t, "mosquitto_pub", "mosquitto-clients")

	b := secure(t)

	for _, version := range []string{"mqttv31", "mqttv311", "mqttv5"} {
		t.Run(version, func(t *testing.T) {
			t.Parallel()

			topic := own()
			m := mosquitto{t, version, []string{"-h", b.host(), "-p", b.port(), "-V", version, "--cafile", ca()}}
			p := m.sub("-t", topic, "-q", "2")
			m.pub("-t", topic, "-q", "2", "-m", "secret")
			m.expect(p, topic+" 2 0 secret")
		})
	}

	t.Run("a client that trusts somebody else", func(t *testing.T) {
		t.Parallel()

		out, err := try(t, "", "mosquitto_pub", "-h", b.host(), "-p", b.port(), "--cafile", otherCA(), "-t", own(), "-m", "x")
		if err == nil {
			t.Errorf("it sent its message: %s", out)
		}
	})

	t.Run("a client without TLS", func(t *testing.T) {
		t.Parallel()

		if out, err := try(t, "", "mosquitto_pub", "-h", b.host(), "-p", b.port(), "-t", own(), "-m", "x"); err == nil {
			t.Errorf("it sent its message: %s", out)
		}
	})
}

// TestMosquittoSys: what a user of Mosquitto looks at first.
func TestMosquittoSys(t *testing.T) {
	need(t, "mosquitto_sub", "mosquitto-clients")

	b := plain(t)

	for topic, part := range map[string]string{
		"version": "version", "uptime": " seconds", "clients/connected": "", "load/messages/received/1min": ".", "retained messages/count": "",
	} {
		got := call(t, "", "mosquitto_sub", "-h", b.host(), "-p", b.port(), "-t", "$SYS/broker/"+topic, "-C", "1")
		if !strings.Contains(got, part) {
			t.Errorf("$SYS/broker/%s says %q, want something with %q", topic, got, part)
		}
	}
}
