// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IPaymentManager} from "../src/interfaces/IPaymentManager.sol";
import {Payees} from "../src/libraries/Payees.sol";
import {Suite} from "./utils/Suite.sol";

/// @title PaymentVectors
/// @notice The PaymentManager takes the steps that the Go model took, and has the same in every account and pair after each,
/// to the last wei. The vectors are written by protocol/payment.
contract PaymentVectorsTest is Suite {
    string internal json;
    address[] internal people;
    uint64[] internal to;

    function setUp() public override {
        super.setUp();
        json = vm.readFile("../protocol/testdata/vectors/payment.json");
        assertEq(block.timestamp, vm.parseJsonUint(json, ".start"));
        for (uint256 i; i < 2; ++i) {
            people.push(makeAddr(string.concat("person", vm.toString(i))));
            // Only what the wallet allows counts.
            gateway.mint(token, people[i], 1e40);
        }
        to = [uint64(workers[0].id), workers[1].id, Payees.ofStorage(workers[1].id)];
        extension.setTokenTerms(ALEPH, 0, uint80(vm.parseJsonUint(json, ".minWindow")), 0);
    }

    function _column(string memory name) private view returns (uint256[] memory) {
        return vm.parseJsonUintArray(json, string.concat(".", name));
    }

    function test_vectors_everyStep() public {
        string[22] memory names = [
            "op",
            "time",
            "payer",
            "payee",
            "amount",
            "minutes",
            "ok",
            "result",
            "rate",
            "paidUntil",
            "since",
            "flows",
            "debts",
            "window",
            "refund",
            "reserved",
            "pending",
            "claimable",
            "debt",
            "credit",
            "",
            ""
        ];
        uint256[][] memory c = new uint256[][](20);
        for (uint256 k; k < 20; ++k) {
            c[k] = _column(names[k]);
        }
        assertGe(c[0].length, 1_000);
        for (uint256 i; i < c[0].length; ++i) {
            vm.warp(c[1][i]);
            (address payer_, uint64 payee) = (people[c[2][i]], to[c[3][i]]);
            (bool ok, uint256 result) = _step(c[0][i], payer_, payee, c[4][i], uint16(c[5][i]));
            assertEq(ok, c[6][i] == 1, string.concat("step ", vm.toString(i)));
            if (ok) assertEq(result, c[7][i], string.concat("result of step ", vm.toString(i)));
            uint256[12] memory have = _state(payer_, payee);
            for (uint256 k; k < 12; ++k) {
                if (have[k] == c[8 + k][i]) continue;
                assertEq(have[k], c[8 + k][i], string.concat(names[8 + k], " after step ", vm.toString(i)));
            }
        }
    }

    function _state(address payer_, uint64 payee) private view returns (uint256[12] memory s) {
        IPaymentManager.AccountView memory a = payments.account(payer_, ALEPH);
        IPaymentManager.PairView memory p = payments.pair(payer_, ALEPH, payee);
        (s[0], s[1], s[2]) = (a.rateQ32, a.paidUntil, a.revokedAt == 0 ? a.arrearsSince : a.revokedAt);
        (s[3], s[4], s[5], s[6], s[7]) = (a.flows, a.debts, a.window, a.refund, a.reserved);
        (s[8], s[9], s[10], s[11]) = (p.pendingQ32, p.claimable, p.debt, payments.creditOf(payee, ALEPH));
    }

    function _step(uint256 op, address payer_, uint64 payee, uint256 amount, uint16 minutes_)
        private
        returns (bool ok, uint256 result)
    {
        bytes memory data;
        address by = payee > Payees.STORAGES ? storagesAt : address(jobs);
        if (op == 0) {
            data = abi.encodeCall(payments.setFlow, (payer_, ALEPH, payee, int256(amount)));
        } else if (op == 1) {
            data = abi.encodeCall(payments.setFlow, (payer_, ALEPH, payee, -int256(amount)));
        } else if (op == 2) {
            data = abi.encodeCall(payments.pull, (payer_, ALEPH));
        } else if (op == 3) {
            address[] memory list = new address[](1);
            list[0] = payer_;
            data = abi.encodeCall(payments.claim, (payee, ALEPH, list));
        } else if (op == 4) {
            data = abi.encodeCall(payments.reserve, (payer_, ALEPH, payee, uint128(amount)));
        } else if (op == 5) {
            data = abi.encodeCall(payments.activate, (payer_, ALEPH, payee, uint128(amount), minutes_));
        } else if (op == 6) {
            data = abi.encodeCall(payments.release, (payer_, ALEPH, payee, uint128(amount), minutes_));
        } else if (op == 7) {
            data = abi.encodeCall(payments.closeOverdue, (payer_, ALEPH, payee, uint128(amount)));
        } else if (op == 8) {
            data = abi.encodeCall(payments.chargeOnce, (payer_, ALEPH, payee, uint128(amount), 0));
        } else {
            by = payer_;
            if (op == 9) data = abi.encodeCall(extension.revokeAll, (ALEPH));
            else if (op == 10) data = abi.encodeCall(extension.deposit, (ALEPH, uint128(amount)));
            else if (op == 11) data = abi.encodeCall(payments.payDebt, (payer_, ALEPH, payee));
            else return _allow(payer_, amount);
        }
        vm.prank(by);
        bytes memory answer;
        (ok, answer) = address(payments).call(data);
        if (ok && answer.length >= 32) result = uint256(bytes32(answer));
    }

    function _allow(address payer_, uint256 amount) private returns (bool, uint256) {
        vm.prank(payer_);
        token.approve(address(payments), amount);
        return (true, 0);
    }
}
