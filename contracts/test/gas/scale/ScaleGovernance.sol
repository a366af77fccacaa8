// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IAlephGovernor} from "../../../src/interfaces/IAlephGovernor.sol";
import {IStakingManager} from "../../../src/interfaces/IStakingManager.sol";
import {ScaleWorld} from "./ScaleWorld.sol";

/// @title ScaleGovernance
/// @notice The AlephGovernor: the proposal that all delegators have voted about, by who has half of their votes. A look into
/// the history of votes halves it again and again, so what takes one grows by a read whenever the history doubles.
abstract contract ScaleGovernance is ScaleWorld {
    /// @dev Functions of the Governor that only a proposal calls.
    string[11] private _settings = [
        "announceUpgrade(address)",
        "relay(address,uint256,bytes)",
        "setLateQuorumVoteExtension(uint48)",
        "setProposalGuardian(address)",
        "setProposalThreshold(uint256)",
        "setVotingDelay(uint48)",
        "setVotingPeriod(uint32)",
        "updateQuorumNumerator(uint256)",
        "updateTimelock(address)",
        "upgradeToAndCall(address,bytes)",
        "initialize(address,address,address)"
    ];

    function test_scale_governance() public {
        address at = address(governor);
        _compare("AlephGovernor", at, _govern_);
        for (uint256 i; i < _settings.length; ++i) {
            _excuse(at, _settings[i], "only from within execute, measured with it; or once, when the proxy is made");
        }
        _excuse(at, "onERC721Received(address,address,uint256,bytes)", "refuses: the timelock executes");
        _excuse(at, "onERC1155Received(address,address,uint256,uint256,bytes)", "refuses: the timelock executes");
        _excuse(at, "onERC1155BatchReceived(address,address,uint256[],uint256[],bytes)", "refuses as well");
        _checkArtifact("AlephGovernor", at);
    }

    function _govern_() private {
        _ballots();
        _proposals();
    }

    function _vote(string memory name, address from, bytes memory data) private {
        // Of the voter and, for the quorum, of all.
        _callIn(name, 2, from, address(governor), data);
    }

    function _ballots() private {
        uint256 id = open_.id;
        _vote("castVote", coordinators[2].owner, abi.encodeCall(governor.castVote, (id, 1)));
        _vote("castVote, by who has half of all", big, abi.encodeCall(governor.castVote, (id, 1)));
        address who = coordinators[3].owner;
        _vote("castVoteWithReason", who, abi.encodeCall(governor.castVoteWithReason, (id, 1, "reason")));
        who = coordinators[4].owner;
        _vote(
            "castVoteWithReasonAndParams",
            who,
            abi.encodeCall(governor.castVoteWithReasonAndParams, (id, 1, "reason", "params"))
        );
        _bySignature();
    }

    function _bySignature() private {
        uint256 id = open_.id;
        (address who, uint256 key) = makeAddrAndKey("coordinator5 owner");
        bytes32 typeHash = keccak256("Ballot(uint256 proposalId,uint8 support,address voter,uint256 nonce)");
        bytes32 h = keccak256(abi.encode(typeHash, id, uint8(1), who, uint256(0)));
        bytes memory sig = _sign(key, _digest("AlephGovernor", address(governor), h));
        _vote("castVoteBySig", address(this), abi.encodeCall(governor.castVoteBySig, (id, 1, who, sig)));
        (who, key) = makeAddrAndKey("coordinator6 owner");
        typeHash = keccak256(
            "ExtendedBallot(uint256 proposalId,uint8 support,address voter,uint256 nonce,string reason,bytes params)"
        );
        h = keccak256(
            abi.encode(typeHash, id, uint8(1), who, uint256(0), keccak256(bytes("reason")), keccak256("params"))
        );
        sig = _sign(key, _digest("AlephGovernor", address(governor), h));
        _vote(
            "castVoteWithReasonAndParamsBySig",
            address(this),
            abi.encodeCall(governor.castVoteWithReasonAndParamsBySig, (id, 1, who, "reason", "params", sig))
        );
    }

    function _step(string memory name, address from, bytes4 selector, Proposal memory p, uint256 lookups) private {
        bytes32 h = keccak256(bytes(p.description));
        bytes memory data = abi.encodeWithSelector(selector, p.targets, p.values, p.calldatas, h);
        _callIn(name, lookups, from, address(governor), data);
    }

    function _proposals() private {
        address at = address(governor);
        address code = _create(_code("AlephGovernor"));
        Proposal memory settings = _allSettings(code);
        Proposal memory upgrade = _proposal(at, abi.encodeCall(governor.upgradeToAndCall, (code, "")), "upgrade");
        Proposal memory never = _proposal(at, abi.encodeCall(governor.setVotingDelay, (1 hours)), "never");
        _make("propose, nine actions", settings);
        _make("propose, an upgrade", upgrade);
        _make("propose", never);
        _step("cancel", big, bytes4(keccak256("cancel(address[],uint256[],bytes[],bytes32)")), never, 1);
        skip(2 days + 1);
        vm.startPrank(big);
        governor.castVote(settings.id, 1);
        governor.castVote(upgrade.id, 1);
        vm.stopPrank();
        skip(5 days);
        bytes4 queue = bytes4(keccak256("queue(address[],uint256[],bytes[],bytes32)"));
        bytes4 execute = bytes4(keccak256("execute(address[],uint256[],bytes[],bytes32)"));
        _step("queue, nine actions", address(this), queue, settings, 1);
        _step("queue", address(this), queue, upgrade, 1);
        skip(2 days);
        _step("execute, nine actions", address(this), execute, settings, 1);
        skip(7 days);
        _step("execute, an upgrade", address(this), execute, upgrade, 1);
        vm.prank(address(guardian));
        (bool ok,) = at.call(abi.encodeCall(IAlephGovernor.cancelUpgrade, ()));
        assertTrue(ok);
        _call("cancelUpgrade", address(guardian), at, abi.encodeCall(IAlephGovernor.cancelUpgrade, ()));
    }

    function _make(string memory name, Proposal memory p) private {
        bytes memory data = abi.encodeWithSignature(
            "propose(address[],uint256[],bytes[],string)", p.targets, p.values, p.calldatas, p.description
        );
        p.id = abi.decode(_callIn(name, 1, big, address(governor), data), (uint256));
    }

    function _allSettings(address code) private view returns (Proposal memory p) {
        bytes[9] memory calls = [
            abi.encodeCall(IAlephGovernor.announceUpgrade, (code)),
            abi.encodeCall(governor.relay, (address(token), 0, abi.encodeWithSignature("totalSupply()"))),
            abi.encodeCall(governor.setLateQuorumVoteExtension, (1 hours)),
            abi.encodeCall(governor.setProposalGuardian, (address(guardian))),
            abi.encodeCall(governor.setProposalThreshold, (2_000 ether)),
            abi.encodeCall(governor.setVotingDelay, (1 hours)),
            abi.encodeCall(governor.setVotingPeriod, (3 days)),
            abi.encodeCall(governor.updateQuorumNumerator, (5)),
            abi.encodeWithSignature("updateTimelock(address)", address(timelock))
        ];
        (p.targets, p.values, p.calldatas) = (new address[](9), new uint256[](9), new bytes[](9));
        for (uint256 i; i < 9; ++i) {
            (p.targets[i], p.calldatas[i]) = (address(governor), calls[i]);
        }
        p.description = "settings";
    }
}
