package corechannel

import (
	"bytes"
	"encoding/json"
)

// State is the content of the aggregate: every node, in the order in which they
// were created.
type State struct {
	Nodes         []Node         `json:"nodes"`
	ResourceNodes []ResourceNode `json:"resource_nodes"`
}

// Status is where a node is in its life.
type Status string

// The statuses of CCNs, and those of CRNs.
const (
	Active  Status = "active"  // a CCN with enough stake
	Waiting Status = "waiting" // a CCN without, or a CRN without a CCN
	Linked  Status = "linked"  // a CRN of a CCN
)

// Node is a core channel node, a CCN.
type Node struct {
	Hash          string             `json:"hash"`
	Owner         string             `json:"owner"`
	Locked        bool               `json:"locked"`  // only Authorized may stake
	Stakers       map[string]float64 `json:"stakers"` // tokens
	TotalStaked   float64            `json:"total_staked"`
	Status        Status             `json:"status"`
	Time          float64            `json:"time"` // of its creation, in Unix seconds
	Authorized    []string           `json:"authorized"`
	ResourceNodes []string           `json:"resource_nodes"` // in the order of linking
	Standing
	Profile
	HasBonus bool `json:"has_bonus"`
}

// ResourceNode is a compute resource node, a CRN.
type ResourceNode struct {
	Hash       string    `json:"hash"`
	Type       string    `json:"type"`
	Owner      string    `json:"owner"`
	Locked     Lock      `json:"locked"` // no CCN may link it
	Status     Status    `json:"status"`
	Authorized Addresses `json:"authorized"`
	Parent     *string   `json:"parent"` // hash of its CCN
	Time       float64   `json:"time"`
	Standing
	Profile
}

// Standing is what the scores say of a node.
type Standing struct {
	Score            float64 `json:"score"`
	Decentralization float64 `json:"decentralization"`
	Performance      float64 `json:"performance"`
	InactiveSince    *uint64 `json:"inactive_since"` // height
	ScoreUpdated     bool    `json:"score_updated,omitempty"`
}

// Profile is what its owner says of a node.
type Profile struct {
	Name         string `json:"name"`
	Multiaddress string `json:"multiaddress"`
	Address      string `json:"address"`
	Picture      string `json:"picture"`
	Banner       string `json:"banner"`
	Description  string `json:"description"`
	Reward       string `json:"reward"` // address
	StreamReward string `json:"stream_reward"`
	Manager      string `json:"manager"` // address that may amend besides the owner
	Registration string `json:"registration_url"`
	Terms        string `json:"terms_and_conditions"`
}

// Lock is a truth value that nobody may have given; the reference writes "" then.
type Lock uint8

// The values of a lock.
const (
	LockUnset Lock = iota
	LockOff
	LockOn
)

// lockOf returns a lock that was given.
func lockOf(on bool) Lock {
	if on {
		return LockOn
	}
	return LockOff
}

// MarshalJSON implements json.Marshaler.
func (l Lock) MarshalJSON() ([]byte, error) {
	if l == LockUnset {
		return []byte(`""`), nil
	}
	return json.Marshal(l == LockOn)
}

// UnmarshalJSON implements json.Unmarshaler.
func (l *Lock) UnmarshalJSON(raw []byte) error {
	on, ok := fields{"locked": raw}.truth("locked")
	switch {
	case !ok, bytes.Equal(raw, []byte(`""`)):
		*l = LockUnset
	default:
		*l = lockOf(on)
	}
	return nil
}

// Addresses is a list that nobody may have given, which is nil; the reference
// writes "" then.
type Addresses []string

// MarshalJSON implements json.Marshaler.
func (a Addresses) MarshalJSON() ([]byte, error) {
	if a == nil {
		return []byte(`""`), nil
	}
	return json.Marshal([]string(a))
}

// UnmarshalJSON implements json.Unmarshaler.
func (a *Addresses) UnmarshalJSON(raw []byte) error {
	list := fields{"authorized": raw}.texts("authorized")
	if len(list) == 0 && !bytes.HasPrefix(raw, []byte("[")) {
		list = nil
	}
	*a = list
	return nil
}

// Content returns the content of the aggregate as JSON. The same state gives
// the same bytes.
func (s State) Content() ([]byte, error) {
	if s.Nodes == nil {
		s.Nodes = []Node{} // a list that is missing is none to clients
	}
	if s.ResourceNodes == nil {
		s.ResourceNodes = []ResourceNode{}
	}
	var b bytes.Buffer
	w := json.NewEncoder(&b)
	w.SetEscapeHTML(false) // it is no part of a page, and URLs stay readable
	if err := w.Encode(s); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

// ParseState reads the content of the aggregate, of whatever implementation.
func ParseState(content []byte) (State, error) {
	var s State
	if err := json.Unmarshal(content, &s); err != nil {
		return State{}, err
	}
	return s, nil
}
