// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.37;

import {INodeRegistry} from "../interfaces/INodeRegistry.sol";
import {AlephErrors} from "./AlephErrors.sol";
import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";

/// @title CoordinatorSet
/// @notice The coordinators of a day as the code of a contract: a STOP and 32 bytes per member, ascending by node id.
/// Reading them all costs one cold account instead of a cold slot each.
/// @dev A member is its signer (160 bits), node id (32), weight in whole ALEPH (48) and region (16), from the high end.
library CoordinatorSet {
    /// @dev The length of a signature.
    uint256 private constant _SIGNATURE = 65;

    /// @notice Packs a member.
    function pack(address signer_, uint32 id_, uint256 weight_, uint16 region) internal pure returns (uint256) {
        return uint256(uint160(signer_)) << 96 | uint256(id_) << 64 | weight_ << 16 | region;
    }

    function signer(uint256 member) internal pure returns (address) {
        return address(uint160(member >> 96));
    }

    function id(uint256 member) internal pure returns (uint32) {
        return uint32(member >> 64);
    }

    function weight(uint256 member) internal pure returns (uint256) {
        return uint48(member >> 16);
    }

    /// @notice Stores members as code. When they are those at `old`, that stays.
    function write(address old, uint256[] memory members) internal returns (address store) {
        // The length's word makes room for the creation code, whose last byte is the STOP that the stored code begins with.
        assembly ("memory-safe") {
            let n := mload(members)
            let size := add(shl(5, n), 1)
            mstore(members, or(0x61000080600a3d393df300, shl(64, size)))
            store := old
            if iszero(eq(extcodehash(old), keccak256(add(members, 0x1f), size))) {
                store := create(0, add(members, 0x15), add(size, 10))
            }
            mstore(members, n)
        }
        // Creation fails only without gas, and then what is left does not suffice for this either.
        assert(store != address(0));
    }

    /// @notice The members stored at `store`; none when that is zero.
    function read(address store) internal view returns (uint256[] memory members) {
        assembly ("memory-safe") {
            members := mload(0x40)
            let size := extcodesize(store)
            if size { size := sub(size, 1) }
            mstore(members, shr(5, size))
            extcodecopy(store, add(members, 0x20), 1, size)
            mstore(0x40, add(add(members, 0x20), size))
        }
    }

    /// @notice Which members signed, as bits. The signatures are in the order of the members.
    /// @param departed The members that cannot sign, as bits.
    function signers(uint256[] memory members, uint64 departed, bytes32 digest, bytes calldata sigs)
        internal
        pure
        returns (uint64 bits)
    {
        // Nothing overflows: there are 64 members and signatures at most.
        unchecked {
            uint256 n = sigs.length / _SIGNATURE;
            if (sigs.length != n * _SIGNATURE || n > 64) revert INodeRegistry.SignaturesLength(sigs.length);
            uint256 count = members.length;
            uint256 k;
            for (uint256 i; i < n; ++i) {
                bytes calldata sig = sigs[i * _SIGNATURE:(i + 1) * _SIGNATURE];
                (address by,,) = ECDSA.tryRecoverCalldata(digest, sig);
                while (k < count && (signer(_at(members, k)) != by || (departed >> k) & 1 != 0)) ++k;
                if (k == count) revert AlephErrors.BadSignature(uint8(i));
                bits |= uint64(1 << k);
                ++k;
            }
        }
    }

    /// @notice The index of the first member from `k` on whose id is `wanted` or above; the length when there is none.
    function find(uint256[] memory members, uint32 wanted, uint256 k) internal pure returns (uint256) {
        unchecked {
            uint256 count = members.length;
            while (k < count && id(_at(members, k)) < wanted) ++k;
            return k;
        }
    }

    /// @notice The weight behind the signers in `bits`, and of all members that have not departed.
    function tally(uint256[] memory members, uint64 departed, uint64 bits)
        internal
        pure
        returns (INodeRegistry.Quorum memory q)
    {
        uint256 sum;
        uint256 total;
        uint256 signed;
        // Nothing overflows: there are 64 members at most, of 48 bits of weight.
        unchecked {
            uint256 count = members.length;
            for (uint256 i; i < count; ++i) {
                if ((departed >> i) & 1 != 0) continue;
                uint256 w = weight(_at(members, i));
                total += w;
                if ((bits >> i) & 1 == 0) continue;
                sum += w;
                ++signed;
            }
        }
        (q.weight, q.total, q.count, q.signers) = (uint96(sum), uint96(total), uint16(signed), bits);
    }

    /// @notice How many regions the signers in `bits` are in.
    function groups(uint256[] memory members, uint64 bits) internal pure returns (uint16 n) {
        // A bit for each region.
        uint256[] memory seen = new uint256[](256);
        for (uint256 i; i < members.length; ++i) {
            if ((bits >> i) & 1 == 0) continue;
            uint256 region = uint16(members[i]);
            uint256 bit = 1 << (region & 0xff);
            if (seen[region >> 8] & bit == 0) ++n;
            seen[region >> 8] |= bit;
        }
    }

    /// @notice The ids and weights of members.
    function unpack(uint256[] memory members) internal pure returns (uint32[] memory ids, uint96[] memory weights) {
        (ids, weights) = (new uint32[](members.length), new uint96[](members.length));
        for (uint256 i; i < members.length; ++i) {
            (ids[i], weights[i]) = (id(members[i]), uint96(weight(members[i])));
        }
    }

    /// @dev A member whose index the caller has checked.
    function _at(uint256[] memory members, uint256 i) private pure returns (uint256 member) {
        assembly ("memory-safe") {
            member := mload(add(add(members, 0x20), shl(5, i)))
        }
    }
}
