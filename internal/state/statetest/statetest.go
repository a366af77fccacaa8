// Package statetest runs a PostgreSQL server for tests of what is kept in one.
package statetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
)

const (
	superuser = "aleph"
	startMax  = time.Minute
)

// Server is a PostgreSQL server on loopback, with all it keeps in a directory of
// its own.
type Server struct {
	dir    string
	bin    string
	port   int
	cred   *syscall.SysProcAttr
	log    *os.File
	cmd    *exec.Cmd
	exited chan struct{}
}

// Start makes and starts a server. It gives errs.NotFound where PostgreSQL is
// not installed. A server of Start is as durable as one that keeps a node's state
// if durable is set, and faster if not: it then survives kills of its process,
// but no power cut.
func Start(ctx context.Context, durable bool) (_ *Server, err error) {
	bin, err := find()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "aleph-postgres-")
	if err != nil {
		return nil, err
	}
	s := &Server{dir: dir, bin: bin}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(dir))
		}
	}()
	if s.cred, err = unprivileged(dir); err != nil {
		return nil, err
	}
	// Texts are in the order of a language, unless the schema says otherwise.
	init := s.command("initdb", "--pgdata="+filepath.Join(dir, "data"), "--auth=trust", "--username="+superuser,
		"--encoding=UTF8", "--locale=C", "--locale-provider=icu", "--icu-locale=en-US", "--no-sync", "--no-instructions")
	if out, err := init.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("initdb: %w\n%s", err, out)
	}
	settings := "listen_addresses = '127.0.0.1'\nunix_socket_directories = ''\nmax_connections = 200\nshared_buffers = '64MB'\n"
	if !durable {
		settings += "fsync = off\nfull_page_writes = off\n"
	}
	conf, err := os.OpenFile(filepath.Join(dir, "data", "postgresql.conf"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return nil, err
	}
	_, err = conf.WriteString(settings)
	if err := errors.Join(err, conf.Close()); err != nil {
		return nil, err
	}
	if s.port, err = freePort(ctx); err != nil {
		return nil, err
	}
	if s.log, err = os.Create(filepath.Join(dir, "log")); err != nil {
		return nil, err
	}
	return s, s.Run(ctx)
}

// find returns the directory of PostgreSQL's programs: Debian keeps them off the
// path.
func find() (string, error) {
	var all []string
	if path, err := exec.LookPath("postgres"); err == nil {
		if path, err = filepath.EvalSymlinks(path); err == nil {
			all = append(all, filepath.Dir(path))
		}
	}
	debian, err := filepath.Glob("/usr/lib/postgresql/*/bin")
	if err != nil {
		return "", err
	}
	slices.Reverse(debian)
	for _, dir := range append(all, debian...) {
		_, errServer := os.Stat(filepath.Join(dir, "postgres"))
		if _, err := os.Stat(filepath.Join(dir, "initdb")); err == nil && errServer == nil {
			return dir, nil
		}
	}
	return "", errs.New(errs.NotFound, "PostgreSQL is not installed (apt-get install --no-install-recommends postgresql)")
}

// unprivileged gives dir to a user that the server may run as: it refuses root.
func unprivileged(dir string) (*syscall.SysProcAttr, error) {
	// With the process that made it, the server goes too.
	attr := &syscall.SysProcAttr{Pdeathsig: syscall.SIGQUIT}
	if os.Getuid() != 0 {
		return attr, nil
	}
	who, err := user.Lookup("postgres")
	if err != nil {
		return nil, err
	}
	uid, errUID := strconv.Atoi(who.Uid)
	gid, errGID := strconv.Atoi(who.Gid)
	attr.Credential = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	return attr, errors.Join(errUID, errGID, os.Chown(dir, uid, gid))
}

func (s *Server) command(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(s.bin, name), args...) //nolint:noctx // It ends by signals.
	cmd.Dir, cmd.SysProcAttr = s.dir, s.cred
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "LC_ALL=C", "TZ=UTC"} //nolint:forbidigo // For tests only.
	return cmd
}

func freePort(ctx context.Context) (int, error) {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	addr, ok := l.Addr().(*net.TCPAddr)
	if !ok {
		return 0, errors.Join(errors.New("a listener without a port"), l.Close())
	}
	return addr.Port, l.Close()
}

// Run starts the server, again after Kill, and waits until it takes connections.
func (s *Server) Run(ctx context.Context) error {
	cmd := s.command("postgres", "-D", filepath.Join(s.dir, "data"), "-p", strconv.Itoa(s.port))
	cmd.Stdout, cmd.Stderr = s.log, s.log
	started, exited := make(chan error), make(chan struct{})
	s.cmd, s.exited = cmd, exited
	go func() {
		// The signal of a parent's death is one of the thread that started it.
		runtime.LockOSThread()
		started <- cmd.Start()
		_ = cmd.Wait() // Its log says why.
		close(exited)
	}()
	if err := <-started; err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, startMax)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		c, err := pgx.Connect(ctx, s.URL("postgres"))
		if err == nil {
			return c.Close(ctx)
		}
		select {
		case <-tick.C:
		case <-s.exited:
			return fmt.Errorf("the server ended:\n%s", s.logged())
		case <-ctx.Done():
			return errors.Join(fmt.Errorf("the server does not answer: %w\n%s", err, s.logged()), s.Kill())
		}
	}
}

func (s *Server) logged() []byte {
	raw, err := os.ReadFile(s.log.Name())
	if err != nil {
		return nil
	}
	return bytes.TrimSpace(raw)
}

// URL is that of a database of the server.
func (s *Server) URL(database string) string {
	return fmt.Sprintf("postgres://%s@127.0.0.1:%d/%s?sslmode=disable", superuser, s.port, database)
}

// Kill ends the server at once, as a crash does: nothing is written that was not.
func (s *Server) Kill() error { return s.end(syscall.SIGQUIT) }

// Close ends the server and removes what it kept.
func (s *Server) Close() error {
	return errors.Join(s.end(syscall.SIGINT), s.log.Close(), os.RemoveAll(s.dir))
}

func (s *Server) end(how syscall.Signal) error {
	if s.cmd == nil {
		return nil
	}
	err := s.cmd.Process.Signal(how)
	if !errors.Is(err, os.ErrProcessDone) && err != nil {
		return err
	}
	<-s.exited
	s.cmd = nil
	return nil
}

// Create makes an empty database of the server that a URL names.
func Create(ctx context.Context, serverURL, name string) error {
	c, err := pgx.Connect(ctx, serverURL)
	if err != nil {
		return err
	}
	_, err = c.Exec(ctx, "CREATE DATABASE "+pgx.Identifier{name}.Sanitize())
	return errors.Join(err, c.Close(ctx))
}
