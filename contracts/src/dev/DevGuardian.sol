// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {DevOnly} from "./DevOnly.sol";
import {Address} from "@openzeppelin/contracts/utils/Address.sol";

/// @title DevGuardian
/// @notice Stands where the guardians' multisig stands, on a development network only: a contract that does what its one
/// owner says.
contract DevGuardian is DevOnly {
    constructor(address owner_) DevOnly(owner_) {}

    /// @notice Calls a contract as the guardian. Only the owner.
    function execute(address target, bytes calldata data) external onlyOwner returns (bytes memory) {
        return Address.functionCall(target, data);
    }
}
