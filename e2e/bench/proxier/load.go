// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// load is an order to send requests.
type load struct {
	Target    netip.AddrPort
	KeepAlive bool // else a connection for every request
	Clients   int
	For       time.Duration
}

// loadResult is what a load found.
type loadResult struct {
	Requests int
	Took     time.Duration
	P50, P99 time.Duration // of one request, with its connection if it has one of its own
	Faults   int           // requests without an answer
	Fault    string        // why there is no result
}

func (r loadResult) rate() float64 { return float64(r.Requests) / r.Took.Seconds() }

// The least that is HTTP: what is measured is the way to the server.
const (
	request  = "GET / HTTP/1.1\r\nHost: bench\r\n\r\n"
	response = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
)

// servePods answers HTTP on every address until its input ends.
func servePods(ctx context.Context, in io.Reader) error {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", fmt.Sprint(":", endpointPort))
	if err != nil {
		return err
	}
	go func() {
		_, _ = io.Copy(io.Discard, in) // its end is all that counts
		_ = listener.Close()           // ends Accept, which reports it
	}()
	for {
		conn, err := listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err != nil {
			return err
		}
		go answer(conn)
	}
}

// answer answers requests of one client until it hangs up.
func answer(conn net.Conn) {
	defer conn.Close() //nolint:errcheck // nobody waits for it
	lines := bufio.NewReaderSize(conn, 512)
	for {
		line, err := lines.ReadSlice('\n')
		if err != nil {
			return
		}
		if len(line) > 2 {
			continue
		}
		if _, err := io.WriteString(conn, response); err != nil {
			return
		}
	}
}

// takeOrders runs loads until its input ends.
func takeOrders(ctx context.Context, in io.Reader, out io.Writer) error {
	orders, answers := json.NewDecoder(in), json.NewEncoder(out)
	for {
		var l load
		if err := orders.Decode(&l); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		if err := answers.Encode(l.run(ctx)); err != nil {
			return err
		}
	}
}

// run sends requests one after the other from every client.
func (l load) run(ctx context.Context) loadResult {
	ctx, cancel := context.WithTimeout(ctx, l.For)
	defer cancel()
	all := make([][]time.Duration, l.Clients)
	faults := make([]int, l.Clients)
	begin := time.Now()
	var work sync.WaitGroup
	for i := range l.Clients {
		work.Go(func() { all[i], faults[i] = l.client(ctx) })
	}
	work.Wait()
	r := loadResult{Took: time.Since(begin)}
	took := slices.Sorted(slices.Values(slices.Concat(all...)))
	for _, n := range faults {
		r.Faults += n
	}
	r.Requests = len(took)
	if len(took) == 0 {
		r.Fault = "no request was answered"
		return r
	}
	r.P50, r.P99 = quantile(took, 0.5), quantile(took, 0.99)
	return r
}

// quantile of sorted values: the smallest that is not below that part.
func quantile(sorted []time.Duration, q float64) time.Duration {
	return sorted[min(len(sorted)-1, int(q*float64(len(sorted))))]
}

// requestTimeout is far above every round trip and bounds a lost packet's.
const requestTimeout = 2 * time.Second

func (l load) client(ctx context.Context) (took []time.Duration, faults int) {
	var conn net.Conn
	for ctx.Err() == nil {
		begin := time.Now()
		var err error
		if conn == nil {
			if conn, err = net.DialTimeout("tcp", l.Target.String(), requestTimeout); err != nil {
				faults++
				continue
			}
		}
		err = ask(conn)
		if err != nil || !l.KeepAlive {
			err = errors.Join(err, conn.Close())
			conn = nil
		}
		if err != nil {
			faults++
			continue
		}
		took = append(took, time.Since(begin))
	}
	if conn != nil && conn.Close() != nil {
		faults++
	}
	return took, faults
}

func ask(conn net.Conn) error {
	if err := conn.SetDeadline(time.Now().Add(requestTimeout)); err != nil {
		return err
	}
	if _, err := io.WriteString(conn, request); err != nil {
		return err
	}
	var buf [len(response)]byte
	_, err := io.ReadFull(conn, buf[:])
	return err
}
