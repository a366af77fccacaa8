// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.37;

/// @title IAlephToken
/// @notice What the token adds to ERC-20, ERC-2612 and burning: Arbitrum's custom gateway interface.
interface IAlephToken {
    /// @dev Only the gateway may call this.
    error OnlyGateway(address caller);

    /// @notice Creates tokens that were locked on the parent chain. Only the gateway.
    function bridgeMint(address account, uint256 amount) external;

    /// @notice Destroys tokens that are unlocked on the parent chain. Only the gateway.
    function bridgeBurn(address account, uint256 amount) external;

    /// @notice The token on the parent chain.
    function l1Address() external view returns (address);

    /// @notice The gateway, the only account that changes the supply upward.
    function gateway() external view returns (address);
}
