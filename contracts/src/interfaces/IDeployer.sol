// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.37;

/// @title IDeployer
/// @notice Puts contracts at addresses that depend only on a salt, so that contracts can know each other beforehand.
interface IDeployer {
    /// @notice A contract was deployed.
    event Deployed(bytes32 indexed salt, address indexed at);

    /// @notice Deploys a contract. Only the owner; a salt works once.
    /// @param salt The name of the contract, as bytes32.
    /// @param initCode The creation code followed by the constructor's arguments.
    /// @return at The address, the same as {addressOf}.
    function deploy(bytes32 salt, bytes calldata initCode) external returns (address at);

    /// @notice The address that {deploy} gives for a salt.
    function addressOf(bytes32 salt) external view returns (address);

    /// @notice The only account that deploys.
    function owner() external view returns (address);
}
