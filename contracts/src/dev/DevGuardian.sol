// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {AlephErrors} from "../libraries/AlephErrors.sol";
import {Address} from "@openzeppelin/contracts/utils/Address.sol";

/// @title DevGuardian
/// @notice Stands where the guardians' multisig stands, on a development network only: a contract that does what its one
/// owner says. It cannot be deployed on any chain but 31337.
contract DevGuardian {
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

    /* CALLS */

    /// @notice Calls a contract as the guardian. Only the owner.
    function execute(address target, bytes calldata data) external returns (bytes memory) {
        if (msg.sender != owner) revert AlephErrors.NotAuthorized(msg.sender);
        return Address.functionCall(target, data);
    }
}
