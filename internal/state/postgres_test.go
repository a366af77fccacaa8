package state_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/state"
	"github.com/aleph-onchain/aleph-onchain/internal/state/statetest"
)

// onServer skips a test that needs a server where there is none.
func onServer(t *testing.T) {
	t.Helper()
	if !state.OnServer() {
		t.Skip("about a server; it runs again where there is one")
	}
}

// eventually waits until ok.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	late := time.After(time.Minute)
	for !ok() {
		select {
		case <-tick.C:
		case <-late:
			t.Fatalf("a minute long not: %s", what)
		}
	}
}

// openAs opens a database until the end of the test.
func openAs(t *testing.T, o state.Options) *state.DB {
	t.Helper()
	db, err := state.OpenAs(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return db
}

// run runs db.Run until the test calls what it returns, which gives its error.
func run(t *testing.T, db *state.DB) (stop func() error) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- db.Run(ctx) }()
	stop = sync.OnceValue(func() error { cancel(); return <-done })
	t.Cleanup(func() { _ = stop() })
	return stop
}

// proxy is a way to a server that can be cut.
type proxy struct {
	to    string
	l     net.Listener
	mu    sync.Mutex
	conns map[net.Conn]bool // guarded by mu
	// seen decides what happens to bytes on their way to the server: whether they
	// are passed on, and whether the connection is cut after.
	seen  atomic.Pointer[func([]byte) (pass, cut bool)]
	after chan struct{} // Receives when what was cut has come to its end.
}

// through returns options that reach the database through a proxy.
func through(t *testing.T, o state.Options) (state.Options, *proxy) {
	t.Helper()
	u, err := url.Parse(o.URL)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{to: u.Host, l: l, conns: map[net.Conn]bool{}, after: make(chan struct{}, 1)}
	go p.serve()
	t.Cleanup(func() { l.Close(); p.cut() })
	u.Host = l.Addr().String()
	o.URL = u.String()
	return o, p
}

func (p *proxy) serve() {
	for {
		c, err := p.l.Accept()
		if err != nil {
			return
		}
		s, err := net.Dial("tcp", p.to)
		if err != nil {
			c.Close()
			continue
		}
		p.mu.Lock()
		p.conns[c], p.conns[s] = true, true
		p.mu.Unlock()
		go p.pass(s, c)
		go func() { _, _ = io.Copy(c, s); c.Close(); s.Close() }()
	}
}

func (p *proxy) pass(to, from net.Conn) {
	defer to.Close()
	defer from.Close()
	buf := make([]byte, 1<<16)
	for {
		n, err := from.Read(buf)
		if err != nil {
			return
		}
		pass, cut := true, false
		if seen := p.seen.Load(); seen != nil {
			pass, cut = (*seen)(buf[:n])
		}
		if cut {
			from.Close() // First, so that no answer comes through.
		}
		if pass {
			if _, err := to.Write(buf[:n]); err != nil {
				return
			}
		}
		if cut {
			if pass {
				_, _ = io.Copy(io.Discard, to) // Until the server has done it.
			}
			select {
			case p.after <- struct{}{}:
			default:
			}
			return
		}
	}
}

// cut cuts all connections.
func (p *proxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		c.Close()
	}
	clear(p.conns)
}

func TestReadsAndWritesGoOnAfterConnectionsAreLost(t *testing.T) {
	onServer(t)
	o, p := through(t, state.OptionsOf(t, t.TempDir()))
	db := openAs(t, o)
	putPeers(t, db, "a")
	wantPeers(t, db, "a")

	p.cut()
	wantPeers(t, db, "a")
	p.cut()
	if _, err := db.Intent(t.Context(), "x"); !errors.Is(err, errs.NotFound) {
		t.Errorf("one row: %v, want not found", err)
	}
	p.cut()
	if err := db.View(t.Context(), func(v *state.View) error {
		p.cut() // Between its start and its first query.
		if diff := peerIDs(t, v); len(diff) != 1 {
			t.Errorf("snapshot has %v", diff)
		}
		p.cut()
		_, err := v.Peers(t.Context(), 9)
		return err
	}); !errors.Is(err, errs.Unavailable) {
		t.Errorf("a snapshot that is lost when something was read of it: %v, want unavailable", err)
	}
	p.cut()
	putPeers(t, db, "b")
	wantPeers(t, db, "a", "b")
	err := db.Update(t.Context(), func(tx *state.Tx) error {
		p.cut()
		return tx.PutPeer(t.Context(), state.Peer{ID: "c"})
	})
	if !errors.Is(err, errs.Unavailable) {
		t.Errorf("lost in the middle: %v, want unavailable", err)
	}
	wantPeers(t, db, "a", "b")
}

