// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package engine

import "github.com/mqtt-operator/mqtt-operator/broker-image/listen"

// worker does not exist where there is no epoll: each connection has a goroutine of its own.
type worker struct{}

func (e *Engine) startWorker() (*worker, error) { return nil, nil }

func (e *Engine) watcher() listen.Watch { return nil }

func (w *worker) adopt(*conn) {}
func (w *worker) post(*conn)  {}
func (w *worker) halt()       {}

func (c *conn) cutSocket()   {}
func (c *conn) closeSocket() {}

func (c *conn) writev([]segment) (int, error) { return 0, nil }
