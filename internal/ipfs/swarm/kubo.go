package swarm

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"net/url"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
)

// kuboLineMax bounds one line of a Kubo's answers.
const kuboLineMax = 64 << 10

// kubo asks a Kubo by its RPC. It is another's program, so it is believed no more
// than anybody.
type kubo struct {
	base   *url.URL
	client *http.Client
}

// name implements source.
func (kubo) name() string { return "kubo" }

// open implements source.
func (k kubo) open(context.Context) (session, error) { return k, nil }

// parallel implements session.
func (kubo) parallel() int { return httpParallel }

// patience implements session. Kubo looks for what it does not have.
func (kubo) patience(stall time.Duration) time.Duration { return stall }

// get implements session.
func (k kubo) get(ctx context.Context, c cid.Cid) ([]byte, error) {
	body, err := k.call(ctx, "block/get", url.Values{"arg": {c.String()}}, nil, "")
	if err != nil {
		return nil, err
	}
	return readBlock(c, body)
}

// stream implements streamer.
func (k kubo) stream(ctx context.Context, root cid.Cid) (io.ReadCloser, error) {
	return k.call(ctx, "dag/export", url.Values{"arg": {root.String()}, "progress": {"false"}}, nil, "")
}

// call sends a command.
func (k kubo) call(ctx context.Context, command string, args url.Values, body io.Reader, contentType string) (io.ReadCloser, error) {
	u := k.base.JoinPath("api", "v0", command)
	u.RawQuery = args.Encode()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, u.String(), body)
	if err != nil {
		return nil, fmt.Errorf("ask Kubo for %s: %w", command, err)
	}
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	out, err := do(k.client, req)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", command, err)
	}
	return out, nil
}

// lines sends a command and reads its answer line by line. A Kubo that fails in the
// middle says so in a line of its own.
func (k kubo) lines(ctx context.Context, command string, args url.Values, body io.Reader, contentType string, each func(line []byte) error) error {
	in, err := k.call(ctx, command, args, body, contentType)
	if err != nil {
		return err
	}
	return errors.Join(readLines(in, command, each), in.Close())
}

// readLines reads an answer.
func readLines(in io.Reader, command string, each func(line []byte) error) error {
	scan := bufio.NewScanner(in)
	scan.Buffer(nil, kuboLineMax)
	for scan.Scan() {
		var failed struct{ Message, Type string }
		if err := json.Unmarshal(scan.Bytes(), &failed); err != nil {
			return errs.New(errs.Unavailable, "%s: a line of the answer is no JSON: %w", command, err)
		}
		if failed.Type == "error" {
			return errs.New(errs.Unavailable, "%s: %.200q", command, failed.Message)
		}
		if err := each(scan.Bytes()); err != nil {
			return err
		}
	}
	if err := scan.Err(); err != nil {
		return errs.New(errs.Unavailable, "%s: read answer: %w", command, err)
	}
	return nil
}

// importDAG gives content to Kubo: write writes it as an archive. It is not pinned
// yet.
func (k kubo) importDAG(ctx context.Context, write func(w io.Writer) error) error {
	r, w := io.Pipe()
	defer r.Close()
	form := multipart.NewWriter(w)
	go func() {
		part, err := form.CreateFormFile("file", "content.car")
		if err == nil {
			err = write(part)
		}
		if err == nil {
			err = form.Close()
		}
		_ = w.CloseWithError(err) // It never fails.
	}()
	return k.lines(ctx, "dag/import", url.Values{"pin-roots": {"false"}}, r, form.FormDataContentType(), ignore)
}

func ignore([]byte) error { return nil }

// pin makes Kubo keep what is below the root, under a name that tells it from what
// others pinned.
func (k kubo) pin(ctx context.Context, root cid.Cid, name string) error {
	return k.lines(ctx, "pin/add", url.Values{"arg": {root.String()}, "recursive": {"true"}, "name": {name}}, nil, "", ignore)
}

// unpin lets Kubo forget a root.
func (k kubo) unpin(ctx context.Context, root cid.Cid) error {
	return k.lines(ctx, "pin/rm", url.Values{"arg": {root.String()}}, nil, "", ignore)
}

// pins returns the roots that are pinned under the name, by their multihash.
func (k kubo) pins(ctx context.Context, name string) (map[string]cid.Cid, error) {
	out := pinned{name: name, roots: map[string]cid.Cid{}}
	args := url.Values{"type": {"recursive"}, "names": {"true"}, "name": {name}, "stream": {"true"}}
	err := k.lines(ctx, "pin/ls", args, nil, "", out.add)
	return out.roots, err
}

// pinned gathers the roots of one name.
type pinned struct {
	name  string
	roots map[string]cid.Cid // by multihash
}

// add reads a line of the answer.
func (p pinned) add(line []byte) error {
	var row struct{ Cid, Name string }
	if err := json.Unmarshal(line, &row); err != nil {
		return errs.New(errs.Unavailable, "pin/ls: decode answer: %w", err)
	}
	if row.Name != p.name {
		return nil // It finds names that contain the one.
	}
	c, err := cid.Decode(row.Cid)
	if err != nil {
		return errs.New(errs.Unavailable, "pin/ls: %.100q is no CID: %w", row.Cid, err)
	}
	p.roots[string(c.Hash())] = c
	return nil
}
