package main

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/crypto/ssh"
)

const (
	sshdPath    = "/usr/sbin/sshd"
	hostKeyPath = "/etc/ssh/ssh_host_ed25519_key"
	sshPort     = 22
	// sessionsMax bounds the SSH connections at a time: each costs the guest
	// some 8 MB.
	sessionsMax = 64
	acceptPause = 100 * time.Millisecond
)

// listenSSH answers SSH with one sshd per connection. So no sshd starts at
// boot, where it would cost a tenth of it; a connection costs the same, since
// sshd starts itself again for each anyhow.
func (g *guest) listenSSH(ctx context.Context) error {
	if _, err := os.Stat(sshdPath); err != nil {
		return nil //nolint:nilerr // An image without SSH.
	}
	l, err := net.ListenTCP("tcp", &net.TCPAddr{Port: sshPort})
	if err != nil {
		return fmt.Errorf("listen on port %d: %w", sshPort, err)
	}
	context.AfterFunc(ctx, func() { l.Close() })
	go g.serveSSH(ctx, l)
	return nil
}

func (g *guest) serveSSH(ctx context.Context, l *net.TCPListener) {
	if err := ensureHostKey(hostKeyPath, g.Info().Hostname); err != nil {
		g.logf("ssh host key: %v", err)
	}
	if err := os.MkdirAll("/run/sshd", 0o755); err != nil {
		g.logf("ssh: %v", err)
	}
	slots := make(chan struct{}, sessionsMax)
	for {
		slots <- struct{}{}
		conn, err := l.AcceptTCP()
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			g.logf("ssh: accept: %v", err)
			time.Sleep(acceptPause)
			<-slots
			continue
		}
		go func() {
			defer func() { <-slots }()
			if err := g.runSSHD(conn); err != nil {
				g.logf("ssh: %v", err)
			}
		}()
	}
}

// runSSHD gives the connection to an sshd and waits for its end.
func (g *guest) runSSHD(conn *net.TCPConn) error {
	f, err := conn.File()
	conn.Close()
	if err != nil {
		return fmt.Errorf("take over connection: %w", err)
	}
	defer f.Close()
	// sshd reads and writes without O_NONBLOCK.
	if err := syscall.SetNonblock(int(f.Fd()), false); err != nil {
		return fmt.Errorf("take over connection: %w", err)
	}
	_, ended, err := g.reaper.start(sshdPath, []string{sshdPath, "-i", "-e"}, &syscall.ProcAttr{
		Dir: "/", Env: environment(nil), Files: []uintptr{f.Fd(), f.Fd(), g.console.Fd()},
		Sys: &syscall.SysProcAttr{Setsid: true},
	})
	if err != nil {
		return fmt.Errorf("start sshd: %w", err)
	}
	f.Close()
	<-ended
	return nil
}

// ensureHostKey makes the machine's SSH key when it has none.
func ensureHostKey(path, comment string) error {
	if _, err := os.Stat(path); err == nil || !errors.Is(err, os.ErrNotExist) {
		return err
	}
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return fmt.Errorf("make key: %w", err)
	}
	block, err := ssh.MarshalPrivateKey(private, "root@"+comment)
	if err != nil {
		return fmt.Errorf("encode key: %w", err)
	}
	authorized, err := ssh.NewPublicKey(public)
	if err != nil {
		return fmt.Errorf("encode public key: %w", err)
	}
	line := strings.TrimSuffix(string(ssh.MarshalAuthorizedKey(authorized)), "\n") + " root@" + comment + "\n"
	dir, name := filepath.Split(path)
	for _, f := range []seedFile{
		{name + ".pub", 0o644, line},
		{name, 0o600, string(pem.EncodeToMemory(block))},
	} {
		if err := f.write(dir); err != nil {
			return err
		}
	}
	return nil
}
