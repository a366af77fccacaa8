// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {TypedData} from "./TypedData.sol";
import {AlephErrors} from "./libraries/AlephErrors.sol";
import {TypeHashes} from "./libraries/TypeHashes.sol";
import {IERC5805} from "@openzeppelin/contracts/interfaces/IERC5805.sol";
import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";
import {Checkpoints} from "@openzeppelin/contracts/utils/structs/Checkpoints.sol";

/// @title StakeVotes
/// @notice Votes by stake, as ERC-5805 with seconds as the clock. An account has as many votes as tokens are counted for it
/// and for those who delegated their votes to it. Unlike most tokens with votes, an account that never said otherwise
/// votes for itself.
abstract contract StakeVotes is IERC5805, TypedData {
    using Checkpoints for Checkpoints.Trace208;

    /* TYPES */

    /// @dev Who votes for an account (zero: itself) and with how much.
    struct Voter {
        address delegatee;
        uint96 units;
    }

    /// @custom:storage-location erc7201:aleph.storage.StakeVotes.v1
    struct StakeVotesStorage {
        mapping(address account => Voter) voters;
        // At zero, which is no account's, all votes.
        mapping(address account => Checkpoints.Trace208) traces;
        mapping(address account => uint256) nonces;
    }

    /* ERRORS */

    /// @dev The votes at a time that has not passed are not known.
    error ERC5805FutureLookup(uint256 timepoint, uint48 clock);

    /// @dev The signature is for another nonce than the account's next.
    error InvalidAccountNonce(address account, uint256 currentNonce);

    /* CONSTANTS */

    // keccak256(abi.encode(uint256(keccak256("aleph.storage.StakeVotes.v1")) - 1)) & ~bytes32(uint256(0xff))
    bytes32 private constant _VOTES_STORAGE = 0xc7fa74236faf17b2c454a0dfe4c6872c2b2aa3952c295687cd3e4e2a23d46400;

    /* DELEGATION OF VOTES */

    /// @notice Lets `delegatee` vote with the caller's votes from now on; zero lets the caller vote again. Moves votes, not
    /// stake.
    function delegate(address delegatee) external {
        _delegateVotes(msg.sender, delegatee);
    }

    /// @notice Like {delegate}, for who signed EIP-712 `Delegation(address delegatee,uint256 nonce,uint256 expiry)`.
    function delegateBySig(address delegatee, uint256 nonce, uint256 expiry, uint8 v, bytes32 r, bytes32 s) external {
        if (block.timestamp > expiry) revert VotesExpiredSignature(expiry);
        bytes32 digest = _hashTypedDataV4(keccak256(abi.encode(TypeHashes.DELEGATION, delegatee, nonce, expiry)));
        (address who,,) = ECDSA.tryRecover(digest, v, r, s);
        if (who == address(0)) revert AlephErrors.BadSignature(0);
        mapping(address => uint256) storage next = _votes().nonces;
        if (nonce != next[who]) revert InvalidAccountNonce(who, next[who]);
        ++next[who];
        _delegateVotes(who, delegatee);
    }

    /* VIEWS */

    /// @notice The votes of an account now.
    function getVotes(address account) external view returns (uint256) {
        return _votes().traces[account].latest();
    }

    /// @notice The votes of an account at the end of the second `timepoint`, which has passed.
    function getPastVotes(address account, uint256 timepoint) public view returns (uint256) {
        uint48 time = clock();
        if (timepoint >= time) revert ERC5805FutureLookup(timepoint, time);
        return _votes().traces[account].upperLookup(uint48(timepoint));
    }

    /// @notice All votes at the end of the second `timepoint`, which has passed.
    function getPastTotalSupply(uint256 timepoint) external view returns (uint256) {
        return getPastVotes(address(0), timepoint);
    }

    /// @notice Who votes for an account.
    function delegates(address account) public view returns (address) {
        address delegatee = _votes().voters[account].delegatee;
        return delegatee == address(0) ? account : delegatee;
    }

    /// @notice The nonce that the account's next signature for {delegateBySig} must have.
    function nonces(address account) external view returns (uint256) {
        return _votes().nonces[account];
    }

    /// @notice The clock of the votes: seconds since 1970.
    function clock() public view returns (uint48) {
        return uint48(block.timestamp);
    }

    /// @notice Says that the clock counts seconds (ERC-6372).
    // solhint-disable-next-line func-name-mixedcase
    function CLOCK_MODE() external pure returns (string memory) {
        return "mode=timestamp";
    }

    /* INTERNAL */

    /// @dev Counts `to` tokens for an account where `from` were counted.
    function _count(address account, uint256 from, uint256 to) internal {
        if (from == to) return;
        StakeVotesStorage storage $ = _votes();
        Voter storage voter = $.voters[account];
        voter.units = uint96(voter.units - from + to);
        _push($.traces[address(0)], from, to);
        _move($, delegates(account), from, to);
    }

    function _delegateVotes(address account, address delegatee) private {
        StakeVotesStorage storage $ = _votes();
        address from = delegates(account);
        $.voters[account].delegatee = delegatee;
        address to = delegates(account);
        emit DelegateChanged(account, from, to);
        uint256 units = $.voters[account].units;
        if (from == to || units == 0) return;
        _move($, from, units, 0);
        _move($, to, 0, units);
    }

    function _move(StakeVotesStorage storage $, address account, uint256 less, uint256 more) private {
        (uint256 before, uint256 present) = _push($.traces[account], less, more);
        emit DelegateVotesChanged(account, before, present);
    }

    function _push(Checkpoints.Trace208 storage trace, uint256 less, uint256 more) private returns (uint208, uint208) {
        // Neither can overflow: there are fewer than 2^96 tokens.
        return trace.push(clock(), uint208(trace.latest() - less + more));
    }

    /// @inheritdoc TypedData
    function _domainName() internal pure override returns (string memory) {
        return "AlephStaking";
    }

    function _votes() private pure returns (StakeVotesStorage storage $) {
        assembly ("memory-safe") {
            $.slot := _VOTES_STORAGE
        }
    }
}
