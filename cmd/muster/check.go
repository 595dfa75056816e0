// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"
	"github.com/spf13/cobra"

	"github.com/muster-project/muster/phases/preflight"
)

func newCheckCommand(s streams) *cobra.Command {
	var flags clusterFlags
	var output string
	var list bool
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Check that the hosts can carry a cluster",
		Long: "Asks every host of the inventory and judges it by every check, all in one report.\n" +
			"Nothing is changed on the hosts but that the program muster-node is brought to them.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if list {
				return printChecks(s.out)
			}
			if err := known(flags.ignore); err != nil {
				return err
			}
			c, err := flags.open(s, false)
			if err != nil {
				return err
			}
			defer c.close()
			found, err := c.operator.Facts(cmd.Context(), c.names())
			findings := preflight.Check(c.inventory, found, flags.ignore)
			if perr := report(s.out, output, len(found), findings); perr != nil {
				return perr
			}
			if err != nil {
				return err
			}
			if n := preflight.Errors(findings); n > 0 {
				return &preflightError{n}
			}
			return nil
		},
	}
	flags.add(cmd)
	flags.addIgnore(cmd)
	addOutput(cmd, &output)
	cmd.Flags().BoolVar(&list, "list", false, "list the checks and ask nobody")
	return cmd
}

func addOutput(cmd *cobra.Command, output *string) {
	*output = "text"
	cmd.Flags().VarP((*outputFormat)(output), "output", "o", "text or json")
}

// outputFormat is a flag's value that is text or json.
type outputFormat string

func (f *outputFormat) String() string { return string(*f) }
func (f *outputFormat) Type() string   { return "format" }

// Set takes what the person wrote.
func (f *outputFormat) Set(s string) error {
	if s != "text" && s != "json" {
		return errors.New("there are text and json")
	}
	*f = outputFormat(s)
	return nil
}

func report(out io.Writer, format string, hosts int, findings []preflight.Finding) error {
	if format == "json" {
		if findings == nil {
			findings = []preflight.Finding{} // an empty list, not null
		}
		return printJSON(out, struct {
			Schema   string              `json:"schema"`
			Hosts    int                 `json:"hosts"`
			Findings []preflight.Finding `json:"findings"`
		}{"muster/check/v1", hosts, findings})
	}
	if err := printFindings(out, findings); err != nil {
		return err
	}
	errors := preflight.Errors(findings)
	_, err := fmt.Fprintf(out, "%s, %d checks each: %s, %s\n",
		plural(hosts, "host"), len(preflight.Names()), plural(errors, "error"), plural(len(findings)-errors, "warning"))
	return err
}

// plural is a number with its noun.
func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

func printFindings(out io.Writer, findings []preflight.Finding) error {
	if len(findings) == 0 {
		return nil
	}
	t := newTable(out)
	t.AppendHeader(table.Row{"HOST", "CHECK", "SEVERITY", "FOUND", "WANTED", "REMEDY"})
	for _, f := range findings {
		t.AppendRow(table.Row{f.Host, f.Check, f.Severity, f.Measured, f.Wanted, f.Remedy})
	}
	t.SetColumnConfigs([]table.ColumnConfig{
		{Number: 4, WidthMax: 40, WidthMaxEnforcer: text.WrapSoft},
		{Number: 5, WidthMax: 40, WidthMaxEnforcer: text.WrapSoft},
		{Number: 6, WidthMax: 50, WidthMaxEnforcer: text.WrapSoft},
	})
	t.Render()
	return nil
}

func printChecks(out io.Writer) error {
	t := newTable(out)
	t.AppendHeader(table.Row{"CHECK", "SEVERITY", "WANTED", "REMEDY"})
	for _, c := range preflight.Explain() {
		t.AppendRow(table.Row{c.Name, c.Severity, c.Wanted, c.Remedy})
	}
	t.Render()
	return nil
}

// newTable is a plain table: columns by spaces, as kubectl prints them.
func newTable(out io.Writer) table.Writer {
	t := table.NewWriter()
	t.SetOutputMirror(out)
	t.SuppressTrailingSpaces()
	style := table.StyleDefault
	style.Options = table.OptionsNoBordersAndSeparators
	style.Box.PaddingLeft = ""
	style.Box.PaddingRight = "   "
	t.SetStyle(style)
	return t
}

func printJSON[T any](out io.Writer, v T) error {
	enc := json.NewEncoder(out)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}
