package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/aleph-onchain/aleph-onchain/sdk/go/aleph"
	"github.com/aleph-onchain/aleph-onchain/test/devnet"
)

const (
	// webPort is where the guest image's web service listens in the machine.
	webPort = 8080
	// sshPort is forwarded to every machine.
	sshPort = 22
	// stepMax bounds every wait of the demo.
	stepMax = 2 * time.Minute
	// ownerIndex is the funded account that owns the nodes.
	ownerIndex = 1
	pageMax    = 64 << 10
)

// demo is one run.
type demo struct {
	out   io.Writer
	bin   string
	image string

	steps int
	home  string
	net   *devnet.Network
	user  *devnet.CLI
	owner *devnet.CLI
	key   string // Path of the user's SSH key.
	ref   string // Hash of the message that names the image.
}

// play does everything in order.
func (d *demo) play(ctx context.Context) error {
	for _, step := range []func(context.Context) error{d.startNetwork, d.makeAccount, d.upload} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	first, err := d.job(ctx, "one", 0)
	if err != nil {
		return err
	}
	if err := d.drain(ctx, first.NodeID); err != nil {
		return err
	}
	second, err := d.job(ctx, "two", first.NodeID)
	if err != nil {
		return err
	}
	d.say("\nAll of it held: two jobs ran on nodes %d and %d, and each bill was the quote for its seconds, to the last wei.", first.NodeID, second.NodeID)
	d.say("Next: make devnet starts the same network to play with, and docs/user/cli.md lists every command.")
	return nil
}

func (d *demo) say(format string, args ...any) { fmt.Fprintf(d.out, format+"\n", args...) }

// step begins a part of the demo.
func (d *demo) step(format string, args ...any) {
	d.steps++
	d.say("\n%d. %s", d.steps, fmt.Sprintf(format, args...))
}

// show prints a command as a user types it.
func (d *demo) show(args ...string) {
	words := make([]string, len(args))
	for i, a := range args {
		words[i] = a
		if strings.ContainsAny(a, " ;&>") {
			words[i] = "'" + a + "'"
		}
	}
	d.say("$ %s", strings.Join(words, " "))
}

// do runs a command of a user and shows what it prints.
func (d *demo) do(ctx context.Context, c *devnet.CLI, args ...string) error {
	d.show(append([]string{"aleph"}, args...)...)
	out, err := c.Run(ctx, args...)
	d.indent(out)
	return err
}

// ask runs a command of a user with --json and decodes its answer into v.
func (d *demo) ask(ctx context.Context, c *devnet.CLI, v any, args ...string) error {
	d.show(append([]string{"aleph"}, args...)...)
	return c.JSON(ctx, v, args...)
}

func (d *demo) indent(text []byte) {
	for line := range strings.Lines(string(text)) {
		d.say("  %s", strings.TrimRight(line, "\n"))
	}
}

// startNetwork starts the chain and the nodes.
func (d *demo) startNetwork(ctx context.Context) (err error) {
	d.step("A local network: a chain, a coordinator, two compute nodes")
	d.show("aleph-node", "devnet", "--ephemeral")
	if d.net, err = devnet.Start(ctx, devnet.Options{Bin: d.bin, Image: d.image, Log: d.out}); err != nil {
		return err
	}
	d.say("  ready in %.1f s: chain %d at %s", float64(d.net.TookMS)/1000, d.net.ChainID, d.net.RPCURL)
	for _, n := range d.net.Nodes {
		d.say("  node %d: %s at %s", n.NodeID, n.Name, n.URL)
	}
	return nil
}

// makeAccount makes a user who may pay.
func (d *demo) makeAccount(ctx context.Context) (err error) {
	d.step("An account, with play money, and an allowance for the network")
	if d.home, err = os.MkdirTemp("", "aleph-demo-"); err != nil {
		return fmt.Errorf("make home: %w", err)
	}
	if d.user, err = devnet.NewCLI(d.bin, filepath.Join(d.home, "user"), d.net); err != nil {
		return err
	}
	d.user.Progress = indented{d.out}
	if d.key, err = d.user.SSHKey(); err != nil {
		return err
	}
	for _, line := range []string{"account create me", "account fund", "allowance set 100", "account show"} {
		if err := d.do(ctx, d.user, strings.Fields(line)...); err != nil {
			return err
		}
	}
	return nil
}

// upload puts the guest image into the network.
func (d *demo) upload(ctx context.Context) error {
	d.step("The guest image, stored under the hash of its bytes")
	var up struct {
		ItemHash string `json:"item_hash"`
	}
	if err := d.ask(ctx, d.user, &up, "image", "upload", d.image); err != nil {
		return err
	}
	if d.ref = up.ItemHash; d.ref == "" {
		return errors.New("the upload gave no hash")
	}
	d.say("  image %s", d.ref)
	return nil
}

