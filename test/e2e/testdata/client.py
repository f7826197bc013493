#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""A client of MQTT in Python: says one thing, or hears one, and ends.

    client.py VERSION say TOPIC TEXT     publish with QoS 1 and wait for the acknowledgement
    client.py VERSION hear TOPIC         subscribe with QoS 1, say "subscribed" on standard error, print the first message

VERSION is 3.1, 3.1.1 or 5. MQTT_HOST, MQTT_PORT and MQTT_CA (a file) say where, MQTT_USERNAME and MQTT_PASSWORD, or
MQTT_CERT and MQTT_KEY (files), who.
It ends with status 1, and a line that says why, when the broker refuses.
"""
import os
import ssl
import sys
import threading

import paho.mqtt.client as mqtt

PATIENCE = 20  # seconds
VERSIONS = {"3.1": mqtt.MQTTv31, "3.1.1": mqtt.MQTTv311, "5": mqtt.MQTTv5}


def fail(why):
    print(why, file=sys.stderr, flush=True)
    os._exit(1)


def number(code):
    """paho gives integers in MQTT 3 and objects in MQTT 5."""
    return getattr(code, "value", code)


def main():
    version, verb, topic = sys.argv[1:4]
    text = sys.argv[4] if verb == "say" else None
    if hasattr(mqtt, "CallbackAPIVersion"):
        client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION1, protocol=VERSIONS[version])
    else:
        client = mqtt.Client(protocol=VERSIONS[version])
    client.tls_set(os.environ["MQTT_CA"], os.environ.get("MQTT_CERT"), os.environ.get("MQTT_KEY"), tls_version=ssl.PROTOCOL_TLS_CLIENT)
    if "MQTT_USERNAME" in os.environ:
        client.username_pw_set(os.environ["MQTT_USERNAME"], os.environ["MQTT_PASSWORD"])
    done = threading.Event()

    def on_connect(client, userdata, flags, code, properties=None):
        if number(code) != 0:
            fail(f"the broker refuses the connection: {number(code):#x}")
        if verb == "say":
            client.publish(topic, text, qos=1)
        else:
            client.subscribe(topic, qos=1)

    def on_publish(client, userdata, mid):
        done.set()

    def on_subscribe(client, userdata, mid, granted, properties=None):
        if number(granted[0]) >= 0x80:
            fail(f"the broker refuses the subscription: {number(granted[0]):#x}")
        print("subscribed", file=sys.stderr, flush=True)

    def on_message(client, userdata, message):
        print(message.payload.decode(), flush=True)
        done.set()

    def on_disconnect(client, userdata, code, properties=None):
        if not done.is_set():
            fail(f"the broker ends the connection: {number(code)}")

    client.on_connect, client.on_disconnect, client.on_publish = on_connect, on_disconnect, on_publish
    client.on_subscribe, client.on_message = on_subscribe, on_message
    client.connect(os.environ["MQTT_HOST"], int(os.environ["MQTT_PORT"]), keepalive=30)
    client.loop_start()
    if not done.wait(PATIENCE):
        fail(f"nothing happened within {PATIENCE} s")
    client.disconnect()
    client.loop_stop()


main()
