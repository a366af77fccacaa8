package archive

import (
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

// Writer writes an archive, message by message.
type Writer struct {
	out []byte
	n   int
}

const (
	head = `{"protocol": "` + OnChain + `", "version": 1, "content": {"messages": [`
	tail = `]}}`
)

// Add puts a message into the archive, and reports false if it is full: the message
// is not in it then, and no other will be.
func (w *Writer) Add(e *message.Envelope) bool {
	if w.n == PublishMessages {
		return false
	}
	if w.n == 0 {
		w.out = append(w.out[:0], head...)
	}
	before := len(w.out)
	if w.n > 0 {
		w.out = append(w.out, ", "...)
	}
	w.out = appendMessage(w.out, e)
	if len(w.out)+len(tail) > PublishBytes && w.n > 0 {
		w.out = w.out[:before]
		return false
	}
	w.n++
	return true
}

// Len is how many messages the archive has.
func (w *Writer) Len() int { return w.n }

// Bytes is the archive. Nothing may be added any more.
func (w *Writer) Bytes() []byte {
	if w.n == 0 {
		return []byte(head + tail)
	}
	return append(w.out, tail...)
}

// appendMessage writes a message as the reference does: keys in its order, a space
// after each colon and comma, texts in ASCII.
func appendMessage(out []byte, e *message.Envelope) []byte {
	text := func(key, value string) { out = appendText(append(out, key...), value) }
	maybe := func(key string, value *string) {
		if value == nil {
			out = append(append(out, key...), "null"...)
			return
		}
		text(key, *value)
	}
	text(`{"sender": `, e.Sender)
	text(`, "chain": `, string(e.Chain))
	var signature, content *string
	if e.Signature != "" {
		signature = &e.Signature
	}
	if e.ItemType == message.Inline {
		content = &e.ItemContent
	}
	maybe(`, "signature": `, signature)
	text(`, "type": `, string(e.Type))
	maybe(`, "item_content": `, content)
	text(`, "item_type": `, string(e.ItemType))
	text(`, "item_hash": `, string(e.ItemHash))
	out = append(append(out, `, "time": `...), seconds(e.Time)...)
	maybe(`, "channel": `, e.Channel)
	return append(out, '}')
}

// appendText writes a JSON text as Python does by default: all but the printable
// characters of ASCII as escapes.
func appendText(out []byte, text string) []byte {
	out = append(out, '"')
	for _, r := range text {
		switch {
		case r == '"' || r == '\\':
			out = append(out, '\\', byte(r))
		case r == '\n':
			out = append(out, `\n`...)
		case r == '\r':
			out = append(out, `\r`...)
		case r == '\t':
			out = append(out, `\t`...)
		case r == '\b':
			out = append(out, `\b`...)
		case r == '\f':
			out = append(out, `\f`...)
		case r >= ' ' && r <= '~':
			out = append(out, byte(r))
		case r >= utf8.RuneSelf && utf16.RuneLen(r) > 1:
			high, low := utf16.EncodeRune(r)
			out = fmt.Appendf(out, `\u%04x\u%04x`, high, low)
		default:
			out = fmt.Appendf(out, `\u%04x`, r)
		}
	}
	return append(out, '"')
}

// seconds writes a time as Python writes the float of its Unix seconds.
func seconds(t time.Time) string {
	f, _ := strconv.ParseFloat(message.FormatTime(t), 64) // FormatTime writes a number.
	text := strconv.FormatFloat(f, 'f', -1, 64)
	if !strings.Contains(text, ".") {
		text += ".0"
	}
	return text
}
