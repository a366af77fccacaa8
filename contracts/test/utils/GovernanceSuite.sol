// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {AlephGovernor} from "../../src/AlephGovernor.sol";
import {Roles} from "../../src/libraries/Roles.sol";
import {Suite} from "./Suite.sol";
import {
    TimelockControllerUpgradeable as TimelockLike
} from "@openzeppelin/contracts-upgradeable/governance/TimelockControllerUpgradeable.sol";
import {IAccessControl} from "@openzeppelin/contracts/access/IAccessControl.sol";
import {IAccessManager} from "@openzeppelin/contracts/access/manager/IAccessManager.sol";
import {TimelockController} from "@openzeppelin/contracts/governance/TimelockController.sol";
import {VmSafe} from "forge-std/Vm.sol";

/// @title Multisig
/// @notice Stands for the guardians' multisig: a contract that calls what it is told.
contract Multisig {
    function run(address target, bytes calldata data) external returns (bytes memory) {
        (bool ok, bytes memory result) = target.call(data);
        if (ok) return result;
        assembly ("memory-safe") {
            revert(add(result, 0x20), mload(result))
        }
    }
}

/// @title GovernanceSuite
/// @notice The suite handed over to its governance, as on a network: the timelock administers, the guardians are a
/// contract, the deployer has nothing left.
abstract contract GovernanceSuite is Suite {
    struct Proposal {
        address[] targets;
        uint256[] values;
        bytes[] calldatas;
        string description;
        uint256 id;
    }

    AlephGovernor internal governor;
    TimelockController internal timelock;
    Multisig internal guardian;

    address internal big;
    address internal small;

    /// @dev Every account that ever got a role, with the role.
    address[] internal grantees;
    bytes32[] internal granted;
    bool[] internal ofTimelock;

    function _govern() internal {
        guardian = new Multisig();
        timelock = TimelockController(payable(_create(_timelockCode())));
        bytes memory init = abi.encodeCall(AlephGovernor.initialize, (staking, _asUpgradeable(), address(guardian)));
        governor = AlephGovernor(
            payable(_create(abi.encodePacked(_code("ERC1967Proxy"), abi.encode(_create(_code("AlephGovernor")), init))))
        );
        _handOver();
        (big, small) = (coordinators[0].owner, coordinators[1].owner);
        _stake(coordinators[0], 4_000_000 ether);
        staking.syncVotes(address(0), _coordinatorIds());
        skip(1);
    }

    function _timelockCode() private view returns (bytes memory) {
        address[] memory none = new address[](0);
        return abi.encodePacked(_code("TimelockController"), abi.encode(2 days, none, none, address(this)));
    }

    /// @dev The type is OpenZeppelin's, but nothing is called on it here.
    function _asUpgradeable() private view returns (TimelockLike) {
        return TimelockLike(payable(address(timelock)));
    }

    function _handOver() private {
        timelock.grantRole(timelock.PROPOSER_ROLE(), address(governor));
        timelock.grantRole(timelock.EXECUTOR_ROLE(), address(governor));
        timelock.grantRole(timelock.CANCELLER_ROLE(), address(governor));
        timelock.renounceRole(timelock.DEFAULT_ADMIN_ROLE(), address(this));

        authority.grantRole(Roles.UPGRADER, address(timelock), 0);
        authority.grantRole(Roles.PARAM, address(timelock), 0);
        authority.grantRole(Roles.LISTER, address(timelock), 0);
        authority.grantRole(Roles.GUARDIAN, address(guardian), 0);
        authority.grantRole(Roles.ADMIN, address(timelock), 0);
        authority.renounceRole(Roles.UPGRADER, address(this));
        authority.renounceRole(Roles.PARAM, address(this));
        authority.renounceRole(Roles.LISTER, address(this));
        authority.renounceRole(Roles.GUARDIAN, address(this));
        authority.renounceRole(Roles.ADMIN, address(this));
    }

    /// @dev Notes who was granted a role in these logs.
    function _noteGrants(VmSafe.Log[] memory logs) internal {
        for (uint256 i; i < logs.length; ++i) {
            bool access = logs[i].topics[0] == IAccessManager.RoleGranted.selector;
            if (!access && logs[i].topics[0] != IAccessControl.RoleGranted.selector) continue;
            granted.push(logs[i].topics[1]);
            grantees.push(address(uint160(uint256(logs[i].topics[2]))));
            ofTimelock.push(!access);
        }
    }

    function _holds(uint256 i) internal view returns (bool holds) {
        if (ofTimelock[i]) return timelock.hasRole(granted[i], grantees[i]);
        (holds,) = authority.hasRole(uint64(uint256(granted[i])), grantees[i]);
    }

    function _coordinatorIds() internal view returns (uint32[] memory ids) {
        ids = new uint32[](coordinators.length);
        for (uint256 i; i < ids.length; ++i) {
            ids[i] = coordinators[i].id;
        }
    }

    /* PROPOSALS */

    function _proposal(address target, bytes memory data, string memory description)
        internal
        pure
        returns (Proposal memory p)
    {
        (p.targets, p.values, p.calldatas) = (new address[](1), new uint256[](1), new bytes[](1));
        (p.targets[0], p.calldatas[0], p.description) = (target, data, description);
    }

    function _propose(address target, bytes memory data, string memory description)
        internal
        returns (Proposal memory p)
    {
        p = _proposal(target, data, description);
        vm.prank(big);
        p.id = governor.propose(p.targets, p.values, p.calldatas, p.description);
    }

    function _pass(Proposal memory p) internal {
        skip(governor.votingDelay() + 1);
        vm.prank(big);
        governor.castVote(p.id, 1);
        skip(governor.votingPeriod());
        _queue(p);
        skip(timelock.getMinDelay());
    }

    function _queue(Proposal memory p) internal {
        governor.queue(p.targets, p.values, p.calldatas, keccak256(bytes(p.description)));
    }

    function _execute(Proposal memory p) internal {
        governor.execute(p.targets, p.values, p.calldatas, keccak256(bytes(p.description)));
    }

    /// @dev A proposal from its making to its execution.
    function _decide(address target, bytes memory data, string memory description) internal {
        Proposal memory p = _propose(target, data, description);
        _pass(p);
        _execute(p);
    }
}
