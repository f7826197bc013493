# SPDX-License-Identifier: Apache-2.0

"""A client of paho-mqtt 1.6 with a certificate: certificate.py VERSION HOST PORT TOPIC CA CERT KEY.

It publishes to TOPIC what it has subscribed to, says "works" when that comes back, and "ended CODE" when the broker ends
the connection. When it is not let in it says "refused CODE", or "no TLS" if it does not come so far.
"""

import queue
import ssl
import sys
import threading

import paho.mqtt.client as mqtt

PATIENCE = 20

VERSION, HOST, PORT, TOPIC, CA, CERT, KEY = sys.argv[1:8]
PROTOCOL = {"3.1.1": mqtt.MQTTv311, "5": mqtt.MQTTv5}[VERSION]
V5 = PROTOCOL == mqtt.MQTTv5


def say(*words):
    print(*words, flush=True)


facts = queue.Queue()
# In TLS 1.3 a client learns only when it reads that its certificate is not taken, and paho 1.6 lets that end its thread.
threading.excepthook = lambda _e: facts.put(("disconnect", -1))
client = mqtt.Client(client_id=TOPIC, protocol=PROTOCOL)
client.tls_set(ca_certs=CA, certfile=CERT or None, keyfile=KEY or None)
client.on_message = lambda _c, _u, m: facts.put(("message", m.payload))
if V5:
    client.on_connect = lambda _c, _u, _f, rc, _p: facts.put(("connect", rc.value))
    client.on_subscribe = lambda _c, _u, _m, codes, _p: facts.put(("subscribe", codes[0].value))
    client.on_disconnect = lambda _c, _u, rc, p=None: facts.put(("disconnect", int(rc.value if hasattr(rc, "value") else rc)))
else:
    client.on_connect = lambda _c, _u, _f, rc: facts.put(("connect", rc))
    client.on_subscribe = lambda _c, _u, _m, codes: facts.put(("subscribe", codes[0]))
    client.on_disconnect = lambda _c, _u, rc: facts.put(("disconnect", int(rc)))


def fact(name):
    while True:
        got, value = facts.get(timeout=PATIENCE)
        if got == name:
            return value
        if got == "disconnect":
            say("no TLS")
            sys.exit(0)


try:
    client.connect(HOST, int(PORT))
except (ssl.SSLError, OSError):
    say("no TLS")
    sys.exit(0)

client.loop_start()
code = fact("connect")
if code != 0:
    say("refused", code)
    sys.exit(0)

client.subscribe(TOPIC, qos=1)
if fact("subscribe") > 2:
    sys.exit("the subscription is refused")
client.publish(TOPIC, "it works", qos=1)
if fact("message") != b"it works":
    sys.exit("another message came back")
say("works")

code = None
while code is None:
    name, value = facts.get()
    if name == "disconnect":
        code = value
client.loop_stop()
say("ended", code)
