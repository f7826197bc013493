// SPDX-License-Identifier: Apache-2.0
//
// An OpenID provider for the stories of test/e2e: it gives JWT access tokens to clients that prove themselves (OAuth 2.0,
// RFC 6749 section 4.4; RFC 9068), and serves its key set by https. What it needs comes in the environment:
//
//   ISSUER      its address, https://host:port
//   TLS_CERT    file with its certificate
//   TLS_KEY     file with the key of it
//   CLIENTS     JSON: [{"id": "press-1", "secret": "…", "seconds": 60}], seconds being how long a token is valid
//   AUDIENCE    what its tokens are for, an absolute URI (RFC 8707)
//
// Each start draws another key.
// It prints "ready" once it listens, and ends when its standard input does.
'use strict';

const crypto = require('node:crypto');
const fs = require('node:fs');
const https = require('node:https');
const path = require('node:path');
const { createRequire } = require('node:module');

const { ISSUER, TLS_CERT, TLS_KEY, CLIENTS, AUDIENCE, MODULES } = process.env;
// The packages lie in a cache, not beside this file.
const need = createRequire(path.join(MODULES || __dirname, 'package.json'));

async function main() {
  const loaded = need('oidc-provider');
  const Provider = loaded.default || loaded.Provider || loaded;
  const clients = JSON.parse(CLIENTS);
  const { privateKey } = crypto.generateKeyPairSync('rsa', { modulusLength: 2048 });
  const kid = crypto.randomBytes(8).toString('hex');
  const provider = new Provider(ISSUER, {
    jwks: { keys: [{ ...privateKey.export({ format: 'jwk' }), kid, use: 'sig', alg: 'RS256' }] },
    cookies: { keys: [crypto.randomBytes(32).toString('hex')] },
    clients: clients.map(({ id, secret }) => ({
      client_id: id,
      client_secret: secret,
      grant_types: ['client_credentials'],
      redirect_uris: [],
      response_types: [],
      token_endpoint_auth_method: 'client_secret_basic',
    })),
    features: {
      clientCredentials: { enabled: true },
      devInteractions: { enabled: false },
      resourceIndicators: {
        enabled: true,
        defaultResource: () => AUDIENCE,
        useGrantedResource: () => true,
        getResourceServerInfo: () => ({ scope: '', audience: AUDIENCE, accessTokenFormat: 'jwt', jwt: { sign: { alg: 'RS256' } } }),
      },
    },
    ttl: {
      ClientCredentials: (ctx, token, client) => clients.find(({ id }) => id === client.clientId).seconds,
    },
  });
  const { hostname, port } = new URL(ISSUER);
  const server = https.createServer({ cert: fs.readFileSync(TLS_CERT), key: fs.readFileSync(TLS_KEY) }, provider.callback());
  // An address of IPv6 has brackets in a URL, and none elsewhere.
  server.listen(Number(port), hostname.replace(/^\[|\]$/g, ''), () => process.stdout.write('ready\n'));
  process.stdin.resume();
  process.stdin.on('end', () => process.exit(0));
}

main().catch((error) => {
  process.stderr.write(`${error.stack}\n`);
  process.exit(1);
});
