// Fetches a challenge and prints its solution in the form that ALTCHA's widget sends.
//
//   node solve.mjs <solver> <URL of a challenge>
//
// Solvers: `widget` is the worker of the built widget, `widget-lib` the library in the same package. `lib` and
// `lib-web` are the package for servers, with the key derivation of Node and of Web Crypto.

import { pbkdf2, solveChallenge as solveByWidgetLib } from 'altcha/lib';
import { solveChallenge as solveByLib } from 'altcha-lib';
import { deriveKey } from 'altcha-lib/algorithms/pbkdf2';
import { deriveKey as deriveKeyWithWebCrypto } from 'altcha-lib/algorithms/web/pbkdf2';

const [, , solver, url] = process.argv;

const solvers = {
  widget: solveByWorker,
  'widget-lib': (challenge) => solveByWidgetLib({ challenge, deriveKey: pbkdf2.deriveKey }),
  lib: (challenge) => solveByLib({ challenge, deriveKey }),
  'lib-web': (challenge) => solveByLib({ challenge, deriveKey: deriveKeyWithWebCrypto }),
};

const response = await fetch(url);
if (!response.ok || !response.headers.get('content-type').includes('/json')) {
  throw new Error(`no challenge: ${response.status} ${await response.text()}`);
}
const challenge = await response.json();
const solution = await solvers[solver](challenge);
const { parameters, signature } = challenge;
console.log(btoa(JSON.stringify({ challenge: { parameters, signature }, solution })));

// Provides the globals that the worker expects in a worker thread.
async function solveByWorker(challenge) {
  const solved = new Promise((resolve) => {
    globalThis.self = { postMessage: resolve };
  });
  await import('altcha/workers/pbkdf2');
  self.onmessage({ data: { type: 'work', challenge, counterMode: 'uint32', counterStart: 0, counterStep: 1 } });
  return solved;
}
