// SPDX-License-Identifier: Apache-2.0

package clients

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/url"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/eclipse/paho.golang/autopaho"
	"github.com/eclipse/paho.golang/autopaho/queue/memory"
	"github.com/eclipse/paho.golang/packets"
	"github.com/eclipse/paho.golang/paho"
	"github.com/eclipse/paho.golang/paho/session/state"
	mqtt3 "github.com/eclipse/paho.mqtt.golang"
	"github.com/google/go-cmp/cmp"
)

// mail is a message as both libraries tell of it.
type mail struct {
	topic, payload string
	qos            byte
	retain         bool
}

// inbox keeps messages until the story looks for them.
type inbox chan mail

func newInbox() inbox { return make(inbox, 1<<14) }

func (in inbox) expect(t *testing.T, want mail) {
	t.Helper()

	select {
	case got := <-in:
		if got != want {
			t.Fatalf("got %+v, want %+v", got, want)
		}
	case <-time.After(patience):
		t.Fatalf("no message, want %+v", want)
	}
}

// way is how a Go client reaches a broker.
type way struct {
	name string
	url  func(t *testing.T) string
}

// ways with schemes that both libraries know.
var ways = []way{
	{"tcp", func(t *testing.T) string {
		t.Helper()

		return "mqtt://" + plain(t).tcp
	}},
	{"ws", func(t *testing.T) string {
		t.Helper()

		return "ws://" + webSocket(t).ws + "/mqtt"
	}},
	{"tls", func(t *testing.T) string {
		t.Helper()

		return "tls://" + secure(t).tcp
	}},
	{"wss", func(t *testing.T) string {
		t.Helper()

		return "wss://" + secure(t).ws + "/mqtt"
	}},
}

func trust(t *testing.T) *tls.Config {
	t.Helper()

	raw, err := os.ReadFile(ca())
	if err != nil {
		t.Fatal(err)
	}

	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(raw) {
		t.Fatal("no certificate in the CA's file")
	}

	return &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: pool}
}

// patient is a context for one step of a story.
func patient(t *testing.T) context.Context {
	t.Helper()

	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)

	return ctx
}

// three connects paho.mqtt.golang; messages that no subscription of this connection asked for come to the inbox too.
func three(t *testing.T, version uint, address string, change func(*mqtt3.ClientOptions)) (mqtt3.Client, inbox) {
	t.Helper()

	in := newInbox()
	o := mqtt3.NewClientOptions().AddBroker(address).SetProtocolVersion(version).SetClientID(own()).
		SetTLSConfig(trust(t)).SetAutoReconnect(false).SetDefaultPublishHandler(in.three)

	if change != nil {
		change(o)
	}

	c := mqtt3.NewClient(o)
	done(t, c.Connect())
	t.Cleanup(func() { c.Disconnect(0) })

	return c, in
}

func (in inbox) three(_ mqtt3.Client, m mqtt3.Message) {
	in <- mail{m.Topic(), string(m.Payload()), m.Qos(), m.Retained()}
}

func done(t *testing.T, token mqtt3.Token) {
	t.Helper()

	if !token.WaitTimeout(patience) {
		t.Fatal("nobody answers")
	}

	if token.Error() != nil {
		t.Fatal(token.Error())
	}
}

// threeEach tells a story with each version before 5.
func threeEach(t *testing.T, story func(t *testing.T, version uint)) {
	t.Helper()

	for name, version := range map[string]uint{"3.1": 3, "3.1.1": 4} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			story(t, version)
		})
	}
}

func TestPahoMQTTGolangExchange(t *testing.T) {
	threeEach(t, func(t *testing.T, version uint) {
		t.Helper()

		for _, by := range ways {
			t.Run(by.name, func(t *testing.T) {
				c, in := three(t, version, by.url(t), nil)

				for sent := range byte(3) {
					for granted := range byte(3) {
						topic := own()
						done(t, c.Subscribe(topic, granted, nil))
						done(t, c.Publish(topic, sent, false, "it works"))
						in.expect(t, mail{topic, "it works", min(sent, granted), false})
					}
				}
			})
		}
	})
}

