// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.37;

import {IStorageWords} from "../interfaces/IStorageWords.sol";
import {TypeHashes} from "./TypeHashes.sol";

/// @title StorageTypes
/// @notice The struct hashes of what is signed about storage. The domain is name "AlephStorage", version "1", the chain, the StorageRegistry.
library StorageTypes {
    /// @notice The struct hash of a request by `payer`.
    function hash(address payer, IStorageWords.Request calldata request) internal pure returns (bytes32) {
        // All members are static, so the struct's ABI encoding is its EIP-712 encoding.
        return keccak256(abi.encode(TypeHashes.STORE_REQUEST, payer, request));
    }

    /// @notice The struct hash of a receipt.
    function hash(IStorageWords.StorageReceipt calldata receipt) internal pure returns (bytes32) {
        return keccak256(abi.encode(TypeHashes.STORAGE_RECEIPT, receipt));
    }

    /// @notice The struct hash of an extension.
    function hashExtend(uint128 id, uint24 untilDay) internal pure returns (bytes32) {
        return keccak256(abi.encode(TypeHashes.STORE_EXTENSION, id, untilDay));
    }

    /// @notice The struct hash of a repair.
    function hashRepair(uint128 id, uint32 nodeId) internal pure returns (bytes32) {
        return keccak256(abi.encode(TypeHashes.STORE_REPAIR, id, nodeId));
    }

    /// @notice The struct hash of an attestation.
    function hashAttestation(uint24 day, bytes32 seed, bytes32 bitmapRoot) internal pure returns (bytes32) {
        return keccak256(abi.encode(TypeHashes.DAY_ATTESTATION, day, seed, bitmapRoot));
    }
}
