# SPDX-License-Identifier: Apache-2.0

"""Stories told by paho-mqtt 1.6: story.py STORY VERSION HOST PORT WORD [CA] [TRANSPORT].

WORD is a word that no other story has. It ends with 0 when all facts came true, and says on stderr which did not.
"""

import queue
import socket
import sys

import paho.mqtt.client as mqtt
import paho.mqtt.publish as publish
import paho.mqtt.subscribe as subscribe
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions

PATIENCE = 20

STORY, VERSION, HOST, PORT, WORD = sys.argv[1:6]
PORT = int(PORT)
CA = sys.argv[6] if len(sys.argv) > 6 else ""
TRANSPORT = sys.argv[7] if len(sys.argv) > 7 else "tcp"
PROTOCOL = {"3.1": mqtt.MQTTv31, "3.1.1": mqtt.MQTTv311, "5": mqtt.MQTTv5}[VERSION]
V5 = PROTOCOL == mqtt.MQTTv5


def expect(what, got, want):
    if got != want:
        raise AssertionError(f"{what}: got {got!r}, want {want!r}")


def properties(kind, **values):
    p = Properties(kind)
    for name, value in values.items():
        setattr(p, name, value)
    return p


class Client:
    """A client that turns callbacks into facts one can wait for."""

    def __init__(self, name="", clean=True, connect=None, will=None):
        self.messages = queue.Queue()
        self.facts = queue.Queue()
        self.early = []
        if V5:
            self.mqtt = mqtt.Client(client_id=name, protocol=PROTOCOL, transport=TRANSPORT)
        else:
            self.mqtt = mqtt.Client(client_id=name, protocol=PROTOCOL, transport=TRANSPORT, clean_session=clean)
        c = self.mqtt
        if CA:
            c.tls_set(ca_certs=CA)
        if TRANSPORT == "websockets":
            c.ws_set_options(path="/mqtt")
        c.max_queued_messages_set(0)
        c.on_message = lambda _c, _u, m: self.messages.put(m)
        if V5:
            c.on_connect = lambda _c, _u, flags, rc, p: self.facts.put(("connect", (flags["session present"], rc, p)))
            c.on_subscribe = lambda _c, _u, mid, codes, p: self.facts.put((f"subscribe {mid}", [r.value for r in codes]))
            c.on_unsubscribe = lambda _c, _u, mid, p, codes: self.facts.put(
                (f"unsubscribe {mid}", [r.value for r in (codes if isinstance(codes, list) else [codes])])
            )
            c.on_disconnect = lambda _c, _u, rc, p=None: self.facts.put(("disconnect", rc))
        else:
            c.on_connect = lambda _c, _u, flags, rc: self.facts.put(("connect", (flags["session present"], rc, None)))
            c.on_subscribe = lambda _c, _u, mid, codes: self.facts.put((f"subscribe {mid}", list(codes)))
            c.on_unsubscribe = lambda _c, _u, mid: self.facts.put((f"unsubscribe {mid}", []))
            c.on_disconnect = lambda _c, _u, rc: self.facts.put(("disconnect", rc))
        if will:
            c.will_set(**will)
        if V5:
            p = properties(PacketTypes.CONNECT, **(connect or {}))
            c.connect(HOST, PORT, clean_start=clean, properties=p)
        else:
            c.connect(HOST, PORT)
        c.loop_start()
        self.present, rc, self.connack = self.fact("connect")
        expect("connect", int(rc if not V5 else rc.value), 0)

    def fact(self, name):
        """Waits for one fact; others are kept for those who ask for them later."""
        for at, (n, value) in enumerate(self.early):
            if n == name:
                del self.early[at]
                return value
        while True:
            try:
                n, value = self.facts.get(timeout=PATIENCE)
            except queue.Empty:
                raise AssertionError(f"no {name}") from None
            if n == name:
                return value
            self.early.append((n, value))

    def subscribe(self, *args, **more):
        _, mid = self.mqtt.subscribe(*args, **more)
        return self.fact(f"subscribe {mid}")

    def unsubscribe(self, *args):
        _, mid = self.mqtt.unsubscribe(*args)
        return self.fact(f"unsubscribe {mid}")

    def publish(self, topic, payload=None, qos=0, retain=False, **values):
        p = properties(PacketTypes.PUBLISH, **values) if V5 else None
        info = self.mqtt.publish(topic, payload, qos, retain, properties=p)
        info.wait_for_publish(PATIENCE)
        if not info.is_published():
            raise AssertionError(f"a message with QoS {qos} is not acknowledged")

    def message(self):
        try:
            return self.messages.get(timeout=PATIENCE)
        except queue.Empty:
            raise AssertionError("no message") from None

    def expect(self, topic, payload, qos=0, retain=False):
        m = self.message()
        expect("message", (m.topic, m.payload, m.qos, bool(m.retain)), (topic, payload, qos, retain))
        return m

    def close(self, **values):
        self.mqtt.disconnect(properties=properties(PacketTypes.DISCONNECT, **values)) if values else self.mqtt.disconnect()
        self.fact("disconnect")
        self.mqtt.loop_stop()

    def die(self):
        """Ends the connection without a goodbye, and stays away."""
        self.mqtt.loop_stop()
        s = self.mqtt.socket()
        s = getattr(s, "_socket", s)
        s.shutdown(socket.SHUT_RDWR)
        s.close()


