package firecracker

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
)

const (
	// callMax bounds one call: all but the making of snapshots, which writes
	// the guest's memory, take some milliseconds.
	callMax = 10 * time.Second
	// saveMax bounds the making of a snapshot.
	saveMax = 10 * time.Minute
	// answerBytesMax bounds what is read of an answer.
	answerBytesMax = 64 << 10
)

// The bodies of calls, as far as we use them. Names and units are those of the
// API's published description; a field that is left out has its default.
type (
	machineConfig struct {
		VCPUs           int  `json:"vcpu_count"`
		MemoryMiB       int  `json:"mem_size_mib"`
		SMT             bool `json:"smt"`
		TrackDirtyPages bool `json:"track_dirty_pages"`
	}
	bootSource struct {
		Kernel string `json:"kernel_image_path"`
		Initrd string `json:"initrd_path,omitempty"`
		Args   string `json:"boot_args,omitempty"`
	}
	drive struct {
		ID       string       `json:"drive_id"`
		Path     string       `json:"path_on_host"`
		Root     bool         `json:"is_root_device"`
		ReadOnly bool         `json:"is_read_only"`
		Cache    string       `json:"cache_type,omitempty"`
		Limiter  *rateLimiter `json:"rate_limiter,omitempty"`
	}
	networkInterface struct {
		ID  string       `json:"iface_id"`
		Tap string       `json:"host_dev_name"`
		MAC string       `json:"guest_mac,omitempty"`
		Rx  *rateLimiter `json:"rx_rate_limiter,omitempty"`
		Tx  *rateLimiter `json:"tx_rate_limiter,omitempty"`
	}
	rateLimiter struct {
		Bandwidth *tokenBucket `json:"bandwidth,omitempty"`
	}
	// tokenBucket holds Size tokens, bytes here, and refills in RefillMillis.
	tokenBucket struct {
		Size         int64 `json:"size"`
		RefillMillis int64 `json:"refill_time"`
	}
	vsockDevice struct {
		CID  uint32 `json:"guest_cid"`
		Path string `json:"uds_path"`
	}
	balloon struct {
		MiB          int  `json:"amount_mib"`
		DeflateOnOOM bool `json:"deflate_on_oom"`
		Reporting    bool `json:"free_page_reporting"`
	}
	entropyDevice struct{}
	serialDevice  struct {
		Limiter *tokenBucket `json:"rate_limiter,omitempty"`
	}
	mmdsConfig struct {
		Version    string   `json:"version"`
		Interfaces []string `json:"network_interfaces"`
	}
	action struct {
		Type string `json:"action_type"`
	}
	vmState struct {
		State string `json:"state"`
	}
	snapshotCreate struct {
		State  string `json:"snapshot_path"`
		Memory string `json:"mem_file_path"`
		Type   string `json:"snapshot_type"`
	}
	memoryBackend struct {
		Type string `json:"backend_type"`
		Path string `json:"backend_path"`
	}
	networkOverride struct {
		ID  string `json:"iface_id"`
		Tap string `json:"host_dev_name"`
	}
	snapshotLoad struct {
		State    string            `json:"snapshot_path"`
		Memory   memoryBackend     `json:"mem_backend"`
		Resume   bool              `json:"resume_vm"`
		Networks []networkOverride `json:"network_overrides,omitempty"`
	}
	// instanceInfo is what a process says of itself.
	instanceInfo struct {
		ID    string `json:"id"`
		State string `json:"state"`
	}
)

// States of a process, and of its guest.
const (
	notStarted = "Not started"
	running    = "Running"
	paused     = "Paused"
)

// call is one request of the API.
type call struct {
	method, path string
	body         any
}

func put(path string, body any) call { return call{http.MethodPut, path, body} }

// client speaks with one Firecracker. Each call has a connection of its own: a
// later daemon finds nothing half-done.
type client struct{ http http.Client }

// newClient returns a client of the socket with the name in root, the open
// directory of a jail.
func newClient(root *os.File, name string) *client {
	return &client{http.Client{Transport: &http.Transport{
		DisableKeepAlives:      true,
		MaxResponseHeaderBytes: answerBytesMax,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return dialIn(ctx, root, name)
		},
	}}}
}

