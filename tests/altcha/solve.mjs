// Fetches a challenge and prints its solution, as a form with ALTCHA's widget would send it.
//
//   node solve.mjs <solver> <URL of a challenge>
//
// widget: the worker that the built widget starts. widget-lib: the library in the same package. lib and lib-web: the
// package for servers, with Node's own key derivation and with Web Crypto.

import { pbkdf2, solveChallenge as solveByWidgetLib } from 'altcha/lib';
import { solveChallenge as solveByLib } from 'altcha-lib';
import { deriveKey } from 'altcha-lib/algorithms/pbkdf2';
import { deriveKey as deriveKeyOnTheWeb } from 'altcha-lib/algorithms/web/pbkdf2';

const [, , solver, url] = process.argv;

const solvers = {
  widget: solveByWorker,
  'widget-lib': (challenge) => solveByWidgetLib({ challenge, deriveKey: pbkdf2.deriveKey }),
  lib: (challenge) => solveByLib({ challenge, deriveKey }),
  'lib-web': (challenge) => solveByLib({ challenge, deriveKey: deriveKeyOnTheWeb }),
};

const answer = await fetch(url);
if (!answer.ok || !answer.headers.get('content-type').includes('/json')) {
  throw new Error(`no challenge: ${answer.status} ${await answer.text()}`);
}
const challenge = await answer.json();
const solution = await solvers[solver](challenge);
const { parameters, signature } = challenge;
console.log(btoa(JSON.stringify({ challenge: { parameters, signature }, solution })));

// With this process in the place of the thread that the worker expects around it.
async function solveByWorker(challenge) {
  const solved = new Promise((resolve) => {
    globalThis.self = { postMessage: resolve };
  });
  await import('altcha/workers/pbkdf2');
  self.onmessage({ data: { type: 'work', challenge, counterMode: 'uint32', counterStart: 0, counterStep: 1 } });
  return solved;
}