// wallet returns what the user has in the wallet and as a refund, which is the
// user's too, in wei.
func (d *demo) wallet(ctx context.Context) (*big.Int, error) {
	var v aleph.AccountView
	if err := d.user.JSON(ctx, &v, "account", "show"); err != nil {
		return nil, err
	}
	return new(big.Int).Add(v.TokenBalance.Big(), v.Refund.Big()), nil
}

// job runs a machine from the quote to the receipt. It must not land on the
// node avoid.
func (d *demo) job(ctx context.Context, name string, avoid uint32) (*aleph.Job, error) {
	d.step("Machine %q: quote, signed message, job on chain, boot", name)
	before, err := d.wallet(ctx)
	if err != nil {
		return nil, err
	}
	began := time.Now()
	var made struct {
		Quote *aleph.Quote `json:"quote"`
		Job   *aleph.Job   `json:"job"`
	}
	err = d.ask(ctx, d.user, &made, "instance", "create", "--image", d.ref, "--ssh-key", d.key+".pub",
		"--port", strconv.Itoa(webPort), "--name", name, "--yes")
	if err != nil {
		return nil, err
	}
	j := made.Job
	if j.NodeID == avoid {
		return nil, fmt.Errorf("job %s landed on node %d, which takes no new jobs", j.Spec, j.NodeID)
	}
	token, err := d.visit(ctx, j)
	if err != nil {
		return nil, err
	}
	d.say("  from the command to the first page: %.1f s", time.Since(began).Seconds())
	for _, act := range []func(context.Context, *aleph.Job, string) error{d.logIn, d.follow, d.describe} {
		if err := act(ctx, j, token); err != nil {
			return nil, err
		}
	}
	return j, d.settle(ctx, j, made.Quote, before)
}

// visit gets the page of the machine's web server through its forwarded port
// and returns the token in it.
func (d *demo) visit(ctx context.Context, j *aleph.Job) (string, error) {
	p, ok := j.Port("tcp", webPort)
	if !ok {
		return "", fmt.Errorf("job %s has no forward of port %d", j.Spec, webPort)
	}
	url := fmt.Sprintf("http://%s:%d/", p.HostIP, p.Host)
	d.show("curl", url)
	page, err := get(ctx, url)
	if err != nil {
		return "", err
	}
	d.indent(page)
	_, rest, found := bytes.Cut(page, []byte("token: "))
	token := string(bytes.TrimSpace(rest))
	if !found || len(token) < 32 {
		return "", fmt.Errorf("the page holds no token: %s", page)
	}
	return token, nil
}

func get(ctx context.Context, url string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, stepMax)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, fmt.Errorf("get the page: %w", err)
	}
	defer res.Body.Close()
	page, err := io.ReadAll(io.LimitReader(res.Body, pageMax))
	if err == nil && res.StatusCode != http.StatusOK {
		err = fmt.Errorf("get the page: status %s", res.Status)
	}
	return page, err
}

// logIn logs in with the user's key and compares what the machine itself knows
// with the page.
func (d *demo) logIn(ctx context.Context, j *aleph.Job, token string) error {
	out, err := d.ssh(ctx, j, "cat /var/www/index.html; uname -sr")
	d.indent(out)
	if err == nil && !bytes.Contains(out, []byte(token)) {
		err = errors.New("the machine that ssh reached is not the one that served the page")
	}
	return err
}

// ssh runs a command in the machine as its user does, or, where this machine has
// no ssh program, by a library.
func (d *demo) ssh(ctx context.Context, j *aleph.Job, command string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, stepMax)
	defer cancel()
	args := []string{"instance", "ssh", string(j.Spec), "-i", d.key, "--", command}
	d.show(append([]string{"aleph"}, args...)...)
	if devnet.HasSSH() {
		return d.user.Run(ctx, args...)
	}
	d.say("  there is no ssh program here: logging in by a library")
	p, ok := j.Port("tcp", sshPort)
	if !ok {
		return nil, fmt.Errorf("job %s has no forward of port %d", j.Spec, sshPort)
	}
	return devnet.Login(ctx, p.HostIP, p.Host, d.key, command)
}

