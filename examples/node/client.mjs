// First call from Node: registers a user, logs in, and reads why a wrong password is refused.
//
// Run it: npm ci && node client.mjs

import { randomUUID } from 'node:crypto';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import grpc from '@grpc/grpc-js';
import { loadSync } from '@grpc/proto-loader';

// Reads the contract as it stands in proto/, so that no generated code has to be kept.
const includeDirs = [fileURLToPath(new URL('../../proto', import.meta.url))];
const files = ['watchword/auth/v1/auth.proto', 'google/rpc/status.proto', 'google/rpc/error_details.proto'];
const api = loadSync(files, { includeDirs, keepCase: true, json: true });
const { Auth } = grpc.loadPackageDefinition(api).watchword.auth.v1;

const DEADLINE_MS = 5_000;
const client = new Auth(process.env.WATCHWORD_ADDR ?? '127.0.0.1:50051', grpc.credentials.createInsecure());
const call = (method, request) =>
  promisify(client[method]).call(client, request, { deadline: Date.now() + DEADLINE_MS });

// Why Watchword refused: a name from error_reason.proto. The text is for people, this is for programs.
function reason(error) {
  const [packed] = error.metadata?.get('grpc-status-details-bin') ?? [];
  const { details } = packed ? api['google.rpc.Status'].deserialize(packed) : { details: [] };
  return details.find((detail) => detail['@type'].endsWith('/google.rpc.ErrorInfo'))?.reason;
}

const ada = { username: `ada-${randomUUID().slice(0, 8)}`, password: 'correct horse battery staple' };

// With a request_id the same registration can be sent again when its answer was lost.
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
