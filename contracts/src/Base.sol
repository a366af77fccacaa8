// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Peers} from "./Peers.sol";
import {Wiring} from "./Wiring.sol";
import {IBase} from "./interfaces/IBase.sol";
import {AlephErrors} from "./libraries/AlephErrors.sol";
import {Pausing} from "./libraries/Pausing.sol";
import {Roles} from "./libraries/Roles.sol";
import {Initializable} from "@openzeppelin/contracts/proxy/utils/Initializable.sol";
import {UUPSUpgradeable} from "@openzeppelin/contracts/proxy/utils/UUPSUpgradeable.sol";

/// @title Base
/// @notice See {IBase}. The peers are immutables of the implementation: a call to a peer costs no storage read, and an
/// upgrade to an implementation built for other peers is refused.
abstract contract Base is IBase, Initializable, UUPSUpgradeable, Wiring {
    /* CONSTANTS */

    /// @dev Time between the announcement of an upgrade and the upgrade: every job can be stopped and paid out before.
    uint40 internal constant UPGRADE_DELAY = 7 days;

    /// @dev All the pausing the guardian may do without the admin.
    uint24 internal constant PAUSE_MAX = 14 days;

    /* SETUP */

    /// @custom:oz-upgrades-unsafe-allow constructor
    constructor(Peers memory p) Wiring(p) {
        _disableInitializers();
    }

    /// @dev Gives the guardian the time for pausing.
    function _initBase() internal onlyInitializing {
        _base().pauseLeft = PAUSE_MAX;
    }

    /* PAUSING */

    /// @inheritdoc IBase
    function pause(uint8 bits, uint24 duration) external restricted {
        if (bits == 0 || bits & ~Pausing.ALL != 0) revert AlephErrors.OutOfBounds(bits, 1, Pausing.ALL);
        BaseStorage storage $ = _base();
        uint24 left = $.pauseLeft + _unused($);
        if (duration == 0 || duration > left) revert AlephErrors.OutOfBounds(duration, 1, left);
        _setPause($, bits, uint40(block.timestamp) + duration, left - duration);
    }

    /// @inheritdoc IBase
    function unpause() external restricted {
        BaseStorage storage $ = _base();
        _setPause($, 0, 0, $.pauseLeft + _unused($));
    }

    /// @inheritdoc IBase
    function renewPause() external restricted {
        _base().pauseLeft = PAUSE_MAX;
        emit PauseRenewed(PAUSE_MAX);
    }

    /* UPGRADES */

    /// @inheritdoc IBase
    function announceUpgrade(address implementation) external restricted {
        if (implementation.code.length == 0) revert AlephErrors.ZeroAddress();
        BaseStorage storage $ = _base();
        $.announced = implementation;
        $.announcedEta = uint40(block.timestamp) + UPGRADE_DELAY;
        $.announcedCodehash = implementation.codehash;
        emit UpgradeAnnounced(implementation, implementation.codehash, $.announcedEta);
    }

    /// @inheritdoc IBase
    function cancelUpgrade() external restricted {
        BaseStorage storage $ = _base();
        emit UpgradeCancelled($.announced);
        _forgetUpgrade($);
    }

    /* VIEWS */

    /// @inheritdoc IBase
    function authority() external view returns (address) {
        return AUTHORITY;
    }

    /// @inheritdoc IBase
    function peers() external view returns (Peers memory p) {
        p = Peers({
            authority: AUTHORITY,
            token: TOKEN,
            nodes: NODES,
            staking: STAKING,
            jobs: JOBS,
            payments: PAYMENTS,
            storages: STORAGES,
            domains: DOMAINS,
            sla: SLA,
            images: IMAGES,
            beacon: BEACON,
            swaps: SWAPS,
            uptimeFeed: UPTIME_FEED
        });
        // Words in memory are their own ABI encoding; every implementation is smaller without an encoder for them.
        assembly ("memory-safe") {
            return(p, 416)
        }
    }

    /// @inheritdoc IBase
    function pauseState() external view returns (uint8 bits, uint40 until, uint24 left) {
        BaseStorage storage $ = _base();
        if (block.timestamp < $.pausedUntil) (bits, until) = ($.pauseBits, $.pausedUntil);
        left = $.pauseLeft;
    }

    /// @inheritdoc IBase
    function announcedUpgrade() external view returns (address, bytes32, uint40) {
        BaseStorage storage $ = _base();
        return ($.announced, $.announcedCodehash, $.announcedEta);
    }

    /// @inheritdoc IBase
    // solhint-disable-next-line func-name-mixedcase
    function VERSION() external pure virtual returns (string memory) {
        return "1.0.0";
    }

    /* INTERNAL */

    /// @dev An upgrade needs the role, the announcement, its time, the same code and the same peers.
    function _authorizeUpgrade(address implementation) internal override restricted {
        BaseStorage storage $ = _base();
        if (implementation != $.announced || implementation.codehash != $.announcedCodehash) {
            revert UpgradeNotAnnounced(implementation, implementation.codehash);
        }
        if (block.timestamp < $.announcedEta) revert AlephErrors.TooSoon($.announcedEta);
        if (_peersHash(implementation) != _peersHash(address(this))) revert PeersChanged();
        _forgetUpgrade($);
    }

    /// @dev The seconds of the pause in force that have not passed.
    function _unused(BaseStorage storage $) private view returns (uint24) {
        uint40 until = $.pausedUntil;
        return block.timestamp < until ? uint24(until - block.timestamp) : 0;
    }

    function _setPause(BaseStorage storage $, uint8 bits, uint40 until, uint24 left) private {
        ($.pauseBits, $.pausedUntil, $.pauseLeft) = (bits, until, left);
        emit PauseSet(bits, until, left);
    }

    function _forgetUpgrade(BaseStorage storage $) private {
        ($.announced, $.announcedEta, $.announcedCodehash) = (address(0), 0, bytes32(0));
    }

    /// @dev The hash of what {IBase-peers} answers, as it comes.
    function _peersHash(address base) private view returns (bytes32) {
        (bool ok, bytes memory answer) = base.staticcall(abi.encodeCall(IBase.peers, ()));
        return ok ? keccak256(answer) : bytes32(0);
    }
}
