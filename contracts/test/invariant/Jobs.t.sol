// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {AlephToken} from "../../src/AlephToken.sol";
import {JobManager} from "../../src/JobManager.sol";
import {NodeRegistry} from "../../src/NodeRegistry.sol";
import {PaymentManager} from "../../src/PaymentManager.sol";
import {StakingManager} from "../../src/StakingManager.sol";
import {IJobManager} from "../../src/interfaces/IJobManager.sol";
import {INodeRegistry} from "../../src/interfaces/INodeRegistry.sol";
import {JobHandler} from "./JobHandler.sol";
import {Test} from "forge-std/Test.sol";

/// @title Jobs
/// @notice What holds of jobs, nodes and stakes together whatever happens in whatever order.
contract JobsInvariantTest is Test {
    uint8 internal constant ALEPH = 1;

    JobHandler internal handler;
    AlephToken internal token;
    NodeRegistry internal nodes;
    StakingManager internal staking;
    JobManager internal jobs;
    PaymentManager internal payments;

    mapping(address payer => uint256) internal rates;
    mapping(uint256 worker => uint256) internal live;

    function setUp() public {
        handler = new JobHandler();
        handler.start();
        (address t, address n, address s, address j, address p) = handler.contracts();
        (token, nodes, staking) = (AlephToken(t), NodeRegistry(n), StakingManager(s));
        (jobs, payments) = (JobManager(j), PaymentManager(p));
        targetContract(address(handler));
        bytes4[] memory selectors = new bytes4[](15);
        selectors[0] = JobHandler.open.selector;
        selectors[1] = JobHandler.confirm.selector;
        selectors[2] = JobHandler.stop.selector;
        selectors[3] = JobHandler.nodeStop.selector;
        selectors[4] = JobHandler.failStart.selector;
        selectors[5] = JobHandler.closeForArrears.selector;
        selectors[6] = JobHandler.expire.selector;
        selectors[7] = JobHandler.settle.selector;
        selectors[8] = JobHandler.approve.selector;
        selectors[9] = JobHandler.warp.selector;
        selectors[10] = JobHandler.stake.selector;
        selectors[11] = JobHandler.requestUnstake.selector;
        selectors[12] = JobHandler.withdrawSelf.selector;
        selectors[13] = JobHandler.rejoin.selector;
        // Twice the opens: half of the actions end a job.
        selectors[14] = JobHandler.open.selector;
        targetSelector(FuzzSelector(address(handler), selectors));
    }

    /// @dev Everything is looked at after every sixteenth call and at the end: a violation of these stays.
    function invariant_jobs() public {
        if (handler.steps() % 16 != 0) return;
        _check();
    }

    function afterInvariant() public {
        // Draining and exiting come last, or soon no node would take jobs.
        for (uint256 i; i < handler.allNodes(); ++i) {
            handler.drain(i);
        }
        _check();
        for (uint256 i; i < handler.count(); ++i) {
            if (i % 2 == 0) handler.stop(i * 4, true);
        }
        for (uint256 i; i < handler.allNodes(); ++i) {
            handler.exit(i);
        }
        _check();
    }

    function _check() private {
        _checkJobs();
        _checkNodes();
    }

    function _checkJobs() private {
        address[3] memory payers = [handler.payersOf(0), handler.payersOf(1), handler.payersOf(2)];
        for (uint256 i; i < 3; ++i) {
            rates[payers[i]] = 0;
        }
        uint256 workers = handler.allNodes();
        for (uint256 i; i <= workers; ++i) {
            live[i] = 0;
        }
        uint256[3] memory reserved;
        for (uint256 i; i < handler.count(); ++i) {
            bytes32 spec = handler.specs(i);
            (IJobManager.Status status, uint256 who, uint256 worker, uint128 rate, uint128 most,) = handler.lives(spec);
            IJobManager.JobView memory job = jobs.job(spec);
            assertEq(uint8(job.status), uint8(status), "JM-3: status is the one reached");
            assertEq(job.rateQ32, rate, "JM-4: the rate accepted");
            assertLe(job.rateQ32, most, "JM-4: at most what the payer signed");
            assertLe(job.startedAt, job.changedAt, "JM-5: started before it changed");
            assertLe(job.changedAt, block.timestamp, "JM-5: changed before now");
            assertTrue(handler.accepted(spec), "JM-7: the node accepted");
            assertLe(handler.opened(spec), 1, "JM-6: an offer opens one job");
            if (status == IJobManager.Status.Running) rates[payers[who]] += rate;
            if (status == IJobManager.Status.Assigned) {
                reserved[who] += (uint256(rate) * job.reservedMinutes * 60 + type(uint32).max) >> 32;
            }
            if (status == IJobManager.Status.Running || status == IJobManager.Status.Assigned) ++live[worker];
        }
        for (uint256 i; i < 3; ++i) {
            assertEq(payments.account(payers[i], ALEPH).rateQ32, rates[payers[i]], "JM-1: rates of running jobs");
            assertEq(payments.account(payers[i], ALEPH).reserved, reserved[i], "JM-1: reserves of assigned jobs");
        }
    }

    function _checkNodes() private view {
        uint256 total;
        uint256 active;
        uint256 coordinators = handler.allNodes();
        uint256 workers;
        for (uint256 i; i < coordinators; ++i) {
            JobHandler.Party memory p = handler.party(i);
            INodeRegistry.NodeView memory n = nodes.node(p.id);
            bool exited = n.status == INodeRegistry.Status.Exited;
            assertEq(nodes.nodeOfPeer(n.peerIdHash), exited ? 0 : p.id, "NR-1: peer ids of live nodes");
            assertEq(nodes.nodeOfSigner(n.signer), exited ? 0 : p.id, "NR-1: signers of live nodes");
            (uint128 self, uint128 waiting,) = staking.stakeOf(p.id);
            total += uint256(self) + waiting;
            assertEq(uint256(self) + waiting + handler.withdrawnStake(p.id), handler.staked(p.id), "ST: nothing lost");
            if (n.status == INodeRegistry.Status.Active) {
                assertTrue(staking.meetsRequirement(p.id, n.kind), "NR-5: an active node has its stake");
                if (n.kind == INodeRegistry.Kind.Coordinator) ++active;
            }
            if (n.kind == INodeRegistry.Kind.Compute) {
                assertEq(jobs.activeJobs(p.id), live[workers], "JM-2: jobs of a node");
                ++workers;
            }
        }
        assertEq(nodes.activeCoordinators(), active, "active coordinators are counted");
        assertGe(token.balanceOf(address(staking)), total, "ST-1: stakes are held");
    }
}