// follow streams the console while the machine writes to it.
func (d *demo) follow(ctx context.Context, j *aleph.Job, _ string) error {
	ctx, cancel := context.WithTimeout(ctx, stepMax)
	defer cancel()
	d.show("aleph", "instance", "logs", string(j.Spec), "--follow")
	cmd := exec.CommandContext(ctx, d.user.Binary, "instance", "logs", string(j.Spec), "--follow")
	cmd.Env = d.user.Environ()
	console, err := cmd.StdoutPipe()
	if err != nil {
		return fmt.Errorf("follow console: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("follow console: %w", err)
	}
	const word = "hello from inside"
	found := make(chan bool, 1)
	go func() { found <- d.copyUntil(console, word) }()
	_, err = d.ssh(ctx, j, "echo "+word+" > /dev/console")
	if err == nil && !<-found {
		err = errors.New("the console ended before it said what the machine wrote")
	}
	cancel()
	_ = cmd.Wait() // It was told to stop.
	return err
}

// copyUntil prints what r has until a line holds word, and reports whether one
// did.
func (d *demo) copyUntil(r io.Reader, word string) bool {
	var line []byte
	buf := make([]byte, 1)
	for {
		if _, err := r.Read(buf); err != nil {
			return false
		}
		if line = append(line, buf[0]); buf[0] != '\n' {
			continue
		}
		d.say("  %s", strings.TrimRight(string(line), "\r\n"))
		if bytes.Contains(line, []byte(word)) {
			return true
		}
		line = line[:0]
	}
}

// describe shows where the machine runs and why.
func (d *demo) describe(ctx context.Context, j *aleph.Job, _ string) error {
	return d.do(ctx, d.user, "instance", "show", string(j.Spec))
}

// settle stops the job and checks the bill against the quote, and against what
// the user's wallet has lost since before.
func (d *demo) settle(ctx context.Context, j *aleph.Job, quote *aleph.Quote, before *big.Int) error {
	d.step("Stop, settlement and receipt")
	if err := d.do(ctx, d.user, "instance", "stop", string(j.Spec)); err != nil {
		return err
	}
	if err := d.do(ctx, d.user, "instance", "receipt", string(j.Spec), "--wait"); err != nil {
		return err
	}
	var r aleph.Receipt
	if err := d.user.JSON(ctx, &r, "instance", "receipt", string(j.Spec)); err != nil {
		return err
	}
	want := new(big.Int).Mul(quote.WeiPerSecond.Big(), big.NewInt(r.Seconds))
	switch {
	case !r.Complete:
		return fmt.Errorf("job %s is not settled", j.Spec)
	case r.Seconds <= 0 || r.Seconds != r.StoppedAt-r.StartedAt:
		return fmt.Errorf("job %s was metered for %d s, but ran from %d to %d", j.Spec, r.Seconds, r.StartedAt, r.StoppedAt)
	case r.SettledWei.Big().Cmp(want) != 0:
		return fmt.Errorf("settled %s wei, but the quote of %s wei per second comes to %s wei for %d s", r.SettledWei, quote.WeiPerSecond, want, r.Seconds)
	case r.Split.Sum().Cmp(r.SettledWei) != 0:
		return fmt.Errorf("the shares add up to %s wei, but %s wei were settled", r.Split.Sum(), r.SettledWei)
	}
	after, err := d.wallet(ctx)
	if err != nil {
		return err
	}
	if paid := new(big.Int).Sub(before, after); paid.Cmp(want) != 0 {
		return fmt.Errorf("the wallet has lost %s wei, but the bill is %s wei", paid, want)
	}
	d.say("  checked: the wallet has %s wei less than before, refunds counted", want)
	d.say("  checked: %s wei per second x %d s = %s wei settled", quote.WeiPerSecond, r.Seconds, r.SettledWei)
	d.say("  checked: node %s + coordinator %s + staker %s + development %s = %s wei",
		r.Split.Node, r.Split.Coordinator, r.Split.Staker, r.Split.Development, r.SettledWei)
	return nil
}

// drain takes a node out of work, as its owner.
func (d *demo) drain(ctx context.Context, nodeID uint32) (err error) {
	d.step("The owner drains node %d; the next job must land on the other one", nodeID)
	if d.owner, err = devnet.NewCLI(d.bin, filepath.Join(d.home, "owner"), d.net); err != nil {
		return err
	}
	d.owner.Progress = indented{d.out}
	keyFile := filepath.Join(d.owner.Home, "owner.hex")
	if err := os.WriteFile(keyFile, []byte(d.net.Accounts[ownerIndex].Key+"\n"), 0o600); err != nil {
		return fmt.Errorf("write owner's key: %w", err)
	}
	if err := d.do(ctx, d.owner, "account", "import", "owner", "--key-file", keyFile); err != nil {
		return err
	}
	return d.do(ctx, d.owner, "node", "drain", strconv.FormatUint(uint64(nodeID), 10), "--yes")
}

// close ends the network and removes the accounts.
func (d *demo) close(ctx context.Context) error {
	var err error
	if d.net != nil {
		err = d.net.Stop(ctx)
	}
	if d.home != "" {
		err = errors.Join(err, os.RemoveAll(d.home))
	}
	return err
}

// indented sets off what commands say.
type indented struct{ w io.Writer }

// Write implements io.Writer.
func (i indented) Write(p []byte) (int, error) {
	for line := range strings.Lines(string(p)) {
		if _, err := fmt.Fprintf(i.w, "  %s", line); err != nil {
			return 0, err
		}
	}
	return len(p), nil
}
