package devnet

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"

	"golang.org/x/crypto/ssh"
)

// SSHKey makes an SSH key in the home directory, unless there is one, and
// returns its path; the public part has .pub behind it.
func (c *CLI) SSHKey() (string, error) {
	path := filepath.Join(c.Home, "id_ed25519")
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return "", fmt.Errorf("make SSH key: %w", err)
	}
	block, err := ssh.MarshalPrivateKey(private, "devnet")
	if err != nil {
		return "", fmt.Errorf("encode SSH key: %w", err)
	}
	line, err := ssh.NewPublicKey(public)
	if err != nil {
		return "", fmt.Errorf("encode SSH key: %w", err)
	}
	err = errors.Join(os.WriteFile(path, pem.EncodeToMemory(block), 0o600), os.WriteFile(path+".pub", ssh.MarshalAuthorizedKey(line), 0o600))
	if err != nil {
		return "", fmt.Errorf("write SSH key: %w", err)
	}
	return path, nil
}

// HasSSH reports whether this machine has the program that 'aleph instance ssh'
// runs.
func HasSSH() bool {
	_, err := exec.LookPath("ssh")
	return err == nil
}

// Login runs a command in a machine over SSH, as root with a key, without the
// ssh program.
func Login(ctx context.Context, host string, port int, keyPath, command string) ([]byte, error) {
	raw, err := os.ReadFile(keyPath)
	if err != nil {
		return nil, fmt.Errorf("read SSH key: %w", err)
	}
	key, err := ssh.ParsePrivateKey(raw)
	if err != nil {
		return nil, fmt.Errorf("read SSH key: %w", err)
	}
	addr := net.JoinHostPort(host, strconv.Itoa(port))
	var d net.Dialer
	wire, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("reach %s: %w", addr, err)
	}
	stop := context.AfterFunc(ctx, func() { wire.Close() })
	defer stop()
	conn, chans, reqs, err := ssh.NewClientConn(wire, addr, &ssh.ClientConfig{
		User: "root", Auth: []ssh.AuthMethod{ssh.PublicKeys(key)},
		HostKeyCallback: ssh.InsecureIgnoreHostKey(), //nolint:gosec // the machine is new, nobody knows its key yet
	})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("log in at %s: %w", addr, err), wire.Close())
	}
	client := ssh.NewClient(conn, chans, reqs)
	defer client.Close()
	session, err := client.NewSession()
	if err != nil {
		return nil, fmt.Errorf("log in at %s: %w", addr, err)
	}
	defer session.Close()
	out, err := session.Output(command)
	if err != nil {
		return out, fmt.Errorf("run %q at %s: %w", command, addr, err)
	}
	return out, nil
}
