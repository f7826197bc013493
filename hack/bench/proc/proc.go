// SPDX-License-Identifier: Apache-2.0

// Package proc reads what processes cost from /proc, and what machine this is. It imports nothing of ours.
package proc

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// tick is the unit of times in /proc/PID/stat on every Linux that Go runs on.
const tick = 10 * time.Millisecond

// Tree is a process with all its descendants.
func Tree(pid int) []int {
	pids := []int{pid}
	for i := 0; i < len(pids); i++ {
		files, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pids[i]))
		for _, file := range files {
			text, _ := os.ReadFile(file)
			for word := range strings.FieldsSeq(string(text)) {
				if child, err := strconv.Atoi(word); err == nil && !slices.Contains(pids, child) {
					pids = append(pids, child)
				}
			}
		}
	}
	return pids
}

// CPU is the processor time that a process and its descendants have used, those included that have ended and were waited
// for.
func CPU(pid int) (time.Duration, error) {
	var sum time.Duration
	for _, p := range Tree(pid) {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p))
		if errors.Is(err, fs.ErrNotExist) && p != pid {
			continue
		}
		if err != nil {
			return 0, err
		}
		t, err := parseStat(string(text))
		if err != nil {
			return 0, err
		}
		sum += t
	}
	return sum, nil
}

// parseStat adds utime, stime, cutime and cstime. The name of a process may hold spaces and brackets.
func parseStat(text string) (time.Duration, error) {
	fields := strings.Fields(text[strings.LastIndexByte(text, ')')+1:])
	if len(fields) < 15 {
		return 0, errors.New("proc: stat has too few fields")
	}
	var ticks int64
	for _, field := range fields[11:15] {
		n, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			return 0, fmt.Errorf("proc: stat: %w", err)
		}
		ticks += n
	}
	return time.Duration(ticks) * tick, nil
}

// Memory is what a process and its descendants hold.
type Memory struct {
	RSS int64 // resident set
	PSS int64 // with shared pages divided among those who share them; 0 if the kernel does not tell
}

// Mem reads the memory of a process and its descendants.
func Mem(pid int) (Memory, error) {
	var sum Memory
	for _, p := range Tree(pid) {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p))
		if errors.Is(err, fs.ErrNotExist) && p != pid {
			continue
		}
		if err != nil {
			return sum, err
		}
		sum.RSS += kib(text, "VmRSS:")
		if rollup, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", p)); err == nil {
			sum.PSS += kib(rollup, "Pss:")
		}
	}
	if sum.RSS == 0 {
		return sum, fmt.Errorf("proc: process %d has no memory any more", pid)
	}
	return sum, nil
}

// kib reads a line such as "VmRSS:  1234 kB" in bytes.
func kib(text []byte, name string) int64 {
	for line := range bytes.Lines(text) {
		if rest, found := bytes.CutPrefix(line, []byte(name)); found {
			if fields := bytes.Fields(rest); len(fields) > 0 {
				n, _ := strconv.ParseInt(string(fields[0]), 10, 64)
				return n << 10
			}
		}
	}
	return 0
}

// Own is the processor time of this process.
func Own() time.Duration {
	var usage unix.Rusage
	if unix.Getrusage(unix.RUSAGE_SELF, &usage) != nil {
		return 0
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

// Machine says what this computer is.
func Machine() []string {
	model, cores := "unknown processor", 0
	if file, err := os.Open("/proc/cpuinfo"); err == nil {
		for lines := bufio.NewScanner(file); lines.Scan(); {
			name, value, _ := strings.Cut(lines.Text(), ":")
			switch strings.TrimSpace(name) {
			case "processor":
				cores++
			case "model name":
				model = strings.TrimSpace(value)
			}
		}
		_ = file.Close()
	}
	var name unix.Utsname
	_ = unix.Uname(&name)
	meminfo, _ := os.ReadFile("/proc/meminfo")
	system := "Linux"
	if release, err := os.ReadFile("/etc/os-release"); err == nil {
		for line := range strings.Lines(string(release)) {
			if value, found := strings.CutPrefix(line, "PRETTY_NAME="); found {
				system = strings.Trim(strings.TrimSpace(value), `"`)
			}
		}
	}
	return []string{
		fmt.Sprintf("%d × %s", cores, model),
		fmt.Sprintf("%d GiB memory", (kib(meminfo, "MemTotal:")+1<<29)>>30),
		fmt.Sprintf("%s, Linux %s", system, strings.SplitN(unix.ByteSliceToString(name.Release[:]), "-", 2)[0]),
	}
}

// Load is the load average of the last minute.
func Load() string {
	text, _ := os.ReadFile("/proc/loadavg")
	first, _, _ := strings.Cut(string(text), " ")
	return first
}

// Filesystem names the kind of file system that a directory is on.
func Filesystem(dir string) string {
	var info unix.Statfs_t
	if unix.Statfs(dir, &info) != nil {
		return "unknown"
	}
	names := map[int64]string{
		unix.EXT4_SUPER_MAGIC: "ext4", unix.XFS_SUPER_MAGIC: "xfs", unix.BTRFS_SUPER_MAGIC: "btrfs",
		unix.TMPFS_MAGIC: "tmpfs", unix.OVERLAYFS_SUPER_MAGIC: "overlayfs", unix.F2FS_SUPER_MAGIC: "f2fs",
		0x2fc12fc1: "zfs",
	}
	if name, found := names[int64(info.Type)]; found { //nolint:unconvert // 32 bits elsewhere
		return name
	}
	return fmt.Sprintf("type 0x%x", info.Type)
}
