// Asks Watchword as Envoy does, by Envoy's own protobuf files: a question on each line of standard input, as JSON, and
// an answer on each line of standard output.
//
// `node ask.mjs 200` asks each question that often, and answers how long the slowest but one in a hundred took.

import { readFileSync } from 'node:fs';
import grpc from '@grpc/grpc-js';
import { fromJSON } from '@grpc/proto-loader';
import { official } from './protos.mjs';

const DEADLINE_MS = 5_000;
const times = Number(process.argv[2] ?? 1);

function service() {
  const files = official(['envoy/service/auth/v3/external_auth.proto']).toJSON();
  const { fields, oneofs } = files.nested.envoy.nested.service.nested.auth.nested.v3.nested.CheckResponse;
  if (!fields.error_response) {
    // Younger (Envoy 1.37) than the newest @grpc/grpc-js-xds. As in the Go module
    // github.com/envoyproxy/go-control-plane/envoy v1.37.0, service/auth/v3.
    fields.error_response = { type: 'DeniedHttpResponse', id: 5 };
    oneofs.http_response.oneof.push('error_response');
  }
  const options = { enums: String, bytes: String, defaults: true };
  return grpc.loadPackageDefinition(fromJSON(files, options)).envoy.service.auth.v3.Authorization;
}

const Authorization = service();
const client = new Authorization(process.env.WATCHWORD_ADDR, grpc.credentials.createInsecure());
const ask = (question) =>
  new Promise((answered, failed) => {
    const deadline = Date.now() + DEADLINE_MS;
    client.Check(question, { deadline }, (error, answer) => (error ? failed(error) : answered(answer)));
  });

for (const line of readFileSync(0, 'utf8').trim().split('\n')) {
  const question = JSON.parse(line);
  const answer = await ask(question);
  if (times === 1) {
    console.log(JSON.stringify(answer));
    continue;
  }
  const took = [];
  for (let call = 0; call < times; call += 1) {
    const begun = performance.now();
    await ask(question);
    took.push(performance.now() - begun);
  }
  took.sort((one, other) => one - other);
  const [p50_ms, p99_ms] = [0.5, 0.99].map((part) => took[Math.floor(times * part)]);
  console.log(JSON.stringify({ calls: times, p50_ms, p99_ms }));
}
client.close();
