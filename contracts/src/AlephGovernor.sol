// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IAlephGovernor} from "./interfaces/IAlephGovernor.sol";
import {AlephErrors} from "./libraries/AlephErrors.sol";
import {GovernorUpgradeable} from "@openzeppelin/contracts-upgradeable/governance/GovernorUpgradeable.sol";
import {
    TimelockControllerUpgradeable
} from "@openzeppelin/contracts-upgradeable/governance/TimelockControllerUpgradeable.sol";
import {
    GovernorCountingSimpleUpgradeable
} from "@openzeppelin/contracts-upgradeable/governance/extensions/GovernorCountingSimpleUpgradeable.sol";
import {
    GovernorPreventLateQuorumUpgradeable
} from "@openzeppelin/contracts-upgradeable/governance/extensions/GovernorPreventLateQuorumUpgradeable.sol";
import {
    GovernorProposalGuardianUpgradeable
} from "@openzeppelin/contracts-upgradeable/governance/extensions/GovernorProposalGuardianUpgradeable.sol";
import {
    GovernorSettingsUpgradeable
} from "@openzeppelin/contracts-upgradeable/governance/extensions/GovernorSettingsUpgradeable.sol";
import {
    GovernorTimelockControlUpgradeable
} from "@openzeppelin/contracts-upgradeable/governance/extensions/GovernorTimelockControlUpgradeable.sol";
import {
    GovernorVotesQuorumFractionUpgradeable
} from "@openzeppelin/contracts-upgradeable/governance/extensions/GovernorVotesQuorumFractionUpgradeable.sol";
import {
    GovernorVotesUpgradeable
} from "@openzeppelin/contracts-upgradeable/governance/extensions/GovernorVotesUpgradeable.sol";
import {IVotes} from "@openzeppelin/contracts/governance/utils/IVotes.sol";
import {UUPSUpgradeable} from "@openzeppelin/contracts/proxy/utils/UUPSUpgradeable.sol";
import {Math} from "@openzeppelin/contracts/utils/math/Math.sol";

