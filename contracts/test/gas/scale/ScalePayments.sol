// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IPaymentExtension} from "../../../src/interfaces/IPaymentExtension.sol";
import {IPaymentManager} from "../../../src/interfaces/IPaymentManager.sol";
import {IPermit2} from "../../../src/interfaces/IPermit2.sol";
import {Payees} from "../../../src/libraries/Payees.sol";
import {TestToken} from "../../utils/TestToken.sol";
import {ScaleWorld} from "./ScaleWorld.sol";

/// @title ScalePayments
/// @notice Both halves of the PaymentManager: the payer of half of all jobs, and the node that the other half pays.
abstract contract ScalePayments is ScaleWorld {
    function test_scale_payments() public {
        _scale("PaymentManager", address(payments), _payments);
        _checkAll("PaymentExtension", address(payments));
    }

    function _payments() private {
        _settling();
        _flows();
        _debts();
        _peerCalls();
        _paymentParameters();
        _settings();
        _swaps();
        _permits();
        _do("revokeAll, by who pays for half of all", payer, abi.encodeCall(IPaymentExtension.revokeAll, (ALEPH)));
        _upkeep("PaymentManager", address(payments));
    }

    function _settling() private {
        _do("pull, by who pays for half of all", payer, abi.encodeCall(IPaymentManager.pull, (payer, ALEPH)));
        address[] memory payers = new address[](FEW / 2);
        for (uint256 i; i < payers.length; ++i) {
            payers[i] = vm.addr(_payerKey(2 * i + 1));
        }
        _do("pullMany, 16", address(this), abi.encodeCall(IPaymentManager.pullMany, (payers, ALEPH)));
        bytes memory data = abi.encodeCall(IPaymentManager.claim, (busyNode.id, ALEPH, payers));
        _do("claim, 16, first of a payee", address(this), data);
        skip(600);
        _do("claim, 16", address(this), data);
        _do("withdraw", busyNode.owner, abi.encodeCall(IPaymentManager.withdraw, (busyNode.id, ALEPH, 1e12)));
        data = abi.encodeCall(IPaymentManager.claim, (firstOfCrowd, ALEPH, _payers()));
        _do("claim, of who pays for half of all", address(this), data);
    }

    function _flows() private {
        (address from, uint64 node, int256 rate) = (address(jobs), busyNode.id, int256(uint256(RATE)));
        _do("setFlow, up", from, abi.encodeCall(IPaymentManager.setFlow, (payer, ALEPH, node, rate)));
        _do("setFlow, down", from, abi.encodeCall(IPaymentManager.setFlow, (payer, ALEPH, node, -rate / 2)));
        _do("reserve", from, abi.encodeCall(IPaymentManager.reserve, (payer, ALEPH, node, RATE)));
        _do("activate", from, abi.encodeCall(IPaymentManager.activate, (payer, ALEPH, node, RATE, 60)));
        vm.prank(from);
        payments.reserve(payer, ALEPH, node, RATE);
        _do("release", from, abi.encodeCall(IPaymentManager.release, (payer, ALEPH, node, RATE, 60)));
        _do("chargeOnce", from, abi.encodeCall(IPaymentManager.chargeOnce, (payer, ALEPH, node, 1e12, 0)));
        bytes memory data = abi.encodeCall(IPaymentManager.closeOverdue, (payer, ALEPH, node, RATE));
        _do("closeOverdue, not due", from, data);
        _do("withdrawRefund", address(this), abi.encodeCall(IPaymentManager.withdrawRefund, (payer, ALEPH)));
    }

    /// @dev A payer with the money for an hour.
    function _debts() private {
        (address poor, uint64 node) = (makeAddr("without money"), busyNode.id);
        _fund(poor, 4e15);
        _asJobs().setFlow(poor, ALEPH, node, int256(uint256(RATE)));
        skip(26 hours);
        bytes memory data = abi.encodeCall(IPaymentManager.closeOverdue, (poor, ALEPH, node, RATE));
        _do("closeOverdue", address(jobs), data);
        _fund(watcher, 1 ether);
        _do("payDebt", watcher, abi.encodeCall(IPaymentManager.payDebt, (poor, ALEPH, node)));
    }

    function _peerCalls() private {
        bytes memory data = abi.encodeCall(IPaymentManager.compensate, (busyNode.id, ALEPH, payer, 1e6, "case"));
        _do("compensate", slaAt, data);
        address[] memory payers = new address[](1);
        payers[0] = vm.addr(_payerKey(1));
        payments.claim(Payees.ofImage(busyImage), ALEPH, payers);
        uint128[] memory amounts = new uint128[](1);
        amounts[0] = 1e6;
        data = abi.encodeCall(IPaymentManager.payOut, (Payees.ofImage(busyImage), ALEPH, _payers(), amounts));
        _do("payOut", imagesAt, data);
    }

    function _paymentParameters() private {
        address who = address(timelock);
        address erc20 = address(new TestToken("NEW", 6));
        uint8 t = abi.decode(_do("listToken", who, abi.encodeCall(IPaymentManager.listToken, (erc20))), (uint8));
        _do("delistToken", address(guardian), abi.encodeCall(IPaymentManager.delistToken, (t)));
        _do("relistToken", who, abi.encodeCall(IPaymentManager.relistToken, (t)));
        _do("setTokenTerms", who, abi.encodeCall(IPaymentExtension.setTokenTerms, (t, 6, 1e6, 1e6)));
        _do("setSplit", who, abi.encodeCall(IPaymentManager.setSplit, (Payees.COMPUTE, 6_000, 1_500, 2_000, 500)));
        _do("setPrepay", who, abi.encodeCall(IPaymentManager.setPrepay, (7200)));
        _do("setGrace", who, abi.encodeCall(IPaymentManager.setGrace, (7200, 25 hours)));
        _do("setPoolPayout", who, abi.encodeCall(IPaymentManager.setPoolPayout, (Payees.DEVELOPMENT, watcher)));
    }

    function _settings() private {
        _do("deposit", payer, abi.encodeCall(IPaymentExtension.deposit, (ALEPH, 1 ether)));
        _do("withdrawDeposit", payer, abi.encodeCall(IPaymentExtension.withdrawDeposit, (ALEPH, 0.5 ether)));
        _do("setSource", payer, abi.encodeCall(IPaymentExtension.setSource, (ALEPH, 0)));
        bytes memory data = abi.encodeCall(
            IPaymentExtension.setLimits, (ALEPH, address(jobs), type(uint104).max, type(uint40).max, 1e26)
        );
        _do("setLimits", payer, data);
        _fund(crowd, 1 ether);
        data = abi.encodeCall(IPaymentExtension.sponsor, (payer, ALEPH, RATE, type(uint40).max));
        _do("sponsor", crowd, data);
        skip(1 hours);
        data = abi.encodeCall(IPaymentManager.pull, (payer, ALEPH));
        _do("pull, with a sponsor", address(this), data);
        bytes[] memory calls = new bytes[](2);
        (calls[0], calls[1]) = (data, abi.encodeCall(IPaymentExtension.setAutoSwap, (USD, ALEPH, 100)));
        _do("multicall, 2", payer, abi.encodeCall(IPaymentExtension.multicall, (calls)));
        _do("setAutoSwap", payer, abi.encodeCall(IPaymentExtension.setAutoSwap, (USD, WETH, 100)));
    }

    function _swaps() private {
        bytes memory path = _path(address(usd), MEDIUM, address(token));
        bytes memory data = abi.encodeCall(IPaymentExtension.setRoute, (USD, ALEPH, path, 100, 1800, 150, 1000e6));
        _do("setRoute", address(timelock), data);
        address poor = _swapper(1000e6, 100);
        _asJobs().setFlow(poor, ALEPH, busyNode.id, int256(40 ether * Q / 3600));
        vm.startPrank(poor);
        token.transfer(address(1), token.balanceOf(poor));
        vm.stopPrank();
        skip(30 minutes);
        _do("pullSwap", address(this), abi.encodeCall(IPaymentExtension.pullSwap, (poor, USD, ALEPH)));
        path = _path(address(token), MEDIUM, address(usd));
        vm.prank(address(timelock));
        extension.setRoute(ALEPH, USD, path, 0, 1800, 0, 0);
        data = abi.encodeCall(IPaymentExtension.withdrawSwapped, (busyNode.id, ALEPH, USD, 1e14, 1));
        _do("withdrawSwapped", busyNode.owner, data);
    }

    function _permits() private {
        uint256 end = type(uint48).max;
        bytes32 typeHash =
            keccak256("Permit(address owner,address spender,uint256 value,uint256 nonce,uint256 deadline)");
        address at = address(payments);
        bytes32 h = keccak256(abi.encode(typeHash, payer, at, type(uint256).max, token.nonces(payer), end));
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(payerKey, _digest("Aleph", address(token), h));
        bytes memory data = abi.encodeCall(IPaymentManager.permit, (payer, ALEPH, type(uint256).max, end, v, r, s));
        _do("permit", address(this), data);
        IPermit2.PermitSingle memory single =
            IPermit2.PermitSingle(IPermit2.PermitDetails(address(token), 1e18, uint48(end), 0), at, end);
        bytes memory sig = _sign(payerKey, _permit2Digest(single));
        data = abi.encodeCall(IPaymentExtension.permit2, (payer, ALEPH, 1e18, uint48(end), 0, end, sig));
        _do("permit2", address(this), data);
    }
}