def lasting(name, clean=False):
    """A client whose session lasts."""
    return Client(name, clean=clean, connect={"SessionExpiryInterval": 3600} if V5 else None)


def exchange():
    c = Client()
    for sent in range(3):
        for granted in range(3):
            topic = f"{WORD}/{sent}/{granted}"
            expect("granted", c.subscribe(topic, granted), [granted])
            c.publish(topic, b"it \x00 works", sent)
            c.expect(topic, b"it \x00 works", min(sent, granted))
    # Several filters in one packet, each with its own answer.
    expect("granted", c.subscribe([(WORD + "/x", 0), (WORD + "/y/#", 2), (WORD + "/+/z", 1)]), [0, 2, 1])
    c.publish(WORD + "/y", "on", 2)
    c.expect(WORD + "/y", b"on", 2)
    c.unsubscribe(WORD + "/y/#")
    c.publish(WORD + "/y", "not heard", 2)
    c.publish(WORD + "/x", "heard")
    c.expect(WORD + "/x", b"heard")
    c.close()


def many():
    """A thousand at once of each QoS, in order, nothing twice."""
    count = 1000
    c, other = Client(), Client()
    for qos in range(3):
        topic = f"{WORD}/{qos}"
        c.subscribe(topic, 2)
        infos = [other.mqtt.publish(topic, str(i), qos) for i in range(count)]
        for i in range(count):
            try:
                c.expect(topic, str(i).encode(), qos)
            except AssertionError as e:
                raise AssertionError(f"message {i} with QoS {qos}: {e}") from None
        for info in infos:
            info.wait_for_publish(PATIENCE)
    c.close()


def large():
    payload = bytes(range(256)) * 1024
    c = Client()
    c.subscribe(WORD, 2)
    for qos in range(3):
        c.publish(WORD, payload, qos)
        c.expect(WORD, payload, qos)
        c.publish(WORD, b"", qos)
        c.expect(WORD, b"", qos)
    c.close()


def retained():
    c = Client()
    for qos in range(3):
        topic = f"{WORD}/{qos}"
        c.publish(topic, "kept", qos, retain=True)
        c.subscribe(topic, 2)
        c.expect(topic, b"kept", qos, retain=True)
        c.publish(topic, "changed", qos, retain=True)
        c.expect(topic, b"changed", qos)
        # Subscribing again brings it again.
        c.subscribe(topic, 2)
        c.expect(topic, b"changed", qos, retain=True)
        c.publish(topic, b"", qos, retain=True)
        c.expect(topic, b"", qos)
        c.subscribe(topic, 2)
        c.publish(topic, "first", qos)
        c.expect(topic, b"first", qos)
    c.close()


