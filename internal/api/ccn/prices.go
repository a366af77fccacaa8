package ccn

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/ingest"
	"github.com/aleph-onchain/aleph-onchain/internal/state"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
	"github.com/aleph-onchain/aleph-onchain/protocol/pricing"
)

// Prices knows what things cost; ingest.Pipeline does.
type Prices interface {
	// Prices returns the prices that the network had published by a time.
	Prices(ctx context.Context, v *state.View, at time.Time) (*pricing.Table, error)
	// Reprice computes the costs of a message again, or of all.
	Reprice(ctx context.Context, hash message.ItemHash) (*ingest.Repriced, error)
}

// nothing is an amount as costs have it.
const nothing = "0.000000000000000000"

// bill is what is told of the cost of a content. Amounts are texts with 18 decimals.
type bill struct {
	owner                string
	payment              message.PaymentType
	hold, stream, credit string
	lines                []billLine
}

// billLine is a line of a bill, as rows of costs have it.
type billLine struct {
	Type, Name           string
	Hold, Stream, Credit string
	sizeMiB              *float64
}

func newBill(owner string, payment message.PaymentType) *bill {
	return &bill{owner: owner, payment: payment, hold: nothing, stream: nothing, credit: nothing}
}

// charge puts a cost on the bill.
func (b *bill) charge(c *pricing.Cost) {
	b.hold, b.stream, b.credit = c.Hold.String(), c.Stream.String(), c.Credit.String()
	for _, l := range c.Lines {
		b.lines = append(b.lines, billLine{Type: string(l.Type), Name: l.Name, Hold: l.Hold.String(), Stream: l.Stream.String(), Credit: l.Credit.String()})
	}
}

// total is the sum in the column of the payment.
func (b *bill) total() string {
	switch b.payment {
	case message.PaySuperfluid:
		return b.stream
	case message.PayCredit:
		return b.credit
	default:
		return b.hold
	}
}

// append writes the bill. required_tokens is a float, which clients read, and cost
// the exact amount.
func (b *bill) append(dst []byte) ([]byte, error) {
	tokens, err := strconv.ParseFloat(b.total(), 64)
	if err != nil {
		return dst, fmt.Errorf("cost is %q: %w", b.total(), err)
	}
	o := newObject(dst)
	o.float("required_tokens", tokens)
	o.text("payment_type", string(b.payment))
	o.text("cost", b.total())
	o.billLines("detail", b.lines)
	o.text("charged_address", b.owner)
	return o.end(), nil
}

func (o *object) billLines(key string, lines []billLine) {
	o.key(key)
	o.buf = append(o.buf, '[')
	for i, l := range lines {
		if i > 0 {
			o.buf = append(o.buf, ',')
		}
		line := newObject(o.buf)
		line.text("type", l.Type)
		line.text("name", l.Name)
		line.text("cost_hold", l.Hold)
		line.text("cost_stream", l.Stream)
		line.text("cost_credit", l.Credit)
		if l.sizeMiB == nil {
			line.raw("size_mib", nil)
		} else {
			line.float("size_mib", *l.sizeMiB)
		}
		o.buf = line.end()
	}
	o.buf = append(o.buf, ']')
}

// answerBill answers with a bill.
func (s *Server) answerBill(w http.ResponseWriter, r *http.Request, b *bill) error {
	raw, err := b.append(nil)
	if err != nil {
		return err
	}
	return s.answerJSON(w, r, http.StatusOK, raw)
}

// price answers with what a message costs: as of when it was taken in, or as of now
// where only the size of a file is left of it.
func (s *Server) price(w http.ResponseWriter, r *http.Request) error {
	hash, err := itemHash(r)
	if err != nil {
		return err
	}
	ctx, p := r.Context(), readParams(r)
	raw, _ := p.text("include_size")
	sized := strings.EqualFold(raw, "true")
	var b *bill
	err = s.parts.DB.View(ctx, func(v *state.View) error {
		known, err := v.Known(ctx, hash)
		switch {
		case errors.Is(err, errs.NotFound):
			return refuseText(http.StatusNotFound, "Message not found with hash: "+string(hash))
		case err != nil:
			return err
		}
		b, err = s.billOf(ctx, v, known, hash, sized)
		return err
	})
	if err != nil {
		return err
	}
	return s.answerBill(w, r, b)
}

