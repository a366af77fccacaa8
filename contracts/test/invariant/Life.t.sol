// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {JobManager} from "../../src/JobManager.sol";
import {PaymentManager} from "../../src/PaymentManager.sol";
import {IJobManager} from "../../src/interfaces/IJobManager.sol";
import {LifeHandler} from "./LifeHandler.sol";
import {Test} from "forge-std/Test.sol";

/// @title Life
/// @notice What holds of jobs in any order of calls.
contract LifeInvariantTest is Test {
    uint8 internal constant ALEPH = 1;

    LifeHandler internal handler;
    JobManager internal jobs;
    PaymentManager internal payments;

    function setUp() public {
        handler = new LifeHandler();
        handler.start();
        (address j, address p) = handler.contracts();
        (jobs, payments) = (JobManager(j), PaymentManager(p));
        targetContract(address(handler));
        bytes4[] memory selectors = new bytes4[](17);
        selectors[0] = LifeHandler.open.selector;
        selectors[1] = LifeHandler.create.selector;
        selectors[2] = LifeHandler.assign.selector;
        selectors[3] = LifeHandler.confirm.selector;
        selectors[4] = LifeHandler.resize.selector;
        selectors[5] = LifeHandler.reassign.selector;
        selectors[6] = LifeHandler.stop.selector;
        selectors[7] = LifeHandler.nodeStop.selector;
        selectors[8] = LifeHandler.finalize.selector;
        selectors[9] = LifeHandler.complete.selector;
        selectors[10] = LifeHandler.failStart.selector;
        selectors[11] = LifeHandler.expire.selector;
        selectors[12] = LifeHandler.closeForArrears.selector;
        selectors[13] = LifeHandler.approve.selector;
        selectors[14] = LifeHandler.warp.selector;
        selectors[15] = LifeHandler.jail.selector;
        selectors[16] = LifeHandler.assign.selector;
        targetSelector(FuzzSelector(address(handler), selectors));
    }

    function invariant_JM1_ratesAndReservesAreTheJobs() public view {
        for (uint256 p; p < 3; ++p) {
            uint256 rate;
            uint256 reserved;
            for (uint256 i; i < handler.count(); ++i) {
                bytes32 spec = handler.specs(i);
                IJobManager.JobView memory j = jobs.job(spec);
                if (j.payer != handler.payersOf(p)) continue;
                if (j.status == IJobManager.Status.Running || j.status == IJobManager.Status.Stopping) {
                    rate += j.rateQ32;
                }
                if (j.status == IJobManager.Status.Assigned) {
                    reserved += (uint256(j.rateQ32) * j.reservedMinutes * 60 + type(uint32).max) >> 32;
                }
            }
            assertEq(payments.account(handler.payersOf(p), ALEPH).rateQ32, rate);
            assertEq(payments.account(handler.payersOf(p), ALEPH).reserved, reserved);
        }
    }

    function invariant_JM2_activeJobsAreTheNodesJobs() public view {
        for (uint256 w; w < handler.workerCount(); ++w) {
            uint256 active;
            for (uint256 i; i < handler.count(); ++i) {
                IJobManager.JobView memory j = jobs.job(handler.specs(i));
                bool placed = j.status == IJobManager.Status.Assigned || j.status == IJobManager.Status.Running
                    || j.status == IJobManager.Status.Stopping;
                if (placed && j.nodeId == handler.workerId(w)) ++active;
            }
            assertEq(jobs.activeJobs(handler.workerId(w)), active);
        }
    }

    function invariant_JM3_finalIsAbsorbing() public view {
        assertEq(handler.broken(), "");
    }

    function invariant_JM4_atMostWhatThePayerSigned() public view {
        for (uint256 i; i < handler.count(); ++i) {
            bytes32 spec = handler.specs(i);
            (,, uint128 ceilingQ32,,,) = handler.books(spec);
            assertLe(jobs.job(spec).rateQ32, ceilingQ32);
        }
    }

    function invariant_JM5_timesAreInOrder() public view {
        for (uint256 i; i < handler.count(); ++i) {
            IJobManager.JobView memory j = jobs.job(handler.specs(i));
            assertLe(j.startedAt, j.changedAt);
            assertLe(j.changedAt, block.timestamp);
            bool runs = j.status == IJobManager.Status.Running || j.status == IJobManager.Status.Stopping;
            assertTrue(!runs || j.startedAt != 0);
        }
    }

    function invariant_JM6_anOfferOpensOneJob() public view {
        for (uint256 i; i < handler.count(); ++i) {
            assertLe(handler.opened(handler.specs(i)), 1);
        }
    }

    function invariant_JM7_theNodeSaidYes() public view {
        for (uint256 i; i < handler.count(); ++i) {
            bytes32 spec = handler.specs(i);
            IJobManager.JobView memory j = jobs.job(spec);
            bool placed = j.status == IJobManager.Status.Assigned || j.status == IJobManager.Status.Running
                || j.status == IJobManager.Status.Stopping;
            if (placed) assertEq(handler.acceptedBy(spec, j.attempt), j.nodeId);
        }
    }
}
