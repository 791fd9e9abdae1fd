package main

// Writes gen/, which is not in git. The plugins are tools of go.mod; buf comes with `npm ci` in tests/tools.
//go:generate ../../tests/tools/node_modules/.bin/buf generate ../../proto --path ../../proto/watchword
