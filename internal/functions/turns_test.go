package functions_test

import (
	"errors"
	"fmt"
	"net/http"
	"runtime"
	"sync"
	"testing"

	"github.com/aleph-onchain/aleph-onchain/internal/functions"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

// owned is a program of an owner.
func owned(by string) func(*message.Program) {
	return func(p *message.Program) { p.Address = by }
}

// TestManyStrangersStartFewMachines: a hundred programs of as many owners are called at
// once. So many start at a time, so many wait, and the others are told when to ask again.
func TestManyStrangersStartFewMachines(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var mu sync.Mutex
	starting, most := 0, 0
	w.nets = func(message.ItemHash) {
		mu.Lock()
		starting++
		most = max(most, starting)
		mu.Unlock()
		for range 1000 { // Others may begin meanwhile, if they are let.
			runtime.Gosched()
		}
		mu.Lock()
		starting--
		mu.Unlock()
	}
	const strangers = 100
	s, _ := w.start(func(c *functions.Config) { c.Starts, c.Machines, c.Snapshots = 2, 5, false })
	var calls sync.WaitGroup
	answers := make(chan error, strangers)
	for i := range strangers {
		spec := w.add(fmt.Sprint("program ", i), owned(fmt.Sprint("0x", i)))
		calls.Go(func() {
			r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://host/who", http.NoBody)
			if err == nil {
				var resp *http.Response
				if resp, err = s.Call(t.Context(), spec, r); err == nil {
					err = resp.Body.Close()
				}
			}
			answers <- err
		})
	}
	calls.Wait()
	answered := 0
	for range strangers {
		err := <-answers
		var f *functions.Fault
		switch {
		case err == nil:
			answered++
		case !errors.As(err, &f) || f.Status != http.StatusServiceUnavailable || f.RetryAfter <= 0 || f.Text == "":
			t.Errorf("a call failed with %v, want 503 and when to ask again", err)
		}
	}
	if most > 2 || answered == 0 {
		t.Errorf("%d machines started at once and %d calls were answered, want 2 at most, and some", most, answered)
	}
	if n := len(w.host.running()); n > 5 {
		t.Errorf("%d machines run, want 5 at most", n)
	}
}

// TestOneOwnerDelaysNoOther: whoever has many programs waits behind who has one, and has
// a part of the places.
func TestOneOwnerDelaysNoOther(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	let := make(chan struct{})
	var mu sync.Mutex
	var order []message.ItemHash
	w.nets = func(spec message.ItemHash) {
		mu.Lock()
		order = append(order, spec)
		mu.Unlock()
		<-let
	}
	began := func() int {
		mu.Lock()
		defer mu.Unlock()
		return len(order)
	}
	s, _ := w.start(func(c *functions.Config) { c.Starts, c.Machines, c.Snapshots = 1, 64, false })
	var calls sync.WaitGroup
	statuses := make(chan int, 64)
	call := func(spec message.ItemHash) {
		calls.Go(func() {
			status, _, err := get(t.Context(), s, spec, http.MethodGet, "/who", "")
			if err != nil {
				t.Error(err)
			}
			statuses <- status
		})
	}
	call(w.add("first", owned("0xmany")))
	eventually(t, "the first start", func() bool { return began() == 1 })
	const more = 40
	for i := range more {
		call(w.add(fmt.Sprint("more ", i), owned("0xmany")))
	}
	// Fifteen wait beside the first, a quarter of 65 places; the others are refused at once.
	for range more - 15 {
		if status := <-statuses; status != http.StatusServiceUnavailable {
			t.Fatalf("got %d, want an owner's 503", status)
		}
	}
	other := w.add("other", owned("0xone"))
	call(other)
	eventually(t, "the other in the queue", func() bool { return functions.Waiting(s) == 16 })
	close(let)
	calls.Wait()
	mu.Lock()
	defer mu.Unlock()
	for i, spec := range order {
		if spec == other && i > 2 {
			t.Errorf("the other owner's program started as number %d, want it behind one of the many at most", i+1)
		}
	}
	if len(order) != 17 {
		t.Errorf("%d machines started, want 17", len(order))
	}
}
