package outbox

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math/big"
	"reflect"
	"strings"

	"github.com/ethereum/go-ethereum/accounts/abi"
	"github.com/ethereum/go-ethereum/common"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
)

// Pack encodes a call of the method with args, a JSON array after the method's
// inputs: numbers as decimal strings (or whole JSON numbers), bytes and
// addresses as 0x hex, booleans and strings as they are, lists as arrays and
// tuples as objects by field name, every field named. Anything else gives
// errs.Invalid.
func Pack(method abi.Method, args json.RawMessage) ([]byte, error) {
	values, err := list(args)
	if err != nil {
		return nil, fmt.Errorf("read arguments of %s: %w", method.Name, err)
	}
	if len(values) != len(method.Inputs) {
		return nil, errs.New(errs.Invalid, "%s takes %d arguments, got %d", method.Name, len(method.Inputs), len(values))
	}
	in := make([]any, len(values))
	for i, raw := range values {
		v, err := value(method.Inputs[i].Type, raw)
		if err != nil {
			return nil, fmt.Errorf("argument %d (%s) of %s: %w", i, method.Inputs[i].Name, method.Name, err)
		}
		in[i] = v.Interface()
	}
	data, err := method.Inputs.Pack(in...)
	if err != nil {
		return nil, errs.New(errs.Invalid, "encode arguments of %s: %w", method.Name, err)
	}
	return append(bytes.Clone(method.ID), data...), nil
}

// list splits a JSON array.
func list(raw json.RawMessage) ([]json.RawMessage, error) {
	var out []json.RawMessage
	if err := json.Unmarshal(raw, &out); err != nil || out == nil {
		return nil, errs.New(errs.Invalid, "want a JSON array, got %s", short(raw))
	}
	return out, nil
}

// value makes of raw what the ABI encoder takes for a value of type t.
func value(t abi.Type, raw json.RawMessage) (reflect.Value, error) {
	switch t.T {
	case abi.IntTy, abi.UintTy:
		return number(t, raw)
	case abi.BoolTy:
		return simple[bool](raw)
	case abi.StringTy:
		return simple[string](raw)
	case abi.AddressTy:
		b, err := bytesOf(raw, common.AddressLength)
		return reflect.ValueOf(common.BytesToAddress(b)), err
	case abi.BytesTy:
		b, err := bytesOf(raw, -1)
		return reflect.ValueOf(b), err
	case abi.FixedBytesTy:
		b, err := bytesOf(raw, t.Size)
		if err != nil {
			return reflect.Value{}, err
		}
		array := reflect.New(t.GetType()).Elem()
		reflect.Copy(array, reflect.ValueOf(b))
		return array, nil
	case abi.SliceTy, abi.ArrayTy:
		return elements(t, raw)
	case abi.TupleTy:
		return tuple(t, raw)
	}
	return reflect.Value{}, errs.New(errs.Invalid, "values of type %s are not supported", t.String())
}

// number reads a whole number and checks that it fits: the ABI encoder would
// cut it.
func number(t abi.Type, raw json.RawMessage) (reflect.Value, error) {
	text := string(raw)
	if len(raw) > 0 && raw[0] == '"' {
		if err := json.Unmarshal(raw, &text); err != nil {
			return reflect.Value{}, errs.New(errs.Invalid, "want a number, got %s", short(raw))
		}
	}
	const digitsMax = 80 // 2^256 has 78.
	n, ok := new(big.Int), false
	if len(text) <= digitsMax && !strings.ContainsAny(text, "+_ ") {
		n, ok = n.SetString(text, 10)
	}
	if !ok {
		return reflect.Value{}, errs.New(errs.Invalid, "want a whole number in decimal, got %s", short(raw))
	}
	low, high := new(big.Int), new(big.Int).Lsh(big.NewInt(1), uint(t.Size))
	if t.T == abi.IntTy {
		high.Rsh(high, 1)
		low.Neg(high)
	}
	if n.Cmp(low) < 0 || n.Cmp(high) >= 0 {
		return reflect.Value{}, errs.New(errs.Invalid, "%s does not fit in %s", n, t.String())
	}
	native := reflect.New(t.GetType()).Elem()
	switch native.Kind() {
	case reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		native.SetUint(n.Uint64())
	case reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		native.SetInt(n.Int64())
	default:
		return reflect.ValueOf(n), nil
	}
	return native, nil
}

func simple[T any](raw json.RawMessage) (reflect.Value, error) {
	var v *T
	if err := json.Unmarshal(raw, &v); err != nil || v == nil {
		return reflect.Value{}, errs.New(errs.Invalid, "want a %T, got %s", *new(T), short(raw))
	}
	return reflect.ValueOf(*v), nil
}

// bytesOf reads 0x hex of size bytes; any number when size is -1.
func bytesOf(raw json.RawMessage, size int) ([]byte, error) {
	var text string
	if err := json.Unmarshal(raw, &text); err != nil {
		return nil, errs.New(errs.Invalid, "want 0x hex, got %s", short(raw))
	}
	digits, ok := strings.CutPrefix(text, "0x")
	b, err := hex.DecodeString(digits)
	if err != nil || !ok {
		return nil, errs.New(errs.Invalid, "want 0x hex, got %s", short(raw))
	}
	if size >= 0 && len(b) != size {
		return nil, errs.New(errs.Invalid, "want %d bytes, got %d", size, len(b))
	}
	return b, nil
}

func elements(t abi.Type, raw json.RawMessage) (reflect.Value, error) {
	values, err := list(raw)
	if err != nil {
		return reflect.Value{}, err
	}
	if t.T == abi.ArrayTy && len(values) != t.Size {
		return reflect.Value{}, errs.New(errs.Invalid, "want %d elements, got %d", t.Size, len(values))
	}
	out := reflect.New(t.GetType()).Elem()
	if t.T == abi.SliceTy {
		out.Set(reflect.MakeSlice(t.GetType(), len(values), len(values)))
	}
	for i, element := range values {
		v, err := value(*t.Elem, element)
		if err != nil {
			return reflect.Value{}, fmt.Errorf("element %d: %w", i, err)
		}
		out.Index(i).Set(v)
	}
	return out, nil
}

func tuple(t abi.Type, raw json.RawMessage) (reflect.Value, error) {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(raw, &fields); err != nil || fields == nil {
		return reflect.Value{}, errs.New(errs.Invalid, "want a JSON object, got %s", short(raw))
	}
	out := reflect.New(t.GetType()).Elem()
	for i, name := range t.TupleRawNames {
		field, ok := fields[name]
		if !ok {
			return reflect.Value{}, errs.New(errs.Invalid, "field %s is missing", name)
		}
		delete(fields, name)
		v, err := value(*t.TupleElems[i], field)
		if err != nil {
			return reflect.Value{}, fmt.Errorf("field %s: %w", name, err)
		}
		out.Field(i).Set(v)
	}
	for name := range fields {
		return reflect.Value{}, errs.New(errs.Invalid, "there is no field %q", name)
	}
	return out, nil
}

// short cuts outside bytes for an error's text.
func short(raw []byte) string {
	const shown = 40
	if len(raw) > shown {
		return string(raw[:shown]) + "..."
	}
	return string(raw)
}
