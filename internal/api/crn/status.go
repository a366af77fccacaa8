package crn

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/aleph-onchain/aleph-onchain/internal/hostinfo"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

const (
	// checkTimeout bounds the check of functions, and checkAnswerMax what of an
	// answer is read.
	checkTimeout   = 60 * time.Second
	checkAnswerMax = 1 << 20
	// ipv6Timeout bounds the check of IPv6 within a machine.
	ipv6Timeout = 2 * time.Second
)

// checkHost shows whether the host reaches the Internet.
func (s *Server) checkHost(c *call) error {
	v, err := s.reaches.Do(c.r.Context(), "", func(ctx context.Context) (*hostinfo.Connectivity, error) {
		return s.parts.Host.Connectivity(ctx), nil
	})
	if err != nil {
		return err
	}
	status := http.StatusOK
	for _, family := range []hostinfo.Reach{v.IPv4, v.IPv6} {
		if !family.Egress || !family.DNS || !family.Domain {
			status = http.StatusServiceUnavailable
		}
	}
	return s.json(c, status, v)
}

// checkIPv6 shows whether the host and its machines reach the Internet by IPv6.
func (s *Server) checkIPv6(c *call) error {
	result, err := s.checks.Do(c.r.Context(), check{what: "ipv6"}, func(ctx context.Context) (map[string]bool, error) {
		host := s.parts.Host.IPv6(ctx)
		ctx, cancel := context.WithTimeout(ctx, ipv6Timeout)
		defer cancel()
		d := &diagnosis{s: s, program: message.ItemHash(s.self.CheckProgram)}
		vm := d.check(ctx, "/ip/6", func(v answerOfCheck) bool { return v.is("result", true) && v.has("headers") })
		return map[string]bool{"host": host, "vm": vm}, nil
	})
	if err != nil {
		return err
	}
	return s.json(c, http.StatusOK, result)
}

func (s *Server) checkProgram(c *call) error {
	return s.diagnose(c, s.self.CheckProgram, c.r.URL.Query().Get("retro-compatibility") == "true")
}

func (s *Server) checkProgramLegacy(c *call) error {
	return s.diagnose(c, s.self.CheckProgramLegacy, true)
}

// check is one that is going on.
type check struct {
	what  string // A program, or "ipv6".
	retro bool
}

// diagnose runs the program with which nodes check themselves. Who asks while it
// runs gets its result.
func (s *Server) diagnose(c *call, program string, retro bool) error {
	if s.parts.Functions == nil {
		return refuse(http.StatusServiceUnavailable, "Server disconnected: functions are not run here")
	}
	c.unhurried()
	result, err := s.checks.Do(c.r.Context(), check{program, retro}, func(ctx context.Context) (map[string]bool, error) {
		ctx, cancel := context.WithTimeout(ctx, checkTimeout)
		defer cancel()
		d := &diagnosis{s: s, program: message.ItemHash(program)}
		return d.run(ctx, retro), nil
	})
	if err != nil {
		return err
	}
	status := http.StatusOK
	for _, name := range []string{"index", "environ", "ipv4", "internet", "dns", "error_handling", "lifespan"} {
		if good, asked := result[name]; asked && !good {
			status = http.StatusServiceUnavailable
		}
	}
	return s.json(c, status, result)
}

// diagnosis asks a program what works.
type diagnosis struct {
	s       *Server
	program message.ItemHash
}

// run asks for everything. The first question starts the program.
func (d *diagnosis) run(ctx context.Context, retro bool) map[string]bool {
	result := map[string]bool{"index": d.check(ctx, "/", func(v answerOfCheck) bool { return v.is("Example", "example_fastapi") })}
	checks := map[string]func() bool{
		"environ": func() bool {
			return d.check(ctx, "/environ", func(v answerOfCheck) bool {
				return v.has("ALEPH_API_HOST", "ALEPH_API_UNIX_SOCKET", "ALEPH_REMOTE_CRYPTO_HOST", "ALEPH_REMOTE_CRYPTO_UNIX_SOCKET", "ALEPH_ADDRESS_TO_USE")
			})
		},
		"messages": func() bool { return d.check(ctx, "/messages", answerOfCheck.hasMessage) },
		"dns": func() bool {
			return d.check(ctx, "/dns", func(v answerOfCheck) bool { return v.filled("ipv4") && v.filled("ipv6") })
		},
		"ipv4": func() bool { return d.check(ctx, "/ip/4", func(v answerOfCheck) bool { return v.is("result", true) }) },
		"internet": func() bool {
			return d.check(ctx, "/internet", func(v answerOfCheck) bool { return v.is("result", float64(http.StatusOK)) })
		},
		"cache":              func() bool { return d.checkCache(ctx) },
		"persistent_storage": func() bool { return d.checkStorage(ctx) },
		"error_handling":     func() bool { return d.checkRaise(ctx) },
	}
	if !retro {
		checks["lifespan"] = func() bool {
			return d.check(ctx, "/lifespan", func(v answerOfCheck) bool { return v.is("Lifespan", true) })
		}
		checks["get_a_message"] = func() bool {
			return d.check(ctx, "/get_a_message", func(v answerOfCheck) bool { return v.has("item_hash") })
		}
	}
	var mu sync.Mutex
	var work sync.WaitGroup
	for name, check := range checks {
		work.Go(func() {
			good := check()
			mu.Lock()
			defer mu.Unlock()
			result[name] = good
		})
	}
	work.Wait()
	return result
}

