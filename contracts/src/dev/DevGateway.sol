// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IAlephToken} from "../interfaces/IAlephToken.sol";
import {AlephErrors} from "../libraries/AlephErrors.sol";

/// @title DevGateway
/// @notice Stands where Arbitrum's gateway stands, on a development network only: its owner makes tokens out of nothing.
/// It cannot be deployed on any chain but 31337.
contract DevGateway {
    /* CONSTANTS */

    /// @dev The chain id of development networks.
    uint256 private constant _DEV_CHAIN = 31337;

    /// @notice The only account that mints.
    address public immutable owner;

    /// @dev This chain is not a development network.
    error NotADevelopmentChain(uint256 chainId);

    /* SETUP */

    /// @param owner_ The only account that mints.
    constructor(address owner_) {
        if (block.chainid != _DEV_CHAIN) revert NotADevelopmentChain(block.chainid);
        if (owner_ == address(0)) revert AlephErrors.ZeroAddress();
        owner = owner_;
    }

    /* MINTING */

    /// @notice Mints tokens, as a deposit on the parent chain would. Only the owner.
    function mint(IAlephToken token, address account, uint256 amount) external {
        if (msg.sender != owner) revert AlephErrors.NotAuthorized(msg.sender);
        token.bridgeMint(account, amount);
    }
}
