// SPDX-License-Identifier: Apache-2.0

package listen

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"
	"time"
)

const (
	unixMode = 0o660
	// longestPath fits the address of every system we know, with the zero behind it.
	longestPath = 103
)

// bindUnix opens a socket in the file system. Remove takes the file away, if it is still ours.
func bindUnix(path string) (inner net.Listener, remove func(), err error) {
	if len(path) > longestPath {
		return nil, nil, fmt.Errorf("the path is longer than %d bytes", longestPath)
	}

	if err := clearStale(path); err != nil {
		return nil, nil, err
	}

	config := net.ListenConfig{Control: tuneUnixListener}

	inner, err = config.Listen(context.Background(), "unix", path)
	if err != nil {
		return nil, nil, err
	}

	// Go removes the file by its name, whoever it belongs to by then.
	if l, ok := inner.(*net.UnixListener); ok {
		l.SetUnlinkOnClose(false)
	}

	if err = os.Chmod(path, unixMode); err != nil {
		_ = inner.Close()
		_ = os.Remove(path)

		return nil, nil, err
	}

	ours, err := os.Lstat(path)
	if err != nil {
		_ = inner.Close()

		return nil, nil, err
	}

	return inner, func() {
		if now, err := os.Lstat(path); err == nil && os.SameFile(ours, now) {
			_ = os.Remove(path)
		}
	}, nil
}

// clearStale removes a socket that nobody listens at, as a broker that was killed leaves it.
func clearStale(path string) error {
	info, err := os.Lstat(path)

	switch {
	case errors.Is(err, os.ErrNotExist):
		return nil
	case err != nil:
		return err
	case info.Mode().Type() != os.ModeSocket:
		return errors.New("there is a file that is no socket")
	}

	dialer := net.Dialer{Timeout: time.Second}

	conn, err := dialer.DialContext(context.Background(), "unix", path)
	if err == nil {
		_ = conn.Close()

		return errors.New("somebody else listens there")
	}

	if !errors.Is(err, syscall.ECONNREFUSED) {
		return fmt.Errorf("there is a socket, and whether it is in use cannot be told: %w", err)
	}

	return os.Remove(path)
}
