package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"syscall"
	"time"

	"github.com/aleph-onchain/aleph-onchain/test/bench/measure"
)

// process is a server in a process of its own.
type process struct {
	cmd *exec.Cmd
	url string
	log *os.File

	ended chan struct{}
}

// startMax bounds the time in which a server must answer.
const startMax = 5 * time.Minute

// start starts a server and waits until it answers at path. It returns how long that
// took.
func start(ctx context.Context, port, path, log string, command string, args ...string) (*process, time.Duration, error) {
	out, err := os.Create(log)
	if err != nil {
		return nil, 0, err
	}
	p := &process{cmd: exec.CommandContext(ctx, command, args...), url: "http://127.0.0.1:" + port, log: out, ended: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr = out, out
	p.cmd.Cancel = func() error { return p.cmd.Process.Signal(syscall.SIGTERM) }
	began := time.Now()
	if err := p.cmd.Start(); err != nil {
		return nil, 0, errors.Join(err, out.Close())
	}
	go func() {
		_ = p.cmd.Wait() // That it was ended is no failure.
		close(p.ended)
	}()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for time.Since(began) < startMax {
		answer, err := ask(ctx, p.url+path)
		if err == nil {
			took := time.Since(began)
			if err := answer.Body.Close(); err != nil {
				return nil, 0, errors.Join(err, p.stop())
			}
			if answer.StatusCode == http.StatusOK {
				return p, took, nil
			}
		}
		select {
		case <-tick.C:
		case <-p.ended:
			return nil, 0, errors.Join(fmt.Errorf("%s ended; see %s", command, log), out.Close())
		case <-ctx.Done():
			return nil, 0, errors.Join(context.Cause(ctx), p.stop())
		}
	}
	return nil, 0, errors.Join(fmt.Errorf("%s did not answer in %v; see %s", command, startMax, log), p.stop())
}

func ask(ctx context.Context, url string) (*http.Response, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return nil, err
	}
	return http.DefaultClient.Do(request)
}

// stop ends the server and waits for it.
func (p *process) stop() error {
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	<-p.ended
	return p.log.Close()
}

// freePort is a port that nobody listens on.
func freePort(ctx context.Context) (string, error) {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	_, port, err := net.SplitHostPort(l.Addr().String())
	return port, errors.Join(err, l.Close())
}

// cpu is the processor time that the server has used.
func (p *process) cpu() (time.Duration, error) { return measure.CPUOf(p.cmd.Process.Pid) }
