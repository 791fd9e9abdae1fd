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
// The calls that take a solution: registrations, and those that verify a password.
const [REGISTER, LOGIN] = ['CHALLENGE_PURPOSE_REGISTER', 'CHALLENGE_PURPOSE_LOGIN'];
const PURPOSES = { Register: REGISTER, Login: LOGIN, ChangePassword: LOGIN, DeleteUser: LOGIN, RevokeAllSessions: LOGIN };
// The rate limits that a call with proof of work passes.
const PASSED_LIMITS = ['address', 'account', 'address_and_account', 'registrations'];

function errorInfo(error) {
  const [packed] = error.metadata?.get('grpc-status-details-bin') ?? [];
  const { details } = packed ? api['google.rpc.Status'].deserialize(packed) : { details: [] };
  return details.find((detail) => detail['@type'].endsWith('/google.rpc.ErrorInfo')) ?? {};
}

// The reason of an error: a name from error_reason.proto, for programs. The message is for people.
export const reason = (error) => errorInfo(error).reason;

// Whether the call may be accepted with proof of work.
function isSolvable(error) {
  const { reason, metadata } = errorInfo(error);
  const isLimited = reason === 'RATE_LIMITED' && PASSED_LIMITS.includes(metadata?.limit);
  return isLimited || ['CHALLENGE_REQUIRED', 'CHALLENGE_INVALID'].includes(reason);
}

// Wraps call(method, request): sends it again with proof of work where that helps.
export function solvingChallenges(call) {
  return async (method, request, ...rest) => {
    for (let solutions = 0; ; solutions += 1) {
      try {
        return await call(method, request, ...rest);
      } catch (error) {
        if (solutions === SOLUTIONS_MAX || !(method in PURPOSES) || !isSolvable(error)) throw error;
      }
      // In a session a challenge for any username.
      const username = method === 'Login' ? request.username : '';
      const { challenge } = await call('CreateChallenge', { purpose: PURPOSES[method], username });
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