// dialIn connects to a socket of an open directory.
func dialIn(ctx context.Context, root *os.File, name string) (conn net.Conn, err error) {
	err = within(root, func(dir string) error {
		var d net.Dialer
		conn, err = d.DialContext(ctx, "unix", filepath.Join(dir, name))
		return err //nolint:wrapcheck // Both callers say what it is about.
	})
	return conn, err
}

// within gives a short path of an open directory, since a socket's address has
// 108 bytes only. It serves until do returns, whoever closes the directory
// meanwhile.
func within(root *os.File, do func(dir string) error) error {
	raw, err := root.SyscallConn()
	if err != nil {
		return fmt.Errorf("use jail: %w", err)
	}
	var failed error
	if err := raw.Control(func(fd uintptr) { failed = do(filepath.Join("/proc/self/fd", strconv.Itoa(int(fd)))) }); err != nil {
		return fmt.Errorf("use jail: %w", err)
	}
	return failed
}

// do makes a call and decodes its answer to out, which may be nil. What
// Firecracker refuses, or does not answer, is errs.Unavailable.
func (c *client) do(ctx context.Context, do call, out any) error {
	most := callMax
	if _, saves := do.body.(snapshotCreate); saves {
		most = saveMax
	}
	ctx, cancel := context.WithTimeout(ctx, most)
	defer cancel()
	var body io.Reader = http.NoBody
	if do.body != nil {
		raw, err := json.Marshal(do.body)
		if err != nil {
			return fmt.Errorf("encode %s: %w", do.path, err)
		}
		body = bytes.NewReader(raw)
	}
	req, err := http.NewRequestWithContext(ctx, do.method, "http://firecracker"+do.path, body)
	if err != nil {
		return fmt.Errorf("ask Firecracker for %s: %w", do.path, err)
	}
	req.Header.Set("Accept", "application/json")
	if do.body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return errs.New(errs.Unavailable, "ask Firecracker for %s: %w", do.path, err)
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(resp.Body, answerBytesMax))
	switch {
	case err != nil:
		return errs.New(errs.Unavailable, "read Firecracker's answer to %s: %w", do.path, err)
	case resp.StatusCode/100 != 2:
		return errs.New(errs.Unavailable, "Firecracker refuses %s %s: %s", do.method, do.path, fault(resp.StatusCode, raw))
	case out == nil:
		return nil
	}
	if err := json.Unmarshal(raw, out); err != nil {
		return errs.New(errs.Unavailable, "Firecracker's answer to %s is no JSON of the kind that it should be: %w", do.path, err)
	}
	return nil
}

// fault is what an answer says against a call.
func fault(status int, raw []byte) string {
	var said struct {
		Message string `json:"fault_message"`
	}
	if err := json.Unmarshal(raw, &said); err != nil || said.Message == "" {
		return fmt.Sprintf("status %d", status)
	}
	return said.Message
}

// all makes calls in their order, until one fails.
func (c *client) all(ctx context.Context, calls []call) error {
	for _, one := range calls {
		if err := c.do(ctx, one, nil); err != nil {
			return err
		}
	}
	return nil
}

// info asks the process who it is.
func (c *client) info(ctx context.Context) (instanceInfo, error) {
	var info instanceInfo
	err := c.do(ctx, call{method: http.MethodGet, path: "/"}, &info)
	if err == nil && info.ID == "" {
		err = errors.New("Firecracker does not say which machine it is") //nolint:staticcheck // A name.
	}
	return info, err
}

// await waits until the socket answers, as long as ctx allows and gone says that
// the process has not ended.
func (c *client) await(ctx context.Context, gone func() bool) (instanceInfo, error) {
	for {
		info, err := c.info(ctx)
		if err == nil {
			return info, nil
		}
		if gone() {
			return info, errs.New(errs.Unavailable, "the process has ended")
		}
		select {
		case <-ctx.Done():
			return info, fmt.Errorf("%w: %w", context.Cause(ctx), err)
		case <-time.After(connectPoll):
		}
	}
}
