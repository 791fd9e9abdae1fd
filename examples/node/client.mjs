// First call from Node: registers a user, logs in, and reads the error reason of a wrong password.
//
// Run it: npm ci && node client.mjs

import { randomUUID } from 'node:crypto';
import { promisify } from 'node:util';
import grpc from '@grpc/grpc-js';
import { api, reason, solvingChallenges } from './solver.mjs';

const { Auth } = grpc.loadPackageDefinition(api).watchword.auth.v1;
const DEADLINE_MS = 5_000;
const client = new Auth(process.env.WATCHWORD_ADDR ?? '127.0.0.1:50051', grpc.credentials.createInsecure());
const call = solvingChallenges((method, request) =>
  promisify(client[method]).call(client, request, { deadline: Date.now() + DEADLINE_MS }));

const ada = { username: `ada-${randomUUID().slice(0, 8)}`, password: 'correct horse battery staple' };

// With a request_id the registration can be repeated when its response was lost.
await call('Register', { ...ada, request_id: randomUUID() });
const { user } = await call('Login', ada);
console.log('logged in:', user.username, user.user_id);

try {
  await call('Login', { ...ada, password: 'wrong' });
  throw new Error('a wrong password was accepted');
} catch (error) {
  if (reason(error) !== 'INVALID_CREDENTIALS') throw error;
  console.log('refused:', reason(error));
}
client.close();
