// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IAlephToken} from "../interfaces/IAlephToken.sol";
import {DevOnly} from "./DevOnly.sol";

/// @title DevGateway
/// @notice Stands where Arbitrum's gateway stands, on a development network only: its owner makes tokens out of nothing.
contract DevGateway is DevOnly {
    constructor(address owner_) DevOnly(owner_) {}

    /// @notice Mints tokens, as a deposit on the parent chain would. Only the owner.
    function mint(IAlephToken token, address account, uint256 amount) external onlyOwner {
        token.bridgeMint(account, amount);
    }
}
