// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/muster-project/muster/plan/step"
)

// Snapshot describes everything on the host that an install may change, one
// thing a line, sorted: files, links, addresses, routes, rules, nftables,
// IPVS, mounts. Two snapshots of an unchanged host are equal.
func Snapshot(ctx context.Context, h *step.Host, k Kernel) ([]string, error) {
	all, err := k.Network(ctx)
	if err != nil {
		return nil, fmt.Errorf("take snapshot: %w", err)
	}
	for _, part := range []func(context.Context, *step.Host) ([]string, error){
		fileLines, nftLines, ipvsLines, mountLines,
	} {
		lines, err := part(ctx, h)
		if err != nil {
			return nil, fmt.Errorf("take snapshot: %w", err)
		}
		all = append(all, lines...)
	}
	slices.Sort(all)
	return all, nil
}

// Difference lists what is in one snapshot only: "- " was there before,
// "+ " is new.
func Difference(before, now []string) []string {
	var diff []string
	for _, line := range before {
		if _, found := slices.BinarySearch(now, line); !found {
			diff = append(diff, "- "+line)
		}
	}
	for _, line := range now {
		if _, found := slices.BinarySearch(before, line); !found {
			diff = append(diff, "+ "+line)
		}
	}
	return diff
}

// Trees an install writes to; of the shallow ones only the names directly
// below count, because what is deeper is the life of other programs.
var (
	watched = []string{"/etc", "/opt", "/usr/local", "/var/lib", "/var/log"}
	shallow = []string{"/var/lib", "/var/log"}
	ignored = []string{
		"/etc/mtab", "/opt/muster", "/var/lib/muster",
		// useradd keeps a backup of each file it edits, and its lock.
		"/etc/passwd-", "/etc/group-", "/etc/shadow-", "/etc/gshadow-", "/etc/subuid-", "/etc/subgid-", "/etc/.pwd.lock",
	}
)

func fileLines(_ context.Context, h *step.Host) ([]string, error) {
	var lines []string
	for _, root := range watched {
		err := filepath.WalkDir(h.Path(root), func(path string, d fs.DirEntry, err error) error {
			name := "/" + strings.TrimPrefix(strings.TrimPrefix(path, h.Root), "/")
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			if err != nil {
				return err
			}
			if slices.Contains(ignored, name) {
				if d.IsDir() {
					return fs.SkipDir
				}
				return nil
			}
			line, err := describe(h, name, d)
			if err != nil {
				return ignoreGone(err)
			}
			lines = append(lines, line)
			if d.IsDir() && slices.Contains(shallow, filepath.Dir(name)) {
				return fs.SkipDir
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return lines, nil
}

func ignoreGone(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

func describe(h *step.Host, name string, d fs.DirEntry) (string, error) {
	info, err := d.Info()
	if err != nil {
		return "", err
	}
	switch {
	case info.Mode()&fs.ModeSymlink != 0:
		target, err := os.Readlink(h.Path(name))
		return fmt.Sprintf("file %s -> %s", name, target), err
	case info.Mode().IsRegular() && !slices.Contains(shallow, filepath.Dir(name)):
		sum, err := h.Sum(name)
		return fmt.Sprintf("file %s %s %.16s", name, info.Mode(), sum), err
	}
	return fmt.Sprintf("file %s %s", name, info.Mode()), nil
}

// nftLines lists tables, chains and rules; -s leaves counters out.
func nftLines(ctx context.Context, h *step.Host) ([]string, error) {
	out, err := h.Exec.Run(ctx, nil, "nft", "-s", "list", "ruleset")
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil // no nft on this host
	}
	if err != nil {
		return nil, err
	}
	var lines []string
	table := ""
	for line := range strings.Lines(string(out)) {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "table ") {
			table = strings.TrimSuffix(line, " {")
		}
		if line != "" && line != "}" {
			lines = append(lines, fmt.Sprintf("nft %s: %s", table, line))
		}
	}
	return lines, nil
}

// ipvsLines takes the services and real servers without their counters.
func ipvsLines(_ context.Context, h *step.Host) ([]string, error) {
	f, err := os.Open(h.Path("/proc/net/ip_vs"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var lines []string
	scan := bufio.NewScanner(f)
	for scan.Scan() {
		fields := strings.Fields(scan.Text())
		if len(fields) < 2 || fields[1] == "RemoteAddress:Port" {
			continue // headings appear with the module
		}
		if fields[0] == "TCP" || fields[0] == "UDP" || fields[0] == "SCTP" || fields[0] == "->" {
			lines = append(lines, "ipvs "+strings.Join(fields[:min(4, len(fields))], " "))
		}
	}
	return lines, scan.Err()
}

func mountLines(_ context.Context, h *step.Host) ([]string, error) {
	mounts, err := mountPoints(h)
	for i, m := range mounts {
		mounts[i] = "mount " + m
	}
	return mounts, err
}

// mountPoints returns mount points in the order they were mounted
// (proc_pid_mountinfo(5), field 5, octal escapes undone).
func mountPoints(h *step.Host) ([]string, error) {
	data, err := os.ReadFile(h.Path("/proc/self/mountinfo"))
	if err != nil {
		return nil, err
	}
	unescape := strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`)
	var points []string
	for line := range strings.Lines(string(data)) {
		if fields := strings.Fields(line); len(fields) > 4 {
			points = append(points, unescape.Replace(fields[4]))
		}
	}
	return points, nil
}

func snapshotPath(h *step.Host) string { return h.Path(StateDir + "/before.json") }

// readSnapshot returns nil if none was taken.
func readSnapshot(h *step.Host) ([]string, error) {
	data, err := os.ReadFile(snapshotPath(h))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var lines []string
	return lines, json.Unmarshal(data, &lines)
}

// keepSnapshot takes the snapshot that a later reset is compared with; an
// existing one is of an earlier time and stays.
func keepSnapshot(ctx context.Context, h *step.Host, k Kernel) error {
	if _, err := os.Stat(snapshotPath(h)); err == nil {
		return nil
	}
	lines, err := Snapshot(ctx, h, k)
	if err != nil {
		return err
	}
	data, err := json.Marshal(lines)
	if err != nil {
		return err
	}
	return h.WriteFile(StateDir+"/before.json", 0o600, "", strings.NewReader(string(data)))
}
