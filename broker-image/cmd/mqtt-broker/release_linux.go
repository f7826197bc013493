// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// releaseProgram hands back the pages of the program itself that only starting needed: what is needed again is mapped
// again from the page cache. Most of what a broker occupies just after its start is that. Failing does no harm.
func releaseProgram() {
	self, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return
	}

	maps, err := os.Open("/proc/self/smaps")
	if err != nil {
		return
	}
	defer maps.Close()

	var begin, end uint64

	for lines := bufio.NewScanner(maps); lines.Scan(); {
		fields := strings.Fields(lines.Text())

		switch {
		case len(fields) >= 6 && strings.Contains(fields[0], "-"):
			// start-end rights offset device inode path
			begin, end = 0, 0

			if fields[5] == self && !strings.Contains(fields[1], "w") {
				from, to, _ := strings.Cut(fields[0], "-")
				begin, _ = strconv.ParseUint(from, 16, 64)
				end, _ = strconv.ParseUint(to, 16, 64)
			}
		case len(fields) >= 2 && fields[0] == "Anonymous:":
			// Pages that were written to are no longer the file's, even if nobody may write to them any more: the dynamic
			// linker seals its tables so. What the file cannot give back must stay.
			if begin < end && fields[1] == "0" {
				_, _, _ = unix.Syscall(unix.SYS_MADVISE, uintptr(begin), uintptr(end-begin), unix.MADV_DONTNEED)
			}
		}
	}
}
