package crn

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
)

// PythonFloat is a number that is written with a point even if it is whole.
type PythonFloat float64

// String is the number as Python writes it.
func (f PythonFloat) String() string {
	text := strconv.FormatFloat(float64(f), 'f', -1, 64)
	if math.Trunc(float64(f)) == float64(f) {
		text += ".0"
	}
	return text
}

// MarshalJSON implements json.Marshaler.
func (f PythonFloat) MarshalJSON() ([]byte, error) { return []byte(f.String()), nil }

// exceptionOf is an error as the reference shows one: the name of an exception and
// its text. What is wrong with this node is masked.
func exceptionOf(err error) string {
	name := "VmSetupError"
	switch errs.KindOf(err) {
	case errs.NotFound, errs.Unavailable:
		name = "ResourceDownloadError"
	case errs.Exhausted:
		name = "InsufficientResourcesError"
	case errs.Internal:
		return "Exception('Unhandled Error')"
	case errs.Invalid, errs.Denied, errs.Conflict:
	}
	return name + "(" + pythonText(errs.Public(err)) + ")"
}

// pythonText is a text in quotes as Python writes it.
func pythonText(s string) string {
	quote := "'"
	if strings.Contains(s, "'") && !strings.Contains(s, `"`) {
		quote = `"`
	}
	var b strings.Builder
	for _, r := range s {
		switch {
		case r == '\\' || string(r) == quote:
			b.WriteString(`\` + string(r))
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\r':
			b.WriteString(`\r`)
		case r == '\t':
			b.WriteString(`\t`)
		case r < 0x20 || r == 0x7f:
			fmt.Fprintf(&b, `\x%02x`, r)
		default:
			b.WriteRune(r)
		}
	}
	return quote + b.String() + quote
}

// fieldError is what is wrong with a field of a body, as pydantic tells it.
type fieldError struct {
	Type  string            `json:"type"`
	Loc   []any             `json:"loc"`
	Msg   string            `json:"msg"`
	Input any               `json:"input"`
	Ctx   map[string]string `json:"ctx,omitempty"`
	URL   string            `json:"url"`
}

const pydanticURL = "https://errors.pydantic.dev/2.12/v/"

func missingField(input any, loc ...any) fieldError {
	return fieldError{Type: "missing", Loc: loc, Msg: "Field required", Input: input, URL: pydanticURL + "missing"}
}

func wrongType(kind, what string, input any, loc ...any) fieldError {
	return fieldError{Type: kind, Loc: loc, Msg: "Input should be a valid " + what, Input: input, URL: pydanticURL + kind}
}

func wrongValue(text string, input any, loc ...any) fieldError {
	return fieldError{
		Type: "value_error", Loc: loc, Msg: "Value error, " + text, Input: input, Ctx: map[string]string{"error": text}, URL: pydanticURL + "value_error",
	}
}