func TestPahoMQTTGolangRetainedAndWill(t *testing.T) {
	threeEach(t, func(t *testing.T, version uint) {
		t.Helper()

		topic := own()
		c, in := three(t, version, "mqtt://"+plain(t).tcp, nil)
		done(t, c.Publish(topic+"/kept", 2, true, "kept"))
		done(t, c.Subscribe(topic+"/#", 2, nil))
		in.expect(t, mail{topic + "/kept", "kept", 2, true})

		// The connection is cut under the client, as by a broken line.
		cut := make(chan func(), 1)
		_, _ = three(t, version, "mqtt://"+plain(t).tcp, func(o *mqtt3.ClientOptions) {
			o.SetWill(topic+"/will", "farewell", 1, false)
			o.SetCustomOpenConnectionFn(cuttable(cut))
		})
		(<-cut)()
		in.expect(t, mail{topic + "/will", "farewell", 1, false})
	})
}

// TestPahoMQTTGolangMany: thousands at once, in order.
func TestPahoMQTTGolangMany(t *testing.T) {
	const count = 1000

	threeEach(t, func(t *testing.T, version uint) {
		t.Helper()

		sender, _ := three(t, version, "mqtt://"+plain(t).tcp, nil)
		receiver, in := three(t, version, "mqtt://"+plain(t).tcp, nil)

		for qos := range byte(3) {
			topic := own()
			done(t, receiver.Subscribe(topic, 2, nil))

			tokens := make([]mqtt3.Token, count)
			for i := range tokens {
				tokens[i] = sender.Publish(topic, qos, false, strconv.Itoa(i))
			}

			for i := range count {
				in.expect(t, mail{topic, strconv.Itoa(i), qos, false})
			}

			for _, token := range tokens {
				done(t, token)
			}
		}
	})
}

func TestPahoMQTTGolangOffline(t *testing.T) {
	threeEach(t, func(t *testing.T, version uint) {
		t.Helper()

		name := own()
		lasting := func(o *mqtt3.ClientOptions) { o.SetClientID(name).SetCleanSession(false) }
		first, _ := three(t, version, "mqtt://"+plain(t).tcp, lasting)
		done(t, first.Subscribe(name, 1, nil))
		first.Disconnect(100)

		other, _ := three(t, version, "mqtt://"+plain(t).tcp, nil)
		for i := range 50 {
			done(t, other.Publish(name, 1, false, strconv.Itoa(i)))
		}

		_, in := three(t, version, "mqtt://"+plain(t).tcp, lasting)
		for i := range 50 {
			in.expect(t, mail{name, strconv.Itoa(i), 1, false})
		}
	})
}

// TestPahoMQTTGolangBrokerDies: a broker with a directory is killed and started again. The client comes back by itself;
// what was acknowledged to it arrives, and what it had subscribed to still holds.
func TestPahoMQTTGolangBrokerDies(t *testing.T) {
	threeEach(t, func(t *testing.T, version uint) {
		t.Helper()

		data := t.TempDir()
		b := begin(t, "--listen", "127.0.0.1:0", "--data", data)
		name := own()
		up := make(chan struct{}, 100)
		c, in := three(t, version, "mqtt://"+b.tcp, func(o *mqtt3.ClientOptions) {
			o.SetClientID(name).SetCleanSession(false).SetAutoReconnect(true).SetMaxReconnectInterval(100 * time.Millisecond)
			o.SetOnConnectHandler(func(mqtt3.Client) { up <- struct{}{} })
		})
		<-up
		done(t, c.Subscribe(name+"/#", 1, nil))

		// Somebody whose session must outlive the broker, with a message in it.
		away, _ := three(t, version, "mqtt://"+b.tcp, func(o *mqtt3.ClientOptions) { o.SetClientID(name + "a").SetCleanSession(false) })
		done(t, away.Subscribe(name+"/#", 1, nil))
		away.Disconnect(100)
		done(t, c.Publish(name+"/before", 1, true, "before"))
		in.expect(t, mail{name + "/before", "before", 1, false})

		b.kill()
		begin(t, "--listen", b.tcp, "--data", data)

		select {
		case <-up:
		case <-time.After(patience):
			t.Fatal("the client does not come back")
		}

		done(t, c.Publish(name+"/after", 1, false, "after"))
		for got := (mail{}); got.payload != "after"; {
			// What came just before the broker died may come again: that is at least once.
			select {
			case got = <-in:
			case <-time.After(patience):
				t.Fatal("no message after the broker came back")
			}
		}

		_, left := three(t, version, "mqtt://"+b.tcp, func(o *mqtt3.ClientOptions) { o.SetClientID(name + "a").SetCleanSession(false) })
		left.expect(t, mail{name + "/before", "before", 1, false})
		left.expect(t, mail{name + "/after", "after", 1, false})

		late, kept := three(t, version, "mqtt://"+b.tcp, nil)
		done(t, late.Subscribe(name+"/before", 1, nil))
		kept.expect(t, mail{name + "/before", "before", 1, true})
	})
}

