// What a Node client of Watchword needs: proof of work where Watchword asks for it, and the reason of an error.

import { pbkdf2 } from 'node:crypto';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { loadSync } from '@grpc/proto-loader';

// Loads the contract from proto/ at run time, so that no generated code is needed.
const includeDirs = [fileURLToPath(new URL('../../proto', import.meta.url))];
const files = ['watchword/auth/v1/auth.proto', 'google/rpc/status.proto', 'google/rpc/error_details.proto'];
export const api = loadSync(files, { includeDirs, keepCase: true, json: true });

// The most rounds of PBKDF2 for one solution: about a minute. Watchword asks for 8 million by default.
const ROUNDS_MAX = 300_000_000;
// The first solution may have expired before it arrived.
const SOLUTIONS_MAX = 2;

// The reason of an error: a name from error_reason.proto, for programs. The message is for people.
export function reason(error) {
  const [packed] = error.metadata?.get('grpc-status-details-bin') ?? [];
  const { details } = packed ? api['google.rpc.Status'].deserialize(packed) : { details: [] };
  return details.find((detail) => detail['@type'].endsWith('/google.rpc.ErrorInfo'))?.reason;
}

// Wraps call(method, request): sends Login and Register again with proof of work if Watchword requires it.
export function solvingChallenges(call) {
  return async (method, request, ...rest) => {
    for (let solutions = 0; ; solutions += 1) {
      try {
        return await call(method, request, ...rest);
      } catch (error) {
        if (solutions === SOLUTIONS_MAX || !['CHALLENGE_REQUIRED', 'CHALLENGE_INVALID'].includes(reason(error))) throw error;
      }
      const username = method === 'Login' ? request.username : '';
      const purpose = `CHALLENGE_PURPOSE_${method.toUpperCase()}`;
      const { challenge } = await call('CreateChallenge', { purpose, username });
      request = { ...request, challenge_solution: await solve(JSON.parse(challenge)) };
    }
  };
}

// Solves a challenge (ALTCHA, version 2): finds the counter whose key begins with the prefix.
export async function solve(challenge) {
  const { algorithm, cost, keyLength, keyPrefix, nonce, salt } = challenge.parameters;
  const keysMax = ROUNDS_MAX / cost;
  if (algorithm !== 'PBKDF2/SHA-256' || 16 ** keyPrefix.length > keysMax) {
    throw new Error(`the challenge asks for too much work, or for another algorithm: ${JSON.stringify(challenge)}`);
  }
  const password = Buffer.from(`${nonce}00000000`, 'hex');
  for (let counter = 0; counter < keysMax; counter += 1) {
    password.writeUInt32BE(counter, password.length - 4);
    const key = await promisify(pbkdf2)(password, Buffer.from(salt, 'hex'), cost, keyLength, 'sha256');
    const derivedKey = key.toString('hex');
    if (derivedKey.startsWith(keyPrefix)) return btoa(JSON.stringify({ challenge, solution: { counter, derivedKey } }));
  }
  throw new Error(`the challenge was not solved with ${ROUNDS_MAX} rounds`);
}
