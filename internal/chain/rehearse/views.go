package rehearse

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/ethereum/go-ethereum/accounts/abi"
	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/common/hexutil"
	"github.com/ethereum/go-ethereum/rpc"

	"github.com/aleph-onchain/aleph-onchain/internal/chain"
	"github.com/aleph-onchain/aleph-onchain/internal/chain/bindings"
	"github.com/aleph-onchain/aleph-onchain/internal/chain/deploy"
	"github.com/aleph-onchain/aleph-onchain/internal/errs"
)

const (
	// perViewMax is how often one view is asked; with more subjects than that,
	// evenly spread ones.
	perViewMax = 300
	// perBatch is how many questions go in one request.
	perBatch = 200
	// toldMax is how many changed answers an error tells, and textMax how much of
	// each.
	toldMax, textMax = 5, 200
)

// question is a view with arguments.
type question struct {
	contract string
	to       common.Address
	method   *abi.Method
	args     []any
	data     []byte
}

// String returns the question as "JobManager.job(0x…)".
func (q *question) String() string {
	args := make([]string, len(q.args))
	for i, a := range q.args {
		args[i] = text(a)
	}
	return fmt.Sprintf("%s.%s(%s)", q.contract, q.method.RawName, strings.Join(args, ", "))
}

// answer is what a view returned, or refused with.
type answer struct {
	data    []byte
	refused bool
	reason  string // Of a refusal without data.
}

// say returns the answer to a question for people.
func (a *answer) say(q *question) string {
	if a.refused {
		if len(a.data) > 0 {
			return "refused: " + chain.DecodeRevert(a.data).Error()
		}
		return "refused: " + a.reason
	}
	values, err := q.method.Outputs.Unpack(a.data)
	if err != nil {
		return hexutil.Encode(a.data)
	}
	parts := make([]string, len(values))
	for i, v := range values {
		parts[i] = text(v)
	}
	return shorten(strings.Join(parts, ", "))
}

func text(v any) string {
	switch v := v.(type) {
	case [32]byte:
		return hexutil.Encode(v[:])
	case []byte:
		return hexutil.Encode(v)
	}
	return shorten(fmt.Sprintf("%+v", v))
}

func shorten(s string) string {
	if len(s) > textMax {
		return s[:textMax] + "…"
	}
	return s
}

// questions are all views of the contracts with the subjects of the state as
// arguments, and the views that nothing in the state can be an argument of.
func questions(d *deploy.Deployment, suite []bindings.Contract, s *subjects) (all []question, unasked []string, err error) {
	for _, c := range suite {
		if c.Role != bindings.Proxied && c.Name != "AlephLens" && c.Name != "AlephToken" {
			continue
		}
		to, err := d.Contracts.Address(c.Name)
		if err != nil {
			return nil, nil, err
		}
		parsed, err := c.Meta.ParseABI()
		if err != nil {
			return nil, nil, errs.New(errs.Internal, "read the interface of %s: %w", c.Name, err)
		}
		names := make([]string, 0, len(parsed.Methods))
		for name, m := range parsed.Methods {
			if m.IsConstant() {
				names = append(names, name)
			}
		}
		slices.Sort(names)
		for _, name := range names {
			m := parsed.Methods[name]
			lists := arguments(&m, s)
			if len(lists) == 0 {
				unasked = append(unasked, c.Name+"."+m.RawName)
			}
			for _, args := range lists {
				data, err := parsed.Pack(name, args...)
				if err != nil {
					return nil, nil, errs.New(errs.Internal, "ask %s.%s: %w", c.Name, name, err)
				}
				all = append(all, question{contract: c.Name, to: to, method: &m, args: args, data: data})
			}
		}
	}
	return all, unasked, nil
}

// arguments returns the lists of arguments that a view is asked with: all there
// are, or evenly spread ones.
func arguments(m *abi.Method, s *subjects) [][]any {
	choices, total := make([][]any, len(m.Inputs)), 1
	for i, in := range m.Inputs {
		choices[i] = s.of(in)
		total *= len(choices[i])
	}
	count := min(total, perViewMax)
	out := make([][]any, count)
	for i := range out {
		rest := i * total / count
		for _, values := range choices {
			out[i] = append(out[i], values[rest%len(values)])
			rest /= len(values)
		}
	}
	return out
}

// moment is when, and with which code, views are asked.
type moment struct {
	block uint64                            // The state is that after this block.
	at    *chain.Header                     // Whose number and time the views see.
	code  map[common.Address]common.Address // Code of proxies that are not upgraded yet.
}

