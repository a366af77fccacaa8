package ccn

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/state"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
	"github.com/aleph-onchain/aleph-onchain/protocol/pricing"
)

// proposal is a content whose price is asked for before it is sent.
type proposal struct {
	typ     message.Type
	hash    message.ItemHash
	content message.Content
	said    map[place]pricing.Decimal // Sizes of files that are nowhere yet.
}

func invalidDraft(text string) error { return refuseText(http.StatusUnprocessableEntity, text) }

// estimatePrice answers with what a message would cost that is not signed yet.
func (s *Server) estimatePrice(w http.ResponseWriter, r *http.Request) error {
	raw, err := readBody(r)
	if err != nil {
		return err
	}
	outer, _ := fieldsOf(raw)
	envelope, ok := fieldsOf(outer["message"])
	if !ok {
		return invalidDraft("message is not a dictionary")
	}
	d, err := s.readProposal(r.Context(), envelope)
	if err != nil {
		return err
	}
	return s.answerProposal(w, r, d)
}

// estimateInstance answers with what a machine would cost, by its content alone.
func (s *Server) estimateInstance(w http.ResponseWriter, r *http.Request) error {
	raw, err := readBody(r)
	if err != nil {
		return err
	}
	d := &proposal{typ: message.TypeInstance}
	if err := d.read(raw, nil); err != nil {
		return err
	}
	return s.answerProposal(w, r, d)
}

// readProposal reads an envelope that may lack who sends it, when and the signature.
func (s *Server) readProposal(ctx context.Context, envelope map[string]json.RawMessage) (*proposal, error) {
	var typ string
	_ = json.Unmarshal(envelope["type"], &typ)
	d := &proposal{typ: message.Type(typ)}
	if !slices.Contains([]message.Type{message.TypeInstance, message.TypeProgram, message.TypeStore, message.TypeVProgram}, d.typ) {
		return nil, invalidDraft("Invalid message_type: '" + typ + "'; INSTANCE, PROGRAM, STORE and V-PROGRAM messages have prices")
	}
	content, err := s.proposedContent(ctx, envelope, d)
	if err != nil {
		return nil, err
	}
	return d, d.read(content, envelope)
}

// proposedContent is the content of a proposal, in its envelope or where the client
// has brought it.
func (s *Server) proposedContent(ctx context.Context, envelope map[string]json.RawMessage, d *proposal) ([]byte, error) {
	var kind, content, hash string
	_ = json.Unmarshal(envelope["item_type"], &kind)
	_ = json.Unmarshal(envelope["item_hash"], &hash)
	if kind == string(message.Storage) || kind == string(message.IPFS) {
		d.hash = message.ItemHash(hash)
		return s.broughtContent(ctx, d.hash)
	}
	if err := json.Unmarshal(envelope["item_content"], &content); err != nil {
		return nil, invalidDraft("item_content is not a text")
	}
	if n := utf8.RuneCountInString(content); n > message.MaxInlineChars || tooDeep([]byte(content)) || !json.Valid([]byte(content)) {
		return nil, invalidDraft("item_content is too long, or no JSON")
	}
	d.hash = message.HashOf([]byte(content))
	if raw := envelope["item_hash"]; raw != nil && string(raw) != "null" && message.ItemHash(hash) != d.hash {
		return nil, invalidDraft("item_hash is not that of item_content")
	}
	return []byte(content), nil
}

