// Holds proto/envoy to Envoy's own files: every message, field, enum value and method of ours is there under the same
// name, with the same number and type. Prints how many were compared; what differs is an error.

import { official, ours } from './protos.mjs';

const FILE = 'envoy/service/auth/v3/external_auth.proto';
// Younger (Envoy 1.37) than the newest @grpc/grpc-js-xds. As in the Go module
// github.com/envoyproxy/go-control-plane/envoy v1.37.0, service/auth/v3.
const YOUNGER = {
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
  if (mine !== their) faults.push(`${name}: ours is ${mine}, Envoy's ${their}`);
}

function compareType(mine) {
  const name = mine.fullName.slice(1);
  const their = theirs.lookup(mine.fullName);
  if (!their) faults.push(`${name}: Envoy has none`);
  for (const [value, number] of Object.entries(mine.values ?? {})) {
    compare(`${name}.${value}`, number, their?.values?.[value]);
  }
  for (const field of mine.fieldsArray ?? []) {
    const found = their?.fields?.[field.name];
    compare(`${name}.${field.name}`, shape(field), found ? shape(found) : YOUNGER[`${name}.${field.name}`]);
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
