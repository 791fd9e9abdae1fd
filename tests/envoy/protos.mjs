// Loads protobuf files: those of Envoy, as the npm package @grpc/grpc-js-xds ships them, and those of Watchword.

import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import protobuf from 'protobufjs';

const require = createRequire(import.meta.url);
const SHIPPED = join(dirname(require.resolve('@grpc/grpc-js-xds/package.json')), 'deps');
const OFFICIAL = ['envoy-api', 'googleapis', 'protoc-gen-validate', 'xds'].map((folder) => join(SHIPPED, folder));

// The root folder of the repository.
export const ROOT = fileURLToPath(new URL('../..', import.meta.url));

// Options on files and fields extend messages of descriptor.proto, which protobufjs does not load by default.
const descriptor = require('protobufjs/google/protobuf/descriptor.json');
protobuf.common('descriptor', descriptor.nested.google.nested.protobuf.nested);

export const official = (files) => load(OFFICIAL, files);
export const ours = (files) => load([join(ROOT, 'proto')], files);

function load(folders, files) {
  const root = new protobuf.Root();
  root.resolvePath = (_, name) => {
    if (protobuf.common.get(name)) return name;
    const found = folders.map((folder) => join(folder, name)).find((file) => existsSync(file));
    if (!found) throw new Error(`${name} is not in any of ${folders}`);
    return found;
  };
  root.loadSync(files, { keepCase: true });
  root.resolveAll();
  return root;
}
