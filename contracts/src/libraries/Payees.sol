// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.37;

import {AlephErrors} from "./AlephErrors.sol";

/// @title Payees
/// @notice The numbers of payees, and of classes of revenue. A payee's number alone decides the class, so that one pair of
/// payer and payee never mixes two: a node has one number for what it computes, its node id, and one for what it stores.
library Payees {
    /// @dev The highest number a node can have.
    uint64 internal constant LAST_NODE = type(uint32).max;

    /// @dev An image's payee number is this plus its sequence number, which starts at 1.
    uint64 internal constant IMAGES = 1 << 32;
    uint64 internal constant LAST_IMAGE = IMAGES + type(uint32).max;

    /// @dev The first pool.
    uint64 internal constant TREASURY = 1 << 33;

    /// @dev The part of stakers.
    uint64 internal constant STAKERS = TREASURY + 1;

    /// @dev The part of coordinators.
    uint64 internal constant COORDINATORS = TREASURY + 2;

    /// @dev The part of development.
    uint64 internal constant DEVELOPMENT = TREASURY + 3;

    /// @dev A node's payee number for storage is this plus its node id.
    uint64 internal constant STORAGES = 3 << 32;
    uint64 internal constant LAST_STORAGE = STORAGES + type(uint32).max;

    /// @dev Revenue of compute nodes.
    uint8 internal constant COMPUTE = 0;

    /// @dev Revenue of nodes for storage.
    uint8 internal constant STORAGE = 1;

    /// @dev Revenue of images.
    uint8 internal constant IMAGE = 2;

    /// @notice The payee number of an image.
    function ofImage(uint32 seq) internal pure returns (uint64) {
        return IMAGES + seq;
    }

    /// @notice The payee number of a node for storage.
    function ofStorage(uint32 nodeId) internal pure returns (uint64) {
        return STORAGES + nodeId;
    }

    /// @notice Whether a node is paid by this number; its id is the lower 32 bits.
    function isNode(uint64 payee) internal pure returns (bool) {
        return uint32(payee) != 0 && (payee >> 32 == 0 || payee >> 32 == STORAGES >> 32);
    }

    /// @notice The class of what a payee earns. Pools earn nothing by themselves.
    function classOf(uint64 payee) internal pure returns (uint8) {
        uint64 range = payee >> 32;
        if (uint32(payee) != 0) {
            if (range == 0) return COMPUTE;
            if (range == IMAGES >> 32) return IMAGE;
            if (range == STORAGES >> 32) return STORAGE;
        }
        revert AlephErrors.OutOfBounds(payee, 1, LAST_STORAGE);
    }
}
