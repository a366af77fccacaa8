// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.37;

import {Peers} from "../Peers.sol";

/// @title IBase
/// @notice What every upgradeable contract of the suite has in common: roles, pausing, announced upgrades.
interface IBase {
    /// @notice The guardian paused the kinds of calls in `bits` until `until`; `left` seconds of pausing remain.
    event PauseSet(uint8 bits, uint40 until, uint24 left);

    /// @notice The admin gave the guardian the full time for pausing again.
    event PauseRenewed(uint24 left);

    /// @notice An upgrade to `implementation`, whose code has the hash `codehash`, is possible from `eta` on.
    event UpgradeAnnounced(address indexed implementation, bytes32 codehash, uint40 eta);

    /// @notice The announced upgrade was called off.
    event UpgradeCancelled(address indexed implementation);

    /// @dev The new implementation is not the announced one, or its code has changed since.
    error UpgradeNotAnnounced(address implementation, bytes32 codehash);

    /// @dev The new implementation was built for other peers.
    error PeersChanged();

    /// @notice Pauses kinds of calls for a time. Replaces the pause before; its unused time is given back first.
    /// @param bits The kinds, see the library Pausing.
    /// @param duration Seconds, at most what remains of 14 days.
    function pause(uint8 bits, uint24 duration) external;

    /// @notice Ends the pause; its unused time is given back.
    function unpause() external;

    /// @notice Gives the guardian 14 days of pausing again.
    function renewPause() external;

    /// @notice Announces an upgrade, which is possible 7 days later. Replaces an announcement before.
    function announceUpgrade(address implementation) external;

    /// @notice Calls off the announced upgrade.
    function cancelUpgrade() external;

    /// @notice The AccessManager that holds the roles.
    function authority() external view returns (address);

    /// @notice The addresses this implementation was built for.
    function peers() external view returns (Peers memory);

    /// @notice The pause in force: kinds of calls (0 when none), its end and the seconds of pausing left.
    function pauseState() external view returns (uint8 bits, uint40 until, uint24 left);

    /// @notice The announced upgrade; zero when none.
    function announcedUpgrade() external view returns (address implementation, bytes32 codehash, uint40 eta);

    /// @notice The release of this implementation.
    // solhint-disable-next-line func-name-mixedcase
    function VERSION() external pure returns (string memory);
}
