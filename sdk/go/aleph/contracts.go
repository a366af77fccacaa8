package aleph

import (
	"errors"
	"fmt"

	"github.com/ethereum/go-ethereum/accounts/abi"
	"github.com/ethereum/go-ethereum/common/hexutil"
	"github.com/ethereum/go-ethereum/rpc"
)

// contractsABI is what the client asks of the contracts, and how they refuse. A
// test holds it against the contracts themselves.
const contractsABI = `[
{"type":"function","name":"nonces","stateMutability":"view","inputs":[{"name":"owner","type":"address"}],"outputs":[{"name":"","type":"uint256"}]},
{"type":"function","name":"allowance","stateMutability":"view","inputs":[{"name":"owner","type":"address"},{"name":"spender","type":"address"}],"outputs":[{"name":"","type":"uint256"}]},
{"type":"function","name":"eip712Domain","stateMutability":"view","inputs":[],"outputs":[{"name":"fields","type":"bytes1"},{"name":"name","type":"string"},{"name":"version","type":"string"},{"name":"chainId","type":"uint256"},{"name":"verifyingContract","type":"address"},{"name":"salt","type":"bytes32"},{"name":"extensions","type":"uint256[]"}]},
{"type":"function","name":"transfer","stateMutability":"nonpayable","inputs":[{"name":"to","type":"address"},{"name":"value","type":"uint256"}],"outputs":[{"name":"","type":"bool"}]},
{"type":"function","name":"standing","stateMutability":"view","inputs":[{"name":"nodeId","type":"uint32"}],"outputs":[{"name":"","type":"address"},{"name":"","type":"uint8"},{"name":"","type":"uint8"}]},
{"type":"function","name":"activate","stateMutability":"nonpayable","inputs":[{"name":"nodeId","type":"uint32"}],"outputs":[]},
{"type":"function","name":"drain","stateMutability":"nonpayable","inputs":[{"name":"nodeId","type":"uint32"}],"outputs":[]},
{"type":"function","name":"exit","stateMutability":"nonpayable","inputs":[{"name":"nodeId","type":"uint32"}],"outputs":[]},
{"type":"function","name":"stakeOf","stateMutability":"view","inputs":[{"name":"nodeId","type":"uint32"}],"outputs":[{"name":"","type":"uint128"},{"name":"","type":"uint128"},{"name":"","type":"uint40"}]},
{"type":"function","name":"requirement","stateMutability":"view","inputs":[{"name":"kind","type":"uint8"}],"outputs":[{"name":"","type":"uint128"}]},
{"type":"function","name":"requestUnstake","stateMutability":"nonpayable","inputs":[{"name":"nodeId","type":"uint32"},{"name":"amount","type":"uint128"}],"outputs":[]},
{"type":"function","name":"withdrawSelf","stateMutability":"nonpayable","inputs":[{"name":"nodeId","type":"uint32"}],"outputs":[]},
{"type":"function","name":"activeJobs","stateMutability":"view","inputs":[{"name":"nodeId","type":"uint32"}],"outputs":[{"name":"","type":"uint32"}]},
{"type":"error","name":"NotAuthorized","inputs":[{"name":"caller","type":"address"}]},
{"type":"error","name":"Paused","inputs":[{"name":"bit","type":"uint8"}]},
{"type":"error","name":"ZeroAmount","inputs":[]},
{"type":"error","name":"Insufficient","inputs":[{"name":"have","type":"uint256"},{"name":"need","type":"uint256"}]},
{"type":"error","name":"UnknownNode","inputs":[{"name":"nodeId","type":"uint32"}]},
{"type":"error","name":"NodeNotActive","inputs":[{"name":"nodeId","type":"uint32"},{"name":"status","type":"uint8"}]},
{"type":"error","name":"StakeTooLow","inputs":[{"name":"nodeId","type":"uint32"}]},
{"type":"error","name":"JobsRunning","inputs":[{"name":"nodeId","type":"uint32"},{"name":"jobs","type":"uint32"}]},
{"type":"error","name":"RequirementHeld","inputs":[{"name":"have","type":"uint256"},{"name":"need","type":"uint256"}]},
{"type":"error","name":"NotUnlocked","inputs":[{"name":"at","type":"uint40"}]},
{"type":"error","name":"ERC20InsufficientBalance","inputs":[{"name":"sender","type":"address"},{"name":"balance","type":"uint256"},{"name":"needed","type":"uint256"}]}]`

// meaning is what an error of a contract means for who sent the transaction.
type meaning struct {
	kind Kind
	text string
}

func meanings() map[string]meaning {
	return map[string]meaning{
		"NotAuthorized":            {Denied, "the account may not do this"},
		"Paused":                   {Unavailable, "the guardian has paused this kind of call"},
		"ZeroAmount":               {Invalid, "an amount is zero"},
		"Insufficient":             {Exhausted, "there is less than was asked for"},
		"UnknownNode":              {NotFound, "there is no such node"},
		"NodeNotActive":            {Conflict, "the node's status forbids this"},
		"StakeTooLow":              {Exhausted, "the node has less stake than its kind needs"},
		"JobsRunning":              {Conflict, "the node still has jobs"},
		"RequirementHeld":          {Exhausted, "the node keeps the stake that its kind needs"},
		"NotUnlocked":              {Unavailable, "the stake is not unlocked yet"},
		"ERC20InsufficientBalance": {Exhausted, "the account holds fewer tokens"},
	}
}

// refusal returns the contract's refusal in an RPC's answer, or nil.
func (c *Chain) refusal(err error) *RefusedError {
	const executionReverted = 3 // the code of the answer
	var answer interface {
		rpc.Error
		rpc.DataError
	}
	if !errors.As(err, &answer) {
		return nil
	}
	var data []byte
	if text, ok := answer.ErrorData().(string); ok {
		data, _ = hexutil.Decode(text) // what is not hex is no error of a contract
	}
	if len(data) == 0 && answer.ErrorCode() != executionReverted {
		return nil
	}
	return c.decode(data)
}

// decode makes data that a contract reverted with readable.
func (c *Chain) decode(data []byte) *RefusedError {
	const selector, dataMax = 4, 64 // bytes of an error's name, and of the data in a text
	if text, err := abi.UnpackRevert(data); err == nil {
		return &RefusedError{Kind: Conflict, Reason: "the contract refused: " + text}
	}
	if len(data) >= selector {
		if e, err := c.contracts.ErrorByID([selector]byte(data)); err == nil {
			m := meanings()[e.Name]
			return &RefusedError{Name: e.Name, Kind: m.kind, Reason: m.text}
		}
		return &RefusedError{Kind: Conflict, Reason: fmt.Sprintf("the contract refused with %s", hexutil.Encode(data[:min(len(data), dataMax)]))}
	}
	return &RefusedError{Kind: Conflict, Reason: "the contract refused without a reason"}
}
