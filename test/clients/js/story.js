// SPDX-License-Identifier: Apache-2.0

// Stories told by mqtt.js: story.js STORY VERSION URL WORD [CA]. WORD is a word that no other story has. It ends with 0
// when all facts came true, and says on stderr which did not.
'use strict'

const assert = require('node:assert/strict')
const fs = require('node:fs')
const mqtt = require('mqtt')

const PATIENCE = 20000
const [story, version, url, word, ca] = process.argv.slice(2)
const v5 = version === '5'
const level = {
  3.1: { protocolId: 'MQIsdp', protocolVersion: 3 },
  '3.1.1': { protocolVersion: 4 },
  5: { protocolVersion: 5 },
}[version]

const within = (what, promise) => {
  let timer
  const late = new Promise((_resolve, reject) => {
    timer = setTimeout(() => reject(new Error(`no ${what}`)), PATIENCE)
  })
  return Promise.race([promise, late]).finally(() => clearTimeout(timer))
}

// A client whose messages are waited for one by one.
class Client {
  static async open (options = {}) {
    const c = new Client()
    c.messages = []
    c.waiting = []
    c.mqtt = mqtt.connect(url, {
      ...level,
      reconnectPeriod: 0,
      clientId: `${word}-${Math.random().toString(16).slice(2, 8)}`,
      ...(ca ? { ca: fs.readFileSync(ca) } : {}),
      ...options,
    })
    c.mqtt.on('message', (topic, payload, packet) => {
      const m = { topic, payload: payload.toString('latin1'), qos: packet.qos, retain: packet.retain, properties: packet.properties }
      const waiting = c.waiting.shift()
      if (waiting) waiting(m)
      else c.messages.push(m)
    })
    c.connack = await within('connect', new Promise((resolve, reject) => {
      c.mqtt.once('connect', resolve)
      c.mqtt.once('error', reject)
    }))
    c.mqtt.on('error', () => {})
    return c
  }

  message () {
    if (this.messages.length) return this.messages.shift()
    return within('message', new Promise((resolve) => this.waiting.push(resolve)))
  }

  async expect (topic, payload, qos = 0, retain = false) {
    const m = await this.message()
    assert.deepEqual({ topic: m.topic, payload: m.payload, qos: m.qos, retain: m.retain }, { topic, payload, qos, retain })
    return m
  }

  publish (topic, payload, options = {}) {
    return within(`acknowledgement of QoS ${options.qos ?? 0}`, this.mqtt.publishAsync(topic, payload, options))
  }

  subscribe (topic, options = { qos: 0 }) {
    return within('suback', this.mqtt.subscribeAsync(topic, options))
  }

  close () { return within('close', this.mqtt.endAsync()) }

  // Ends the connection without a goodbye.
  async die () {
    const closed = new Promise((resolve) => this.mqtt.once('close', resolve))
    this.mqtt.stream.destroy()
    await within('close', closed)
  }
}

const lasting = (clientId) => v5
  ? Client.open({ clientId, clean: false, properties: { sessionExpiryInterval: 3600 } })
  : Client.open({ clientId, clean: false })

