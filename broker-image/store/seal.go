// SPDX-License-Identifier: Apache-2.0

package store

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"os"
)

// The seal is a small file beside the database that says what must be in it. The database's own log cannot tell a torn
// tail, which a crash leaves and nobody was told of, from one that rotted after it was acknowledged. After each sync
// the seal is written over in place, without a sync of its own: it never promises more than is on disk, it survives the
// death of the process, and that of the machine with what it said some seconds before.
type seal struct {
	file *os.File
	next uint64 // number of the next write
}

// promise is what a seal says.
type promise struct {
	group     uint64 // the last group commit that was synced
	manifest  uint64 // the number of the manifest
	manifestN int64  // and how much of it was synced
	clean     bool   // the store was closed
}

const (
	sealName  = "seal"
	sealMagic = "MQS1"
	// sealSlots are written in turns, each in a sector of its own, so that one is always whole.
	sealSlots = 2
	sealSlot  = 4096
	sealLen   = 48
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// openSeal opens the seal, or makes one. Found is false if there was none.
func openSeal(path string) (s *seal, p promise, found bool, err error) {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, p, false, fmt.Errorf("seal: %w", err)
	}
	s = &seal{file: file, next: 1}
	defer func() {
		if err != nil {
			_ = file.Close()
		}
	}()
	all, err := io.ReadAll(io.LimitReader(file, sealSlots*sealSlot+1))
	if err != nil {
		return nil, p, false, fmt.Errorf("seal: %w", err)
	}
	if len(all) == 0 || len(bytes.Trim(all, "\x00")) == 0 {
		// New, or the machine died before the first word was on disk.
		if err := s.fill(); err != nil {
			return nil, p, false, err
		}
		return s, p, false, nil
	}
	for slot := range sealSlots {
		if at := slot * sealSlot; at+sealLen <= len(all) {
			if q, n, ok := decodePromise(all[at : at+sealLen]); ok && n >= s.next {
				p, s.next, found = q, n+1, true
			}
		}
	}
	if !found {
		return nil, p, false, fmt.Errorf("%s is not readable: %w; remove it to start without this check", path, ErrDamaged)
	}
	return s, p, true, nil
}

func (s *seal) fill() error {
	if _, err := s.file.WriteAt(make([]byte, sealSlots*sealSlot), 0); err != nil {
		return fmt.Errorf("seal: %w", err)
	}
	return s.sync()
}

func (s *seal) sync() error {
	if err := s.file.Sync(); err != nil {
		return fmt.Errorf("seal: %w", err)
	}
	return nil
}

func (s *seal) write(p promise) error {
	var b [sealLen]byte
	appendPromise(b[:0], p, s.next)
	if _, err := s.file.WriteAt(b[:], int64(s.next%sealSlots)*sealSlot); err != nil {
		return fmt.Errorf("seal: %w", err)
	}
	s.next++
	return nil
}

func appendPromise(dst []byte, p promise, n uint64) []byte {
	begin := len(dst)
	dst = append(dst, sealMagic...)
	dst = binary.BigEndian.AppendUint64(dst, n)
	dst = binary.BigEndian.AppendUint64(dst, p.group)
	dst = binary.BigEndian.AppendUint64(dst, p.manifest)
	dst = binary.BigEndian.AppendUint64(dst, uint64(p.manifestN)) //nolint:gosec // a size
	var clean uint64
	if p.clean {
		clean = 1
	}
	dst = binary.BigEndian.AppendUint64(dst, clean)
	return binary.BigEndian.AppendUint32(dst, crc32.Checksum(dst[begin:], castagnoli))
}

func decodePromise(b []byte) (p promise, n uint64, ok bool) {
	if len(b) < sealLen || string(b[:4]) != sealMagic ||
		binary.BigEndian.Uint32(b[sealLen-4:]) != crc32.Checksum(b[:sealLen-4], castagnoli) {
		return p, 0, false
	}
	return promise{
		group:     binary.BigEndian.Uint64(b[12:]),
		manifest:  binary.BigEndian.Uint64(b[20:]),
		manifestN: int64(binary.BigEndian.Uint64(b[28:])), //nolint:gosec // a size
		clean:     binary.BigEndian.Uint64(b[36:]) == 1,
	}, binary.BigEndian.Uint64(b[4:]), true
}