def will():
    heir = Client()
    heir.subscribe(WORD + "/#", 2)
    for qos in range(3):
        topic = f"{WORD}/{qos}"
        Client(will={"topic": topic, "payload": "farewell", "qos": qos}).die()
        heir.expect(topic, b"farewell", qos)
    Client(will={"topic": WORD + "/kept", "payload": "for all", "retain": True}).die()
    heir.expect(WORD + "/kept", b"for all")
    late = Client()
    late.subscribe(WORD + "/kept")
    late.expect(WORD + "/kept", b"for all", retain=True)
    # Who says goodbye leaves none.
    Client(will={"topic": WORD + "/none", "payload": "no"}).close()
    late.publish(WORD + "/after", "after")
    heir.expect(WORD + "/after", b"after")


def offline():
    c = lasting(WORD)
    c.subscribe(WORD + "/#", 2)
    c.close()
    other = Client()
    for i in range(100):
        for qos in (1, 2):
            other.publish(f"{WORD}/{qos}", str(i), qos)
    c = lasting(WORD)
    if PROTOCOL != mqtt.MQTTv31:  # which has no word for it
        expect("session present", c.present, 1)
    # In order for each topic and QoS; a QoS 2 message is told of later than it came.
    got = {1: [], 2: []}
    for _ in range(200):
        m = c.message()
        expect("topic", m.topic, f"{WORD}/{m.qos}")
        got[m.qos].append(int(m.payload))
    expect("messages", got, {1: list(range(100)), 2: list(range(100))})
    c.close()
    # A clean start ends it.
    c = lasting(WORD, clean=True)
    expect("session present", c.present, 0)
    other.publish(WORD + "/1", "not heard", 1)
    c.subscribe(WORD + "/2", 1)
    other.publish(WORD + "/2", "heard", 1)
    c.expect(WORD + "/2", b"heard", 1)


def takeover():
    """A second connection with a name ends the first, and goes on with its session."""
    first = lasting(WORD)
    first.subscribe(WORD, 1)
    # It must not come back: it would end the second in turn, and so on.
    first.mqtt.on_disconnect = lambda c, _u, rc, p=None: (c.disconnect(), first.facts.put(("disconnect", rc)))
    second = lasting(WORD)
    first.fact("disconnect")
    second.publish(WORD, "still there", 1)
    second.expect(WORD, b"still there", 1)


def helpers():
    """The functions for those who want one line."""
    where = {"hostname": HOST, "port": PORT, "protocol": PROTOCOL, "transport": TRANSPORT}
    if CA:
        where["tls"] = {"ca_certs": CA}
    # In this version they pass a clean session on to a client that refuses it for MQTT 5, unless it is None.
    clean = {"clean_session": None} if V5 else {}
    for qos in range(3):
        topic = f"{WORD}/{qos}"
        c = Client()
        c.subscribe(topic + "/#", 2)
        publish.single(topic, "one", qos=qos, **where)
        c.expect(topic, b"one", qos)
        publish.single(topic, None, qos=qos, **where)
        c.expect(topic, b"", qos)
        publish.multiple(
            [{"topic": topic + "/a", "payload": "1", "qos": qos, "retain": True}, (topic + "/b", "2", qos, True), (topic, "3", 0, False)],
            **where,
        )
        # A QoS 2 message is told of later than it came, so the order is that of one QoS.
        got = sorted((m.topic, m.payload, m.qos) for m in (c.message(), c.message(), c.message()))
        expect("multiple", got, [(topic, b"3", 0), (topic + "/a", b"1", qos), (topic + "/b", b"2", qos)])

        m = subscribe.simple(topic + "/a", qos=2, **clean, **where)
        expect("simple", (m.topic, m.payload, m.qos, bool(m.retain)), (topic + "/a", b"1", qos, True))
        ms = subscribe.simple([topic + "/a", topic + "/b"], qos=2, msg_count=2, **clean, **where)
        expect("simple, two", sorted((m.topic, m.payload) for m in ms), [(topic + "/a", b"1"), (topic + "/b", b"2")])

        seen = []

        def on_message(client, userdata, message):
            seen.append((userdata, message.payload))
            if len(seen) == 2:
                client.disconnect()

        subscribe.callback(on_message, [topic + "/a", topic + "/b"], qos=qos, userdata="mine", **clean, **where)
        expect("callback", sorted(seen), [("mine", b"1"), ("mine", b"2")])
        c.close()
    # With a will: it must not be published by who says goodbye.
    c = Client()
    c.subscribe(WORD + "/w/#")
    publish.single(WORD + "/w/said", "said", will={"topic": WORD + "/w/will", "payload": "no"}, **where)
    c.expect(WORD + "/w/said", b"said")
    c.publish(WORD + "/w/after", "after")
    c.expect(WORD + "/w/after", b"after")


