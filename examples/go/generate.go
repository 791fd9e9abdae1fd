package main

// Writes gen/, which is not in git. The plugins are tools in go.mod; `npm ci` in tests/tools installs buf.
//go:generate ../../tests/tools/node_modules/.bin/buf generate ../../proto --path ../../proto/watchword
