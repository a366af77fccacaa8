// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IPaymentLens} from "./interfaces/IPaymentLens.sol";
import {IPaymentManager} from "./interfaces/IPaymentManager.sol";
import {IPermit2} from "./interfaces/IPermit2.sol";
import {AlephErrors} from "./libraries/AlephErrors.sol";
import {Q32} from "./libraries/Q32.sol";
import {TokenCalls} from "./libraries/TokenCalls.sol";
import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {Math} from "@openzeppelin/contracts/utils/math/Math.sol";

/// @title PaymentLens
/// @notice See {IPaymentLens}.
abstract contract PaymentLens is IPaymentLens {
    /* CONSTANTS */

    /// @inheritdoc IPaymentLens
    address public immutable payments;

    /* SETUP */

    constructor(address payments_) {
        if (payments_ == address(0)) revert AlephErrors.ZeroAddress();
        payments = payments_;
    }

    /* VIEWS */

    /// @inheritdoc IPaymentLens
    function runway(address payer, uint8 token)
        public
        view
        returns (uint40 paidUntil, uint40 allowanceUntil, uint40 softStop, uint40 hardStop)
    {
        IPaymentManager manager = IPaymentManager(payments);
        IPaymentManager.AccountView memory a = manager.account(payer, token);
        (, uint32 soft, uint32 hard) = manager.params();
        paidUntil = a.paidUntil;
        uint256 until = type(uint40).max;
        if (a.rateQ32 != 0) {
            uint256 more = a.refund + Math.min(_wallet(payer, token, a.source), type(uint128).max);
            until = Math.min(until, paidUntil + (more << 32) / a.rateQ32);
        }
        allowanceUntil = uint40(until);
        softStop = paidUntil + soft;
        hardStop = paidUntil + hard;
    }

    /// @inheritdoc IPaymentLens
    function owed(uint64 payee, uint8 token, address[] calldata payers) external view returns (uint256 sum) {
        for (uint256 i; i < payers.length; ++i) {
            sum += IPaymentManager(payments).pair(payers[i], token, payee).claimable;
        }
    }

    /// @inheritdoc IPaymentLens
    function solvency(uint8 token, address[] calldata payers, uint64[] calldata payees)
        external
        view
        returns (uint256 held, uint256 owes)
    {
        IPaymentManager manager = IPaymentManager(payments);
        held = IERC20(manager.tokenOf(token).erc20).balanceOf(payments);
        for (uint256 i; i < payers.length; ++i) {
            IPaymentManager.AccountView memory a = manager.account(payers[i], token);
            owes += uint256(a.refund) + a.reserved;
            if (a.paidUntil > block.timestamp) owes += Q32.floorWei(a.rateQ32, a.paidUntil - block.timestamp);
            for (uint256 j; j < payees.length; ++j) {
                owes += manager.pair(payers[i], token, payees[j]).claimable;
            }
        }
        for (uint256 j; j < payees.length; ++j) {
            owes += manager.creditOf(payees[j], token);
        }
    }

    /* INTERNAL */

    /// @dev What could be taken from the payer's wallet now.
    function _wallet(address payer, uint8 token, uint8 source) private view returns (uint256) {
        if (source == 2) return 0;
        IERC20 erc20 = IERC20(IPaymentManager(payments).tokenOf(token).erc20);
        uint256 most = erc20.allowance(payer, source == 1 ? TokenCalls.PERMIT2 : payments);
        if (source == 1) {
            (uint160 amount, uint48 expiration,) =
                IPermit2(TokenCalls.PERMIT2).allowance(payer, address(erc20), payments);
            most = block.timestamp > expiration ? 0 : Math.min(most, amount);
        }
        return Math.min(most, erc20.balanceOf(payer));
    }
}
