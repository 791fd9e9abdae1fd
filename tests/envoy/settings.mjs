// Checks deploy/envoy against Envoy's own protobuf files: every setting exists with its name and type, every oneof is
// set at most once, and required fields are set. Prints the number of checks; faults end the program with an error.
//
// Envoy checks more: of its validation rules this program has only `required`, `min_len` and `defined_only`.

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseAllDocuments } from 'yaml';
import { ROOT, official } from './protos.mjs';

const FILTERS = 'envoy/extensions/filters/http';
const protos = official([
  'envoy/config/bootstrap/v3/bootstrap.proto',
  'envoy/extensions/filters/network/http_connection_manager/v3/http_connection_manager.proto',
  `${FILTERS}/ext_authz/v3/ext_authz.proto`,
  `${FILTERS}/jwt_authn/v3/config.proto`,
  `${FILTERS}/router/v3/router.proto`,
  'envoy/extensions/http/early_header_mutation/header_mutation/v3/header_mutation.proto',
  'envoy/extensions/upstreams/http/v3/http_protocol_options.proto',
]);

// The message type of each YAML document; a list is a list of such messages.
const FILES = {
  'envoy.yaml': ['envoy.config.bootstrap.v3.Bootstrap'],
  'jwt_authn.yaml': [
    'envoy.extensions.filters.network.http_connection_manager.v3.HttpFilter',
    'envoy.config.cluster.v3.Cluster',
  ],
};

// The JSON types of Google's well-known messages.
const WELL_KNOWN = {
  '.google.protobuf.BoolValue': 'bool',
  '.google.protobuf.Duration': 'duration',
  '.google.protobuf.StringValue': 'string',
  '.google.protobuf.Struct': 'anything',
  '.google.protobuf.UInt32Value': 'uint32',
};
const FITS = {
  anything: () => true,
  bool: (value) => typeof value === 'boolean',
  double: (value) => typeof value === 'number',
  duration: (value) => /^\d+(\.\d+)?s$/.test(value),
  string: (value) => typeof value === 'string',
};
const fits = (type, value) => (FITS[type] ?? Number.isInteger)(value);

const faults = [];
let checked = 0;

function check(condition, where, what) {
  checked += 1;
  if (!condition) faults.push(`${where}: ${what}`);
  return condition;
}

function checkMessage(type, value, where) {
  if (!check(value !== null && typeof value === 'object' && !Array.isArray(value), where, 'is not a mapping')) return;
  if (type.fullName === '.google.protobuf.Any') {
    const { '@type': url = '', ...rest } = value;
    const packed = protos.lookup(url.replace('type.googleapis.com/', ''));
    if (check(packed?.fields, where, `unknown type ${url}`)) checkMessage(packed, rest, where);
    return;
  }
  for (const [name, inner] of Object.entries(value)) {
    const field = type.fields[name];
    const there = `${where}.${name}`;
    if (check(field, there, `${type.fullName} has no such field`)) checkField(field, inner, there);
  }
  for (const oneof of type.oneofsArray) {
    const chosen = oneof.oneof.filter((name) => name in value);
    check(chosen.length <= 1, where, `more than one of ${chosen}`);
    check(chosen.length > 0 || !oneof.options?.['(validate.required)'], where, `none of ${oneof.oneof}`);
  }
  for (const field of type.fieldsArray) {
    const rules = field.options ?? {};
    const required = rules['(validate.rules).message.required'] || rules['(validate.rules).string.min_len'] > 0;
    check(!required || field.partOf || value[field.name], where, `${field.name} is required`);
  }
}

function checkField(field, value, where) {
  if (field.map) {
    for (const [key, inner] of Object.entries(value)) checkValue(field, inner, `${where}[${key}]`);
  } else if (field.repeated) {
    if (!check(Array.isArray(value), where, 'is not a list')) return;
    value.forEach((inner, index) => checkValue(field, inner, `${where}[${index}]`));
  } else {
    checkValue(field, value, where);
  }
}

function checkValue(field, value, where) {
  const type = field.resolvedType;
  const scalar = type ? WELL_KNOWN[type.fullName] : field.type;
  if (scalar) check(fits(scalar, value), where, `${JSON.stringify(value)} is not a ${scalar}`);
  else if (type.values) check(value in type.values, where, `${value} is not one of ${Object.keys(type.values)}`);
  else checkMessage(type, value, where);
}

for (const [file, types] of Object.entries(FILES)) {
  const documents = parseAllDocuments(readFileSync(join(ROOT, 'deploy/envoy', file), 'utf8'));
  check(documents.length === types.length, file, `has ${documents.length} documents`);
  documents.forEach((document, index) => {
    if (document.errors.length > 0) throw document.errors[0];
    const content = document.toJS();
    const type = protos.lookupType(types[index]);
    for (const one of Array.isArray(content) ? content : [content]) checkMessage(type, one, `${file}: ${type.name}`);
  });
}
if (faults.length > 0) throw new Error(faults.join('\n'));
console.log(`${checked} settings checked`);
