package main

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"time"

	"github.com/libp2p/go-yamux/v5"

	"github.com/aleph-onchain/aleph-onchain/internal/vmm/agent"
	"github.com/aleph-onchain/aleph-onchain/protocol/guest"
)

// serveAgent plays the agent of an instance.
func (m *machine) serveAgent(c net.Conn) { _ = agent.Serve(context.Background(), c, m) }

// Ready implements agent.Handler.
func (m *machine) Ready(context.Context) error { return nil }

// Info implements agent.Handler.
func (m *machine) Info() agent.Info {
	return agent.Info{Hostname: "stubvm", Kernel: "none", Timings: map[string]int64{"ready": 1}}
}

// Shutdown implements agent.Handler.
func (m *machine) Shutdown() { m.end(guestShutdown) }

const (
	// portMax is how long a stream may take to say where it goes.
	portMax = 10 * time.Second
	// slowly is how long a call of /slow takes.
	slowly = 300 * time.Millisecond
)

// serveStreams plays a function: it says that it is up, takes its configuration
// and answers calls.
func (m *machine) serveStreams(c net.Conn) {
	r := bufio.NewReaderSize(c, guest.MaxFrame)
	nonce, err := guest.AwaitHello(r)
	if err != nil {
		return
	}
	if _, err := c.Write(nonce.Line()); err != nil {
		return
	}
	config := yamux.DefaultConfig()
	config.EnableKeepAlive = false
	config.MeasureRTTInterval = time.Hour
	config.LogOutput = io.Discard
	config.ReadBufSize = 0 // The connection has a buffer already.
	session, err := yamux.Server(&session{Conn: c, r: r}, config, nil)
	if err != nil {
		return
	}
	defer session.Close()
	go m.sayReady(session)
	for {
		s, err := session.AcceptStream()
		if err != nil {
			return
		}
		go m.take(s)
	}
}

// session is a connection of which some was read already.
type session struct {
	net.Conn
	r *bufio.Reader
}

func (s *session) Read(p []byte) (int, error) { return s.r.Read(p) }

func (m *machine) sayReady(session *yamux.Session) {
	m.mu.Lock()
	ready := guest.Ready{Version: guest.Version2, Features: []string{guest.FeatureConcurrent}, Configured: m.isSet}
	m.mu.Unlock()
	raw, err := ready.Encode()
	if err != nil {
		panic("BUG: " + err.Error())
	}
	s, err := session.OpenStream(context.Background())
	if err != nil {
		return
	}
	defer s.Close()
	_, _ = s.Write(append(binary.BigEndian.AppendUint32(nil, guest.PortRun), raw...))
}

// take does what the host says on a stream.
func (m *machine) take(s *yamux.Stream) {
	defer s.Close()
	_ = s.SetReadDeadline(time.Now().Add(portMax))
	var port [4]byte
	if _, err := io.ReadFull(s, port[:]); err != nil || binary.BigEndian.Uint32(port[:]) != guest.PortRun {
		_ = s.Reset()
		return
	}
	_ = s.SetReadDeadline(time.Time{})
	r := bufio.NewReader(s)
	first, err := r.Peek(1)
	switch {
	case err != nil:
	case first[0] >= '0' && first[0] <= '9':
		m.configure(s, r)
	case first[0] == guest.Halt[0]:
		_, _ = io.WriteString(s, guest.HaltStop+guest.HaltStopped)
	default:
		m.call(s, r)
	}
}

func (m *machine) configure(s io.Writer, r *bufio.Reader) {
	_, err := guest.ReadConfig(r)
	result := guest.Result{Success: err == nil}
	if err != nil {
		result.Error = err.Error()
	}
	m.mu.Lock()
	m.isSet = true
	m.mu.Unlock()
	if raw, err := result.Encode(); err == nil {
		_, _ = s.Write(raw)
	}
}

// told is what a function tells its caller, as JSON.
type told struct {
	PID   int    `json:"pid"`
	Calls int    `json:"calls"` // Of this machine, with this one.
	Path  string `json:"path"`
}

// call answers a call with told. At /slow it takes its time, at /die the program's
// process ends.
func (m *machine) call(s io.Writer, r *bufio.Reader) {
	run, err := guest.ReadRun(r)
	if err != nil {
		return
	}
	switch run.Scope.Path {
	case "/slow":
		<-time.After(slowly)
	case "/die":
		m.end(guestShutdown)
		return
	}
	m.mu.Lock()
	m.calls++
	answer := told{PID: os.Getpid(), Calls: m.calls, Path: run.Scope.Path}
	m.mu.Unlock()
	body, err := json.Marshal(answer)
	if err != nil {
		panic("BUG: " + err.Error())
	}
	raw, err := guest.Reply{
		Status: 200, Body: body,
		Headers: []guest.Header{{Name: []byte("content-type"), Value: []byte("application/json")}, {Name: []byte("content-length"), Value: fmt.Append(nil, len(body))}},
	}.Encode()
	if err == nil {
		_, _ = s.Write(raw)
	}
}