func TestACommitWithoutAnAnswerSaysSo(t *testing.T) {
	onServer(t)
	for _, tt := range []struct {
		name string
		pass bool
		want []string
	}{{"that came to the server", true, []string{"a"}}, {"that did not", false, nil}} {
		t.Run(tt.name, func(t *testing.T) {
			o, p := through(t, state.OptionsOf(t, t.TempDir()))
			db := openAs(t, o)
			calls := 0
			seen := func(raw []byte) (pass, cut bool) {
				if !bytes.HasPrefix(raw, []byte("Q")) || !bytes.Contains(raw, []byte("commit\x00")) {
					return true, false
				}
				return tt.pass, true
			}
			p.seen.Store(&seen)

			err := db.Update(t.Context(), func(tx *state.Tx) error {
				calls++
				return tx.PutPeer(t.Context(), state.Peer{ID: "a"})
			})

			p.seen.Store(nil)
			<-p.after
			if !errors.Is(err, errs.Unavailable) || !strings.Contains(err.Error(), "not known whether it did") {
				t.Errorf("got %v, want unavailable, and that nobody knows", err)
			}
			if calls != 1 {
				t.Errorf("it was tried %d times", calls)
			}
			wantPeers(t, db, tt.want...)
		})
	}
}

func TestCommitsWakeOtherProcesses(t *testing.T) {
	onServer(t)
	o := state.OptionsOf(t, t.TempDir())
	cuttable, p := through(t, o)
	owner := openAs(t, cuttable)
	o.Replica = true
	replica := openAs(t, o)
	peers, jobs := owner.Wake("peers"), owner.Wake("jobs")
	theirs := replica.Wake("vms")
	run(t, owner)
	run(t, replica)
	for what, wake := range map[string]<-chan struct{}{"peers": peers, "jobs": jobs, "vms": theirs} {
		eventually(t, "once it listens, "+what+" are looked at", func() bool { return rang(wake) })
	}

	putPeers(t, replica, "a")
	eventually(t, "a replica's commit wakes the owner", func() bool { return rang(peers) })
	if rang(jobs) {
		t.Error("peers woke who waits for jobs")
	}
	update(t, owner, func(tx *state.Tx) error { return tx.PutVM(t.Context(), state.VM{Spec: hash("a")}) })
	eventually(t, "the owner's commit wakes a replica", func() bool { return rang(theirs) })

	p.cut()
	eventually(t, "who may have missed something is woken", func() bool { return rang(peers) })
	eventually(t, "for any topic", func() bool { return rang(jobs) })
	putPeers(t, replica, "b")
	eventually(t, "the new connection listens", func() bool { return rang(peers) })
	eventually(t, "the owner writes again", func() bool {
		err := owner.Update(t.Context(), func(tx *state.Tx) error { return tx.PutPeer(t.Context(), state.Peer{ID: "c"}) })
		if err != nil && !errors.Is(err, errs.Unavailable) {
			t.Fatal(err)
		}
		return err == nil
	})
	wantPeers(t, replica, "a", "b", "c")
}

