// SPDX-License-Identifier: Apache-2.0
//
// Runs Mosca on loopback, for bridges: run.mjs PORT [CERTIFICATE KEY]. Its sessions are in memory: its stores on disk
// are modules in C that do not build with a Node.js of today.

import mosca from 'mosca'

const [port, certPath, keyPath] = process.argv.slice(2)
const broker = new mosca.Server({
  interfaces: [certPath
    ? { type: 'mqtts', port: Number(port), host: '127.0.0.1', credentials: { certPath, keyPath } }
    : { type: 'mqtt', port: Number(port), host: '127.0.0.1' }],
  // By default a client that has 1,024 messages before it is cut off.
  maxInflightMessages: 65535,
  persistence: { factory: mosca.persistence.Memory }
})
broker.on('error', (err) => { console.error(err); process.exit(1) })
process.on('SIGTERM', () => process.exit(0))
