// Tokens in Node: logs in, calls with the access token, and verifies it offline, as any other service can.
//
// Run it: npm ci && node verify.mjs

import { randomUUID } from 'node:crypto';
import { promisify } from 'node:util';
import grpc from '@grpc/grpc-js';
import { createRemoteJWKSet, jwtVerify } from 'jose';
import { api, solvingChallenges } from './solver.mjs';

const { Auth } = grpc.loadPackageDefinition(api).watchword.auth.v1;

const ISSUER = process.env.WATCHWORD_ISSUER ?? 'http://127.0.0.1:5000';
const DEADLINE_MS = 5_000;
const client = new Auth(process.env.WATCHWORD_ADDR ?? '127.0.0.1:50051', grpc.credentials.createInsecure());
const call = solvingChallenges((method, request, metadata = new grpc.Metadata()) =>
  promisify(client[method]).call(client, request, metadata, { deadline: Date.now() + DEADLINE_MS }));

// One for each process: fetches the public keys when needed and caches them.
const keys = createRemoteJWKSet(new URL(`${ISSUER}/.well-known/jwks.json`));

// Returns the claims of a valid token. Requires one algorithm, one type, and the expected issuer and audience.
async function verify(token) {
  const expected = { algorithms: ['ES256'], typ: 'at+jwt', issuer: ISSUER, audience: 'watchword', requiredClaims: ['exp', 'sub'] };
  return (await jwtVerify(token, keys, expected)).payload;
}

const ada = { username: `ada-${randomUUID().slice(0, 8)}`, password: 'correct horse battery staple' };
await call('Register', ada);
const { tokens } = await call('Login', ada);

const bearer = new grpc.Metadata();
bearer.set('authorization', `Bearer ${tokens.access_token}`);
const { user } = await call('GetUser', {}, bearer);
console.log('called as:', user.username, user.user_id);
console.log('verified:', (await verify(tokens.access_token)).sub);
client.close();
