// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Peers} from "./Peers.sol";
import {IBase} from "./interfaces/IBase.sol";
import {AlephErrors} from "./libraries/AlephErrors.sol";
import {Pausing} from "./libraries/Pausing.sol";
import {Roles} from "./libraries/Roles.sol";
import {IAccessManager} from "@openzeppelin/contracts/access/manager/IAccessManager.sol";
import {Initializable} from "@openzeppelin/contracts/proxy/utils/Initializable.sol";
import {UUPSUpgradeable} from "@openzeppelin/contracts/proxy/utils/UUPSUpgradeable.sol";

/// @title Base
/// @notice See {IBase}. The peers are immutables of the implementation: a call to a peer costs no storage read, and an
/// upgrade to an implementation built for other peers is refused.
abstract contract Base is IBase, Initializable, UUPSUpgradeable {
    /* TYPES */

    /// @custom:storage-location erc7201:aleph.storage.Base.v1
    struct BaseStorage {
        uint8 pauseBits;
        uint40 pausedUntil;
        uint24 pauseLeft;
        // Parameters of the contract that inherits, here because it reads them together with the pause.
        uint96 params;
        address announced;
        uint40 announcedEta;
        bytes32 announcedCodehash;
    }

    /* CONSTANTS */

    /// @dev Time between the announcement of an upgrade and the upgrade: every job can be stopped and paid out before.
    uint40 internal constant UPGRADE_DELAY = 7 days;

    /// @dev All the pausing the guardian may do without the admin.
    uint24 internal constant PAUSE_MAX = 14 days;

    // keccak256(abi.encode(uint256(keccak256("aleph.storage.Base.v1")) - 1)) & ~bytes32(uint256(0xff))
    bytes32 private constant _BASE_STORAGE = 0xc207e5c492c94cb94c2d815ac7830dfc09b9a6cfb360110127ce6dd6969e8a00;

    // The peers of a deployment never change, and an upgrade to an implementation built for others is refused; so they may
    // be part of the code.
    /// @custom:oz-upgrades-unsafe-allow state-variable-immutable
    address internal immutable AUTHORITY;
    /// @custom:oz-upgrades-unsafe-allow state-variable-immutable
    address internal immutable TOKEN;
    /// @custom:oz-upgrades-unsafe-allow state-variable-immutable
    address internal immutable NODES;
    /// @custom:oz-upgrades-unsafe-allow state-variable-immutable
    address internal immutable STAKING;
    /// @custom:oz-upgrades-unsafe-allow state-variable-immutable
    address internal immutable JOBS;
    /// @custom:oz-upgrades-unsafe-allow state-variable-immutable
    address internal immutable PAYMENTS;
    /// @custom:oz-upgrades-unsafe-allow state-variable-immutable
    address internal immutable STORAGES;
    /// @custom:oz-upgrades-unsafe-allow state-variable-immutable
    address internal immutable DOMAINS;
    /// @custom:oz-upgrades-unsafe-allow state-variable-immutable
    address internal immutable SLA;
    /// @custom:oz-upgrades-unsafe-allow state-variable-immutable
    address internal immutable IMAGES;
    /// @custom:oz-upgrades-unsafe-allow state-variable-immutable
    address internal immutable BEACON;
    /// @custom:oz-upgrades-unsafe-allow state-variable-immutable
    address internal immutable SWAPS;
    /// @custom:oz-upgrades-unsafe-allow state-variable-immutable
    address internal immutable UPTIME_FEED;

    /* SETUP */

    /// @custom:oz-upgrades-unsafe-allow constructor
    constructor(Peers memory p) {
        _checkPeer(p.authority);
        _checkPeer(p.token);
        _checkPeer(p.nodes);
        _checkPeer(p.staking);
        _checkPeer(p.jobs);
        _checkPeer(p.payments);
        _checkPeer(p.storages);
        _checkPeer(p.domains);
        _checkPeer(p.sla);
        _checkPeer(p.images);
        _checkPeer(p.beacon);
        _checkPeer(p.swaps);
        (AUTHORITY, TOKEN, NODES, STAKING, JOBS) = (p.authority, p.token, p.nodes, p.staking, p.jobs);
        (PAYMENTS, STORAGES, DOMAINS, SLA, IMAGES) = (p.payments, p.storages, p.domains, p.sla, p.images);
        (BEACON, SWAPS, UPTIME_FEED) = (p.beacon, p.swaps, p.uptimeFeed);
        _disableInitializers();
    }

    /// @dev Gives the guardian the time for pausing.
    function _initBase() internal onlyInitializing {
        _base().pauseLeft = PAUSE_MAX;
    }

    /// @dev Only an account that the AccessManager lets call this function now.
    modifier restricted() {
        _checkRestricted();
        _;
    }

    /// @dev Only while the kind of call in `bit` is not paused.
    modifier unpaused(uint8 bit) {
        _checkUnpaused(bit);
        _;
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
    function peers() external view returns (Peers memory) {
        return Peers({
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
        if (_peersHash(IBase(implementation)) != _peersHash(IBase(address(this)))) revert PeersChanged();
        _forgetUpgrade($);
    }

    function _checkRestricted() private view {
        (bool allowed,) = IAccessManager(AUTHORITY).canCall(msg.sender, address(this), msg.sig);
        if (!allowed) revert AlephErrors.NotAuthorized(msg.sender);
    }

    function _checkUnpaused(uint8 bit) internal view {
        BaseStorage storage $ = _base();
        if ($.pauseBits & bit != 0 && block.timestamp < $.pausedUntil) revert AlephErrors.Paused(bit);
    }

    function _base() internal pure returns (BaseStorage storage $) {
        assembly ("memory-safe") {
            $.slot := _BASE_STORAGE
        }
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

    function _peersHash(IBase base) private view returns (bytes32) {
        return keccak256(abi.encode(base.peers()));
    }

    function _checkPeer(address peer) private pure {
        if (peer == address(0)) revert AlephErrors.ZeroAddress();
    }

    /// @dev Only the contract at `peer`. Between the contracts of a deployment there are no roles: who may call whom is
    /// compiled in, which costs no storage read and which nobody can grant.
    function _onlyPeer(address peer) internal view {
        if (msg.sender != peer) revert AlephErrors.NotAuthorized(msg.sender);
    }
}
