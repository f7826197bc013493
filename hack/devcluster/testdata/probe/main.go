// SPDX-License-Identifier: Apache-2.0

// Command probe is both ends of the live test: it serves a file from its volume, and asks other pods for theirs.
package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"time"
)

const file = "/data/greeting"

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "probe:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	switch args[0] {
	case "serve":
		if err := os.WriteFile(file, []byte(args[1]), 0o600); err != nil {
			return err
		}
		http.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
			content, err := os.ReadFile(file)
			if err != nil {
				http.Error(w, err.Error(), http.StatusInternalServerError)
				return
			}
			_, _ = w.Write(content)
		})
		return http.ListenAndServe(":8080", nil)
	case "ask":
		addresses, err := net.LookupHost(args[1])
		if err != nil {
			return err
		}
		client := http.Client{Timeout: time.Minute}
		response, err := client.Get("http://" + net.JoinHostPort(args[1], "8080"))
		if err != nil {
			return err
		}
		defer response.Body.Close()
		content, err := io.ReadAll(response.Body)
		fmt.Printf("%s at %v says %s\n", args[1], addresses, content)
		return err
	case "dial":
		connection, err := net.DialTimeout("tcp", args[1], time.Minute)
		if err != nil {
			return err
		}
		return connection.Close()
	}
	return fmt.Errorf("unknown command %q", args[0])
}
