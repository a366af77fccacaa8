// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IJobManager} from "../../src/interfaces/IJobManager.sol";
import {Bitmaps} from "./Bitmaps.sol";
import {CaseSuite} from "./CaseSuite.sol";
import {HeartbeatSuite} from "./HeartbeatSuite.sol";

/// @title PlacementSuite
/// @notice Jobs with classes, images and needs, and the proofs that another node should have got one.
abstract contract PlacementSuite is CaseSuite, HeartbeatSuite {
    bytes32 internal constant SEED = keccak256("seed");

    function _openingOf(bytes32 spec, uint128 rateQ32, Party memory worker, uint32 slaClass, uint32 imageSeq)
        internal
        returns (Opening memory o)
    {
        o = _opening(spec, rateQ32, worker);
        (o.offer.slaClass, o.offer.imageSeq) = (slaClass, imageSeq);
        _signOpening(o, payerKey, worker, 3);
    }

    /// @dev Assigns a job that waits, with all signatures.
    function _assign(Opening memory o, Party memory worker) internal {
        _signOpening(o, payerKey, worker, 3);
        jobs.assign(o.offer, o.payerSig, o.assignment, o.nodeSig, o.coordSigs);
    }

    function _openCall(Opening memory o) internal pure returns (bytes memory) {
        return abi.encodeCall(IJobManager.open, (o.offer, o.payerSig, o.assignment, o.nodeSig, o.coordSigs));
    }

    function _resizeSig(IJobManager.JobOffer memory offer, Party memory worker, uint128 rateQ32)
        internal
        view
        returns (bytes memory)
    {
        bytes32 typeHash = keccak256("Resize(bytes32 offer,uint32 nodeId,uint128 rateQ32)");
        bytes32 hash = keccak256(abi.encode(typeHash, _offerHash(offer), worker.id, rateQ32));
        return _sign(worker.key, _digest("AlephJobs", address(jobs), hash));
    }

    function _offerHash(IJobManager.JobOffer memory offer) internal pure returns (bytes32) {
        return keccak256(
            abi.encode(
                keccak256(
                    "JobOffer(bytes32 spec,address payer,uint8 token,uint128 maxRateQ32,uint32 slaClass,uint32 imageSeq,uint32 nodeHint,bytes32 reqHash,uint40 maxUntil,uint40 deadline,uint256 nonce)"
                ),
                offer
            )
        );
    }

    function _declineSig(Party memory worker, bytes32 spec, uint8 attempt, uint8 reason)
        internal
        view
        returns (bytes memory)
    {
        bytes32 typeHash = keccak256("Decline(bytes32 spec,uint32 nodeId,uint8 attempt,uint8 reason)");
        bytes32 hash = keccak256(abi.encode(typeHash, spec, worker.id, attempt, reason));
        return _sign(worker.key, _digest("AlephJobs", address(jobs), hash));
    }

    function _silenceDigest(bytes32 spec, uint32 nodeId, uint8 attempt) internal view returns (bytes32) {
        bytes32 typeHash = keccak256("Silence(bytes32 spec,uint32 nodeId,uint8 attempt)");
        return _digest("AlephJobs", address(jobs), keccak256(abi.encode(typeHash, spec, nodeId, attempt)));
    }

    /* NUMBERS */

    /// @dev A leaf: 8 vCPUs, 16 GiB, 100 GiB, tier 10, region 1, and the score.
    function _statOf(uint32 nodeId, uint16 score) internal pure returns (bytes32) {
        return bytes32(
            uint256(nodeId) << 224 | uint256(score) << 208 | uint256(9_000) << 192 | uint256(8) << 176 | uint256(16)
                << 160 | uint256(100) << 128 | uint256(10) << 104 | uint256(100) << 88 | uint256(1) << 40
        );
    }

    /// @dev 2 vCPUs, 4 GiB, 10 GiB, at most tier 20.
    function _needs() internal pure returns (bytes32) {
        return bytes32(uint256(2) << 176 | uint256(4) << 160 | uint256(10) << 128 | uint256(20) << 104);
    }

    /// @dev The tree of these leaves by node id, and the proof of one with the hash of the bitmap at its end.
    function _statTree(bytes32[] memory leaves, uint32 nodeId, bytes memory bitmap)
        internal
        pure
        returns (bytes32 root, bytes32[] memory proof)
    {
        bytes32[] memory siblings;
        (root, siblings) = _tree(leaves, nodeId);
        proof = new bytes32[](siblings.length + 1);
        for (uint256 i; i < siblings.length; ++i) {
            proof[i] = siblings[i];
        }
        proof[siblings.length] = Bitmaps.hashOf(bitmap);
    }
}
