// SPDX-License-Identifier: Apache-2.0

package takeover

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"slices"
	"strings"
)

// legacyTool names the programs for the legacy tables of one family. The
// kernel takes those tables only as a whole, so changing one by hand means to
// understand every extension that somebody may have used in it; these
// programs do. They are the only ones that this package starts, at a takeover
// and where legacy tables exist.
type legacyTool struct {
	family string
	names  string // the kernel's list of the tables in use
	save   string
	load   string
}

func legacyTools() []legacyTool {
	return []legacyTool{
		{"ip", "/proc/thread-self/net/ip_tables_names", "iptables-legacy-save", "iptables-legacy-restore"},
		{"ip6", "/proc/thread-self/net/ip6_tables_names", "ip6tables-legacy-save", "ip6tables-legacy-restore"},
	}
}

// findLegacy looks at the tables of iptables-legacy.
func findLegacy(ctx context.Context, r *Remains) error {
	for _, t := range legacyTools() {
		tables, err := t.tables()
		if err != nil {
			return err
		}
		for _, name := range tables {
			table := Table{Legacy, t.family, name}
			save := exec.CommandContext(ctx, t.save, "-t", name)
			out, err := save.Output()
			if errors.Is(err, exec.ErrNotFound) {
				r.Unseen = append(r.Unseen, fmt.Sprintf("the table %s, because %s is not installed here: look with `%s -t %s | grep KUBE-` where it is, and remove with `kube-proxy --cleanup`",
					table, t.save, t.save, name))
				continue
			}
			if err != nil {
				return fmt.Errorf("%s -t %s: %w: %s", t.save, name, err, stderr(err))
			}
			parseSave(string(out), table).report(r, table)
		}
	}
	return nil
}

func stderr(err error) string {
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return strings.TrimSpace(string(exit.Stderr))
	}
	return ""
}

// tables are those of kube-proxy's tables that the kernel has.
func (t legacyTool) tables() ([]string, error) {
	data, err := os.ReadFile(t.names)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list the tables of iptables-legacy: %w", err)
	}
	var used []string
	for _, name := range strings.Fields(string(data)) {
		if slices.Contains(iptablesTables(), name) {
			used = append(used, name)
		}
	}
	return used, nil
}

// parseSave reads one table as iptables-save prints it: a line `:CHAIN POLICY
// [packets:bytes]` per chain, where user-defined chains have no policy, and a
// line `-A CHAIN ... -j TARGET ...` per rule.
func parseSave(text string, table Table) layout {
	var l layout
	at := map[string]int{}
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		switch {
		case len(fields) >= 2 && strings.HasPrefix(fields[0], ":"):
			name := fields[0][1:]
			if ownChain(name) {
				l.own = append(l.own, name)
				continue
			}
			at[name] = len(l.others)
			l.others = append(l.others, otherChain{name: name, base: fields[1] != "-", drops: fields[1] == "DROP"})
		case len(fields) >= 4 && fields[0] == "-A":
			i, other := at[fields[1]]
			if to := jumpOf(fields); other && to != "" {
				l.others[i].jumps = append(l.others[i].jumps, Jump{From: Chain{table, fields[1]}, To: to, Rule: strings.TrimSpace(line)})
			}
		}
	}
	return l
}

// jumpOf finds the target of a rule. The words -j and -g of a comment do not
// count; they are inside quotes.
func jumpOf(fields []string) string {
	quoted := false
	for i, f := range fields {
		if !quoted && (f == "-j" || f == "-g") && i+1 < len(fields) {
			return fields[i+1]
		}
		if strings.Count(strings.ReplaceAll(f, `\"`, ""), `"`)%2 == 1 {
			quoted = !quoted
		}
	}
	return ""
}

// clearLegacy removes jumps and chains, each table in one transaction.
func clearLegacy(ctx context.Context, r Remains) error {
	for _, t := range legacyTools() {
		for _, name := range iptablesTables() {
			script := restoreScript(r, Table{Legacy, t.family, name})
			if script == "" {
				continue
			}
			load := exec.CommandContext(ctx, t.load, "--noflush")
			load.Stdin = strings.NewReader(script)
			var said bytes.Buffer
			load.Stderr = &said
			if err := load.Run(); err != nil {
				return fmt.Errorf("%s: remove kube-proxy's chains from the table %s of %s: %w: %s", t.load, name, t.family, err, strings.TrimSpace(said.String()))
			}
		}
	}
	return nil
}

// restoreScript is what iptables-restore --noflush has to read: rules out of
// others' chains, then every chain flushed, then deleted. It is empty if the
// table has nothing of kube-proxy's.
func restoreScript(r Remains, table Table) string {
	var flush, del, drop strings.Builder
	for _, c := range r.Chains {
		if c.Table == table {
			fmt.Fprintf(&flush, ":%s - [0:0]\n", c.Name)
			fmt.Fprintf(&drop, "-X %s\n", c.Name)
		}
	}
	for _, j := range r.Jumps {
		if j.From.Table == table {
			fmt.Fprintf(&del, "-D %s\n", strings.TrimPrefix(j.Rule, "-A "))
		}
	}
	if flush.Len()+del.Len() == 0 {
		return ""
	}
	return "*" + table.Name + "\n" + flush.String() + del.String() + drop.String() + "COMMIT\n"
}