func TestAnOwnerThatWasReplacedWritesNoMore(t *testing.T) {
	onServer(t)
	for _, running := range []bool{false, true} {
		t.Run(fmt.Sprint("running: ", running), func(t *testing.T) {
			direct := state.OptionsOf(t, t.TempDir())
			o, p := through(t, direct)
			old := openAs(t, o)
			putPeers(t, old, "a")
			ended := make(chan error, 1)
			p.l.Close() // It cannot come back before the other.
			p.cut()
			if running {
				go func() { ended <- old.Run(t.Context()) }()
				eventually(t, "it notices", func() bool {
					return errors.Is(old.Update(t.Context(), func(*state.Tx) error { return nil }), errs.Unavailable)
				})
			}
			var next *state.DB
			eventually(t, "another process owns it", func() (ok bool) {
				var err error
				next, err = state.OpenAs(t.Context(), direct)
				if err != nil && !errors.Is(err, errs.Conflict) {
					t.Fatal(err)
				}
				return err == nil
			})
			t.Cleanup(func() { _ = next.Close() })
			putPeers(t, next, "b")
			l, err := net.Listen("tcp", p.l.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			p.l = l
			t.Cleanup(func() { l.Close(); p.cut() })
			go p.serve()

			if running {
				if err := <-ended; !errors.Is(err, errs.Conflict) || !strings.Contains(err.Error(), "another process has taken") {
					t.Errorf("Run ends with %v, want a conflict", err)
				}
			}
			err = old.Update(t.Context(), func(tx *state.Tx) error { return tx.PutPeer(t.Context(), state.Peer{ID: "c"}) })
			if !errors.Is(err, errs.Conflict) || !strings.Contains(err.Error(), "another process has taken") {
				t.Errorf("got %v, want a conflict", err)
			}
			wantPeers(t, next, "a", "b")
		})
	}
}

// TestANewOwnerWaitsForTheOldOnesTransaction: what the old one began before it is
// committed before, or never.
func TestANewOwnerWaitsForTheOldOnesTransaction(t *testing.T) {
	onServer(t)
	o := state.OptionsOf(t, t.TempDir())
	old := openAs(t, o)
	opened := make(chan *state.DB)
	update(t, old, func(tx *state.Tx) error {
		if err := old.DropPinned(t.Context()); err != nil {
			return err
		}
		go func() {
			db, err := state.OpenAs(t.Context(), o)
			if err != nil {
				t.Error(err)
			}
			opened <- db
		}()
		eventually(t, "the new owner waits", func() bool {
			waiting, err := old.Waiting(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			return waiting > 0
		})
		return tx.PutPeer(t.Context(), state.Peer{ID: "a"})
	})

	next := <-opened

	if next == nil {
		return
	}
	t.Cleanup(func() { _ = next.Close() })
	wantPeers(t, next, "a")
	if err := old.Update(t.Context(), func(*state.Tx) error { return nil }); !errors.Is(err, errs.Conflict) {
		t.Errorf("the old owner goes on: %v", err)
	}
}

// TestTextsHaveNoLanguage: the server's is English here, and no column is.
func TestTextsHaveNoLanguage(t *testing.T) {
	onServer(t)
	db := open(t, t.TempDir())
	found, err := db.Collations(t.Context())
	if err != nil || len(found) != 1 || found["C"] < 50 {
		t.Errorf("collations of columns are %v, %v, want C alone", found, err)
	}
}

func TestReplicasNeedAnOwnersSchema(t *testing.T) {
	onServer(t)
	o := state.OptionsOf(t, t.TempDir())
	o.Replica = true
	if _, err := state.OpenAs(t.Context(), o); err == nil || !strings.Contains(err.Error(), "lacks a table") {
		t.Errorf("an empty database: %v, want that it is empty", err)
	}
	o.Replica = false
	db := openAs(t, o)
	if err := errors.Join(db.Migrate(t.Context(), 1), db.Close()); err != nil {
		t.Fatal(err)
	}
	o.Replica = true
	if _, err := state.OpenAs(t.Context(), o); !errors.Is(err, errs.Invalid) || !strings.Contains(err.Error(), "has version 1, and this program wants") {
		t.Errorf("an old database: %v, want invalid", err)
	}
	if _, err := state.OpenAs(t.Context(), state.Options{Dir: t.TempDir(), Replica: true}); !errors.Is(err, errs.Invalid) {
		t.Errorf("a replica of an embedded database: %v, want invalid", err)
	}
}

func TestTheDirectoryIsLockedBesideAServer(t *testing.T) {
	onServer(t)
	o := state.OptionsOf(t, t.TempDir())
	o.Dir = t.TempDir()
	openAs(t, o)
	other := state.OptionsOf(t, t.TempDir())
	other.Dir = o.Dir
	if _, err := state.OpenAs(t.Context(), other); !errors.Is(err, errs.Conflict) || !strings.Contains(err.Error(), o.Dir) {
		t.Errorf("got %v, want a conflict about the directory", err)
	}
}

func TestURLsThatCannotBeOpened(t *testing.T) {
	onServer(t)
	good := state.OptionsOf(t, t.TempDir()).URL
	secret := "hunter2"
	for _, tt := range []struct {
		name, url, want string
		kind            errs.Kind
	}{
		{"another scheme", "mysql://a:" + secret + "@h/db", `scheme "mysql"`, errs.Invalid},
		{"no URL", "postgres://a:" + secret + "%zz@h/db", "is no URL", errs.Invalid},
		{"a port", "postgres://a:" + secret + "@h:99999999/db", "invalid port", errs.Invalid},
		{"a setting", "postgres://a:" + secret + "@h/db?sslmode=" + "strange", "sslmode", errs.Invalid},
		{"a password in the query", "postgres://a@h/db?sslmode=strange&password=" + secret, "sslmode", errs.Invalid},
		{"nobody there", "postgres://a:" + secret + "@127.0.0.1:1/db?sslmode=disable", "127.0.0.1:1", errs.Unavailable},
		{"no database", strings.Replace(good, "/t", "/none", 1), "CREATE DATABASE", errs.NotFound},
		{"no user", strings.Replace(good, "aleph@", "eve:"+secret+"@", 1), "refuses the user eve", errs.Denied},
	} {
		_, err := state.OpenAs(t.Context(), state.Options{URL: tt.url})
		if !errors.Is(err, tt.kind) || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %s and %q", tt.name, err, tt.kind, tt.want)
		}
		if err != nil && strings.Contains(err.Error(), secret) {
			t.Errorf("%s: the password is in %v", tt.name, err)
		}
	}
}

func TestADatabaseOfAnotherEncodingIsRefused(t *testing.T) {
	onServer(t)
	o := state.OptionsOf(t, t.TempDir())
	db := openAs(t, o)
	if err := db.Exec(t.Context(), "CREATE DATABASE ascii ENCODING 'SQL_ASCII' LOCALE_PROVIDER libc LOCALE 'C' TEMPLATE template0"); err != nil {
		t.Fatal(err)
	}
	u, err := url.Parse(o.URL)
	if err != nil {
		t.Fatal(err)
	}
	u.Path = "/ascii"
	_, err = state.OpenAs(t.Context(), state.Options{URL: u.String()})
	if !errors.Is(err, errs.Invalid) || !strings.Contains(err.Error(), "has the encoding SQL_ASCII, want UTF8") {
		t.Errorf("got %v, want invalid", err)
	}
}

func TestMaskedURLsHaveNoPassword(t *testing.T) {
	for url, want := range map[string]string{
		"postgres://a@h/db":                    "postgres://a@h/db",
		"postgres://a:s3cret@h:1/db?sslmode=x": "postgres://a:***@h:1/db?sslmode=x",
		"postgres://a@h/db?password=s3cret":    "postgres://a@h/db?password=%2A%2A%2A",
		"postgres://a:s3cret%zz@h/db":          "***",
		"":                                     "",
	} {
		if got := state.MaskURL(url); got != want {
			t.Errorf("%s is shown as %s, want %s", url, got, want)
		}
	}
}

// TestACrashOfTheServerLosesNothing: it is ended at once, again and again, while
// many write. What Update said is there, is there.
func TestACrashOfTheServerLosesNothing(t *testing.T) {
	onServer(t)
	ctx := t.Context()
	server, err := statetest.Start(ctx, false)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Close(); err != nil {
			t.Error(err)
		}
	})
	db := openAs(t, state.Options{URL: server.URL("postgres")})
	stop := run(t, db)
	var mu sync.Mutex
	var kept []string
	tried := map[string]bool{}
	load, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	for worker := range 4 {
		wg.Go(func() {
			for n := 0; load.Err() == nil; n++ {
				id := fmt.Sprintf("%d-%06d", worker, n)
				mu.Lock()
				tried[id] = true
				mu.Unlock()
				err := db.Update(ctx, func(tx *state.Tx) error { return tx.PutPeer(ctx, state.Peer{ID: id}) })
				switch {
				case err == nil:
					mu.Lock()
					kept = append(kept, id)
					mu.Unlock()
				case !errors.Is(err, errs.Unavailable):
					t.Errorf("%s: %v (%s), want unavailable", id, err, errs.KindOf(err))
				}
			}
		})
	}
	acknowledged := func() int { mu.Lock(); defer mu.Unlock(); return len(kept) }
	for range 3 {
		before := acknowledged()
		eventually(t, "work is done", func() bool { return acknowledged() > before+200 })
		if err := errors.Join(server.Kill(), server.Run(ctx)); err != nil {
			t.Fatal(err)
		}
	}
	before := acknowledged()
	eventually(t, "work is done after the crashes", func() bool { return acknowledged() > before })
	cancel()
	wg.Wait()

	got := peerIDs(t, db)
	for _, id := range kept {
		if _, found := slices.BinarySearch(got, id); !found {
			t.Errorf("%s was acknowledged and is lost", id)
		}
	}
	for _, id := range got {
		if !tried[id] {
			t.Errorf("%s was never written", id)
		}
	}
	changes, err := db.Changes(ctx, 0, 100_000)
	if err != nil || len(changes) != len(got) || changes[len(changes)-1].Seq != int64(len(got)) {
		t.Errorf("%d changes for %d rows, %v", len(changes), len(got), err)
	}
	if err := stop(); !errors.Is(err, context.Canceled) {
		t.Errorf("Run ended with %v", err)
	}
}