const stories = {
  async exchange () {
    const c = await Client.open()
    for (const sent of [0, 1, 2]) {
      for (const granted of [0, 1, 2]) {
        const topic = `${word}/${sent}/${granted}`
        const [answer] = await c.subscribe(topic, { qos: granted })
        assert.equal(answer.qos, granted)
        await c.publish(topic, 'it works', { qos: sent })
        await c.expect(topic, 'it works', Math.min(sent, granted))
      }
    }
    await within('unsuback', c.mqtt.unsubscribeAsync(`${word}/0/0`))
    await c.publish(`${word}/0/0`, 'not heard')
    await c.publish(`${word}/1/1`, 'heard', { qos: 1 })
    await c.expect(`${word}/1/1`, 'heard', 1)
    await c.close()
  },

  // A thousand at once of each QoS, in order, nothing twice.
  async many () {
    const count = 1000
    const c = await Client.open()
    const other = await Client.open()
    for (const qos of [0, 1, 2]) {
      const topic = `${word}/${qos}`
      await c.subscribe(topic, { qos: 2 })
      // This client does not look at the broker's Receive Maximum, so the application has to. There is none before 5.
      const window = Math.min(count, other.connack.properties?.receiveMaximum ?? count)
      for (let from = 0; from < count; from += window) {
        const sent = []
        for (let i = from; i < Math.min(count, from + window); i++) sent.push(other.publish(topic, String(i), { qos }))
        await Promise.all(sent)
      }
      for (let i = 0; i < count; i++) await c.expect(topic, String(i), qos)
    }
    await c.close()
    await other.close()
  },

  async large () {
    const payload = Buffer.alloc(1 << 18, '0123456789\x00\xff', 'latin1')
    const c = await Client.open()
    await c.subscribe(word, { qos: 2 })
    for (const qos of [0, 1, 2]) {
      await c.publish(word, payload, { qos })
      await c.expect(word, payload.toString('latin1'), qos)
      await c.publish(word, '', { qos })
      await c.expect(word, '', qos)
    }
    await c.close()
  },

  async retained () {
    const c = await Client.open()
    const late = await Client.open()
    await c.publish(word, 'kept', { qos: 1, retain: true })
    await late.subscribe(word, { qos: 1 })
    await late.expect(word, 'kept', 1, true)
    await c.publish(word, '', { qos: 1, retain: true })
    await late.expect(word, '', 1)
    await c.subscribe(word, { qos: 1 })
    await c.publish(word, 'first', { qos: 1 })
    await c.expect(word, 'first', 1)
    await c.close()
    await late.close()
  },

  async will () {
    const heir = await Client.open()
    await heir.subscribe(`${word}/#`, { qos: 2 })
    for (const qos of [0, 1, 2]) {
      const testator = await Client.open({ will: { topic: `${word}/${qos}`, payload: Buffer.from('farewell'), qos, retain: false } })
      await testator.die()
      await heir.expect(`${word}/${qos}`, 'farewell', qos)
    }
    const polite = await Client.open({ will: { topic: `${word}/none`, payload: Buffer.from('no'), qos: 0, retain: false } })
    await polite.close()
    await heir.publish(`${word}/after`, 'after')
    await heir.expect(`${word}/after`, 'after')
    await heir.close()
  },

  async offline () {
    const first = await lasting(word)
    await first.subscribe(`${word}/+`, { qos: 2 })
    await first.close()
    const other = await Client.open()
    for (const qos of [1, 2]) {
      for (let i = 0; i < 50; i++) await other.publish(`${word}/${qos}`, String(i), { qos })
    }
    const second = await lasting(word)
    if (version !== '3.1') assert.equal(second.connack.sessionPresent, true)
    for (const qos of [1, 2]) {
      for (let i = 0; i < 50; i++) await second.expect(`${word}/${qos}`, String(i), qos)
    }
    await second.close()
    await other.close()
  },

  // The client connects again by itself, and what it subscribed to is still there.
  async reconnect () {
    const c = await Client.open({ reconnectPeriod: 1, resubscribe: false, clientId: word, clean: false, ...(v5 ? { properties: { sessionExpiryInterval: 60 } } : {}) })
    await c.subscribe(word, { qos: 1 })
    const again = new Promise((resolve) => c.mqtt.once('connect', resolve))
    c.mqtt.stream.destroy()
    await within('second connect', again)
    await c.publish(word, 'still there', { qos: 1 })
    await c.expect(word, 'still there', 1)
    await c.close()
  },

  async forwarded () {
    const c = await Client.open()
    await c.subscribe(word, { qos: 1, properties: { subscriptionIdentifier: 268435455 } })
    const properties = {
      payloadFormatIndicator: true,
      contentType: 'text/plain',
      responseTopic: `${word}/answer`,
      correlationData: Buffer.from([0, 1, 255]),
      userProperties: { a: ['1', '2'], b: 'ü' },
    }
    await c.publish(word, 'text', { qos: 1, properties })
    const m = await c.expect(word, 'text', 1)
    assert.deepEqual({ ...m.properties, userProperties: { ...m.properties.userProperties } },
      { ...properties, subscriptionIdentifier: 268435455 })
    await c.close()
  },

  // Aliases that the library gives out and takes by itself, in both directions.
  async alias () {
    const c = await Client.open({ autoAssignTopicAlias: true, properties: { topicAliasMaximum: 3 } })
    assert.ok(c.connack.properties.topicAliasMaximum > 0, 'the broker takes no topic alias')
    await c.subscribe(`${word}/#`, { qos: 1 })
    for (let i = 0; i < 40; i++) {
      const topic = `${word}/topic/${i % 5}`
      await c.publish(topic, String(i), { qos: i % 2 })
      await c.expect(topic, String(i), i % 2)
    }
    await c.close()
  },

  async sharing () {
    const members = [await Client.open(), await Client.open()]
    const other = await Client.open()
    for (const m of members) await m.subscribe(`$share/group/${word}/job`, { qos: 1 })
    for (let i = 0; i < 40; i++) await other.publish(`${word}/job`, String(i), { qos: 1 })
    const got = []
    for (const m of members) {
      await m.subscribe(`${word}/end`, { qos: 1 })
    }
    await other.publish(`${word}/end`, 'end', { qos: 1 })
    for (const m of members) {
      const before = got.length
      for (let next = await m.message(); next.topic !== `${word}/end`; next = await m.message()) got.push(Number(next.payload))
      assert.ok(got.length > before, 'a member got nothing')
    }
    assert.deepEqual(got.sort((a, b) => a - b), [...Array(40).keys()])
    for (const c of [...members, other]) await c.close()
  },
}

const fail = (e) => {
  console.error(`${story}: ${e.message}`)
  process.exit(1)
}
process.on('unhandledRejection', fail)
stories[story]().then(() => process.exit(0), fail)
