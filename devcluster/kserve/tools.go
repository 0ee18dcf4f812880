//go:build tools

// Package tools names the commands that the dev cluster builds, so that go.mod and go.sum cover them. Of go.sum, what a
// build reads is kept: go build -mod=mod writes it; go mod tidy would add 5,000 lines for the tests of dependencies.
package tools

import (
	_ "github.com/kserve/kserve/cmd/llmisvc"
	_ "github.com/kserve/kserve/cmd/manager"
)
