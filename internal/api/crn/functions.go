package crn

import (
	"context"
	"encoding/base32"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/aleph-onchain/aleph-onchain/internal/api"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

const (
	functionPrefix = "/vm/"
	// labelChars is the length of an item hash in base32, as the first label of a
	// host.
	labelChars = 52
	// pieceBytes is how much of an answer is passed on at a time.
	pieceBytes = 32 << 10

	// domainsMax bounds the domains that are remembered, domainLife and
	// domainMissLife for how long, and lookupTimeout a question about one.
	domainsMax                 = 10_000
	domainLife, domainMissLife = time.Minute, 10 * time.Second
	lookupTimeout              = 3 * time.Second
	lookupsMax                 = 64
)

// callsFunction reports whether a request would start a function.
func (s *Server) callsFunction(r *http.Request) bool {
	if strings.HasPrefix(r.URL.Path, functionPrefix) {
		return true
	}
	own := underOwn(r.URL.Path) || strings.HasPrefix(r.URL.Path, "/static/") || strings.HasPrefix(r.URL.Path, "/debug/") || strings.HasPrefix(r.URL.Path, "/v2/about/")
	return !own && !s.isOwn(hostname(r))
}

// callByPath calls the function that a path names.
func (s *Server) callByPath(ctx context.Context, c *call) error {
	name, suffix, _ := strings.Cut(strings.TrimPrefix(c.r.URL.EscapedPath(), functionPrefix), "/")
	text, err := url.PathUnescape(name)
	if err != nil {
		text = name
	}
	program, err := message.ParseItemHash(text)
	if err != nil {
		return refuse(http.StatusBadRequest, fmt.Sprintf("Invalid message reference: %.200s", text))
	}
	return s.pass(ctx, c, program, "/"+suffix)
}

// callByHost calls the function that a host names: by its hash in the first label,
// or by a text record of the domain.
func (s *Server) callByHost(ctx context.Context, c *call) error {
	host := hostname(c.r)
	if c.r.URL.Path == "/" && (c.r.Method == http.MethodGet || c.r.Method == http.MethodHead) && s.isOwn(host) {
		s.index(c)
		return nil
	}
	label, _, _ := strings.Cut(host, ".")
	program, ok := programOfLabel(label)
	if !ok && !s.isOwn(host) {
		program, ok = s.programOfDomain(ctx, host)
	}
	if !ok {
		return refuseReason(http.StatusNotFound, "Invalid message reference")
	}
	return s.pass(ctx, c, program, c.r.URL.EscapedPath())
}

// programOfLabel reads an item hash in base32. There are no such labels for
// identifiers of IPFS.
func programOfLabel(label string) (message.ItemHash, bool) {
	if len(label) != labelChars {
		return "", false
	}
	raw, err := base32.StdEncoding.WithPadding(base32.NoPadding).DecodeString(strings.ToUpper(label))
	if err != nil || len(raw) != 32 {
		return "", false
	}
	return message.ItemHashOf([32]byte(raw)), true
}

// domains remembers where domains lead.
type domains struct {
	mu     sync.Mutex
	known  map[string]knownDomain // guarded by mu
	asking int                    // guarded by mu
}

type knownDomain struct {
	program message.ItemHash // "" for none.
	until   time.Time
}

// programOfDomain is the program that a text record of a domain names.
func (s *Server) programOfDomain(ctx context.Context, domain string) (message.ItemHash, bool) {
	domain = plain(domain)
	if s.parts.Resolver == nil || !strings.Contains(domain, ".") || len(domain) > 253 {
		return "", false
	}
	known, ok := s.domains.begin(domain, s.now())
	if ok {
		return known.program, known.program != ""
	}
	ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	texts, err := s.parts.Resolver.LookupTXT(ctx, "_aleph-id."+domain+".")
	if err != nil {
		s.log.Debug("domain not resolved", "domain", domain, "err", err)
	}
	found, life := message.ItemHash(""), domainMissLife
	for _, text := range texts {
		if program, err := message.ParseItemHash(strings.TrimSpace(text)); err == nil {
			found, life = program, domainLife
			break
		}
	}
	s.domains.end(domain, knownDomain{found, s.now().Add(life)})
	return found, found != ""
}

// plain is the name of a domain in one form.
func plain(domain string) string { return strings.TrimSuffix(strings.ToLower(domain), ".") }

// leads reports whether a domain led to a program when it was last asked for.
func (d *domains) leads(domain string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.known[plain(domain)].program != ""
}

// begin returns what is known of a domain. If nothing is, the caller asks and calls
// end; while too many ask, it is as if nobody knew the domain.
func (d *domains) begin(domain string, now time.Time) (knownDomain, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if known, ok := d.known[domain]; ok && now.Before(known.until) {
		return known, true
	}
	if d.asking >= lookupsMax {
		return knownDomain{}, true
	}
	d.asking++
	return knownDomain{}, false
}

func (d *domains) end(domain string, known knownDomain) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.asking--
	if d.known == nil || len(d.known) >= domainsMax {
		d.known = map[string]knownDomain{}
	}
	d.known[domain] = known
}

