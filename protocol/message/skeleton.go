package message

import "time"

// Skeleton is what nodes keep and show of a message that was forgotten. See
// section 5.4 of the protocol.
type Skeleton struct {
	Envelope    *Envelope
	Owner       *string // this and what follows is not known of old ones
	PaymentType *PaymentType
	SizeBytes   *int64 // of the file, for a STORE
	ForgottenAt *time.Time
}

// Append appends the skeleton as the answer about one message shows it.
func (s *Skeleton) Append(dst []byte) []byte {
	e, w := s.Envelope, &writer{buf: dst, model: true}
	w.start()
	w.text("sender", e.Sender)
	w.text("chain", string(e.Chain))
	w.signature(e)
	w.text("type", string(e.Type))
	w.text("item_type", string(e.ItemType))
	w.text("item_hash", string(e.ItemHash))
	w.time(e.Time)
	textOrNull(w, "channel", e.Channel)
	textOrNull(w, "owner", s.Owner)
	textOrNull(w, "payment_type", s.PaymentType)
	w.integerOrNull("size", s.SizeBytes)
	if s.ForgottenAt == nil {
		w.null("forgotten_at")
	} else {
		w.key("forgotten_at")
		w.buf = appendFloat(w.buf, asSeconds(*s.ForgottenAt))
	}
	w.close()
	return w.buf
}

// AppendPending appends a message that waits as the answer about one message
// shows it. A content that is not here yet is empty.
func (v *View) AppendPending(dst []byte, receivedAt time.Time) ([]byte, error) {
	e, w := v.Envelope, &writer{buf: dst, model: true}
	w.start()
	w.text("sender", e.Sender)
	w.text("chain", string(e.Chain))
	w.signature(e)
	w.text("type", string(e.Type))
	w.itemContent(e)
	w.text("item_type", string(e.ItemType))
	w.text("item_hash", string(e.ItemHash))
	w.text("time", FormatISO(e.Time))
	textOrNull(w, "channel", e.Channel)
	if len(v.Content) == 0 {
		w.null("content")
	} else {
		d, _, err := decode("content", v.Content)
		if err != nil {
			return dst, err
		}
		w.key("content")
		w.buf = d.appendFree(w.buf, 0, byLength)
	}
	w.text("reception_time", FormatISO(receivedAt))
	w.close()
	return w.buf, nil
}

// FormatISO writes a time as the answers about messages do: ISO 8601 in UTC,
// with microseconds unless there are none.
func FormatISO(t time.Time) string {
	t = t.UTC().Truncate(time.Microsecond)
	if t.Nanosecond() == 0 {
		return t.Format("2006-01-02T15:04:05Z")
	}
	return t.Format("2006-01-02T15:04:05.000000Z")
}
