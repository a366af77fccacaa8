package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/ethereum/go-ethereum/crypto"
	lru "github.com/hashicorp/golang-lru/v2"

	"github.com/aleph-onchain/aleph-onchain/internal/api"
	"github.com/aleph-onchain/aleph-onchain/internal/api/crn"
	"github.com/aleph-onchain/aleph-onchain/internal/blob"
	"github.com/aleph-onchain/aleph-onchain/internal/corenode"
	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/executor"
	"github.com/aleph-onchain/aleph-onchain/internal/functions"
	"github.com/aleph-onchain/aleph-onchain/internal/guestapi"
	"github.com/aleph-onchain/aleph-onchain/internal/keystore"
	"github.com/aleph-onchain/aleph-onchain/internal/state"
	"github.com/aleph-onchain/aleph-onchain/internal/vmm"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
	"github.com/aleph-onchain/aleph-onchain/protocol/signature"
)

const (
	// accountFile is the key of the account that signs for programs.
	accountFile = "programs.key"
	// librarySize is how many messages of programs and their files are remembered.
	librarySize = 4096
	// fetchedGrace is how long a file stays for sure that was just brought: the
	// machine that it is for may not be up yet.
	fetchedGrace = 10 * time.Minute
	// readMax bounds how long the network's interface says nothing to a program.
	readMax = time.Minute
)

// addFunctions adds what runs programs. It returns nil if the settings name no image
// for them.
func (n *Node) addFunctions(ctx context.Context, driver vmm.Driver, exec *executor.Supervisor, messages found) (*functions.Service, error) {
	if n.cfg.Functions.Image == "" {
		return nil, nil
	}
	boot, err := n.openBoot(ctx)
	if err != nil {
		return nil, err
	}
	host, err := n.openGuestAPI(messages.core)
	if err != nil {
		return nil, err
	}
	known, err := lru.New[message.ItemHash, *message.Envelope](librarySize)
	if err != nil {
		return nil, fmt.Errorf("build memory of messages: %w", err)
	}
	lib := library{messages, known, images{n.storage, n.blobs}}
	dir, err := filepath.Abs(n.cfg.Dir("functions"))
	if err != nil {
		return nil, fmt.Errorf("find directory of programs: %w", err)
	}
	fns, err := functions.New(ctx, n.cfg.Functions, dir, functions.Parts{
		Driver: driver, Boots: boot, Messages: lib, Files: lib, Room: rooms{exec}, Networks: networks{exec}, Hosts: host,
	}, n.metrics, n.part("functions"))
	if err != nil {
		return nil, fmt.Errorf("build functions: %w", err)
	}
	n.add("functions", func(ctx context.Context) error {
		// Who calls now is sent elsewhere at once, while other calls end.
		defer context.AfterFunc(ctx, n.machines.Drain)()
		return fns.Run(ctx)
	})
	n.add("triggers", functions.NewTriggers(fns, n.db, assigned{fns}, n.part("triggers")).Run)
	return fns, nil
}

// openBoot opens the image that programs boot.
func (n *Node) openBoot(ctx context.Context) (boots, error) {
	info, err := os.Stat(n.cfg.Functions.Image)
	if err != nil {
		return boots{}, errs.New(errs.Invalid, "[functions] image: %w; make function-image makes one", err)
	}
	// An image of the same name that was made anew is another one.
	dir := n.cfg.QEMU.CacheDir
	if dir == "" {
		dir = n.cfg.Dir("cache")
	}
	dir = filepath.Join(dir, "functions", fmt.Sprintf("%d-%d", info.Size(), info.ModTime().UnixNano()))
	image, err := vmm.OpenImage(ctx, n.cfg.Functions.Image, dir)
	if err != nil {
		return boots{}, fmt.Errorf("open image of functions: %w", err)
	}
	if image.Kernel == "" || image.Initrd == "" {
		return boots{}, errs.New(errs.Invalid, "[functions] image: %s has no kernel and initrd; make function-image makes one", n.cfg.Functions.Image)
	}
	return boots{image}, nil
}

