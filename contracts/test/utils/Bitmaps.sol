// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {INodeRegistry} from "../../src/interfaces/INodeRegistry.sol";

/// @title Bitmaps
/// @notice Bitmaps of nodes, their pages and their hashes, written out apart from the contracts.
library Bitmaps {
    uint256 internal constant PAGE = 512;

    function hashOf(bytes memory bitmap) internal pure returns (bytes32) {
        return keccak256(abi.encodePacked(hashes(bitmap)));
    }

    function hashes(bytes memory bitmap) internal pure returns (bytes32[] memory all) {
        all = new bytes32[]((bitmap.length + PAGE - 1) / PAGE);
        for (uint256 i; i < all.length; ++i) {
            all[i] = keccak256(bits(bitmap, i));
        }
    }

    function bits(bytes memory bitmap, uint256 page) internal pure returns (bytes memory part) {
        uint256 left = bitmap.length - page * PAGE;
        part = new bytes(left < PAGE ? left : PAGE);
        for (uint256 i; i < part.length; ++i) {
            part[i] = bitmap[page * PAGE + i];
        }
    }

    /// @dev What shows a node's bit; without bits when the bitmap does not reach to its page.
    function pageOf(bytes memory bitmap, uint32 id) internal pure returns (INodeRegistry.BitmapPage memory p) {
        p.hashes = hashes(bitmap);
        if (id / 8 / PAGE < p.hashes.length) p.bits = bits(bitmap, id / 8 / PAGE);
    }

    function pagesOf(bytes[] memory bitmaps, uint32 id) internal pure returns (INodeRegistry.BitmapPage[] memory all) {
        all = new INodeRegistry.BitmapPage[](bitmaps.length);
        for (uint256 i; i < all.length; ++i) {
            all[i] = pageOf(bitmaps[i], id);
        }
    }

    function threeOf(bytes[3] memory bitmaps, uint32 id)
        internal
        pure
        returns (INodeRegistry.BitmapPage[3] memory all)
    {
        for (uint256 i; i < 3; ++i) {
            all[i] = pageOf(bitmaps[i], id);
        }
    }
}
