// Calls Watchword as Envoy does, with Envoy's own protobuf files. Reads one CheckRequest per line from standard input,
// as JSON, and prints one CheckResponse per line.
//
// `node ask.mjs 200` sends each request 200 times and prints the median and the 99th percentile of the latency.

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
    // Newer (Envoy 1.37) than the newest @grpc/grpc-js-xds. Copied from the Go module
    // github.com/envoyproxy/go-control-plane/envoy v1.37.0, service/auth/v3.
    fields.error_response = { type: 'DeniedHttpResponse', id: 5 };
    oneofs.http_response.oneof.push('error_response');
  }
  const options = { enums: String, bytes: String, defaults: true };
  return grpc.loadPackageDefinition(fromJSON(files, options)).envoy.service.auth.v3.Authorization;
}

const Authorization = service();
const client = new Authorization(process.env.WATCHWORD_ADDR, grpc.credentials.createInsecure());
const check = (request) =>
  new Promise((resolve, reject) => {
    const deadline = Date.now() + DEADLINE_MS;
    client.Check(request, { deadline }, (error, response) => (error ? reject(error) : resolve(response)));
  });

for (const line of readFileSync(0, 'utf8').trim().split('\n')) {
  const request = JSON.parse(line);
  const response = await check(request);
  if (times === 1) {
    console.log(JSON.stringify(response));
    continue;
  }
  const latencies = [];
  for (let call = 0; call < times; call += 1) {
    const start = performance.now();
    await check(request);
    latencies.push(performance.now() - start);
  }
  latencies.sort((one, other) => one - other);
  const [p50_ms, p99_ms] = [0.5, 0.99].map((part) => latencies[Math.floor(times * part)]);
  console.log(JSON.stringify({ calls: times, p50_ms, p99_ms }));
}
client.close();
