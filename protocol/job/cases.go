package job

import (
	"fmt"
	"math/big"

	"github.com/ethereum/go-ethereum/common"
)

// DomainSLA is the name of the EIP-712 domain of the SLAManager.
const DomainSLA = "AlephSLA"

// SLA returns the domain of the SLAManager contract.
func SLA(chainID *big.Int, slaManager common.Address) Domain {
	return Domain{Name: DomainSLA, Version: DomainVersion, ChainID: chainID, Contract: slaManager}
}

// The EIP-712 types of cases against nodes, in the domain of SLA.
const (
	AccusationType = "Accusation(uint8 kind,uint32 nodeId,bytes32 ref,uint32 occurrence,uint8 severity,bytes32 evidence)"
	VerdictType    = "Verdict(bytes32 caseId,bool guilty)"
)

// severityMax is the gravest a violation can be.
const severityMax = 3

// Accusation is a coordinator's word: this node did that.
type Accusation struct {
	Kind       uint8 // the number of the kind of violation in the contract
	NodeID     uint32
	Ref        common.Hash // what it is about: for a job its spec
	Occurrence uint32      // tells apart the same at another time
	Severity   uint8       // 0 to 3
	Evidence   common.Hash // item hash of the message with the evidence
}

// StructHash implements Signable.
func (a *Accusation) StructHash() common.Hash {
	return structHash(AccusationType, numberWord(uint64(a.Kind)), numberWord(uint64(a.NodeID)), a.Ref[:],
		numberWord(uint64(a.Occurrence)), numberWord(uint64(a.Severity)), a.Evidence[:])
}

// Check implements Signable.
func (a *Accusation) Check() error {
	switch {
	case a.Severity > severityMax:
		return fmt.Errorf("accusation: severity is %d, want 0 to %d", a.Severity, severityMax)
	case a.Evidence == common.Hash{}:
		return fmt.Errorf("accusation: evidence is missing")
	}
	return nil
}

// Verdict is a coordinator's word: in this case the node is guilty, or not.
type Verdict struct {
	CaseID common.Hash
	Guilty bool
}

// StructHash implements Signable.
func (v *Verdict) StructHash() common.Hash {
	guilty := uint64(0)
	if v.Guilty {
		guilty = 1
	}
	return structHash(VerdictType, v.CaseID[:], numberWord(guilty))
}

// Check implements Signable.
func (v *Verdict) Check() error {
	if v.CaseID == (common.Hash{}) {
		return fmt.Errorf("verdict: case id is missing")
	}
	return nil
}
