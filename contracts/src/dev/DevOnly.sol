// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {AlephErrors} from "../libraries/AlephErrors.sol";

/// @title DevOnly
/// @notice A contract with one owner that cannot be deployed on any chain but 31337, that of development networks.
abstract contract DevOnly {
    /* CONSTANTS */

    /// @dev The chain id of development networks.
    uint256 private constant _DEV_CHAIN = 31337;

    /// @notice The only account that is obeyed.
    address public immutable owner;

    /// @dev This chain is not a development network.
    error NotADevelopmentChain(uint256 chainId);

    /* SETUP */

    /// @param owner_ The only account that is obeyed.
    constructor(address owner_) {
        if (block.chainid != _DEV_CHAIN) revert NotADevelopmentChain(block.chainid);
        if (owner_ == address(0)) revert AlephErrors.ZeroAddress();
        owner = owner_;
    }

    /// @dev Only the owner.
    modifier onlyOwner() {
        if (msg.sender != owner) revert AlephErrors.NotAuthorized(msg.sender);
        _;
    }
}
