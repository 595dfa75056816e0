// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/muster-project/muster/phases/preflight"
	"github.com/muster-project/muster/plan"
)

func newPlanCommand(s streams) *cobra.Command {
	var flags clusterFlags
	var output string
	cmd := &cobra.Command{
		Use:   "plan",
		Short: "Print what apply would change, and change nothing",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := flags.open(s, false)
			if err != nil {
				return err
			}
			defer c.close()
			report, findings, err := c.preview(cmd.Context())
			if err != nil {
				return err
			}
			if output == "json" {
				err = printPlanJSON(s.out, report)
			} else {
				err = printPlan(s.out, report)
			}
			if err != nil || preflight.Errors(findings) == 0 {
				return err
			}
			// The plan is shown all the same: it is what would be done once the
			// hosts are fit.
			if err := printFindings(s.err, findings); err != nil {
				return err
			}
			return &preflightError{preflight.Errors(findings)}
		},
	}
	flags.add(cmd)
	addOutput(cmd, &output)
	return cmd
}

// preview looks at every step of the whole plan, and at what would keep apply
// from it.
func (s *session) preview(ctx context.Context) (plan.Report, []preflight.Finding, error) {
	found, err := s.ask(ctx, s.names())
	if err != nil {
		return plan.Report{}, nil, err
	}
	p, err := s.plan(found)
	if err != nil {
		return plan.Report{}, nil, err
	}
	runner := plan.Runner{Agent: s.operator.Agent, Check: true}
	report, err := runner.Run(ctx, p)
	return report, preflight.Check(s.inventory, found, nil), err
}

func printPlan(out io.Writer, r plan.Report) error {
	changes := 0
	for _, t := range r.Tasks {
		if len(t.Would) == 0 {
			continue
		}
		fmt.Fprintln(out, t.Task.ID())
		for _, w := range t.Would {
			fmt.Fprintln(out, "  +", w)
		}
		changes += len(t.Would)
	}
	if changes == 0 {
		_, err := fmt.Fprintf(out, "Everything is as the inventory says: %d steps are right, nothing would change.\n", r.Right)
		return err
	}
	_, err := fmt.Fprintf(out, "%s would change something, %d are right.\n", plural(changes, "step"), r.Right)
	return err
}

// plannedTask is one task of `muster plan -o json`.
type plannedTask struct {
	Task    plan.ID  `json:"task"`
	Changes []string `json:"changes"`
}

func printPlanJSON(out io.Writer, r plan.Report) error {
	tasks := []plannedTask{}
	for _, t := range r.Tasks {
		if len(t.Would) > 0 {
			tasks = append(tasks, plannedTask{t.Task.ID(), t.Would})
		}
	}
	return printJSON(out, struct {
		Schema string        `json:"schema"`
		Right  int           `json:"right"`
		Tasks  []plannedTask `json:"tasks"`
	}{"muster/plan/v1", r.Right, tasks})
}