// billOf is the bill of what is known of a message. The reference answers 102 for
// one that is pending, which clients take for the beginning of another answer.
func (s *Server) billOf(ctx context.Context, v *state.View, k *state.Known, hash message.ItemHash, sized bool) (*bill, error) {
	switch k.Status {
	case state.MessageProcessed, state.MessageRemoving:
		return storedBill(ctx, v, k.Message, sized)
	case state.MessagePending:
		return nil, refuseText(http.StatusNotFound, "Message still pending: "+string(hash))
	case state.MessageRejected:
		return nil, refuseText(http.StatusNotFound, "This message was rejected: "+string(hash))
	case state.MessageForgotten, state.MessageRemoved:
	}
	return s.endedBill(ctx, v, k.Skeleton)
}

// storedBill is what a message costs that counts.
func storedBill(ctx context.Context, v *state.View, m *state.Message, sized bool) (*bill, error) {
	content, err := m.Body()
	if err != nil {
		return nil, err
	}
	payment, ok := paymentOf(content)
	if !ok {
		return nil, refuseText(http.StatusBadRequest, "Message is not an executable or store message: "+string(m.Envelope.ItemHash))
	}
	b := newBill(m.Owner, payment)
	c, err := v.Cost(ctx, m.Envelope.ItemHash)
	if errors.Is(err, errs.NotFound) {
		return b, nil // The size of its file is not known.
	}
	if err != nil {
		return nil, err
	}
	return b, b.read(ctx, v, c, content, sized)
}

// read takes over a row.
func (b *bill) read(ctx context.Context, v *state.View, c *state.Cost, content message.Content, sized bool) error {
	b.hold, b.stream, b.credit = c.Hold, c.Stream, c.Credit
	if err := json.Unmarshal(c.Lines, &b.lines); err != nil {
		return fmt.Errorf("read lines of the cost of %s: %w", c.Message, err)
	}
	if !sized {
		return nil
	}
	return b.measure(content, newSizes(ctx, v, content))
}

// endedBill is what keeping the file of a STORE message would cost that was forgotten
// or removed. Of nothing else enough is left.
func (s *Server) endedBill(ctx context.Context, v *state.View, k *state.Skeleton) (*bill, error) {
	if k.Envelope.Type != message.TypeStore || k.SizeBytes == nil {
		return nil, refuseText(http.StatusGone, "This message has been "+string(k.Status)+": "+string(k.Envelope.ItemHash))
	}
	payment := message.PayHold
	if k.PaymentType != nil {
		payment = *k.PaymentType
	}
	table, err := s.pricesNow(ctx, v)
	if err != nil {
		return nil, err
	}
	size := pricing.FileSizeMiB(*k.SizeBytes)
	cost := table.StoreCost(&message.Store{Payment: &message.Payment{Type: payment}}, k.Envelope.ItemHash, size)
	b := newBill(k.Owner, payment)
	b.charge(cost)
	return b, nil
}

// pricesNow are the prices that hold.
func (s *Server) pricesNow(ctx context.Context, v *state.View) (*pricing.Table, error) {
	if s.parts.Prices == nil {
		return pricing.Default()
	}
	return s.parts.Prices.Prices(ctx, v, time.Now())
}

// paymentOf returns how a content is paid for; false if it costs nothing.
func paymentOf(c message.Content) (message.PaymentType, bool) {
	switch c := c.(type) {
	case *message.Store:
		return c.PaymentType(), true
	case *message.Program:
		return c.PaymentType(), true
	case *message.Instance:
		return c.PaymentType(), true
	case *message.VerifiableProgram:
		return c.PaymentType(), true
	}
	return "", false
}

// place is where a content names a file.
type place struct {
	of pricing.LineType
	n  int // Of a volume.
}

