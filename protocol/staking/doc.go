// Package staking is the arithmetic of the StakingManager: what shares of a
// node's pools are worth, how rewards drip into them and what a slash takes of
// each purse, to the last wei.
//
// A node has four purses: the owner's stake, the owner's stake that waits to
// be withdrawn, the delegations, and the delegations that wait. Of the last two
// delegators hold shares. The contract is contracts/src/StakingManager.sol; the
// vectors in protocol/testdata/vectors/staking.json hold both to the same.
package staking
