// Checks that proto/envoy is a subset of Envoy's own files: every message, field, enum value and method has the name,
// number and type that it has there. Prints the number of comparisons; differences end the program with an error.

import { official, ours } from './protos.mjs';

const FILE = 'envoy/service/auth/v3/external_auth.proto';
// Newer (Envoy 1.37) than the newest @grpc/grpc-js-xds. Copied from the Go module
// github.com/envoyproxy/go-control-plane/envoy v1.37.0, service/auth/v3.
const NEWER = {
  'envoy.service.auth.v3.CheckResponse.error_response':
    'error_response = 5 .envoy.service.auth.v3.DeniedHttpResponse in http_response',
};

const shape = (field) =>
  [
    `${field.name} = ${field.id}`,
    field.repeated ? 'repeated' : '',
    field.keyType ? `map of ${field.keyType} to` : '',
    field.resolvedType ? field.resolvedType.fullName : field.type,
    field.partOf ? `in ${field.partOf.name}` : '',
  ].filter(Boolean).join(' ');

const theirs = official([FILE]);
const faults = [];
let compared = 0;

function compare(name, mine, their) {
  compared += 1;
  if (mine !== their) faults.push(`${name}: ${mine} in proto/envoy, ${their} in Envoy's files`);
}

function compareType(mine) {
  const name = mine.fullName.slice(1);
  const their = theirs.lookup(mine.fullName);
  if (!their) faults.push(`${name}: not in Envoy's files`);
  for (const [value, number] of Object.entries(mine.values ?? {})) {
    compare(`${name}.${value}`, number, their?.values?.[value]);
  }
  for (const field of mine.fieldsArray ?? []) {
    const found = their?.fields?.[field.name];
    compare(`${name}.${field.name}`, shape(field), found ? shape(found) : NEWER[`${name}.${field.name}`]);
  }
  for (const method of mine.methodsArray ?? []) {
    const types = (of) => `${of?.resolvedRequestType.fullName} -> ${of?.resolvedResponseType.fullName}`;
    compare(`${name}/${method.name}`, types(method), types(their?.methods?.[method.name]));
  }
  for (const nested of mine.nestedArray ?? []) compareType(nested);
}

function compareNamespace(namespace) {
  for (const one of namespace.nestedArray) {
    if (one.fields || one.values || one.methods) compareType(one);
    else compareNamespace(one);
  }
}

compareNamespace(ours([FILE]).lookup('envoy'));
if (faults.length > 0) throw new Error(faults.join('\n'));
console.log(`${compared} names compared`);
