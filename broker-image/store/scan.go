// SPDX-License-Identifier: Apache-2.0

package store

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"

	"github.com/cockroachdb/pebble/v2/batchrepr"
)

// Where things are in a chunk of pebble's log, see its package record: checksum, length, type, log number, and in all
// logs but the first one of a new database the synced offset.
const (
	chunkBlock     = 32 << 10
	chunkOldHeader = 11
	chunkOldFull   = 5
	chunkOldFirst  = 6
	chunkHeader    = 19
	chunkFull      = 9
	chunkFirst     = 10
	crcMask        = 0xa282ead8
)

// groupPrefix is how the record that group.open writes looks in a batch: a set, the key, the length of the value.
var groupPrefix = []byte{1, 1, keyGroup, 16} //nolint:gochecknoglobals // a constant, if slices could be one

// checkLogs looks for what lies behind the end of the log after a crash. Each group says which one was synced when it
// was made. If that one is later than the last that was read, then the log did not end there but is damaged. Pebble
// does the same, but not within the block of 32 KiB in which the log stops to read.
func checkLogs(dir string, last uint64) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("logs: %w", err)
	}
	for _, e := range entries {
		num := logNumber(e.Name())
		if num == 0 {
			continue
		}
		path := filepath.Join(dir, e.Name())
		all, err := os.ReadFile(path)
		if err != nil {
			return fmt.Errorf("logs: %w", err)
		}
		if at, synced := scanLog(all, uint32(num)); synced > last { //nolint:gosec // as pebble writes it
			return fmt.Errorf("%s: commit %d was on disk, as byte %d says, but the log reads only to %d: %w; restore the "+
				"directory from a copy", path, synced, at, last, ErrDamaged)
		}
	}
	return nil
}

// scanLog looks at each byte of a log whether a group begins there, and gives the latest group that one of them calls
// synced.
func scanLog(all []byte, num uint32) (at int, synced uint64) {
	for i := 0; i+chunkOldHeader <= len(all); i++ {
		block := all[i:min(len(all), i-i%chunkBlock+chunkBlock)]
		if s := scanChunk(block, num); s > synced {
			at, synced = i, s
		}
	}
	return at, synced
}

// scanChunk looks whether b begins with a chunk that begins with a group, and gives the latest group that it calls
// synced; else 0.
func scanChunk(b []byte, num uint32) uint64 {
	if len(b) < chunkOldHeader || binary.LittleEndian.Uint32(b[7:]) != num {
		return 0
	}
	var header int
	switch b[6] {
	case chunkFull, chunkFirst:
		header = chunkHeader
	case chunkOldFull, chunkOldFirst:
		header = chunkOldHeader
	default:
		return 0
	}
	end := header + int(binary.LittleEndian.Uint16(b[4:]))
	at := header + batchrepr.HeaderLen
	value := at + len(groupPrefix)
	if end > len(b) || value+2*idLen > end || !bytes.Equal(b[at:value], groupPrefix) {
		return 0
	}
	c := crc32.Checksum(b[6:end], castagnoli)
	if c = c>>15 | c<<17; c+crcMask != binary.LittleEndian.Uint32(b) {
		return 0
	}
	return binary.BigEndian.Uint64(b[value+idLen:])
}
