package crn

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"net/http"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
)

// sessionMax bounds a session or a key of an owner, in bytes of base64.
const sessionMax = 64 << 10

func (s *Server) refuseCode(c *call, code, description string) error {
	return s.json(c, http.StatusBadRequest, map[string]string{"code": code, "description": description})
}

// initialize starts a confidential machine with its owner's session.
func (s *Server) initialize(c *call) error {
	e, err := s.owned(c)
	if err != nil {
		return err
	}
	switch {
	case e.Running:
		return s.refuseCode(c, "vm_running", "Operation not allowed, instance already running")
	case !e.Confidential || s.parts.Confidential == nil:
		return s.refuseCode(c, "not_confidential", "Instance is not a confidential instance")
	}
	parts, err := readForm(c, "session", "godh")
	switch {
	case err != nil:
		return err
	case parts["session"] == nil:
		return s.refuseCode(c, "field_missing", "Session field is missing")
	case parts["godh"] == nil:
		return s.refuseCode(c, "field_missing", "godh field is missing. Please provide a GODH file")
	}
	c.unhurried()
	return s.done(c, s.parts.Confidential.Initialize(c.r.Context(), e.Hash, parts["session"], parts["godh"]), "Started VM with ref ", e.Hash)
}

// readForm returns the parts of a form that have these names and are not empty.
func readForm(c *call, names ...string) (map[string][]byte, error) {
	form, err := c.r.MultipartReader()
	if err != nil {
		return nil, nil //nolint:nilerr // A body of another kind has no parts.
	}
	out := map[string][]byte{}
	for range partsMax {
		part, err := form.NextRawPart()
		if errors.Is(err, io.EOF) {
			return out, nil
		}
		if err != nil {
			return nil, refuse(http.StatusBadRequest, "Malformed multipart upload")
		}
		for _, name := range names {
			if part.FormName() != name {
				continue
			}
			raw, err := io.ReadAll(io.LimitReader(part, sessionMax+1))
			if err != nil {
				return nil, errs.New(errs.Invalid, "upload broke off: %w", err)
			}
			if len(raw) > sessionMax {
				return nil, errTooLarge(sessionMax, int64(len(raw)))
			}
			if len(raw) > 0 {
				out[name] = raw
			}
		}
	}
	return nil, refuse(http.StatusBadRequest, "Malformed multipart upload")
}

// measurement shows what the platform measured. While the machine comes up that is
// not known yet, which clients take for a reason to ask again.
func (s *Server) measurement(c *call) error {
	e, err := s.owned(c)
	if err != nil {
		return err
	}
	if !e.Confidential || s.parts.Confidential == nil {
		return s.refuseCode(c, "not_confidential", "Instance is not a confidential instance")
	}
	if e.AwaitingOwner || e.stopped() {
		return refuse(http.StatusForbidden, "Operation not running")
	}
	m, err := s.parts.Confidential.Measurement(c.r.Context(), e.Hash)
	if errs.KindOf(err) == errs.Unavailable {
		return refuse(http.StatusTooEarly, "VM is starting, try again shortly")
	}
	if err != nil {
		return err
	}
	return s.json(c, http.StatusOK, m)
}

// inject gives a confidential machine its secret.
func (s *Server) inject(c *call) error {
	e, err := s.owned(c)
	if err != nil {
		return err
	}
	body, err := readBody(c)
	if err != nil {
		return err
	}
	var in struct {
		PacketHeader *string `json:"packet_header"`
		Secret       *string `json:"secret"`
	}
	switch {
	case !json.Valid(body):
		return errNotJSON()
	case json.Unmarshal(body, &in) != nil:
		return s.wrongBody(c, wrongType("string_type", "string", nil, "packet_header"))
	case in.PacketHeader == nil:
		return s.wrongBody(c, missingField(nil, "packet_header"))
	case in.Secret == nil:
		return s.wrongBody(c, missingField(nil, "secret"))
	case !isBase64(*in.PacketHeader) || !isBase64(*in.Secret):
		return s.wrongBody(c, wrongValue("Value is not base64", nil, "packet_header"))
	case !e.Confidential || s.parts.Confidential == nil:
		return s.refuseCode(c, "not_confidential", "Instance is not a confidential instance")
	case e.AwaitingOwner || e.stopped():
		return refuse(http.StatusForbidden, "Operation not running")
	}
	status, err := s.parts.Confidential.Inject(c.r.Context(), e.Hash, Secret{*in.PacketHeader, *in.Secret})
	if err != nil {
		return err
	}
	return s.json(c, http.StatusOK, map[string]json.RawMessage{"status": status})
}

func isBase64(text string) bool {
	_, err := base64.StdEncoding.DecodeString(text)
	return err == nil
}
