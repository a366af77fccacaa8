// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IDeployer} from "./interfaces/IDeployer.sol";
import {AlephErrors} from "./libraries/AlephErrors.sol";
import {Create3} from "@openzeppelin/contracts/utils/Create3.sol";

/// @title Deployer
/// @notice See {IDeployer}.
contract Deployer is IDeployer {
    /* CONSTANTS */

    /// @inheritdoc IDeployer
    address public immutable owner;

    /* SETUP */

    constructor() {
        owner = msg.sender;
    }

    /* DEPLOYMENT */

    /// @inheritdoc IDeployer
    function deploy(bytes32 salt, bytes calldata initCode) external returns (address at) {
        if (msg.sender != owner) revert AlephErrors.NotAuthorized(msg.sender);
        at = Create3.deploy(0, salt, initCode);
        emit Deployed(salt, at);
    }

    /* VIEWS */

    /// @inheritdoc IDeployer
    function addressOf(bytes32 salt) external view returns (address) {
        return Create3.computeAddress(salt);
    }
}
