// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.37;

import {IJobManager} from "../interfaces/IJobManager.sol";

/// @title JobTypes
/// @notice The EIP-712 types of jobs. The domain is name "AlephJobs", version "1", the chain, the JobManager.
library JobTypes {
    bytes32 internal constant OFFER = keccak256(
        "JobOffer(bytes32 spec,address payer,uint8 token,uint128 maxRateQ32,uint32 nodeHint,uint40 maxUntil,uint40 deadline,uint256 nonce)"
    );
    bytes32 internal constant ACCEPT =
        keccak256("Accept(bytes32 spec,uint32 nodeId,uint128 rateQ32,uint8 attempt,uint32 coordId,uint40 deadline)");
    bytes32 internal constant ASSIGNMENT = keccak256(
        "Assignment(bytes32 spec,uint32 nodeId,uint128 rateQ32,uint8 attempt,uint32 coordId,uint40 deadline)"
    );
    bytes32 internal constant STOP = keccak256("Stop(bytes32 spec,uint40 deadline)");

    /// @notice The struct hash of an offer.
    function hash(IJobManager.JobOffer calldata offer) internal pure returns (bytes32) {
        // All members are static, so the struct's ABI encoding is its EIP-712 encoding.
        return keccak256(abi.encode(OFFER, offer));
    }

    /// @notice The struct hash of an assignment, as `kind` = ACCEPT for the node or ASSIGNMENT for a coordinator.
    function hash(bytes32 kind, IJobManager.Assignment calldata assignment) internal pure returns (bytes32) {
        return keccak256(abi.encode(kind, assignment));
    }

    /// @notice The struct hash of a stop.
    function hashStop(bytes32 spec, uint40 deadline) internal pure returns (bytes32) {
        return keccak256(abi.encode(STOP, spec, deadline));
    }
}