// openGuestAPI opens what answers programs that ask their host.
func (n *Node) openGuestAPI(core *corenode.Client) (*guestapi.Server, error) {
	cache, err := guestapi.OpenCache(n.cfg.Dir("functions", "cache"), n.cfg.GuestAPI, time.Now())
	if err != nil {
		return nil, err
	}
	n.opened("guestapi", cache)
	n.add("guestapi", cache.Run)
	account, err := n.openAccount()
	if err != nil {
		return nil, err
	}
	network, err := n.readNetwork()
	if err != nil {
		return nil, err
	}
	publisher := both{peers: announcer{n.ingest, n.blobs}, log: n.part("guestapi")}
	if core != nil {
		publisher.core = guestapi.NewCourier(n.db, core, n.part("guestapi"))
		n.add("courier", publisher.core.Run)
	}
	return guestapi.New(n.cfg.GuestAPI, cache, account, publisher, network, n.part("guestapi")), nil
}

// both tells peers of a message and hands it to core channel nodes. These judge it: a
// compute node knows too little of the network to refuse a message.
type both struct {
	peers announcer
	core  *guestapi.Courier // nil for none: then peers judge it.
	log   *slog.Logger
}

// Publish implements guestapi.Publisher.
func (b both) Publish(ctx context.Context, program message.ItemHash, envelope json.RawMessage) error {
	if b.core == nil {
		return b.peers.Publish(ctx, envelope)
	}
	if err := b.core.Publish(ctx, program, envelope); err != nil {
		return err
	}
	if err := b.peers.Publish(ctx, envelope); err != nil {
		b.log.Debug("peers not told of a program's message", "err", err)
	}
	return nil
}

// openAccount opens the account that signs for programs.
func (n *Node) openAccount() (guestapi.Account, error) {
	raw, err := keystore.Own(n.cfg.Node.DataDir, accountFile)
	if err != nil {
		return guestapi.Account{}, err
	}
	key, err := crypto.ToECDSA(raw)
	if err != nil {
		return guestapi.Account{}, errs.New(errs.Invalid, "the number in %s is no key: %w", n.cfg.Dir(accountFile), err)
	}
	signer, err := signature.NewEVM(raw)
	if err != nil {
		return guestapi.Account{}, fmt.Errorf("make account of programs: %w", err)
	}
	return guestapi.Account{Signer: signer, PublicKey: crypto.CompressPubkey(&key.PublicKey)}, nil
}

// readNetwork is what programs read of the message network: the interface of the
// first core channel node. Nothing else of that server is theirs to see.
func (n *Node) readNetwork() (http.Handler, error) {
	log := n.part("guestapi")
	if !n.cfg.CoreNode.On() {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			api.Refuse(log, w, r, errs.New(errs.Unavailable, "the node knows no core channel node"))
		}), nil
	}
	to, err := url.Parse(n.cfg.CoreNode.Servers[0])
	if err != nil {
		return nil, fmt.Errorf("read [corenode] servers: %w", err)
	}
	pass := &httputil.ReverseProxy{
		Rewrite:   func(p *httputil.ProxyRequest) { p.SetURL(to) },
		Transport: &http.Transport{Proxy: http.ProxyFromEnvironment, TLSHandshakeTimeout: readMax, ResponseHeaderTimeout: readMax, IdleConnTimeout: readMax},
		ErrorHandler: func(w http.ResponseWriter, r *http.Request, err error) {
			api.Refuse(log, w, r, errs.New(errs.Unavailable, "the core channel node does not answer: %w", err))
		},
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasPrefix(r.URL.EscapedPath(), "/api/v0/") || strings.Contains(r.URL.Path, "..") {
			api.Refuse(log, w, r, errs.New(errs.NotFound, "programs read what is under /api/v0/"))
			return
		}
		pass.ServeHTTP(w, r)
	}), nil
}

// boots is the image of programs.
type boots struct{ image vmm.Image }

// Boot implements functions.Boots.
func (b boots) Boot(context.Context) (vmm.Image, error) { return b.image, nil }

// library has programs and their files.
type library struct {
	found
	known  *lru.Cache[message.ItemHash, *message.Envelope] // Messages do not change.
	images images
}

// content returns what a message says that the network still has.
func (l library) content(ctx context.Context, hash message.ItemHash) (message.Content, error) {
	if l.core == nil {
		env, err := l.Message(ctx, hash)
		if err != nil {
			return nil, err
		}
		return env.Content()
	}
	// While nobody can say, what is known counts.
	if status, err := l.core.Standing(ctx, hash); err == nil && (status == "forgotten" || status == "removed" || status == "rejected") {
		return nil, errs.New(errs.NotFound, "message %s is %s", hash, status)
	}
	env, ok := l.known.Get(hash)
	if !ok {
		var err error
		if env, err = l.Message(ctx, hash); err != nil {
			return nil, err
		}
		l.known.Add(hash, env)
	}
	content, err := env.Content()
	if err != nil {
		return l.core.Content(ctx, env)
	}
	return content, nil
}

