// SPDX-License-Identifier: Apache-2.0

// Package traces tells where the time of a reconcile goes, by OpenTelemetry: a span for each, the steps of its walk below it, and
// below these what the API server was asked. In come reconcilers and the connection to the API server, out go the same, and
// spans by OTLP. Where nobody takes spans, what comes in goes out as it is: then it costs nothing.
//
// A span says which object it was about, how it ended and how long it took. It holds names, never content: no body and no header
// of a request, no text of an error.
//
// Imported by package controllers and the operator's main. Package walk makes the spans of steps by itself.
package traces
