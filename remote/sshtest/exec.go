// SPDX-License-Identifier: Apache-2.0

package sshtest

import (
	"errors"
	"fmt"
	"io"
	"os/exec"
	"sync"
	"syscall"

	"golang.org/x/crypto/ssh"
)

// Call is a command line that a client asked for.
type Call struct {
	User   string
	Line   string
	Stdin  io.Reader
	Stdout io.Writer
	Stderr io.Writer
	Done   <-chan struct{} // closed when the client wants it to end
}

// Exec answers a command with an exit code.
type Exec func(Call) int

// Table answers the command lines it knows, and 127 to all others. Its values
// are what goes to standard output.
func Table(answers map[string]string) Exec {
	return func(c Call) int {
		out, ok := answers[c.Line]
		if !ok {
			fmt.Fprintf(c.Stderr, "sshtest: no answer for %q\n", c.Line)
			return 127
		}
		_, _ = io.WriteString(c.Stdout, out)
		return 0
	}
}

// Shell runs command lines with this machine's /bin/sh, in the environment
// given; a client that goes away kills them.
func Shell(env ...string) Exec {
	return func(c Call) int {
		cmd := exec.Command("/bin/sh", "-c", c.Line)
		cmd.Env, cmd.Stdout, cmd.Stderr = env, c.Stdout, c.Stderr
		cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // so that its children can be killed too
		in, err := cmd.StdinPipe()
		if err != nil {
			return 126
		}
		if err := cmd.Start(); err != nil {
			fmt.Fprintln(c.Stderr, err)
			return 126
		}
		go func() { // not as cmd.Stdin: Wait would wait for the client's end of input
			_, _ = io.Copy(in, c.Stdin)
			in.Close()
		}()
		ended := make(chan struct{})
		go func() {
			select {
			case <-c.Done:
				_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
			case <-ended:
			}
		}()
		err = cmd.Wait()
		close(ended)
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			return exit.ExitCode()
		}
		return 0
	}
}

func (s *Server) session(user string, nc ssh.NewChannel) {
	ch, requests, err := nc.Accept()
	if err != nil {
		return
	}
	defer ch.Close()
	done := make(chan struct{})
	end := sync.OnceFunc(func() { close(done) })
	defer end()
	for r := range requests {
		var text struct{ Value string }
		switch r.Type {
		case "exec":
			ok := ssh.Unmarshal(r.Payload, &text) == nil && s.config.Exec != nil
			_ = r.Reply(ok, nil)
			if ok {
				s.exec(Call{User: user, Line: text.Value, Stdin: ch, Stdout: ch, Stderr: ch.Stderr(), Done: done}, ch)
			}
		case "subsystem":
			ok := ssh.Unmarshal(r.Payload, &text) == nil && s.subsystem(text.Value, ch)
			_ = r.Reply(ok, nil)
		case "signal":
			end()
		default:
			_ = r.Reply(false, nil)
		}
	}
}

func (s *Server) exec(c Call, ch ssh.Channel) {
	s.mu.Lock()
	s.commands = append(s.commands, c.Line)
	s.mu.Unlock()
	s.work.Add(1)
	go func() {
		defer s.work.Done()
		code := s.config.Exec(c)
		if code < 0 { // killed
			_, _ = ch.SendRequest("exit-signal", false, ssh.Marshal(struct {
				Signal   string
				Core     bool
				Message  string
				Language string
			}{Signal: "KILL"}))
		} else {
			_, _ = ch.SendRequest("exit-status", false, ssh.Marshal(struct{ Code uint32 }{uint32(code)}))
		}
		ch.Close()
	}()
}
