package ccn

import (
	"context"
	"encoding/json"
	"net/http"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/aleph-onchain/aleph-onchain/internal/state"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

const (
	// sendersMax bounds the addresses whose numbers are answered at once where the
	// query has no page.
	sendersMax = 1000
	// containsMax bounds the part of an address that is looked for.
	containsMax = 66
	// filesPerPage is how many files a page has unless the query says otherwise.
	filesPerPage = 100
)

// sender writes what an address has sent.
func (o *object) sender(s *state.Sender) {
	in := newObject(nil)
	in.integer("messages", s.Total)
	in.integer("aggregate", s.ByType[message.TypeAggregate])
	in.integer("forget", s.ByType[message.TypeForget])
	in.integer("instance", s.ByType[message.TypeInstance])
	in.integer("post", s.ByType[message.TypePost])
	in.integer("program", s.ByType[message.TypeProgram])
	in.integer("store", s.ByType[message.TypeStore])
	o.raw(s.Address, in.end())
}

// statsV0 answers with how many messages addresses have sent: those of the query,
// or those who have sent most.
func (s *Server) statsV0(w http.ResponseWriter, r *http.Request) error {
	p := readParams(r)
	addresses := p.values["addresses[]"]
	if len(addresses) > sendersMax {
		return refuseText(http.StatusUnprocessableEntity, "at most "+strconv.Itoa(sendersMax)+" addresses can be asked for at once")
	}
	var found []state.Sender
	var err error
	if len(addresses) > 0 {
		found, err = s.parts.DB.SendersNamed(r.Context(), addresses)
	} else {
		found, _, err = s.parts.DB.Senders(r.Context(), state.SenderQuery{}, 0, sendersMax)
	}
	if err != nil {
		return err
	}
	data := newObject(nil)
	for i := range found {
		data.sender(&found[i])
	}
	o := newObject(nil)
	o.raw("data", data.end())
	return s.answerJSON(w, r, http.StatusOK, o.end())
}

// sorting is the type whose count orders a list, "" for that of all.
func (p *params) sorting() message.Type {
	switch p.word("total", []string{"post", "aggregate", "store", "forget", "program", "instance", "total"}, "sortBy") {
	case "post":
		return message.TypePost
	case "aggregate":
		return message.TypeAggregate
	case "store":
		return message.TypeStore
	case "forget":
		return message.TypeForget
	case "program":
		return message.TypeProgram
	case "instance":
		return message.TypeInstance
	}
	return ""
}

// statsV1 answers with addresses in the order of how many messages they have sent.
func (s *Server) statsV1(w http.ResponseWriter, r *http.Request) error {
	p := readParams(r)
	q := state.SenderQuery{By: p.sorting(), Least: p.oldestFirst()}
	q.Contains, _ = p.text("addressContains")
	if utf8.RuneCountInString(q.Contains) > containsMax {
		p.fail("string_too_long", "String should have at most "+strconv.Itoa(containsMax)+" characters", q.Contains, "addressContains")
	}
	pg := p.page(perPage, 0, numberMax)
	if err := p.err(); err != nil {
		return err
	}
	if err := pg.bound(); err != nil {
		return err
	}
	var err error
	if q.After, err = pg.sender(); err != nil {
		return err
	}
	return s.list(w, r, false, func(v *state.View, st *stream) error { return fillSenders(r.Context(), v, st, q, pg) })
}

// sender is where a list of addresses goes on, nil if it begins.
func (pg *page) sender() (*state.SenderPlace, error) {
	if pg.cursor == nil || *pg.cursor == "" {
		return nil, nil
	}
	var c countCursor
	if err := decodeCursor(*pg.cursor, &c, "v", "a"); err != nil {
		return nil, err
	}
	count, err := c.Count.Int64()
	if err != nil {
		return nil, invalidCursor("fields of the wrong type")
	}
	return &state.SenderPlace{Count: count, Address: plain(c.Address)}, nil
}

func fillSenders(ctx context.Context, v *state.View, st *stream, q state.SenderQuery, pg page) error {
	limit := pg.per
	if pg.cursor != nil {
		limit++
	}
	found, total, err := v.Senders(ctx, q, pg.offset(), limit)
	if err != nil {
		return err
	}
	more := pg.cursor != nil && int64(len(found)) > pg.per
	if more {
		found = found[:pg.per]
	}
	if err := st.text(`{"data":`); err != nil {
		return err
	}
	data := newObject(nil)
	for i := range found {
		data.sender(&found[i])
	}
	o := &object{buf: data.end(), begun: true}
	if pg.cursor == nil {
		o.integer("pagination_per_page", pg.per)
		o.integer("pagination_page", pg.number)
		o.integer("pagination_total", total)
		o.text("pagination_item", "addresses")
		return st.text(string(o.end()))
	}
	var next *string
	if more {
		last := found[len(found)-1]
		count := last.Total
		if q.By != "" {
			count = last.ByType[q.By]
		}
		text, err := encodeCursor(countCursor{last.Address, json.Number(strconv.FormatInt(count, 10))})
		if err != nil {
			return err
		}
		next = &text
	}
	o.integer("pagination_per_page", pg.per)
	o.textOrNull("next_cursor", next)
	return st.text(string(o.end()))
}

// addressFiles answers with the files that an address keeps, newest first.
func (s *Server) addressFiles(w http.ResponseWriter, r *http.Request) error {
	p := readParams(r)
	q := state.FileQuery{Owner: r.PathValue("address"), Oldest: p.oldestFirst()}
	hash, _ := p.text("file_hash")
	q.Hash = message.ItemHash(hash)
	pg := p.page(filesPerPage, 0, numberMax)
	if err := p.err(); err != nil {
		return err
	}
	if err := pg.bound(); err != nil {
		return err
	}
	var err error
	if q.After, err = pg.place(); err != nil {
		return err
	}
	return s.list(w, r, false, func(v *state.View, st *stream) error { return fillFiles(r.Context(), v, st, q, pg) })
}

// filesMax is how many files of a list are read at once.
const filesMax = 5000

func fillFiles(ctx context.Context, v *state.View, st *stream, q state.FileQuery, pg page) error {
	// The totals are those of all files of the address, whatever is asked.
	_, total, size, err := v.FilesOf(ctx, state.FileQuery{Owner: q.Owner}, 0, 1)
	if err != nil {
		return err
	}
	o := newObject(nil)
	o.text("address", q.Owner)
	o.integer("total_size", size)
	o.key("files")
	if err := st.text(string(o.buf) + "["); err != nil {
		return err
	}
	wanted := pg.per
	if pg.cursor != nil {
		wanted++
	}
	var last state.File
	var n int64
	for {
		limit := int64(filesMax)
		if wanted > 0 {
			limit = min(limit, wanted-n)
		}
		found, _, _, err := v.FilesOf(ctx, q, pg.offset()+n, limit)
		if err != nil {
			return err
		}
		for _, f := range found {
			if n++; pg.cursor != nil && n > pg.per {
				break
			}
			last = f
			if err := st.grow(func(dst []byte) ([]byte, error) { return appendFile(dst, &f, n == 1, pg.cursor != nil), nil }); err != nil {
				return err
			}
		}
		if int64(len(found)) < limit || n == wanted {
			break
		}
	}
	if n == 0 {
		return refuse(http.StatusNotFound)
	}
	if pg.cursor != nil {
		return st.endCursor(pg, n > pg.per, func() any { return placeCursor{string(last.Ref), isoTime(last.CreatedAt)} })
	}
	end := &object{buf: []byte("]"), begun: true}
	end.integer("pagination_page", pg.number)
	end.integer("pagination_total", total)
	end.integer("pagination_per_page", pg.per)
	return st.text(string(end.end()))
}

// appendFile writes a file. The reference writes its time as a number in cursor
// mode, and as a text otherwise; clients read both.
func appendFile(dst []byte, f *state.File, first, seconds bool) []byte {
	if !first {
		dst = append(dst, ',')
	}
	kind := "file"
	if f.Directory {
		kind = "directory"
	}
	o := newObject(dst)
	o.text("file_hash", string(f.Hash))
	o.integer("size", f.SizeBytes)
	o.text("type", kind)
	if seconds {
		o.seconds("created", f.CreatedAt)
	} else {
		o.text("created", message.FormatISO(f.CreatedAt))
	}
	o.text("item_hash", string(f.Ref))
	return o.end()
}

// addressPostTypes answers with the types of the posts of an address.
func (s *Server) addressPostTypes(w http.ResponseWriter, r *http.Request) error {
	return s.answerWords(w, r, "post_types", func(ctx context.Context, v *state.View, owner string) ([]string, error) {
		return v.PostTypesOf(ctx, owner)
	})
}

// addressChannels answers with the channels that an address has used.
func (s *Server) addressChannels(w http.ResponseWriter, r *http.Request) error {
	return s.answerWords(w, r, "channels", func(ctx context.Context, v *state.View, sender string) ([]string, error) {
		return v.ChannelsOf(ctx, sender)
	})
}

func (s *Server) answerWords(w http.ResponseWriter, r *http.Request, name string, read func(context.Context, *state.View, string) ([]string, error)) error {
	address := r.PathValue("address")
	ctx := r.Context()
	var words []string
	err := s.parts.DB.View(ctx, func(v *state.View) (err error) {
		words, err = read(ctx, v, address)
		return err
	})
	if err != nil {
		return err
	}
	o := newObject(nil)
	o.text("address", address)
	o.texts(name, words)
	return s.answerJSON(w, r, http.StatusOK, o.end())
}

// listChannels answers with the channels that anybody has used.
func (s *Server) listChannels(w http.ResponseWriter, r *http.Request) error {
	all, err := s.channels.get(time.Now(), func() ([]byte, error) {
		words, err := s.parts.DB.Channels(context.WithoutCancel(r.Context()))
		if err != nil {
			return nil, err
		}
		o := newObject(nil)
		o.texts("channels", words)
		return o.end(), nil
	})
	if err != nil {
		return err
	}
	st := &stream{s: s, w: w, r: r, may: true, wants: acceptsGzip(r), buf: all}
	return st.finish()
}
