package qemu

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
)

// qmpLineMax bounds a line of QMP. The answers that we ask for have a few
// hundred bytes.
const qmpLineMax = 1 << 20

// event is something that QEMU tells unasked.
type event struct {
	Event string          `json:"event"`
	Data  json.RawMessage `json:"data"`
}

// qmp is a client of QEMU's machine protocol. Use newQMP, then run.
type qmp struct {
	rw      io.ReadWriter
	onEvent func(event)

	writeMu sync.Mutex // held to write a line as one

	mu      sync.Mutex
	last    int                        // guarded by mu
	waiting map[string]chan qmpMessage // guarded by mu; nil when run has returned
}

// qmpMessage is a line from QEMU: an answer, an event or the greeting.
type qmpMessage struct {
	event
	ID     string          `json:"id"`
	Return json.RawMessage `json:"return"`
	Error  *struct {
		Class string `json:"class"`
		Desc  string `json:"desc"`
	} `json:"error"`
}

type qmpCommand struct {
	Execute   string `json:"execute"`
	Arguments any    `json:"arguments,omitempty"`
	ID        string `json:"id"`
}

// newQMP returns a client of what is at the other end of rw. Events go to
// onEvent, one after another; it must not ask anything itself.
func newQMP(rw io.ReadWriter, onEvent func(event)) *qmp {
	return &qmp{rw: rw, onEvent: onEvent, waiting: map[string]chan qmpMessage{}}
}

// run takes in answers and events until reading fails, and returns why.
func (q *qmp) run() error {
	defer func() {
		q.mu.Lock()
		defer q.mu.Unlock()
		for _, ch := range q.waiting {
			close(ch)
		}
		q.waiting = nil
	}()
	sc := bufio.NewScanner(q.rw)
	sc.Buffer(nil, qmpLineMax)
	for sc.Scan() {
		var m qmpMessage
		if err := json.Unmarshal(sc.Bytes(), &m); err != nil {
			return fmt.Errorf("read QMP line: %w", err)
		}
		if m.Event != "" {
			q.onEvent(m.event)
			continue
		}
		q.mu.Lock()
		if ch, ok := q.waiting[m.ID]; ok {
			delete(q.waiting, m.ID)
			ch <- m
		}
		q.mu.Unlock()
	}
	if err := sc.Err(); err != nil {
		return fmt.Errorf("read QMP: %w", err)
	}
	return io.EOF
}

// negotiate begins a session: QEMU takes no other command before.
func (q *qmp) negotiate(ctx context.Context) error {
	return q.do(ctx, "qmp_capabilities", nil, nil)
}

// do executes a command and decodes its answer into out, which may be nil.
func (q *qmp) do(ctx context.Context, command string, arguments, out any) error {
	return q.doWith(ctx, nil, command, arguments, out)
}

// closed reports whether the connection has ended.
func (q *qmp) closed() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.waiting == nil
}

// setCapability turns a capability of migrations on.
func (q *qmp) setCapability(ctx context.Context, name string) error {
	return q.do(ctx, "migrate-set-capabilities", map[string]any{
		"capabilities": []map[string]any{{"capability": name, "state": true}},
	}, nil)
}

// doWith is do with a file, nil for none, that QEMU gets along with the command.
func (q *qmp) doWith(ctx context.Context, f *os.File, command string, arguments, out any) error {
	ch := make(chan qmpMessage, 1)
	q.mu.Lock()
	if q.waiting == nil {
		q.mu.Unlock()
		return errs.New(errs.Unavailable, "execute %s: the connection to QEMU is closed", command)
	}
	q.last++
	id := fmt.Sprint(q.last)
	q.waiting[id] = ch
	q.mu.Unlock()
	defer func() {
		q.mu.Lock()
		delete(q.waiting, id)
		q.mu.Unlock()
	}()
	raw, err := json.Marshal(qmpCommand{Execute: command, Arguments: arguments, ID: id})
	if err != nil {
		return fmt.Errorf("encode %s: %w", command, err)
	}
	err = q.write(append(raw, '\n'), f)
	if err != nil {
		return errs.New(errs.Unavailable, "execute %s: %w", command, err)
	}
	select {
	case m, ok := <-ch:
		switch {
		case !ok:
			return errs.New(errs.Unavailable, "execute %s: QEMU closed the connection", command)
		case m.Error != nil:
			return fmt.Errorf("execute %s: %w", command, errors.New(m.Error.Desc))
		case out == nil:
			return nil
		}
		if err := json.Unmarshal(m.Return, out); err != nil {
			return fmt.Errorf("decode answer of %s: %w", command, err)
		}
		return nil
	case <-ctx.Done():
		return fmt.Errorf("execute %s: %w", command, context.Cause(ctx))
	}
}

// write writes a line, with a file or nil.
func (q *qmp) write(line []byte, f *os.File) error {
	q.writeMu.Lock()
	defer q.writeMu.Unlock()
	if f == nil {
		_, err := q.rw.Write(line)
		return err
	}
	conn, ok := q.rw.(*net.UnixConn)
	if !ok {
		return errors.New("files go over Unix sockets only")
	}
	_, _, err := conn.WriteMsgUnix(line, unix.UnixRights(int(f.Fd())), nil)
	return err
}
