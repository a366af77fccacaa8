// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Peers} from "./Peers.sol";
import {AlephErrors} from "./libraries/AlephErrors.sol";
import {IAccessManager} from "@openzeppelin/contracts/access/manager/IAccessManager.sol";

/// @title Wiring
/// @notice What every contract knows of its deployment: its peers, its roles, its pause. {Base} adds what makes a contract
/// upgradeable; code that runs in another contract's storage needs only this.
abstract contract Wiring {
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

    /* INTERNAL */

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

    function _checkPeer(address peer) internal pure {
        if (peer == address(0)) revert AlephErrors.ZeroAddress();
    }

    /// @dev Only the contract at `peer`. Between the contracts of a deployment there are no roles: who may call whom is
    /// compiled in, which costs no storage read and which nobody can grant.
    function _onlyPeer(address peer) internal view {
        if (msg.sender != peer) revert AlephErrors.NotAuthorized(msg.sender);
    }
}
