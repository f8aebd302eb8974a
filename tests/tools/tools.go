// Package tools keeps the Go programs that the tests run in go.mod and go.sum, which `go mod tidy` would otherwise empty.
// It is never compiled: scripts/go-tools.sh builds the programs themselves.
//
//go:build tools

package tools

import _ "github.com/kubernetes-csi/csi-test/v5/cmd/csi-sanity"