/// @title AlephGovernor
/// @notice See {IAlephGovernor}.
contract AlephGovernor is
    IAlephGovernor,
    GovernorUpgradeable,
    GovernorSettingsUpgradeable,
    GovernorCountingSimpleUpgradeable,
    GovernorVotesUpgradeable,
    GovernorVotesQuorumFractionUpgradeable,
    GovernorTimelockControlUpgradeable,
    GovernorPreventLateQuorumUpgradeable,
    GovernorProposalGuardianUpgradeable,
    UUPSUpgradeable
{
    /* TYPES */

    /// @custom:storage-location erc7201:aleph.storage.AlephGovernor.v1
    struct AlephGovernorStorage {
        address announced;
        uint40 announcedEta;
        uint40 guardianUntil;
        bytes32 announcedCodehash;
    }

    /* CONSTANTS */

    uint48 private constant _DELAY = 2 days;
    uint48 private constant _DELAY_MIN = 1 hours;
    uint48 private constant _DELAY_MAX = 7 days;

    uint32 private constant _PERIOD = 5 days;
    uint32 private constant _PERIOD_MIN = 2 days;
    uint32 private constant _PERIOD_MAX = 14 days;

    uint256 private constant _THRESHOLD = 100_000 ether;
    uint256 private constant _THRESHOLD_MIN = 1_000 ether;
    uint256 private constant _THRESHOLD_MAX = 5_000_000 ether;

    /// @dev In percent of all votes.
    uint256 private constant _QUORUM = 4;
    uint256 private constant _QUORUM_MIN = 1;
    uint256 private constant _QUORUM_MAX = 33;

    /// @dev Votes are counted on request only, so a share of them alone could be next to nothing.
    uint256 private constant _QUORUM_FLOOR = 2_000_000 ether;

    uint48 private constant _EXTENSION = 1 days;
    uint48 private constant _EXTENSION_MAX = 3 days;

    /// @dev A guardian is for the first years; whoever wants it longer has to win a vote.
    uint40 private constant _GUARDIAN_TERM = 730 days;

    /// @dev Like that of the other contracts, on top of the delay of the timelock.
    uint40 private constant _UPGRADE_DELAY = 7 days;

    // keccak256(abi.encode(uint256(keccak256("aleph.storage.AlephGovernor.v1")) - 1)) & ~bytes32(uint256(0xff))
    bytes32 private constant _STORAGE = 0xee8d3da089ad9b0970b870bdc8e3b15534437d41bf39dcbe6a2aeb85b5e6ff00;

    /* SETUP */

    /// @custom:oz-upgrades-unsafe-allow constructor
    constructor() {
        _disableInitializers();
    }

    /// @notice Sets up a new proxy.
    /// @param votes The StakingManager.
    /// @param timelock_ The timelock; it must let this propose, execute and cancel.
    /// @param guardian Who may cancel proposals for two years; zero for nobody.
    function initialize(IVotes votes, TimelockControllerUpgradeable timelock_, address guardian) external initializer {
        if (address(votes) == address(0) || address(timelock_) == address(0)) revert AlephErrors.ZeroAddress();
        __Governor_init("AlephGovernor");
        __GovernorSettings_init(_DELAY, _PERIOD, _THRESHOLD);
        __GovernorVotes_init(votes);
        __GovernorVotesQuorumFraction_init(_QUORUM);
        __GovernorTimelockControl_init(timelock_);
        __GovernorPreventLateQuorum_init(_EXTENSION);
        _setProposalGuardian(guardian);
    }

    /* UPGRADES */

    /// @inheritdoc IAlephGovernor
    function announceUpgrade(address implementation) external onlyGovernance {
        if (implementation.code.length == 0) revert AlephErrors.ZeroAddress();
        AlephGovernorStorage storage $ = _storage();
        ($.announced, $.announcedEta) = (implementation, uint40(block.timestamp) + _UPGRADE_DELAY);
        $.announcedCodehash = implementation.codehash;
        emit UpgradeAnnounced(implementation, implementation.codehash, $.announcedEta);
    }

    /// @inheritdoc IAlephGovernor
    function cancelUpgrade() external {
        if (msg.sender != proposalGuardian()) revert AlephErrors.NotAuthorized(msg.sender);
        AlephGovernorStorage storage $ = _storage();
        emit UpgradeCancelled($.announced);
        ($.announced, $.announcedEta, $.announcedCodehash) = (address(0), 0, bytes32(0));
    }

    /* VIEWS */

    /// @inheritdoc IAlephGovernor
    function announcedUpgrade() external view returns (address, bytes32, uint40) {
        AlephGovernorStorage storage $ = _storage();
        return ($.announced, $.announcedCodehash, $.announcedEta);
    }

    /// @inheritdoc IAlephGovernor
    function guardianUntil() external view returns (uint40) {
        return _storage().guardianUntil;
    }

    /// @inheritdoc IAlephGovernor
    // solhint-disable-next-line func-name-mixedcase
    function VERSION() external pure returns (string memory) {
        return "1.0.0";
    }

    /// @notice The votes for and abstaining that a proposal with this snapshot needs: the share of all votes, at least
    /// 2,000,000 ALEPH.
    function quorum(uint256 timepoint)
        public
        view
        override(GovernorUpgradeable, GovernorVotesQuorumFractionUpgradeable)
        returns (uint256)
    {
        return Math.max(super.quorum(timepoint), _QUORUM_FLOOR);
    }

    /// @notice Who may cancel any proposal and the announced upgrade, and nothing else; zero when its time has run out.
    function proposalGuardian() public view override returns (address) {
        return block.timestamp < _storage().guardianUntil ? super.proposalGuardian() : address(0);
    }

    /// @inheritdoc GovernorTimelockControlUpgradeable
    function state(uint256 proposalId)
        public
        view
        override(GovernorUpgradeable, GovernorTimelockControlUpgradeable)
        returns (ProposalState)
    {
        return super.state(proposalId);
    }

    /// @inheritdoc GovernorPreventLateQuorumUpgradeable
    function proposalDeadline(uint256 proposalId)
        public
        view
        override(GovernorUpgradeable, GovernorPreventLateQuorumUpgradeable)
        returns (uint256)
    {
        return super.proposalDeadline(proposalId);
    }

    /// @inheritdoc GovernorTimelockControlUpgradeable
    function proposalNeedsQueuing(uint256 proposalId)
        public
        view
        override(GovernorUpgradeable, GovernorTimelockControlUpgradeable)
        returns (bool)
    {
        return super.proposalNeedsQueuing(proposalId);
    }

    /// @inheritdoc GovernorSettingsUpgradeable
    function proposalThreshold()
        public
        view
        override(GovernorUpgradeable, GovernorSettingsUpgradeable)
        returns (uint256)
    {
        return super.proposalThreshold();
    }

    /* BOUNDS */

    function _setVotingDelay(uint48 delay) internal override {
        _checkBounds(delay, _DELAY_MIN, _DELAY_MAX);
        super._setVotingDelay(delay);
    }

    function _setVotingPeriod(uint32 period) internal override {
        _checkBounds(period, _PERIOD_MIN, _PERIOD_MAX);
        super._setVotingPeriod(period);
    }

    function _setProposalThreshold(uint256 threshold) internal override {
        _checkBounds(threshold, _THRESHOLD_MIN, _THRESHOLD_MAX);
        super._setProposalThreshold(threshold);
    }

    function _updateQuorumNumerator(uint256 percent) internal override {
        _checkBounds(percent, _QUORUM_MIN, _QUORUM_MAX);
        super._updateQuorumNumerator(percent);
    }

    function _setLateQuorumVoteExtension(uint48 extension) internal override {
        _checkBounds(extension, 0, _EXTENSION_MAX);
        super._setLateQuorumVoteExtension(extension);
    }

    function _setProposalGuardian(address guardian) internal override {
        uint40 until = uint40(block.timestamp) + _GUARDIAN_TERM;
        _storage().guardianUntil = until;
        super._setProposalGuardian(guardian);
        emit GuardianUntil(guardian, until);
    }

    /* INTERNAL */

    /// @dev An upgrade needs a proposal, the announcement, its time and the same code.
    function _authorizeUpgrade(address implementation) internal override onlyGovernance {
        AlephGovernorStorage storage $ = _storage();
        if (implementation != $.announced || implementation.codehash != $.announcedCodehash) {
            revert UpgradeNotAnnounced(implementation, implementation.codehash);
        }
        if (block.timestamp < $.announcedEta) revert AlephErrors.TooSoon($.announcedEta);
        ($.announced, $.announcedEta, $.announcedCodehash) = (address(0), 0, bytes32(0));
    }

    function _tallyUpdated(uint256 proposalId)
        internal
        override(GovernorUpgradeable, GovernorPreventLateQuorumUpgradeable)
    {
        super._tallyUpdated(proposalId);
    }

    function _validateCancel(uint256 proposalId, address caller)
        internal
        view
        override(GovernorUpgradeable, GovernorProposalGuardianUpgradeable)
        returns (bool)
    {
        return super._validateCancel(proposalId, caller);
    }

    function _queueOperations(
        uint256 proposalId,
        address[] memory targets,
        uint256[] memory values,
        bytes[] memory calldatas,
        bytes32 descriptionHash
    ) internal override(GovernorUpgradeable, GovernorTimelockControlUpgradeable) returns (uint48) {
        return super._queueOperations(proposalId, targets, values, calldatas, descriptionHash);
    }

    function _executeOperations(
        uint256 proposalId,
        address[] memory targets,
        uint256[] memory values,
        bytes[] memory calldatas,
        bytes32 descriptionHash
    ) internal override(GovernorUpgradeable, GovernorTimelockControlUpgradeable) {
        super._executeOperations(proposalId, targets, values, calldatas, descriptionHash);
    }

    function _cancel(
        address[] memory targets,
        uint256[] memory values,
        bytes[] memory calldatas,
        bytes32 descriptionHash
    ) internal override(GovernorUpgradeable, GovernorTimelockControlUpgradeable) returns (uint256) {
        return super._cancel(targets, values, calldatas, descriptionHash);
    }

    function _executor()
        internal
        view
        override(GovernorUpgradeable, GovernorTimelockControlUpgradeable)
        returns (address)
    {
        return super._executor();
    }

    function _checkBounds(uint256 value, uint256 low, uint256 high) private pure {
        if (value < low || value > high) revert AlephErrors.OutOfBounds(value, low, high);
    }

    function _storage() private pure returns (AlephGovernorStorage storage $) {
        assembly ("memory-safe") {
            $.slot := _STORAGE
        }
    }
}
