// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.37;

/// @title IAlephGovernor
/// @notice What the governor adds to OpenZeppelin's: bounds on its parameters that are compiled in, a floor under the
/// quorum, a guardian whose time runs out, and upgrades that are announced. Votes are those of the StakingManager; what is
/// decided is done by the timelock.
interface IAlephGovernor {
    /// @notice An upgrade to `implementation`, whose code has the hash `codehash`, is possible from `eta` on.
    event UpgradeAnnounced(address indexed implementation, bytes32 codehash, uint40 eta);

    /// @notice The announced upgrade was called off.
    event UpgradeCancelled(address indexed implementation);

    /// @notice The guardian can cancel proposals until then.
    event GuardianUntil(address indexed guardian, uint40 until);

    /// @dev The new implementation is not the announced one, or its code has changed since.
    error UpgradeNotAnnounced(address implementation, bytes32 codehash);

    /// @notice Announces an upgrade, which is possible 7 days later. Replaces an announcement before. Only by a proposal.
    function announceUpgrade(address implementation) external;

    /// @notice Calls off the announced upgrade. Only the guardian.
    function cancelUpgrade() external;

    /// @notice The announced upgrade; zero when none.
    function announcedUpgrade() external view returns (address implementation, bytes32 codehash, uint40 eta);

    /// @notice When the guardian's time runs out. A proposal to set the guardian, also the same, gives it two years.
    function guardianUntil() external view returns (uint40);

    /// @notice The release of this implementation.
    // solhint-disable-next-line func-name-mixedcase
    function VERSION() external pure returns (string memory);
}
