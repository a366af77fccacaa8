// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.37;

/// @title IPaymentLens
/// @notice Views that add up other views of the PaymentManager. Without state: it can be deployed anew at any time.
interface IPaymentLens {
    /// @notice The PaymentManager it looks at.
    function payments() external view returns (address);

    /// @notice How long the money lasts at the present rate.
    /// @return paidUntil The end of the prepaid time.
    /// @return allowanceUntil The end when refund, allowance and balance are used up.
    /// @return softStop When a node may pause if nothing more can be pulled.
    /// @return hardStop After when anyone may close if nothing more can be pulled.
    function runway(address payer, uint8 token)
        external
        view
        returns (uint40 paidUntil, uint40 allowanceUntil, uint40 softStop, uint40 hardStop);

    /// @notice What a claim now would give, before the split.
    function owed(uint64 payee, uint8 token, address[] calldata payers) external view returns (uint256);

    /// @notice What the PaymentManager holds, and what it owes to these payers and payees: refunds, reserves, prepaid time,
    /// unclaimed flows and credits. With all of them given, `held` is never below `owes`.
    function solvency(uint8 token, address[] calldata payers, uint64[] calldata payees)
        external
        view
        returns (uint256 held, uint256 owes);
}