// pass calls a function and passes its answer on, piece by piece. An answer of 404
// is the function's own, and stays as it is.
func (s *Server) pass(ctx context.Context, c *call, program message.ItemHash, path string) error {
	if s.parts.Functions == nil {
		return refuse(http.StatusServiceUnavailable, "This CRN cannot host the requested workload at this time.")
	}
	limit := s.self.FunctionBodyMaxBytes
	if c.r.ContentLength > limit {
		return errTooLarge(limit, c.r.ContentLength)
	}
	decoded, err := url.PathUnescape(path)
	if err != nil {
		return refuse(http.StatusBadRequest, "Invalid path")
	}
	c.unhurried()
	r := c.r.Clone(ctx)
	r.URL.Path, r.URL.RawPath = decoded, path
	r.RequestURI = ""
	if c.r.ContentLength != 0 {
		// A function may answer before it has heard all.
		if err := http.NewResponseController(c.w).EnableFullDuplex(); err != nil && !errors.Is(err, http.ErrNotSupported) {
			return fmt.Errorf("read and answer at the same time: %w", err)
		}
		body := &callBody{PatientBody: api.NewPatientBody(c.w, http.MaxBytesReader(c.w, c.r.Body, limit)), Closer: c.r.Body, c: c}
		defer body.end()
		r.Body, c.body = body, body
	}
	answer, err := s.parts.Functions.Call(ctx, program, r)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	c.unhurried()
	return s.passBack(c, program, answer)
}

// callBody is the body of a call, for whose pieces a client has its time. The
// function may work on after the last one, or answer before it.
type callBody struct {
	*api.PatientBody
	io.Closer
	c *call

	read, over atomic.Bool // To its end; the call.
}

// Read implements io.Reader.
func (b *callBody) Read(p []byte) (int, error) {
	if b.over.Load() {
		return 0, http.ErrBodyReadAfterClose
	}
	n, err := b.PatientBody.Read(p)
	if err != nil && !b.over.Load() {
		b.read.Store(errors.Is(err, io.EOF))
		b.c.unhurried()
	}
	return n, err
}

// end lets go of who still reads: the connection is the server's again.
func (b *callBody) end() {
	b.over.Store(true)
	if !b.read.Load() {
		_ = http.NewResponseController(b.c.w).SetReadDeadline(time.Now()) // Without deadlines nobody waits.
	}
}

// ofConnection are the headers that are not the answer's but the connection's, and
// the one that is the node's.
func ofConnection() []string {
	return []string{"Connection", "Keep-Alive", "Proxy-Authenticate", "Proxy-Connection", "Te", "Trailer", "Transfer-Encoding", "Upgrade", "Server"}
}

func (s *Server) passBack(c *call, program message.ItemHash, answer *http.Response) error {
	if answer.StatusCode < 200 || answer.StatusCode > 999 {
		return &Failure{Status: http.StatusBadGateway, Text: "VM answered with the status " + strconv.Itoa(answer.StatusCode), Plain: true}
	}
	for _, name := range ofConnection() {
		answer.Header.Del(name)
	}
	h := c.w.Header()
	for name, values := range answer.Header {
		h[name] = values
	}
	h.Set("Aleph-Program-ItemHash", string(program))
	if c.body != nil && !c.body.read.Load() {
		// What comes of the body after the answer must not be taken for a request.
		h.Set("Connection", "close")
	}
	if answer.ContentLength >= 0 && h.Get("Content-Length") == "" {
		h.Set("Content-Length", strconv.FormatInt(answer.ContentLength, 10))
	}
	c.w.WriteHeader(answer.StatusCode)
	w := api.NewPatientWriter(c.w)
	rc := http.NewResponseController(w)
	piece := make([]byte, pieceBytes)
	for {
		n, err := answer.Body.Read(piece)
		if n > 0 {
			if _, err := w.Write(piece[:n]); err != nil {
				return s.breakOff(c, err)
			}
			if err := rc.Flush(); err != nil && !errors.Is(err, http.ErrNotSupported) {
				return s.breakOff(c, err)
			}
		}
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return s.breakOff(c, err)
		}
	}
}