// sizes finds the sizes of the files that a content names: those that the client
// says, or those of the files that are known here.
type sizes struct {
	content message.Content
	said    map[place]pricing.Decimal
	find    func(ref message.ItemHash, latest bool) (pricing.Decimal, error)
	failed  error
}

func newSizes(ctx context.Context, v *state.View, content message.Content) *sizes {
	return &sizes{content: content, find: func(ref message.ItemHash, latest bool) (size pricing.Decimal, err error) {
		if s, ok := content.(*message.Store); ok {
			return fileSize(ctx, v, s.ItemHash)
		}
		find := v.Pin
		if latest {
			find = v.Tagged
		}
		pin, err := find(ctx, string(ref))
		if err != nil {
			return size, err
		}
		return fileSize(ctx, v, pin.File)
	}}
}

func fileSize(ctx context.Context, v *state.View, file message.ItemHash) (pricing.Decimal, error) {
	info, err := v.FileInfo(ctx, file)
	if err != nil {
		return pricing.Decimal{}, err
	}
	return pricing.FileSizeMiB(info.SizeBytes), nil
}

// SizeMiB implements pricing.Sizes.
func (z *sizes) SizeMiB(f pricing.File) (pricing.Decimal, bool) {
	if size, ok := z.said[place{f.Type, f.Index}]; ok {
		return size, true
	}
	size, err := z.find(f.Ref, z.latest(f))
	if err != nil && !errors.Is(err, errs.NotFound) {
		z.failed = err
	}
	return size, err == nil
}

// latest reports whether a content follows the versions of a file.
func (z *sizes) latest(f pricing.File) bool {
	var volumes []message.Volume
	switch c := z.content.(type) {
	case *message.Instance:
		volumes = c.Volumes
	case *message.Program:
		switch f.Type {
		case pricing.LineCode:
			return c.Code.UseLatest
		case pricing.LineRuntime:
			return c.Runtime.UseLatest
		case pricing.LineData:
			return c.Data.UseLatest != nil && *c.Data.UseLatest
		default:
		}
		volumes = c.Volumes
	}
	return f.Index < len(volumes) && volumes[f.Index].UseLatest
}

// measure writes the sizes of disks and files on the lines of a bill.
func (b *bill) measure(content message.Content, z *sizes) error {
	for i := range b.lines {
		l := &b.lines[i]
		if size, ok := z.line(content, l); ok {
			f, _ := size.Rat().Float64()
			l.sizeMiB = &f
		}
	}
	return z.failed
}

// line is the size of what a line is for.
func (z *sizes) line(content message.Content, l *billLine) (pricing.Decimal, bool) {
	var volumes []message.Volume
	switch c := content.(type) {
	case *message.Store:
		return z.SizeMiB(pricing.File{Type: pricing.LineStorage})
	case *message.Instance:
		if l.Type == string(pricing.LineRootfs) {
			return pricing.FileSizeMiB(c.Rootfs.SizeMiB << 20), true
		}
		volumes = c.Volumes
	case *message.Program:
		switch f := (pricing.File{Type: pricing.LineType(l.Type)}); f.Type {
		case pricing.LineCode:
			f.Ref = c.Code.Ref
			return z.SizeMiB(f)
		case pricing.LineRuntime:
			f.Ref = c.Runtime.Ref
			return z.SizeMiB(f)
		case pricing.LineData:
			f.Ref = *c.Data.Ref
			return z.SizeMiB(f)
		default:
		}
		volumes = c.Volumes
	}
	return z.volume(volumes, l)
}

// volume is the size of the volume that a line names by its number.
func (z *sizes) volume(volumes []message.Volume, l *billLine) (pricing.Decimal, bool) {
	head, _, _ := strings.Cut(l.Name, ":")
	n, err := strconv.Atoi(strings.TrimPrefix(head, "#"))
	if err != nil || n < 0 || n >= len(volumes) {
		return pricing.Decimal{}, false
	}
	if v := volumes[n]; v.Kind != message.Immutable {
		return pricing.FileSizeMiB(v.SizeMiB << 20), true
	}
	return z.SizeMiB(pricing.File{Type: pricing.LineImmutable, Index: n, Ref: volumes[n].Ref})
}