// answerOfCheck is a document, in the types of encoding/json.
type answerOfCheck struct{ v any }

func (a answerOfCheck) field(name string) any {
	object, ok := a.v.(map[string]any)
	if !ok {
		return nil
	}
	return object[name]
}

func (a answerOfCheck) is(name string, want any) bool { return a.field(name) == want }

func (a answerOfCheck) has(names ...string) bool {
	object, ok := a.v.(map[string]any)
	for _, name := range names {
		if _, here := object[name]; !ok || !here {
			return false
		}
	}
	return ok
}

// filled reports whether a field is there and not empty.
func (a answerOfCheck) filled(name string) bool {
	switch v := a.field(name).(type) {
	case nil:
		return false
	case string:
		return v != ""
	case []any:
		return len(v) > 0
	case bool:
		return v
	default:
		return true
	}
}

func (a answerOfCheck) hasMessage() bool {
	list, ok := answerOfCheck{a.field("Messages")}.field("messages").([]any)
	return ok && len(list) > 0 && answerOfCheck{list[0]}.has("item_hash")
}

// ask calls the program.
func (d *diagnosis) ask(ctx context.Context, path string) (status int, body []byte, err error) {
	if d.s.parts.Functions == nil {
		return 0, nil, refuse(http.StatusServiceUnavailable, "functions are not run here")
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+d.s.self.Domain+path, http.NoBody)
	if err != nil {
		return 0, nil, fmt.Errorf("make request for check: %w", err)
	}
	answer, err := d.s.parts.Functions.Call(ctx, d.program, r)
	if err != nil {
		return 0, nil, err
	}
	defer answer.Body.Close()
	body, err = io.ReadAll(io.LimitReader(answer.Body, checkAnswerMax))
	return answer.StatusCode, body, err
}

// document asks for a document.
func (d *diagnosis) document(ctx context.Context, path string) (answerOfCheck, bool) {
	status, body, err := d.ask(ctx, path)
	if err != nil {
		d.s.log.Debug("check failed", "path", path, "err", err)
		return answerOfCheck{}, false
	}
	var v any
	if status >= http.StatusBadRequest || json.Unmarshal(body, &v) != nil {
		return answerOfCheck{}, false
	}
	return answerOfCheck{v}, true
}

func (d *diagnosis) check(ctx context.Context, path string, good func(answerOfCheck) bool) bool {
	v, ok := d.document(ctx, path)
	return ok && good(v)
}

func (d *diagnosis) checkCache(ctx context.Context) bool {
	return d.check(ctx, "/cache/set/a/42", func(v answerOfCheck) bool { return v.v == true }) &&
		d.check(ctx, "/cache/get/a", func(v answerOfCheck) bool { return v.v == "42" }) &&
		d.check(ctx, "/cache/keys", func(v answerOfCheck) bool {
			keys, _ := v.v.([]any)
			for _, key := range keys {
				if key == "a" {
					return true
				}
			}
			return false
		})
}

func (d *diagnosis) checkStorage(ctx context.Context) bool {
	first, ok := d.document(ctx, "/state/increment")
	if !ok {
		return false
	}
	second, ok := d.document(ctx, "/state/increment")
	before, isNumber := first.field("counter").(float64)
	after, isAfter := second.field("counter").(float64)
	return ok && isNumber && isAfter && after >= before+1
}

// checkRaise checks that what a program says of its failure reaches the caller.
func (d *diagnosis) checkRaise(ctx context.Context) bool {
	status, body, err := d.ask(ctx, "/raise")
	if err != nil {
		f := failureOf(err)
		status, body = f.Status, []byte(f.Text)
	}
	return status == http.StatusInternalServerError && strings.Contains(string(body), "Traceback")
}