def forwarded():
    """What a publisher says beside its message reaches the subscriber unaltered."""
    c = Client()
    c.subscribe(WORD, 1)
    p = properties(
        PacketTypes.PUBLISH, PayloadFormatIndicator=1, ContentType="text/plain", ResponseTopic=WORD + "/answer",
        CorrelationData=b"\x00\x01\xff", MessageExpiryInterval=1000,
    )
    p.UserProperty = ("a", "1")
    p.UserProperty = ("b", "\u00fc")
    p.UserProperty = ("a", "2")
    c.mqtt.publish(WORD, "text", 1, properties=p)
    got = c.expect(WORD, b"text", 1).properties
    expect("payload format", got.PayloadFormatIndicator, 1)
    expect("content type", got.ContentType, "text/plain")
    expect("response topic", got.ResponseTopic, WORD + "/answer")
    expect("correlation data", got.CorrelationData, b"\x00\x01\xff")
    expect("user properties", got.UserProperty, [("a", "1"), ("b", "\u00fc"), ("a", "2")])
    if not 900 <= got.MessageExpiryInterval <= 1000:
        raise AssertionError(f"the message has {got.MessageExpiryInterval} s left, want nearly 1000")


def alias():
    """Topic aliases in both directions."""
    c = Client(connect={"TopicAliasMaximum": 5})
    most = getattr(c.connack, "TopicAliasMaximum", 0)
    if most < 1:
        raise AssertionError("the broker takes no topic alias")
    c.subscribe(WORD + "/#", 1)
    c.publish(WORD + "/long/name", "1", 1, TopicAlias=1)
    c.publish("", "2", 1, TopicAlias=1)
    c.publish("", "3", 0, TopicAlias=1)
    c.publish(WORD + "/other/name", "4", 1, TopicAlias=1)
    c.publish("", "5", 1, TopicAlias=1)
    names, known = [], {}
    for _ in range(5):
        m = c.message()
        number = getattr(m.properties, "TopicAlias", 0)
        if number > 5:
            raise AssertionError(f"alias {number} is more than the client takes")
        # This client leaves it to the application to know what an alias stands for.
        topic = m.topic or known[number]
        if number:
            known[number] = topic
        names.append((topic, m.payload))
    want = [(WORD + "/long/name", str(i).encode()) for i in (1, 2, 3)] + [(WORD + "/other/name", str(i).encode()) for i in (4, 5)]
    expect("messages", names, want)


def expiry():
    """A session ends when its client says so, and not before."""
    first = Client(WORD, clean=True, connect={"SessionExpiryInterval": 3600})
    first.close()
    second = Client(WORD, clean=False, connect={"SessionExpiryInterval": 3600})
    expect("session present", second.present, 1)
    # A shorter life can be asked for on leaving.
    second.close(SessionExpiryInterval=0)
    third = Client(WORD, clean=False)
    expect("session present after it ended with its connection", third.present, 0)
    third.close()
    fourth = Client(WORD, clean=False)
    expect("session present without an expiry", fourth.present, 0)