// broughtContent is a content that a client has brought as a document, because it
// is too long for its message.
func (s *Server) broughtContent(ctx context.Context, hash message.ItemHash) ([]byte, error) {
	st, err := s.storage()
	if err != nil {
		return nil, err
	}
	absent := invalidDraft("item_hash names no content that is here")
	if _, err := message.ParseItemHash(string(hash)); err != nil {
		return nil, absent
	}
	info, err := s.parts.DB.FileInfo(ctx, hash)
	switch {
	case errors.Is(err, errs.NotFound) || err == nil && info.Directory:
		return nil, absent
	case err != nil:
		return nil, err
	case info.SizeBytes > bodyMax:
		return nil, invalidDraft("content is too long")
	}
	f, _, err := st.openFile(hash)
	if kind := errs.KindOf(err); err != nil && (kind == errs.NotFound || kind == errs.Invalid) {
		return nil, absent
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	content, err := io.ReadAll(io.LimitReader(f, bodyMax))
	if err == nil && (!json.Valid(content) || tooDeep(content)) {
		err = invalidDraft("content is no JSON")
	}
	return content, err
}

// The sizes that a content may say of files that are nowhere yet.
const (
	sizeKey     = "estimated_size_mib"
	treeSizeKey = "estimated_hash_tree_size_mib"
	runtimeKey  = "runtime_estimated_size_mib"
)

// read takes the sizes out of a content, which its rules do not know, and reads the
// rest. Who owns it and when it was made may be missing: an envelope says that too,
// and the price does not depend on it.
func (d *proposal) read(raw []byte, envelope map[string]json.RawMessage) error {
	fields, ok := fieldsOf(raw)
	if !ok {
		return invalidDraft("content is not a dictionary")
	}
	d.said = map[place]pricing.Decimal{}
	if err := d.takeSizes(fields); err != nil {
		return err
	}
	fill := func(key string, values ...json.RawMessage) {
		for _, value := range append([]json.RawMessage{fields[key]}, values...) {
			if value != nil && string(value) != "null" {
				fields[key] = value
				return
			}
		}
	}
	fill("address", envelope["sender"], json.RawMessage(`"0x0000000000000000000000000000000000000000"`))
	fill("time", envelope["time"], json.RawMessage(message.FormatTime(time.Now())))
	if d.typ != message.TypeStore {
		fill("allow_amend", json.RawMessage("false"))
	}
	clean, err := json.Marshal(fields)
	if err != nil {
		return invalidDraft(err.Error())
	}
	d.content, err = message.ParseContent(&message.Envelope{Type: d.typ, ItemType: message.Inline}, clean)
	if err != nil {
		return invalidDraft(err.Error())
	}
	return nil
}

// takeSizes takes the sizes out of where they may be.
func (d *proposal) takeSizes(fields map[string]json.RawMessage) error {
	if d.typ == message.TypeStore {
		return d.takeSize(fields, place{pricing.LineStorage, 0})
	}
	delete(fields, runtimeKey)
	for key, of := range map[string]pricing.LineType{"code": pricing.LineCode, "runtime": pricing.LineRuntime, "data": pricing.LineData, "workload": ""} {
		taken, err := d.takeFrom(fields[key], place{of, 0})
		if err != nil {
			return err
		}
		if taken != nil {
			fields[key] = taken
		}
	}
	var volumes []json.RawMessage
	if !json.Valid(fields["volumes"]) || json.Unmarshal(fields["volumes"], &volumes) != nil {
		volumes = nil // The rules of contents say what is wrong with it.
	}
	if volumes == nil {
		return nil
	}
	for i, raw := range volumes {
		taken, err := d.takeFrom(raw, place{pricing.LineImmutable, i})
		if err != nil {
			return err
		}
		if taken != nil {
			volumes[i] = taken
		}
	}
	raw, err := json.Marshal(volumes)
	fields["volumes"] = raw
	return err
}

// takeFrom is an object without its sizes, nil if there are none.
func (d *proposal) takeFrom(raw json.RawMessage, at place) (json.RawMessage, error) {
	fields, ok := fieldsOf(raw)
	if !ok || fields[sizeKey] == nil && fields[treeSizeKey] == nil {
		return nil, nil
	}
	delete(fields, treeSizeKey)
	if err := d.takeSize(fields, at); err != nil {
		return nil, err
	}
	return json.Marshal(fields)
}

// takeSize takes the size out of an object. One of 0 is none, as with the reference.
func (d *proposal) takeSize(fields map[string]json.RawMessage, at place) error {
	raw := strings.TrimSpace(string(fields[sizeKey]))
	delete(fields, sizeKey)
	if raw == "" || raw == "null" {
		return nil
	}
	size, err := pricing.ParseDecimal(raw)
	if err != nil || size.Cmp(pricing.FileSizeMiB(estimateMax)) > 0 {
		return invalidDraft(sizeKey + " is no number of MiB from 0 on")
	}
	if size.Rat().Sign() > 0 {
		d.said[at] = size
	}
	return nil
}

// estimateMax bounds the size of a file of which the price is asked, in bytes.
const estimateMax = 1 << 60

// answerProposal answers with the price of a proposal as of now.
func (s *Server) answerProposal(w http.ResponseWriter, r *http.Request, d *proposal) error {
	ctx := r.Context()
	payment, _ := paymentOf(d.content)
	b := newBill(d.content.Owner(), payment)
	err := s.parts.DB.View(ctx, func(v *state.View) error {
		table, err := s.pricesNow(ctx, v)
		if err != nil {
			return err
		}
		z := newSizes(ctx, v, d.content)
		z.said = d.said
		if store, ok := d.content.(*message.Store); ok {
			if size, ok := z.SizeMiB(pricing.File{Type: pricing.LineStorage}); ok {
				b.charge(table.StoreCost(store, d.hash, size))
			}
			return errors.Join(z.failed, b.measure(d.content, z))
		}
		cost, err := table.Cost(d.content, z)
		switch {
		case z.failed != nil:
			return z.failed
		case err != nil:
			return invalidDraft(err.Error()) // The reference fails itself, for a GPU that nobody sells.
		}
		b.charge(cost)
		return b.measure(d.content, z)
	})
	if err != nil {
		return err
	}
	return s.answerBill(w, r, b)
}