// Program implements functions.Messages. Programs change by their files, which they
// may follow.
func (l library) Program(ctx context.Context, spec message.ItemHash) (*message.Program, error) {
	content, err := l.content(ctx, spec)
	if err != nil {
		return nil, err
	}
	program, ok := content.(*message.Program)
	if !ok {
		return nil, errs.New(errs.Invalid, "message %s is no program", spec)
	}
	return program, nil
}

// File implements functions.Files. Only who owns a file makes versions of it, and
// that is not always who owns the program.
func (l library) File(ctx context.Context, _ string, ref message.ItemHash, latest bool) (functions.File, error) {
	store, err := l.store(ctx, ref)
	if err != nil {
		return functions.File{}, err
	}
	if latest && l.core != nil {
		newest, err := l.core.Latest(ctx, store.Address, ref)
		if err != nil {
			return functions.File{}, err
		}
		if newest != nil {
			ref = newest.ItemHash
			l.known.Add(ref, newest)
			if store, err = l.store(ctx, ref); err != nil {
				return functions.File{}, err
			}
		}
	}
	path, err := l.images.Fetch(ctx, store.ItemHash, nil)
	if err != nil {
		return functions.File{}, err
	}
	if path, err = filepath.Abs(path); err != nil {
		return functions.File{}, fmt.Errorf("find file %s: %w", ref, err)
	}
	return functions.File{Path: path, Hash: ref}, nil
}

func (l library) store(ctx context.Context, ref message.ItemHash) (*message.Store, error) {
	content, err := l.content(ctx, ref)
	if err != nil {
		return nil, err
	}
	store, ok := content.(*message.Store)
	if !ok {
		return nil, errs.New(errs.Invalid, "message %s names no file", ref)
	}
	return store, nil
}

// rooms is the room beside machines.
type rooms struct{ exec *executor.Supervisor }

// Reserve implements functions.Room.
func (r rooms) Reserve(ctx context.Context, spec message.ItemHash, need state.Resources) (func(), error) {
	return r.exec.Hold(ctx, spec, need)
}

// networks is the network that machines have, too.
type networks struct{ exec *executor.Supervisor }

// Up implements functions.Networks.
func (n networks) Up(ctx context.Context, spec message.ItemHash) (functions.Network, error) {
	d, err := n.exec.Lend(ctx, spec)
	if err != nil {
		return functions.Network{}, err
	}
	return functions.NetworkAt(d), nil
}

// Down implements functions.Networks.
func (n networks) Down(ctx context.Context, spec message.ItemHash) error {
	return n.exec.Unlend(ctx, spec)
}

// assigned are the programs that a scheduler gave to this node.
type assigned struct{ fns *functions.Service }

// Assigned implements functions.Assigned.
func (a assigned) Assigned(context.Context) ([]message.ItemHash, error) { return a.fns.Held(), nil }

// needs are the files that a compute node keeps.
type needs struct {
	*executor.Supervisor
	fns   *functions.Service
	blobs *blob.Store
}

// Needed implements storage.Room.
func (n needs) Needed(ctx context.Context) (blob.Keep, error) {
	machines, err := n.Supervisor.Needed(ctx)
	fresh := time.Now().Add(-fetchedGrace)
	return func(hash message.ItemHash, usedAt time.Time) bool {
		if machines(hash, usedAt) || usedAt.After(fresh) {
			return true
		}
		path, err := n.blobs.Path(hash)
		if err == nil {
			path, err = filepath.Abs(path)
		}
		return err != nil || n.fns.Uses(path)
	}, err
}

// calls passes calls of programs on.
type calls struct{ fns *functions.Service }

// Call implements crn.Functions.
func (c calls) Call(ctx context.Context, program message.ItemHash, r *http.Request) (*http.Response, error) {
	resp, err := c.fns.Call(ctx, program, r)
	if err != nil {
		return nil, failureOf(err)
	}
	return resp, nil
}

// failureOf tells why a call failed as published nodes do, where some texts begin with
// the status.
func failureOf(err error) error {
	var f *functions.Fault
	if !errors.As(err, &f) {
		return err
	}
	text := f.Text
	if !f.Plain && (f.Status == http.StatusBadRequest || f.Status == http.StatusInternalServerError) {
		text = strconv.Itoa(f.Status) + ": " + text
	}
	return &crn.Failure{Status: f.Status, Text: text, Plain: f.Plain, RetryAfter: f.RetryAfter, Cause: f.Cause}
}
