// SPDX-License-Identifier: Apache-2.0

package main

import (
	"flag"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/pprof"
	"time"
)

// longestProfile is how long a profile may take to be written; who asks says for how many seconds it looks.
const longestProfile = 10 * time.Minute

// profiling serves pprof. Whoever reaches it can slow the broker down and read how it works, so it is off, and for this
// machine alone.
type profiling struct {
	address  string
	insecure bool
}

func (p *profiling) flags(flags *flag.FlagSet) {
	flags.StringVar(&p.address, "pprof-listen", "", "loopback address of /debug/pprof/; empty for none")
	flags.BoolVar(&p.insecure, "pprof-insecure", false, "let --pprof-listen be an address that can be reached from outside")
}

func (p *profiling) check() error {
	if p.address == "" || p.insecure || isLoopback(p.address) {
		return nil
	}

	return fmt.Errorf("--pprof-listen %s can be reached from outside, and it asks nobody for a password; "+
		"listen on 127.0.0.1, or say --pprof-insecure", p.address)
}

func (p *profiling) open(opened *servers, log *slog.Logger) error {
	if p.address == "" {
		return nil
	}

	mux := http.NewServeMux()
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)

	server := &http.Server{Handler: mux, ReadTimeout: healthTimeout, WriteTimeout: longestProfile, MaxHeaderBytes: 8 << 10}

	return opened.open("pprof", p.address, server, log)
}
