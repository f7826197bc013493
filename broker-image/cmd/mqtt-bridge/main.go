// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/mqtt-operator/mqtt-operator/broker-image/bridge/program"
)

// version is set by the linker.
var version = ""

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	code := program.Run(ctx, version, os.Args[1:], os.Stdout, os.Stderr)

	stop()
	os.Exit(code)
}