// begin gives a broker of this test's own.
func begin(t *testing.T, args ...string) *broker {
	t.Helper()

	b, err := start(args...)
	if err != nil {
		t.Fatal(err)
	}

	t.Cleanup(b.kill)

	return b
}

// careful is the library's session without its panic: up to v0.23.0 an answer that is read while the connection ends is answered on
// no connection. Outside of a test the program would end with it.
type careful struct{ *state.State }

func (c careful) PacketReceived(p *packets.ControlPacket, to chan<- *packets.Publish) (err error) {
	defer func() {
		if recover() != nil {
			err = net.ErrClosed
		}
	}()

	return c.State.PacketReceived(p, to)
}

// five connects autopaho, which is paho.golang with a connection that comes back.
func five(t *testing.T, address string, change func(*autopaho.ClientConfig)) (*autopaho.ConnectionManager, *inbox5) {
	t.Helper()

	where, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}

	in := &inbox5{inbox: newInbox(), full: make(chan *paho.Publish, 1<<14), connacks: make(chan *paho.Connack, 100)}
	config := autopaho.ClientConfig{
		ServerUrls: []*url.URL{where}, TlsCfg: trust(t), KeepAlive: 30, CleanStartOnInitialConnection: true,
		ReconnectBackoff: autopaho.NewConstantBackoff(50 * time.Millisecond),
		OnConnectionUp:   func(_ *autopaho.ConnectionManager, ack *paho.Connack) { in.connacks <- ack },
		ClientConfig: paho.ClientConfig{
			ClientID:          own(),
			Session:           careful{state.NewInMemory()},
			OnPublishReceived: []func(paho.PublishReceived) (bool, error){in.take},
		},
	}

	if change != nil {
		change(&config)
	}

	c, err := autopaho.NewConnection(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}

	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()

		_ = c.Disconnect(ctx)
	})

	if err := c.AwaitConnection(patient(t)); err != nil {
		t.Fatal(err)
	}

	return c, in
}

// inbox5 keeps what only MQTT 5 has as well.
type inbox5 struct {
	inbox
	full     chan *paho.Publish
	connacks chan *paho.Connack
}

func (in *inbox5) take(r paho.PublishReceived) (bool, error) {
	in.inbox <- mail{r.Packet.Topic, string(r.Packet.Payload), r.Packet.QoS, r.Packet.Retain}
	in.full <- r.Packet

	return true, nil
}

// connected waits for the next time that the client is.
func (in *inbox5) connected(t *testing.T) *paho.Connack {
	t.Helper()

	select {
	case ack := <-in.connacks:
		return ack
	case <-time.After(patience):
		t.Fatal("the client is not connected")

		return nil
	}
}

func publish5(t *testing.T, c *autopaho.ConnectionManager, p *paho.Publish) {
	t.Helper()

	if _, err := c.Publish(patient(t), p); err != nil {
		t.Fatal(err)
	}
}

func subscribe5(t *testing.T, c *autopaho.ConnectionManager, filter string, qos byte) {
	t.Helper()

	s, err := c.Subscribe(patient(t), &paho.Subscribe{Subscriptions: []paho.SubscribeOptions{{Topic: filter, QoS: qos}}})
	if err != nil {
		t.Fatal(err)
	}

	if diff := cmp.Diff([]byte{qos}, s.Reasons); diff != "" {
		t.Fatalf("granted (-want +got):\n%s", diff)
	}
}

func TestPahoGolangExchange(t *testing.T) {
	for _, by := range ways {
		t.Run(by.name, func(t *testing.T) {
			t.Parallel()

			c, in := five(t, by.url(t), nil)

			for sent := range byte(3) {
				for granted := range byte(3) {
					topic := own()
					subscribe5(t, c, topic, granted)
					publish5(t, c, &paho.Publish{Topic: topic, QoS: sent, Payload: []byte("it works")})
					in.expect(t, mail{topic, "it works", min(sent, granted), false})
				}
			}
		})
	}
}

