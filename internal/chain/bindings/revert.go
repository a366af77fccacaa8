package bindings

import (
	"bytes"
	"errors"
	"fmt"
	"strings"

	"github.com/ethereum/go-ethereum/accounts/abi"
	"github.com/ethereum/go-ethereum/common"
)

// Revert is a decoded revert of one of the contracts.
type Revert struct {
	// Name is the error's name, for instance "InArrears"; "Error" and "Panic" are Solidity's own.
	Name string
	// Args are the error's arguments in order, with their Go types as the abi package gives them.
	Args []any

	names []string
}

// String returns the error as `Name(arg=value, ...)`.
func (r *Revert) String() string {
	parts := make([]string, len(r.Args))
	for i, arg := range r.Args {
		parts[i] = fmt.Sprintf("%s=%s", r.names[i], formatArg(arg))
	}
	return r.Name + "(" + strings.Join(parts, ", ") + ")"
}

// errUnknownRevert is returned for bytes that are no error of any contract.
var errUnknownRevert = errors.New("revert data is no error of the contracts")

// DecodeRevert decodes the data of a failed call. An error that reaches the caller may come from a contract behind the
// one that was called, so the errors of all contracts are tried.
func DecodeRevert(data []byte) (*Revert, error) {
	if reason, err := abi.UnpackRevert(data); err == nil {
		return &Revert{Name: "Error", Args: []any{reason}, names: []string{"reason"}}, nil
	}
	if len(data) < 4 {
		return nil, errUnknownRevert
	}
	for _, c := range suite() {
		parsed, err := c.Meta.ParseABI()
		if err != nil {
			return nil, fmt.Errorf("parse abi of %s: %w", c.Name, err)
		}
		for _, e := range parsed.Errors {
			if !bytes.Equal(e.ID[:4], data[:4]) {
				continue
			}
			args, err := e.Inputs.Unpack(data[4:])
			if err != nil {
				return nil, fmt.Errorf("unpack error %s: %w", e.Name, err)
			}
			names := make([]string, len(e.Inputs))
			for i, input := range e.Inputs {
				names[i] = input.Name
			}
			return &Revert{Name: e.Name, Args: args, names: names}, nil
		}
	}
	return nil, errUnknownRevert
}

func formatArg(arg any) string {
	switch v := arg.(type) {
	case common.Address:
		return v.Hex()
	case [32]byte:
		return common.Hash(v).Hex()
	case []byte:
		return common.Bytes2Hex(v)
	default:
		return fmt.Sprint(v)
	}
}
