// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.37;

import {IJobManager} from "../interfaces/IJobManager.sol";
import {TypeHashes} from "./TypeHashes.sol";

/// @title JobTypes
/// @notice The EIP-712 types of jobs. The domain is name "AlephJobs", version "1", the chain, the JobManager.
library JobTypes {
    bytes32 internal constant ACCEPT = TypeHashes.ACCEPT;
    bytes32 internal constant ASSIGNMENT = TypeHashes.ASSIGNMENT;

    /// @notice The struct hash of an offer. All members are static, so the struct in the calldata is its EIP-712 encoding;
    /// whoever reads a member checks that it has no bits too many.
    function hash(IJobManager.JobOffer calldata offer) internal pure returns (bytes32 result) {
        bytes32 kind = TypeHashes.JOB_OFFER;
        assembly ("memory-safe") {
            let data := mload(0x40)
            mstore(data, kind)
            calldatacopy(add(data, 0x20), offer, 0x160)
            result := keccak256(data, 0x180)
        }
    }

    /// @notice The struct hash of an assignment, as `kind` = ACCEPT for the node or ASSIGNMENT for a coordinator.
    function hash(bytes32 kind, IJobManager.Assignment calldata assignment) internal pure returns (bytes32 result) {
        assembly ("memory-safe") {
            let data := mload(0x40)
            mstore(data, kind)
            calldatacopy(add(data, 0x20), assignment, 0x100)
            result := keccak256(data, 0x120)
        }
    }

    /// @notice The struct hash of a stop.
    function hashStop(bytes32 spec, uint40 deadline) internal pure returns (bytes32) {
        return keccak256(abi.encode(TypeHashes.STOP, spec, deadline));
    }

    /// @notice The struct hash of a node's consent to a new rate; `offer` is the struct hash of the payer's new offer.
    function hashResize(bytes32 offer, uint32 nodeId, uint128 rateQ32) internal pure returns (bytes32) {
        return keccak256(abi.encode(TypeHashes.RESIZE, offer, nodeId, rateQ32));
    }

    /// @notice The struct hash of a node's refusal.
    function hashDecline(bytes32 spec, uint32 nodeId, uint8 attempt, uint8 reason) internal pure returns (bytes32) {
        return keccak256(abi.encode(TypeHashes.DECLINE, spec, nodeId, attempt, reason));
    }

    /// @notice The struct hash of the coordinators' word that a node did not answer.
    function hashSilence(bytes32 spec, uint32 nodeId, uint8 attempt) internal pure returns (bytes32) {
        return keccak256(abi.encode(TypeHashes.SILENCE, spec, nodeId, attempt));
    }
}
