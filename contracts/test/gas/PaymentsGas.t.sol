// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {GasBench} from "./GasBench.sol";

/// @title PaymentsGas
/// @notice What payments cost: one payer with 1,000 jobs on 100 nodes, many payers of one node, and the payer's own
/// settings.
contract PaymentsGasTest is GasBench {
    uint128 internal constant RATE = uint128(1e12 * Q);

    function _bench() internal pure override returns (string memory) {
        return "payments";
    }

    function _measure() internal override {
        _thousandJobs();
    }

    /// @dev Ten jobs on each of 100 nodes; the node ids need no registration here.
    function _thousandJobs() private {
        for (uint64 i; i < 1_000; ++i) {
            _asJobs().setFlow(payer, ALEPH, 1 + i % 100, int256(uint256(RATE)));
        }
        skip(60);
        payments.pull(payer, ALEPH);
        skip(600);
        payments.pull(payer, ALEPH);
        _record("pull, 1,000 jobs on 100 nodes", 58_000);
    }
}
