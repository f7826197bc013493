// SPDX-License-Identifier: Apache-2.0
//
// Runs Aedes on a loopback port, for comparison.

import { Aedes } from 'aedes'
import { createServer } from 'node:net'

const broker = await Aedes.createBroker({ concurrency: 10000, queueLimit: 1000000, maxClientsIdLength: 256 })
createServer(broker.handle).listen({ port: Number(process.argv[2]), host: '127.0.0.1', backlog: 4096 })
process.on('SIGTERM', () => process.exit(0))
