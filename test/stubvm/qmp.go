package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net"
	"strconv"
	"sync"
	"time"
)

// monitor speaks QMP.
type monitor struct {
	machine *machine

	mu    sync.Mutex
	conn  net.Conn             // nil without a client; guarded by mu
	above map[string]string    // Nodes that devices write to, by device, where it is another than at first; guarded by mu
	nodes map[string]bool      // Those that were added; guarded by mu
	jobs  map[string]time.Time // When they end; guarded by mu
}

// jobTakes is how long a copy takes.
const jobTakes = 300 * time.Millisecond

type command struct {
	Execute   string          `json:"execute"`
	Arguments json.RawMessage `json:"arguments"`
	ID        json.RawMessage `json:"id"`
}

// arguments are those of all commands that are known.
type arguments struct {
	NodeName string `json:"node-name"`
	Path     string `json:"path"`
	Value    string `json:"value"`
	JobID    string `json:"job-id"`
	ID       string `json:"id"`
	Device   string `json:"device"`
}

// serve answers one client.
func (q *monitor) serve(c net.Conn) {
	q.mu.Lock()
	q.conn = c
	q.mu.Unlock()
	defer func() {
		q.mu.Lock()
		q.conn = nil
		q.mu.Unlock()
	}()
	q.write(map[string]any{"QMP": map[string]any{
		"version": map[string]any{"qemu": map[string]int{"major": 10, "minor": 0, "micro": 0}, "package": "stubvm"}, "capabilities": []string{},
	}})
	lines := bufio.NewScanner(c)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var cmd command
		if err := json.Unmarshal(lines.Bytes(), &cmd); err != nil {
			q.write(fault("GenericError", "invalid JSON syntax", nil))
			continue
		}
		out, err := q.do(cmd)
		if err != nil {
			q.write(fault("GenericError", err.Error(), cmd.ID))
			continue
		}
		answer := map[string]any{"return": out}
		if cmd.ID != nil {
			answer["id"] = cmd.ID
		}
		q.write(answer)
		switch cmd.Execute {
		case "quit":
			q.machine.end(hostQuit)
		case "system_powerdown":
			q.machine.end(guestShutdown)
		}
	}
}

func fault(class, text string, id json.RawMessage) map[string]any {
	out := map[string]any{"error": map[string]string{"class": class, "desc": text}}
	if id != nil {
		out["id"] = id
	}
	return out
}

// tell sends an event.
func (q *monitor) tell(event string, data any) {
	now := time.Now()
	q.write(map[string]any{"event": event, "data": data, "timestamp": map[string]int64{"seconds": now.Unix(), "microseconds": int64(now.Nanosecond() / 1000)}})
}

// write writes a line to the client, if there is one. One that has gone is no
// failure.
func (q *monitor) write(v any) {
	raw, err := json.Marshal(v)
	if err != nil {
		panic("BUG: " + err.Error())
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.conn != nil {
		_, _ = q.conn.Write(append(raw, '\r', '\n'))
	}
}

// do executes a command and returns its answer.
func (q *monitor) do(c command) (any, error) {
	var a arguments
	if len(c.Arguments) > 0 {
		if err := json.Unmarshal(c.Arguments, &a); err != nil {
			return nil, fmt.Errorf("invalid arguments of %s: %w", c.Execute, err)
		}
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	none := struct{}{}
	switch c.Execute {
	case "qmp_capabilities", "quit", "system_powerdown", "stop", "cont":
		return none, nil
	case "query-name":
		return map[string]string{"name": q.machine.name}, nil
	case "query-status":
		return map[string]any{"running": true, "status": "running"}, nil
	case "query-block":
		return q.blocks(), nil
	case "query-named-block-nodes":
		return q.named(), nil
	case "blockdev-add":
		if q.nodes[a.NodeName] {
			return nil, fmt.Errorf("Duplicate nodes with node-name='%s'", a.NodeName) //nolint:staticcheck // QEMU's own words.
		}
		set(&q.nodes, a.NodeName, true)
		return none, nil
	case "blockdev-del":
		if !q.nodes[a.NodeName] {
			return nil, fmt.Errorf("Failed to find node with node-name='%s'", a.NodeName) //nolint:staticcheck // QEMU's own words.
		}
		delete(q.nodes, a.NodeName)
		return none, nil
	case "qom-set":
		set(&q.above, a.Path, a.Value)
		return none, nil
	case "human-monitor-command":
		return "discard done\r\n", nil
	}
	return q.doJob(c.Execute, a)
}

// doJob executes a command about the jobs that copy.
func (q *monitor) doJob(execute string, a arguments) (any, error) {
	switch execute {
	case "blockdev-backup":
		if _, there := q.jobs[a.JobID]; there {
			return nil, fmt.Errorf("Job ID '%s' already in use", a.JobID) //nolint:staticcheck // QEMU's own words.
		}
		set(&q.jobs, a.JobID, time.Now().Add(jobTakes))
		return struct{}{}, nil
	case "query-jobs":
		out := []map[string]any{}
		for id, ends := range q.jobs {
			j := map[string]any{"id": id, "type": "backup", "status": "running", "current-progress": 0, "total-progress": 1}
			if !time.Now().Before(ends) {
				j["status"], j["current-progress"] = "concluded", 1
			}
			out = append(out, j)
		}
		return out, nil
	case "job-cancel":
		if _, there := q.jobs[a.ID]; !there {
			return nil, fmt.Errorf("Job not found") //nolint:staticcheck // QEMU's own words.
		}
		q.jobs[a.ID] = time.Now()
		return struct{}{}, nil
	case "job-dismiss":
		delete(q.jobs, a.ID)
		return struct{}{}, nil
	}
	return nil, fmt.Errorf("The command %s has not been found", execute) //nolint:staticcheck // QEMU's own words.
}

// blocks describes the drives, with the nodes that they write to now.
func (q *monitor) blocks() any {
	out := []map[string]any{}
	for i, d := range q.machine.drives {
		path, node := "/machine/peripheral-anon/device["+strconv.Itoa(i)+"]/virtio-backend", d.node
		if n, ok := q.above[path]; ok {
			node = n
		}
		out = append(out, map[string]any{"qdev": path, "inserted": map[string]any{
			"node-name": node, "ro": d.readOnly, "image": map[string]any{"virtual-size": d.bytes},
		}})
	}
	return out
}

func (q *monitor) named() any {
	out := []map[string]string{}
	for _, d := range q.machine.drives {
		out = append(out, map[string]string{"node-name": d.node})
	}
	for n := range q.nodes {
		out = append(out, map[string]string{"node-name": n})
	}
	return out
}

// set puts a value into a map that may not be there yet.
func set[V any](m *map[string]V, key string, value V) {
	if *m == nil {
		*m = map[string]V{}
	}
	(*m)[key] = value
}
