// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {NodeRegistry} from "../src/NodeRegistry.sol";
import {Peers} from "../src/Peers.sol";
import {IBase} from "../src/interfaces/IBase.sol";
import {AlephErrors} from "../src/libraries/AlephErrors.sol";
import {Pausing} from "../src/libraries/Pausing.sol";
import {Roles} from "../src/libraries/Roles.sol";
import {Suite} from "./utils/Suite.sol";
import {Initializable} from "@openzeppelin/contracts/proxy/utils/Initializable.sol";

/// @dev A next release that changes nothing but its name.
contract NodeRegistryV2 is NodeRegistry {
    constructor(Peers memory p, address extension) NodeRegistry(p, extension) {}

    function VERSION() external pure override returns (string memory) {
        return "2.0.0";
    }
}

contract BaseTest is Suite {
    function _next(address pays) private returns (address) {
        Peers memory p = _peers();
        p.payments = pays;
        return address(new NodeRegistryV2(p, address(1)));
    }

    /* SETUP */

    function test_initialize_onlyOnce() public {
        string[] memory names = _proxies();
        for (uint256 i; i < names.length; ++i) {
            NodeRegistry proxy = NodeRegistry(_at(names[i]));
            vm.expectRevert(Initializable.InvalidInitialization.selector);
            proxy.initialize();
        }
        NodeRegistry bare = NodeRegistry(_implementation("NodeRegistry"));
        vm.expectRevert(Initializable.InvalidInitialization.selector);
        bare.initialize();
    }

    /// @dev All but the uptime feed, which a chain may not have.
    function test_constructor_revertsWithoutAPeer() public {
        bytes memory code = _code("NodeRegistry");
        bytes memory args = abi.encode(_peers());
        for (uint256 i; i < args.length / 32 - 1; ++i) {
            bytes memory without = abi.encode(_peers());
            assembly ("memory-safe") {
                mstore(add(add(without, 0x20), mul(i, 0x20)), 0)
            }
            vm.expectRevert(AlephErrors.ZeroAddress.selector);
            _create(abi.encodePacked(code, without, abi.encode(address(1))));
        }
        vm.expectRevert(AlephErrors.ZeroAddress.selector);
        _create(abi.encodePacked(code, args, abi.encode(address(0))));
    }

    function test_peers_areTheProxies() public view {
        string[] memory names = _proxies();
        for (uint256 i; i < names.length; ++i) {
            assertEq(abi.encode(IBase(_at(names[i])).peers()), abi.encode(_peers()), names[i]);
        }
        assertEq(payments.authority(), address(authority));
    }

    /* PAUSING */

    function test_pause_isBoundedInTotal() public {
        uint40 until = START + 10 days;
        vm.expectEmit(address(nodes));
        emit IBase.PauseSet(Pausing.ENTRY, until, 4 days);
        nodes.pause(Pausing.ENTRY, 10 days);
        vm.warp(until);
        (uint8 bits,, uint24 left) = nodes.pauseState();
        assertEq(bits, 0, "a pause ends by itself");
        vm.expectRevert(abi.encodeWithSelector(AlephErrors.OutOfBounds.selector, 5 days, 1, left));
        nodes.pause(Pausing.ENTRY, 5 days);
        nodes.pause(Pausing.EXIT, 4 days);
        (bits, until, left) = nodes.pauseState();
        assertEq(bits, Pausing.EXIT);
        assertEq(until, block.timestamp + 4 days);
        assertEq(left, 0);
        vm.warp(until);
        vm.expectRevert(abi.encodeWithSelector(AlephErrors.OutOfBounds.selector, 1, 1, 0));
        nodes.pause(Pausing.EXIT, 1);
        vm.expectEmit(address(nodes));
        emit IBase.PauseRenewed(14 days);
        nodes.renewPause();
        nodes.pause(Pausing.EXIT, 14 days);
    }

    function test_unpause_givesBackWhatIsUnused() public {
        nodes.pause(Pausing.ALL, 14 days);
        skip(1 days);
        vm.expectEmit(address(nodes));
        emit IBase.PauseSet(0, 0, 13 days);
        nodes.unpause();
        nodes.pause(Pausing.ALL, 13 days);
        skip(1 days);
        nodes.pause(Pausing.ENTRY, 12 days);
    }

    function test_pause_refusesBitsWithoutMeaning() public {
        for (uint8 bits; bits < 255; ++bits) {
            if (bits != 0 && bits & ~Pausing.ALL == 0) continue;
            vm.expectRevert(abi.encodeWithSelector(AlephErrors.OutOfBounds.selector, bits, 1, Pausing.ALL));
            nodes.pause(bits, 1);
        }
        vm.expectRevert(abi.encodeWithSelector(AlephErrors.OutOfBounds.selector, 0, 1, 14 days));
        nodes.pause(1, 0);
    }

    /* UPGRADES */

    function test_upgrade_afterAnnouncementKeepsState() public {
        bytes32 before = keccak256(abi.encode(nodes.node(1), nodes.node(5), nodes.activeCoordinators()));
        address next = _next(address(payments));
        vm.expectEmit(address(nodes));
        emit IBase.UpgradeAnnounced(next, next.codehash, START + 7 days);
        nodes.announceUpgrade(next);
        (address announced, bytes32 codehash, uint40 eta) = nodes.announcedUpgrade();
        assertEq(announced, next);
        assertEq(codehash, next.codehash);
        vm.warp(eta - 1);
        vm.expectRevert(abi.encodeWithSelector(AlephErrors.TooSoon.selector, eta));
        nodes.upgradeToAndCall(next, "");
        vm.warp(eta);
        nodes.upgradeToAndCall(next, "");
        assertEq(nodes.VERSION(), "2.0.0");
        assertEq(keccak256(abi.encode(nodes.node(1), nodes.node(5), nodes.activeCoordinators())), before, "G-8");
        (announced,,) = nodes.announcedUpgrade();
        assertEq(announced, address(0), "an announcement serves once");
    }

    function test_upgrade_refusesWhatWasNotAnnounced() public {
        address next = _next(address(payments));
        bytes memory err = abi.encodeWithSelector(IBase.UpgradeNotAnnounced.selector, next, next.codehash);
        vm.expectRevert(err);
        nodes.upgradeToAndCall(next, "");
        nodes.announceUpgrade(next);
        vm.expectEmit(address(nodes));
        emit IBase.UpgradeCancelled(next);
        nodes.cancelUpgrade();
        skip(7 days);
        vm.expectRevert(err);
        nodes.upgradeToAndCall(next, "");
        nodes.announceUpgrade(next);
        skip(7 days);
        vm.etch(next, "another code");
        vm.expectRevert(abi.encodeWithSelector(IBase.UpgradeNotAnnounced.selector, next, next.codehash));
        nodes.upgradeToAndCall(next, "");
        vm.expectRevert(AlephErrors.ZeroAddress.selector);
        nodes.announceUpgrade(payer);
    }

    function test_upgrade_refusesOtherPeers() public {
        address next = _next(payer);
        nodes.announceUpgrade(next);
        skip(7 days);
        vm.expectRevert(IBase.PeersChanged.selector);
        nodes.upgradeToAndCall(next, "");
    }

    function test_upgrade_needsTheRole() public {
        address next = _next(address(payments));
        nodes.announceUpgrade(next);
        skip(7 days);
        authority.revokeRole(Roles.UPGRADER, address(this));
        vm.expectRevert(abi.encodeWithSelector(AlephErrors.NotAuthorized.selector, address(this)));
        nodes.upgradeToAndCall(next, "");
    }
}
