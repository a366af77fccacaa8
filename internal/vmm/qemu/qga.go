package qemu

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
)

const (
	// guestAgentPort is the name of the port that qemu-guest-agent opens.
	guestAgentPort = "org.qemu.guest_agent.0"
	// guestSyncMax is how long a guest may take to say that it has an agent.
	guestSyncMax = 3 * time.Second
	// guestAnswerMax bounds what a guest answers. The answers that we ask for
	// are numbers and words.
	guestAnswerMax = 64 << 10
	// guestSyncByte ends the bytes that an earlier session has left.
	guestSyncByte = 0xff
)

// guestAgent is a session with the qemu-guest-agent of a guest: QEMU's own
// protocol, spoken by what distributions install. What it says is a guest's
// word. Use openGuestAgent.
type guestAgent struct {
	conn net.Conn
	r    *bufio.Reader
}

// openGuestAgent begins a session, or gives errs.NotFound when nobody in the
// guest answers.
func openGuestAgent(ctx context.Context, conn net.Conn) (*guestAgent, error) {
	g := &guestAgent{conn, bufio.NewReader(io.LimitReader(conn, guestAnswerMax))}
	ctx, cancel := context.WithTimeout(ctx, guestSyncMax)
	defer cancel()
	id := time.Now().UnixMicro() // Of no earlier session.
	var got int64
	err := g.ask(ctx, append([]byte{guestSyncByte}, fmt.Appendf(nil, `{"execute":"guest-sync-delimited","arguments":{"id":%d}}`, id)...), true, &got)
	if err == nil && got != id {
		err = fmt.Errorf("it answered %d to %d", got, id)
	}
	if err != nil {
		return nil, errs.New(errs.NotFound, "no agent answers in the guest: %w", err)
	}
	return g, nil
}

// do executes a command without arguments and decodes its answer.
func (g *guestAgent) do(ctx context.Context, command string, out any) error {
	if err := g.ask(ctx, fmt.Appendf(nil, `{"execute":%q}`, command), false, out); err != nil {
		return fmt.Errorf("execute %s in the guest: %w", command, err)
	}
	return nil
}

func (g *guestAgent) ask(ctx context.Context, request []byte, sync bool, out any) error {
	if deadline, ok := ctx.Deadline(); ok {
		if err := g.conn.SetDeadline(deadline); err != nil {
			return fmt.Errorf("bound the question: %w", err)
		}
	}
	stop := context.AfterFunc(ctx, func() { _ = g.conn.SetDeadline(time.Unix(1, 0)) }) // A connection that is closed needs no deadline.
	defer stop()
	if _, err := g.conn.Write(append(request, '\n')); err != nil {
		return fmt.Errorf("write to the agent: %w", err)
	}
	if sync {
		if _, err := g.r.ReadBytes(guestSyncByte); err != nil {
			return fmt.Errorf("wait for the agent: %w", err)
		}
	}
	line, err := g.r.ReadBytes('\n')
	if err != nil {
		return fmt.Errorf("read the agent's answer: %w", err)
	}
	return parseGuestAnswer(line, out)
}

// parseGuestAnswer decodes a line of the agent.
func parseGuestAnswer(line []byte, out any) error {
	var answer struct {
		Return json.RawMessage `json:"return"`
		Error  *struct {
			Desc string `json:"desc"`
		} `json:"error"`
	}
	if err := json.Unmarshal(bytes.TrimLeft(line, "\xff"), &answer); err != nil {
		return fmt.Errorf("decode the agent's answer: %w", err)
	}
	switch {
	case answer.Error != nil:
		return fmt.Errorf("the agent says: %.200s", answer.Error.Desc)
	case answer.Return == nil:
		return errors.New("the agent's answer is empty")
	}
	if err := json.Unmarshal(answer.Return, out); err != nil {
		return fmt.Errorf("decode the agent's answer: %w", err)
	}
	return nil
}
