// SPDX-License-Identifier: Apache-2.0
//
// Runs Aedes on loopback, for comparison and for bridges: run.mjs PORT [CERTIFICATE KEY].

import { Aedes } from 'aedes'
import { readFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { createServer as createSecureServer } from 'node:tls'

const [port, cert, key] = process.argv.slice(2)
const broker = await Aedes.createBroker({ concurrency: 10000, queueLimit: 1000000, maxClientsIdLength: 256 })
const server = cert
  ? createSecureServer({ cert: readFileSync(cert), key: readFileSync(key) }, broker.handle)
  : createServer(broker.handle)
server.listen({ port: Number(port), host: '127.0.0.1', backlog: 4096 })
process.on('SIGTERM', () => process.exit(0))
