// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"time"
)

// auditPolicy has the API server write down every request of the operator, and of nobody else.
const auditPolicy = `apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived, ResponseStarted]
rules:
- level: Metadata
  users: [` + operatorUser + `]
- level: None
`

// call is one request of the operator that the API server has answered.
type call struct {
	Verb      string `json:"verb"`
	ObjectRef struct {
		Resource    string `json:"resource"`
		Subresource string `json:"subresource"`
		Name        string `json:"name"`
	} `json:"objectRef"`
	ResponseStatus struct {
		Code int `json:"code"`
	} `json:"responseStatus"`
}

// isWrite says whether the request could change something and was not refused.
func (c *call) isWrite() bool {
	switch c.Verb {
	case "create", "update", "patch", "delete", "deletecollection":
		return c.ResponseStatus.Code < 300
	default:
		return false
	}
}

// what names the request: its verb and what it was about, without the name of the object.
func (c *call) what() string {
	resource := c.ObjectRef.Resource
	if c.ObjectRef.Subresource != "" {
		resource += "/" + c.ObjectRef.Subresource
	}
	text := c.Verb + " " + resource
	if c.ResponseStatus.Code >= 300 {
		text += fmt.Sprintf(" (%d)", c.ResponseStatus.Code)
	}
	return text
}

// calls are requests in the order in which they were answered. Watches are left out: each lasts.
type calls []call

func (c calls) writes() (n int) {
	for i := range c {
		if c[i].isWrite() {
			n++
		}
	}
	return n
}

// secrets are the Secrets that were written, with how often.
func (c calls) secrets() map[string]int {
	written := map[string]int{}
	for i := range c {
		if c[i].isWrite() && c[i].ObjectRef.Resource == "secrets" {
			written[c[i].ObjectRef.Name]++
		}
	}
	return written
}

// kinds counts requests by what they are.
func (c calls) kinds() map[string]int {
	counts := map[string]int{}
	for i := range c {
		counts[c[i].what()]++
	}
	return counts
}

// audit reads the API server's audit log as it grows.
type audit struct {
	path   string
	offset int64
	rest   []byte
}

// take returns what was answered since the last take.
func (a *audit) take() (calls, error) {
	file, err := os.Open(a.path)
	if os.IsNotExist(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer file.Close()
	if _, err := file.Seek(a.offset, io.SeekStart); err != nil {
		return nil, err
	}
	text, err := io.ReadAll(file)
	if err != nil {
		return nil, err
	}
	a.offset += int64(len(text))
	found, rest, err := parseAudit(append(a.rest, text...))
	a.rest = bytes.Clone(rest)
	return found, err
}

// parseAudit reads whole lines and returns what is behind the last of them.
func parseAudit(text []byte) (found calls, rest []byte, err error) {
	for {
		line, behind, whole := bytes.Cut(text, []byte("\n"))
		if !whole {
			return found, text, nil
		}
		text = behind
		var c call
		if err := json.Unmarshal(line, &c); err != nil {
			return found, text, fmt.Errorf("audit log: %w", err)
		}
		if c.Verb != "watch" && c.Verb != "" {
			found = append(found, c)
		}
	}
}

// settle waits until nothing was answered for a time and returns all that was since the last take.
func (a *audit) settle(ctx context.Context, silence time.Duration) (calls, error) {
	var all calls
	for last := time.Now(); time.Since(last) < silence; {
		found, err := a.take()
		if err != nil {
			return all, err
		}
		if len(found) > 0 {
			all, last = append(all, found...), time.Now()
		}
		select {
		case <-ctx.Done():
			return all, fmt.Errorf("the operator does not come to rest: %w", context.Cause(ctx))
		case <-time.After(silence / 10):
		}
	}
	return all, nil
}

// scrape reads the value of every series of a page of metrics.
func scrape(text string) map[string]float64 {
	series := map[string]float64{}
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		at := strings.LastIndexByte(line, ' ')
		if at < 0 || strings.HasPrefix(line, "#") {
			continue
		}
		var value float64
		if _, err := fmt.Sscanf(line[at+1:], "%g", &value); err == nil {
			series[line[:at]] = value
		}
	}
	return series
}

// isDepth says whether a series is the length of a controller's queue, of whatever priority.
func isDepth(series, controller string) bool {
	return strings.HasPrefix(series, "workqueue_depth{") && strings.Contains(series, `name="`+controller+`"`)
}
