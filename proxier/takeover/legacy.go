// SPDX-License-Identifier: Apache-2.0

package takeover

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"strings"

	"github.com/muster-project/muster/proxier/xtables"
)

// legacyTool is the pair of programs for the legacy tables of one family. The
// kernel takes those tables only as a whole, so changing one by hand means to
// understand every extension that somebody may have used in it; these
// programs do. They are the only ones that this package starts, at a takeover
// and where legacy tables have chains of kube-proxy.
type legacyTool struct{ save, load string }

func toolOf(family string) legacyTool {
	if family == "ip6" {
		return legacyTool{"ip6tables-legacy-save", "ip6tables-legacy-restore"}
	}
	return legacyTool{"iptables-legacy-save", "iptables-legacy-restore"}
}

// findLegacy looks at the tables of iptables-legacy.
func findLegacy(ctx context.Context, r *Remains) error {
	for _, f := range xtables.Families() {
		used, err := f.Tables()
		if err != nil {
			return err
		}
		for _, name := range used {
			if !slices.Contains(iptablesTables(), name) {
				continue
			}
			content, err := f.Read(name)
			if err != nil {
				return err
			}
			if slices.ContainsFunc(content.Chains, ownChain) {
				if err := findLegacyTable(ctx, r, Table{Legacy, f.Name, name}); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

func findLegacyTable(ctx context.Context, r *Remains, table Table) error {
	tool := toolOf(table.Family)
	out, err := exec.CommandContext(ctx, tool.save, "-t", table.Name).Output()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		// In a container or in the sandbox of a unit it cannot do its work.
		r.Unseen = append(r.Unseen, fmt.Sprintf("chains of kube-proxy in the table %s stay: %v%s. As root on the host do `muster-proxier --clear-kube-proxy`, or `%s -t %s | grep -v KUBE- | %s`; the kubelet makes its own chains again",
			table, err, stderr(err), tool.save, table.Name, tool.load))
		return nil
	}
	parseSave(string(out), table).report(r, table)
	return nil
}

// stderr is what a program said before it ended badly.
func stderr(err error) string {
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return ": " + strings.TrimSpace(string(exit.Stderr))
	}
	return ""
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
	for _, family := range []string{"ip", "ip6"} {
		for _, name := range iptablesTables() {
			table := Table{Legacy, family, name}
			script := restoreScript(r, table)
			if script == "" {
				continue
			}
			program := toolOf(family).load
			load := exec.CommandContext(ctx, program, "--noflush")
			load.Stdin = strings.NewReader(script)
			var said bytes.Buffer
			load.Stderr = &said
			if err := load.Run(); err != nil {
				return fmt.Errorf("%s: remove kube-proxy's chains from the table %s: %w: %s", program, table, err, strings.TrimSpace(said.String()))
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