// ask returns the answers of a moment.
func (r *rehearsal) ask(ctx context.Context, all []question, m moment) ([]answer, error) {
	overrides := map[common.Address]any{}
	for proxy, code := range m.code {
		overrides[proxy] = map[string]any{"stateDiff": map[common.Hash]common.Hash{deploy.ImplementationSlot: common.BytesToHash(code[:])}}
	}
	block := map[string]any{"number": hexutil.Uint64(m.at.Number), "time": hexutil.Uint64(m.at.Time)}
	out := make([]answer, len(all))
	for start := 0; start < len(all); start += perBatch {
		part := all[start:min(start+perBatch, len(all))]
		raws, elems := make([]hexutil.Bytes, len(part)), make([]rpc.BatchElem, len(part))
		for i := range part {
			call := map[string]any{"to": part[i].to, "input": hexutil.Bytes(part[i].data)}
			elems[i] = rpc.BatchElem{
				Method: "eth_call", Args: []any{call, hexutil.Uint64(m.block), overrides, block}, Result: &raws[i],
			}
		}
		if err := r.rpc.BatchCallContext(ctx, elems); err != nil {
			return nil, errs.New(errs.Unavailable, "ask %d views: %w", len(part), err)
		}
		for i := range elems {
			a, err := answerOf(raws[i], elems[i].Error)
			if err != nil {
				return nil, fmt.Errorf("ask %s: %w", &part[i], err)
			}
			out[start+i] = a
		}
	}
	return out, nil
}

// answerOf tells a refusal from a failure to ask.
func answerOf(raw []byte, err error) (answer, error) {
	if err == nil {
		return answer{data: raw}, nil
	}
	var known rpc.Error
	if !errors.As(err, &known) {
		return answer{}, errs.New(errs.Unavailable, "%w", err)
	}
	a := answer{refused: true, reason: err.Error()}
	var with rpc.DataError
	if errors.As(err, &with) {
		if encoded, ok := with.ErrorData().(string); ok {
			a.data = common.FromHex(encoded)
		}
	}
	return a, nil
}

// Comparison is how the answers of a contract's views before and after relate.
type Comparison struct {
	Contract  string
	Views     int      // Different ones.
	Questions int      // Views with arguments.
	New       []string // Views that the old code does not have.
}

// compare asks all questions of two moments and tells, as an error, what
// changed although it must not.
func (r *rehearsal) compare(ctx context.Context, all []question, before, after moment) ([]Comparison, error) {
	was, err := r.ask(ctx, all, before)
	if err != nil {
		return nil, err
	}
	is, err := r.ask(ctx, all, after)
	if err != nil {
		return nil, err
	}
	var out []Comparison
	var changed []string
	for first := 0; first < len(all); {
		// All questions to one view.
		end := first + 1
		for end < len(all) && all[end].contract == all[first].contract && all[end].method.Name == all[first].method.Name {
			end++
		}
		if n := len(out); n == 0 || out[n-1].Contract != all[first].contract {
			out = append(out, Comparison{Contract: all[first].contract})
		}
		c := &out[len(out)-1]
		c.Views++
		c.Questions += end - first
		if added(was[first:end], is[first:end]) {
			c.New = append(c.New, all[first].method.RawName)
		} else {
			for i := first; i < end; i++ {
				if !r.agree(&all[i], &was[i], &is[i]) {
					changed = append(changed, fmt.Sprintf("%s was %s, is %s", &all[i], was[i].say(&all[i]), is[i].say(&all[i])))
				}
			}
		}
		first = end
	}
	if len(changed) > 0 {
		return out, errs.New(errs.Conflict,
			"%d of %d answers of the contracts are others with the new code: %s; the new code does not keep what the old one stored: correct it, and do not announce it",
			len(changed), len(all), strings.Join(changed[:min(len(changed), toldMax)], "; "))
	}
	return out, nil
}

// added reports whether the old code does not have a view: it refused every
// question, without a word, and the new code does not.
func added(was, is []answer) bool {
	answered := false
	for i := range was {
		if !was[i].refused || len(was[i].data) > 0 {
			return false
		}
		answered = answered || !is[i].refused
	}
	return answered
}

// agree reports whether two answers are the same, but for what an upgrade is to
// change.
func (r *rehearsal) agree(q *question, was, is *answer) bool {
	if was.refused != is.refused {
		return false
	}
	if bytes.Equal(was.data, is.data) && (!is.refused || was.reason == is.reason) {
		return true
	}
	switch q.method.RawName {
	case "VERSION":
		return true // Compared with that of the new code itself.
	case "announcedUpgrade":
		return !is.refused && len(bytes.Trim(is.data, "\x00")) == 0
	}
	// Where the second half of the code is.
	for name, old := range r.old.Implementations {
		if bytes.Equal(was.data, common.LeftPadBytes(old.Address[:], 32)) {
			next := r.next.Implementations[name].Address
			return bytes.Equal(is.data, common.LeftPadBytes(next[:], 32))
		}
	}
	return false
}