func TestPahoGolangProperties(t *testing.T) {
	c, in := five(t, "mqtt://"+plain(t).tcp, nil)
	topic := own()
	identifier := 77

	if _, err := c.Subscribe(patient(t), &paho.Subscribe{
		Properties:    &paho.SubscribeProperties{SubscriptionIdentifier: &identifier},
		Subscriptions: []paho.SubscribeOptions{{Topic: topic, QoS: 1}},
	}); err != nil {
		t.Fatal(err)
	}

	format := byte(1)
	sent := &paho.PublishProperties{
		PayloadFormat: &format, ContentType: "text/plain", ResponseTopic: topic + "/answer", CorrelationData: []byte{0, 1, 255},
		User: paho.UserProperties{{Key: "a", Value: "1"}, {Key: "b", Value: "2"}, {Key: "a", Value: "3"}},
	}
	publish5(t, c, &paho.Publish{Topic: topic, QoS: 1, Payload: []byte("text"), Properties: sent})
	in.expect(t, mail{topic, "text", 1, false})

	want := *sent
	want.SubscriptionIdentifier = &identifier

	if diff := cmp.Diff(&want, (<-in.full).Properties); diff != "" {
		t.Errorf("properties (-want +got):\n%s", diff)
	}
}

// TestPahoGolangMany: as many at once as the broker says it takes, from several goroutines; nothing twice.
func TestPahoGolangMany(t *testing.T) {
	const senders, each = 8, 200

	sender, _ := five(t, "mqtt://"+plain(t).tcp, nil)
	receiver, in := five(t, "mqtt://"+plain(t).tcp, nil)

	for qos := range byte(3) {
		topic := own()
		subscribe5(t, receiver, topic+"/+", 2)

		var sending sync.WaitGroup

		for s := range senders {
			sending.Go(func() {
				for i := range each {
					p := &paho.Publish{Topic: topic + "/" + strconv.Itoa(s), QoS: qos, Payload: []byte(strconv.Itoa(i))}
					if _, err := sender.Publish(t.Context(), p); err != nil {
						t.Errorf("QoS %d: %v", qos, err)

						return
					}
				}
			})
		}

		// In order for each topic.
		next := map[string]int{}

		for range senders * each {
			select {
			case m := <-in.inbox:
				if want := strconv.Itoa(next[m.topic]); m.payload != want || m.qos != qos {
					t.Fatalf("got %+v, want payload %s with QoS %d", m, want, qos)
				}

				next[m.topic]++
			case <-time.After(patience):
				t.Fatalf("QoS %d: no message after %v", qos, next)
			}
		}

		sending.Wait()
	}
}

// TestAutopahoComesBack: the line breaks; the session goes on, and what came meanwhile arrives.
func TestAutopahoComesBack(t *testing.T) {
	topic := own()
	c, in := five(t, "mqtt://"+plain(t).tcp, func(o *autopaho.ClientConfig) { o.SessionExpiryInterval = 3600 })
	in.connected(t)
	subscribe5(t, c, topic, 2)
	c.TerminateConnectionForTest()

	if ack := in.connected(t); !ack.SessionPresent {
		t.Error("the session is gone with the connection")
	}

	other, _ := five(t, "mqtt://"+plain(t).tcp, nil)
	publish5(t, other, &paho.Publish{Topic: topic, QoS: 2, Payload: []byte("still there")})
	in.expect(t, mail{topic, "still there", 2, false})
}

// TestAutopahoQueue: what is published while the broker is away goes into the client's queue and arrives later, once.
func TestAutopahoQueue(t *testing.T) {
	const count = 100

	data := t.TempDir()
	b := begin(t, "--listen", "127.0.0.1:0", "--data", data)
	topic := own()
	down := make(chan struct{}, 100)
	lasting := func(o *autopaho.ClientConfig) {
		o.SessionExpiryInterval = 3600
		o.Queue = memory.New()
		o.OnConnectionDown = func() bool {
			down <- struct{}{}

			return true
		}
	}
	c, in := five(t, "mqtt://"+b.tcp, lasting)
	in.connected(t)
	subscribe5(t, c, topic, 2)
	b.kill()
	<-down

	for i := range count {
		if err := c.PublishViaQueue(patient(t), &autopaho.QueuePublish{Publish: &paho.Publish{
			Topic: topic, QoS: 2, Payload: fmt.Appendf(nil, "%d", i),
		}}); err != nil {
			t.Fatal(err)
		}
	}

	begin(t, "--listen", b.tcp, "--data", data)

	if ack := in.connected(t); !ack.SessionPresent {
		t.Error("the session is gone with the broker")
	}

	for i := range count {
		in.expect(t, mail{topic, strconv.Itoa(i), 2, false})
	}
}