def assigned():
    """A client without a name gets one, and is told."""
    c = Client("")
    name = getattr(c.connack, "AssignedClientIdentifier", "")
    if not name:
        raise AssertionError("no assigned client identifier")
    other = Client("")
    if other.connack.AssignedClientIdentifier == name:
        raise AssertionError("two clients got one name")


def sharing():
    """Members of a group take turns; who is in no group gets all."""
    count = 60
    alone, members = Client(), [Client(), Client(), Client()]
    alone.subscribe(WORD + "/job", 1)
    for m in members:
        m.subscribe(f"$share/group/{WORD}/+", 1)
    for i in range(count):
        alone.publish(WORD + "/job", str(i), 1)
    for i in range(count):
        alone.expect(WORD + "/job", str(i).encode(), 1)
    # A marker behind all that each member got.
    got = []
    for i, m in enumerate(members):
        m.subscribe(f"{WORD}/end/{i}", 1)
        alone.publish(f"{WORD}/end/{i}", "end", 1)
        mine = []
        while True:
            message = m.message()
            if message.topic.startswith(WORD + "/end"):
                break
            mine.append(message.payload)
        if not mine:
            raise AssertionError(f"member {i} got nothing")
        expect("order within a member", mine, sorted(mine, key=int))
        got += mine
    expect("what the members got together", sorted(got, key=int), [str(i).encode() for i in range(count)])


def options():
    """Subscription options and identifiers."""
    c, other = Client(), Client()
    c.subscribe(WORD + "/own", options=SubscribeOptions(qos=1, noLocal=True))
    c.publish(WORD + "/own", "my own", 1)
    other.publish(WORD + "/own", "another's", 1)
    c.expect(WORD + "/own", b"another's", 1)

    c.subscribe(WORD + "/flag", options=SubscribeOptions(qos=0, retainAsPublished=True))
    other.publish(WORD + "/flag", "kept", 0, retain=True)
    c.expect(WORD + "/flag", b"kept", retain=True)

    # 1: only for a new subscription; 2: never.
    for handling, again in ((1, False), (2, False), (0, True)):
        d = Client()
        how = SubscribeOptions(qos=0, retainHandling=handling)
        d.subscribe(WORD + "/flag", options=how)
        if handling != 2:
            d.expect(WORD + "/flag", b"kept", retain=True)
        d.subscribe(WORD + "/flag", options=how)
        if again:
            d.expect(WORD + "/flag", b"kept", retain=True)
        other.publish(WORD + "/flag", str(handling))
        d.expect(WORD + "/flag", str(handling).encode())
        c.expect(WORD + "/flag", str(handling).encode())

    e = Client()
    _, mid = e.mqtt.subscribe(WORD + "/id/+", qos=1, properties=properties(PacketTypes.SUBSCRIBE, SubscriptionIdentifier=300))
    e.fact(f"subscribe {mid}")
    other.publish(WORD + "/id/x", "x", 1)
    got = e.expect(WORD + "/id/x", b"x", 1)
    expect("subscription identifier", got.properties.SubscriptionIdentifier, [300])


def codes():
    """Answers that say more than yes or no."""
    c = Client()
    expect("unsubscribe from what was never subscribed", c.unsubscribe(WORD), [0x11])
    c.subscribe(WORD)
    expect("unsubscribe", c.unsubscribe(WORD), [0])


STORIES = {
    f.__name__: f
    for f in (
        exchange, many, large, retained, will, offline, takeover, helpers, forwarded, alias, expiry, assigned, sharing, options, codes,
    )
}

if __name__ == "__main__":
    try:
        STORIES[STORY]()
    except AssertionError as e:
        sys.exit(f"{STORY}: {e}")
